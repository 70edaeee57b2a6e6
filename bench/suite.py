"""`scripts/bench suite`: what the cipher suites cost, on one core, without a server.

Owns: texts sealed and opened a second, bytes of a content, files a second and their memory; ours
beside the published suite, and beside a rival that is installed in an environment of its own.
Promises: everything that comes out is compared with what went in. Times are processor time of this
one thread. A state goes through its bytes at each step, as the client's store keeps it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, Protocol

from client.crypto import ciphers
from client.suite1 import bundles, messages, own_keys, payloads, peers
from client.suite1.file_stream import FileOpener, FileSealer
from client.suite1.messages import Opened
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import About, Text
from client.suite1.peers import Peer
from client.suite1.values import Pair

RIVALS_FOLDER: Final = Path(__file__).resolve().parent / ".work" / "suite-rivals"
RIVALS: Final = ("DoubleRatchet==1.3.0", "Twomemo==2.1.0", "X3DH==1.3.0")
_RIVAL: Final = Path(__file__).resolve().parent / "suite_rival.py"
_TEXT: Final = "x" * 256
_IDS: Final = (bytes(15) + b"\1", bytes(15) + b"\2")
THERE: Final = Pair(_IDS[0], _IDS[1])
BACK: Final = Pair(_IDS[1], _IDS[0])
_BLOCK: Final = 1 << 20
_MEGA: Final = 1e6


class Texts(NamedTuple):
    """Processor time in seconds to seal and to open one text of 256 bytes."""

    seal: float
    open: float

    @property
    def rate(self) -> float:
        """Texts sealed and opened a second."""
        return 1 / (self.seal + self.open)


class Stream(NamedTuple):
    """Megabytes a second to seal and to open a file, and by how many bytes the process grew."""

    seal: float
    open: float
    growth: int


class SideState(NamedTuple):
    """What a home's store has of one conversation."""

    keys: bytes
    peer: bytes


def conversation(now: int) -> tuple[SideState, SideState]:
    """Return two homes that have published, claimed, and written to each other once."""
    made = [own_keys.new_keys(now, os.urandom) for _ in _IDS]
    published = [own_keys.prepare_publication(keys, me, now, os.urandom) for keys, me in zip(made, _IDS, strict=True)]
    claims = [
        bundles.checked_claim(publication.bundle, publication.one_time_keys[0], whose, now)
        for (_, publication), whose in zip(published, _IDS, strict=True)
    ]
    (one, _), (other, _) = published
    starter = peers.claimed(one, peers.met(claims[1].bundle), claims[1], now)
    sides = (
        SideState(one.to_bytes(), starter.to_bytes()),
        SideState(other.to_bytes(), peers.met(claims[0].bundle).to_bytes()),
    )
    one_side, content = sealed(sides[0], THERE, now)
    other_side = opened(sides[1], THERE, content)
    other_side, content = sealed(other_side, BACK, now)
    return opened(one_side, BACK, content), other_side


def sealed(side: SideState, pair: Pair, now: int) -> tuple[SideState, bytes]:
    """Seal one text, from stored state to stored state."""
    payload = payloads.encoded(Text(About(os.urandom(16), now), _TEXT))
    keys = OwnKeys.from_bytes(side.keys)
    result = messages.seal(keys, Peer.from_bytes(side.peer), pair, payload)
    return side._replace(peer=result.peer.to_bytes()), result.envelope


def opened(side: SideState, pair: Pair, content: bytes) -> SideState:
    """Open it, from stored state to stored state."""
    keys = OwnKeys.from_bytes(side.keys)
    result = messages.open_message(keys, Peer.from_bytes(side.peer), pair, content)
    assert isinstance(result, Opened)
    payload = payloads.decoded(result.payload)
    assert isinstance(payload, Text)
    assert payload.text == _TEXT
    return SideState(side.keys if result.keys is keys else result.keys.to_bytes(), result.peer.to_bytes())


def _timed(step: Callable[[], tuple[float, float]], seconds: float) -> Texts:
    spent, count = [0.0, 0.0], 0
    while sum(spent) < seconds:
        for at, each in enumerate(step()):
            spent[at] += each
        count += 1
    return Texts(spent[0] / count, spent[1] / count)


def suite1_texts(seconds: float, *, in_turn: bool) -> tuple[Texts, int]:
    """Measure ours; `in_turn`: each text answers one, so that both ratchets step. Return the bytes
    of a content too.
    """
    now = 1_800_000_000_000
    sides = list(conversation(now))
    at, size = 0, 0

    def step() -> tuple[float, float]:
        nonlocal at, size
        pair = BACK if at else THERE
        begin = time.process_time()
        sides[at], content = sealed(sides[at], pair, now)
        middle = time.process_time()
        sides[1 - at] = opened(sides[1 - at], pair, content)
        end = time.process_time()
        size = size or len(content)
        at = 1 - at if in_turn else at
        return middle - begin, end - middle

    return _timed(step, seconds), size


def published_texts(seconds: float) -> tuple[Texts, int]:
    """Measure the published suite."""
    key = ciphers.symmetric_key(os.urandom(16))
    size = 0

    def step() -> tuple[float, float]:
        nonlocal size
        begin = time.process_time()
        content = ciphers.encrypt(key, _TEXT.encode())
        middle = time.process_time()
        assert ciphers.decrypt_text(key, content) == _TEXT
        end = time.process_time()
        size = len(content)
        return middle - begin, end - middle

    return _timed(step, seconds), size


