"""scripts/fuzz: feeds what strangers' bytes reach with inputs, guided by coverage where the package
atheris is there, and by chance where it is not.

Owns: the time of each target, and what is kept of a fault: the input, named where it lies.
Promises: exit code 0 with no fault, 1 with one; nothing outside of the working folder is changed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz import live
from tests.fuzz.mutation import CORPUS, corpus, mutated
from tests.fuzz.targets import LONGEST, TARGETS

_PROCESSES: Final = 2
_HANG_SECONDS: Final = 10
_MEMORY_MB: Final = 1024
_SHARE_OF_LIVE: Final = 5
"""One part in so many of the time is for the running server."""
_MANY: Final = 2_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/fuzz", description=(__doc__ or "").partition("\n\n")[0], allow_abbrev=False
    )
    made.add_argument("--minutes", type=float, default=2.0, help="in all (default: 2)")
    made.add_argument("--only", action="append", choices=sorted([*TARGETS, "live"]), help="a target; may be repeated")
    made.add_argument("--keep", type=Path, help="a folder for new inputs and those of faults (default: a new one)")
    return made


def _guided(target: str, seconds: int, folder: Path) -> tuple[str, bool]:
    """One target under atheris, in a process of its own; its last line, and whether it stood it."""
    found = folder / target
    found.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "tests.fuzz.guided", target, str(found), str(CORPUS / target),
            f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={_HANG_SECONDS}",
            f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={found}/fault-", "-print_final_stats=1", "-verbosity=0",
        ],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    (folder / f"{target}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    stats = dict(line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if line[:6] == "stat::")
    executed, memory = (stats.get(name, "?").strip() for name in ("number_of_executed_units", "peak_rss_mb"))
    return f"{target}: {executed} inputs, {memory} MB at most, guided", done.returncode == 0


def _by_chance(target: str, seconds: float, folder: Path) -> tuple[str, bool]:
    """One target with mutated inputs, in this process."""
    end = time.monotonic() + seconds
    inputs = mutated(corpus(target), Random(target))
    executed = 0
    while time.monotonic() < end:
        for data in islice(inputs, _MANY):
            executed += 1
            try:
                TARGETS[target](data)
            except Exception as error:
                (folder / f"{target}-fault").write_bytes(data)
                return f"{target}: {type(error).__name__} at input {executed}: {folder / f'{target}-fault'}", False
    return f"{target}: {executed} inputs, by chance", True


def _live(seconds: float, folder: Path) -> tuple[str, bool]:
    """The running server, over TCP and over TLS by turns."""
    end = time.monotonic() + seconds
    inputs = mutated(corpus("requests"), Random("live"))
    sent = 0
    with live.served(folder / "live") as (server, tls_port):
        try:
            while time.monotonic() < end:
                for inside_tls in (False, True):
                    sent += live.run(server, tls_port, inputs, 1, inside_tls=inside_tls)
        except live.LiveFault as error:
            return f"live: {error}", False
    return f"live: {sent} connections", True


def main(words: list[str]) -> int:
    """Run what is asked for."""
    options = parser().parse_args(words)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="messageu-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in TARGETS if not options.only or name in options.only]
    seconds = options.minutes * 60
    for_live = 0.0
    if not options.only or "live" in options.only:
        for_live = seconds / _SHARE_OF_LIVE if chosen else seconds
    guided = find_spec("atheris") is not None
    processes = _PROCESSES if guided else 1
    each = (seconds - for_live) * processes / max(len(chosen), 1)
    if not guided:
        print("atheris is not installed (requirements-fuzz.txt): inputs come by chance", file=sys.stderr)

    def fuzz(target: str) -> tuple[str, bool]:
        return _guided(target, max(1, round(each)), folder) if guided else _by_chance(target, each, folder)

    stood = True
    with ThreadPoolExecutor(processes) as pool:
        for line, is_sound in pool.map(fuzz, chosen):
            print(line if is_sound else f"FAULT in {line}; see {folder}", flush=True)
            stood &= is_sound
    if for_live:
        line, is_sound = _live(for_live, folder)
        print(line if is_sound else f"FAULT in {line}", flush=True)
        stood &= is_sound
    return 0 if stood else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
