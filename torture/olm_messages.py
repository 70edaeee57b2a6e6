"""The messages of Olm inside suite 1's envelopes, read without a library for Olm.

Owns: the fields of both forms, and which message key sealed an envelope.
Promises: pure. `KeyUses` names each key that sealed two envelopes.
Exposure: reads what the clients of a drill sent.

Source: docs/suite-1.md, "A message" and "Olm".
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from client.suite1 import layout, olm, outer
from client.suite1.values import Pair

_KEY: Final = 32
_MAC: Final = 8


class NotOlm(Exception):
    """These bytes are no message of Olm."""


class Starter(NamedTuple):
    """The public keys in front of a session's first messages: the recipient's one-time or fallback
    key, the sender's base key and identity key.
    """

    one_time: bytes
    base: bytes
    identity: bytes


class Sealed(NamedTuple):
    """One message of Olm. `ratchet` and `place` say which key of which chain sealed it;
    `authenticated` is everything before the MAC.
    """

    starter: Starter | None
    ratchet: bytes
    place: int
    ciphertext: bytes
    authenticated: bytes
    mac: bytes


def parse(plain: bytes) -> Sealed:
    """Read what an outer layer held: the type, and the message. Raises `NotOlm`."""
    kind, data = plain[:1], plain[1:]
    if kind == bytes([olm.NORMAL]):
        return _normal(data, None)
    fields = _Fields(data)
    fields.expect(b"\x03\x0a\x20")
    one_time = fields.take(_KEY)
    fields.expect(b"\x12\x20")
    base = fields.take(_KEY)
    fields.expect(b"\x1a\x20")
    identity = fields.take(_KEY)
    fields.expect(b"\x22")
    return _normal(fields.take(fields.varint()), Starter(one_time, base, identity))


def _normal(data: bytes, starter: Starter | None) -> Sealed:
    fields = _Fields(data[:-_MAC])
    fields.expect(b"\x03\x0a\x20")
    ratchet = fields.take(_KEY)
    fields.expect(b"\x10")
    place = fields.varint()
    fields.expect(b"\x22")
    return Sealed(starter, ratchet, place, fields.take(fields.varint()), data[:-_MAC], data[-_MAC:])


class _Fields:
    """Fields in the order in which senders write them."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, size: int) -> bytes:
        if size > len(self._rest):
            raise NotOlm(f"{size} bytes are wanted, and {len(self._rest)} are left")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def expect(self, wanted: bytes) -> None:
        if self.take(len(wanted)) != wanted:
            raise NotOlm(f"there is no {wanted.hex()}")

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7


class Envelope(NamedTuple):
    """What a client has sent: between whom, and the content up to a file's stream."""

    pair: Pair
    content: bytes

    def __str__(self) -> str:
        return f"{self.pair.sender.hex()} {self.pair.recipient.hex()} {self.content.hex()}"

    @classmethod
    def parsed(cls, line: str) -> "Envelope":
        """The pair of `str`."""
        sender, recipient, content = map(bytes.fromhex, line.split(" "))
        return cls(Pair(sender, recipient), content)

    @property
    def outer_number(self) -> int:
        """The number of the outer key that it is sealed to."""
        return layout.ENVELOPE.unpack_from(self.content)[1]  # type: ignore[no-any-return]

    @property
    def sealed(self) -> bytes:
        """What the outer layer is around."""
        return self.content[layout.ENVELOPE.size :]


class KeyUses:
    """Which message key sealed which envelopes."""

    def __init__(self, seeds: Mapping[int, bytes]) -> None:
        """`seeds`: the private halves of outer keys, by number."""
        self._seeds = seeds
        self._uses: dict[tuple[bytes, int], set[bytes]] = {}
        self.unread: list[Envelope] = []
        """Those of whom the outer key is not known, or does not open them."""

    def add(self, envelopes: Iterable[Envelope]) -> None:
        """Note which keys sealed these. The same bytes may be sent any number of times."""
        for one in envelopes:
            seed = self._seeds.get(one.outer_number)
            plain = None if seed is None else outer.open_sealed(seed, one.pair, one.sealed)
            if plain is None:
                self.unread.append(one)
                continue
            message = parse(plain)
            # A ratchet key is random and belongs to one chain of one session.
            self._uses.setdefault((message.ratchet, message.place), set()).add(one.content)

    @property
    def keys(self) -> int:
        """How many keys sealed something."""
        return len(self._uses)

    @property
    def chains(self) -> int:
        """Of how many chains: each is a step of a ratchet, or the beginning of a session."""
        return len({ratchet for ratchet, _ in self._uses})

    @property
    def twice(self) -> list[str]:
        """The keys that sealed different envelopes."""
        return [f"{ratchet.hex()[:8]} {place}" for (ratchet, place), uses in self._uses.items() if len(uses) > 1]