class _Sealing(Protocol):
    def update(self, data: bytes) -> bytes: ...


def _file_through(
    sealer: _Sealing,
    end: Callable[[], Iterable[bytes]],
    opener: Callable[[], tuple[_Sealing, Callable[[], object]]],
    megabytes: int,
) -> Stream:
    """Seal so many MiB into a file, then open that file, piece by piece."""
    block, before = os.urandom(_BLOCK), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = 0.0
    with tempfile.TemporaryFile() as kept:
        for _ in range(megabytes):
            begin = time.process_time()
            part = sealer.update(block)
            spent += time.process_time() - begin
            kept.write(part)
        begin = time.process_time()
        rest = list(end())
        seal_time = spent + time.process_time() - begin
        kept.writelines(rest)
        kept.seek(0)
        opening, finish = opener()
        spent = 0.0
        while part := kept.read(_BLOCK):
            begin = time.process_time()
            opening.update(part)
            spent += time.process_time() - begin
        begin = time.process_time()
        finish()
        open_time = spent + time.process_time() - begin
    total = megabytes * _BLOCK / _MEGA
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return Stream(total / seal_time, total / open_time, growth)


def suite1_file(megabytes: int) -> Stream:
    """Measure a file of so many MiB in ours: sealed, hashed and padded; opened and checked."""
    key = os.urandom(32)
    sealer = FileSealer(key, THERE)

    def opener() -> tuple[_Sealing, Callable[[], object]]:
        opening = FileOpener(key, THERE, sealer.size, sealer.digest)
        return opening, opening.finish

    return _file_through(sealer, sealer.finish, opener, megabytes)


def published_file(megabytes: int) -> Stream:
    """Measure the same file in the published suite, which checks its padding alone."""
    key = ciphers.symmetric_key(os.urandom(16))
    sealer = ciphers.Encryptor(key)

    def opener() -> tuple[_Sealing, Callable[[], object]]:
        opening = ciphers.Decryptor(key)
        return opening, opening.finish

    return _file_through(sealer, lambda: [sealer.finish()], opener, megabytes)


def install_rivals(folder: Path = RIVALS_FOLDER) -> None:
    """Make an environment for the rivals, with their packages. Raises `CalledProcessError`."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *RIVALS], check=True)


def rival_figures(seconds: float, folder: Path = RIVALS_FOLDER) -> tuple[str, dict[str, Texts], int] | None:
    """Return a rival's name, figures and bytes; None if it is not installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        return None
    ran = subprocess.run([python, _RIVAL, str(seconds)], check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    return found["name"], {way: Texts(*times) for way, times in found["texts"].items()}, found["size"]


def _median(rounds: Sequence[Texts]) -> Texts:
    return Texts(median(each.seal for each in rounds), median(each.open for each in rounds))


def _line(name: str, texts: Texts, size: int) -> str:
    return f"| {name} | {texts.rate:,.0f} | {texts.seal * 1e6:.0f} | {texts.open * 1e6:.0f} | {size:,} |"


def table(seconds: float, rounds: int, megabytes: int, tell: Callable[[str], None]) -> str:
    """Measure everything and return the tables."""
    measured: dict[str, tuple[list[Texts], int]] = {}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        found = {
            "suite 1, one way": suite1_texts(seconds, in_turn=False),
            "suite 1, in turn": suite1_texts(seconds, in_turn=True),
            "published suite": published_texts(seconds),
        }
        rival = rival_figures(seconds)
        if rival is not None:
            name, figures, size = rival
            found |= {f"{name}, {way}": (texts, size) for way, texts in figures.items()}
        for name, (texts, size) in found.items():
            measured.setdefault(name, ([], size))[0].append(texts)
    lines = [
        "| texts of 256 bytes | sealed and opened/s | seal us | open us | bytes of the content |",
        "|---|---|---|---|---|",
    ]
    lines += [_line(name, _median(texts), size) for name, (texts, size) in measured.items()]
    lines += ["", "| files | seal MB/s | open MB/s | memory grows by MB |", "|---|---|---|---|"]
    files = (("suite 1", suite1_file), ("published suite", published_file))
    for name, measure in files:
        tell(f"a file of {megabytes} MiB, {name}")
        stream = measure(megabytes)
        lines.append(
            f"| {name}, {megabytes} MiB | {stream.seal:,.0f} | {stream.open:,.0f} | {stream.growth / _MEGA:.1f} |"
        )
    return "\n".join(lines) + "\n"


def make_parser() -> argparse.ArgumentParser:
    """The options of `scripts/bench suite`."""
    parser = argparse.ArgumentParser(
        prog="bench suite",
        description="Measure the cipher suites on one core; see docs/benchmarks.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--seconds", metavar="S", type=float, default=2.0, help="processor time for each figure (2)")
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="the median of so many rounds is told (3)")
    parser.add_argument("--megabytes", metavar="N", type=int, default=1024, help="the file's size in MiB (1024)")
    parser.add_argument("--install", action="store_true", help="get the rival from PyPI, into bench/.work, and end")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure, print. The exit code."""
    options = make_parser().parse_args(arguments)
    if options.install:
        install_rivals()
        return 0

    def tell(line: str) -> None:
        print(f"bench: {line}", file=sys.stderr)

    if rival_figures(0.01) is None:
        tell("no rival: scripts/bench suite --install gets it")
    print(table(options.seconds, max(1, options.rounds), max(1, options.megabytes), tell), end="")
    return 0
