"""Drill: invalid keys, and keys made to break whoever uses them, are registered, greeted and
proved.

Owns: the kinds of keys. Promises: every proof under one of them is refused with 9000 or 9001, no
other connection is dropped and neither program ends; what an innocent client sent meanwhile
arrives.
Exposure: none.
"""

import random
from collections.abc import Iterator
from typing import Final

from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerInteger, DerSequence

from common.client_protocol.requests import ProveRequest
from common.client_protocol.responses import ErrorResponse
from common.values import PUBLIC_KEY_SIZE, PublicKey
from torture.caller import Account, Caller, new_account, new_key, public_half, token_of
from torture.checker import judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server

NAME: Final = "hostile-keys"
_FULL_KEYS: Final = 2_000
_QUICK_KEYS: Final = 60


def _filled(der: bytes) -> bytes:
    return (der + bytes(PUBLIC_KEY_SIZE))[:PUBLIC_KEY_SIZE]


def _integers(*numbers: int) -> bytes:
    return _filled(DerSequence([DerInteger(number).encode() for number in numbers]).encode())


def hostile_keys(chance: random.Random) -> Iterator[bytes]:
    """Keys of 160 bytes without end: each form once, then good keys with bytes changed,
    cut, and moved.
    """
    good = bytes(public_half(new_key("hostile")))
    modulus = int(new_key("hostile").n)
    # A private key with a prime of 0, and its relatives.
    yield _integers(0, modulus, 17, 5, 7, 0, 1, 1, 1)
    for at in range(9):
        numbers = [0, modulus, 17, 5, 7, 11, 1, 1, 1]
        numbers[at] = chance.choice((0, 1, 2, -1, modulus))
        yield _integers(*numbers)
    for exponent in (0, 1, 2, 16, 128, 255):
        yield good[:-1] + bytes([exponent])
    yield _filled(RSA.generate(1024, randfunc=chance.randbytes).public_key().export_key("DER"))  # noqa: S505 - it is meant to be as weak as theirs
    yield modulus.to_bytes(128, "big") + (17).to_bytes(32, "big")
    yield from (bytes(160), b"\xff" * 160, b"\x30\x80" * 80, b"\x30\x84\xff\xff\xff\xff" + bytes(154))
    yield _filled(b"-----BEGIN RSA PRIVATE KEY-----\n")
    yield _filled(b"ssh-rsa AAAA")
    while True:
        changed = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(40 if chance.randrange(2) else 160)] = chance.randrange(256)
        yield chance.choice((bytes(changed), _filled(good[chance.randrange(160) :]), chance.randbytes(160)))


class _Innocent:
    """Sends, over one connection that must hold."""

    def __init__(self, port: int) -> None:
        self._me, self.reader = new_account(port, "innocent"), new_account(port, "reader")
        self.caller = Caller(port)
        self.caller.prove(self._me)
        self.messages: list[DrillMessage] = []

    def send(self) -> None:
        message = DrillMessage("innocent", "reader", len(self.messages) + 1)
        self.caller.send(self._me.client_id, self.reader.client_id, message.content(100), token=token_of(str(message)))
        self.messages.append(message)


def _is_refused(port: int, name: str, key: bytes, signature: bytes) -> bool:
    with Caller(port) as caller:
        client_id = caller.register(name, PublicKey(key))
        caller.hello()
        return isinstance(caller.ask(ProveRequest(client_id, signature)), ErrorResponse)


def run(place: Place) -> Row:
    """One key after another; between them the innocent client sends over its one connection."""
    chance = place.chance(NAME)
    problems: list[str] = []
    with Server(place.folder_of(NAME) / "server").start() as server:
        innocent = _Innocent(server.port)
        processes = [program.pid for program in server.programs]
        wanted = place.sized(_FULL_KEYS, _QUICK_KEYS)
        for number, key in zip(range(wanted), hostile_keys(chance), strict=False):
            try:
                if not _is_refused(server.port, f"h{number}", key, chance.randbytes(128)):
                    problems.append(f"a proof under {key.hex()} was accepted")
                innocent.send()
            except OSError as error:
                problems.append(f"{key.hex()}: {error}")
                break
        if [program.find_pid() for program in server.programs] != processes:
            problems.append("a program ended")
        else:
            innocent.send()
        received = _received(server.port, innocent.reader)
    verdict = judge(innocent.messages, innocent.messages, {"reader": received})
    for problem in (*problems, examples(verdict)):
        if problem:
            say(f"  {NAME}: {problem}")
    note = f"{wanted} keys, {len(problems)} problems"
    return Row(NAME, 0, verdict, verdict.spotless and not problems, note)


def _received(port: int, reader: Account) -> list[DrillMessage]:
    with Caller(port) as caller:
        caller.prove(reader)
        nothing = DrillMessage("damaged", "damaged", 0)
        return [parse_content(one.content) or nothing for one in caller.fetch(reader.client_id, 0)]
