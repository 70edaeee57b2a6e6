"""A server's address as people paste it: text <-> value.

Owns: `HOST:PORT`, the link `messageu://PIN[,NEXTPIN]@HOST:PORT[#INVITATION]`, lists
`HOST:PORT,HOST:PORT` in either, and what a pin is.
Promises: pure. A text has one meaning only, or is refused with a `ValueRejected` that says what is
wrong with it and quotes it without its invitation. What is written is read back unchanged.
Exposure: pasted by people, from mails and screens.

A pin is the SHA-256 of the server's certificate (DER), a link has at most two: that of the
certificate in use, and that of the next one. An invitation is 16 bytes that mean nothing here; it
is a secret, so that `str` leaves it out, and `link` has it.

Source: docs/client-protocol.md, "Files beside the programs".
"""

import binascii
from collections.abc import Callable
from typing import Final, NamedTuple, NewType

from common.errors import ValueRejected

SCHEME: Final = "messageu://"
PIN_SIZE: Final = 32
MOST_PINS: Final = 2
MOST_PLACES: Final = 16
INVITATION_SIZE: Final = 16
_LONGEST_HOST: Final = 255
_LONGEST_QUOTE: Final = 40
_NEVER_IN_A_HOST: Final = frozenset("@#/\\?,[]:")
_TO_URL: Final = str.maketrans("+/", "-_")
_FROM_URL: Final = str.maketrans("-_", "+/")
_FORM: Final = "messageu://PIN@HOST:PORT"

Pin = NewType("Pin", bytes)
"""32 bytes: SHA-256 of a certificate's DER."""


class ServerAddress(NamedTuple):
    """Where a server listens: a host name or address, and a TCP port; with pins, over TLS alone and
    only where its certificate has one of them.
    """

    host: str
    port: int
    pins: tuple[Pin, ...] = ()
    invitation: bytes | None = None
    others: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of further gateways to the same server, tried in this order after the first
    one."""

    def __str__(self) -> str:
        return f"{SCHEME}{','.join(map(pin_text, self.pins))}@{self.place}" if self.pins else self.place

    @property
    def place(self) -> str:
        """Only HOST:PORT, for messages; several with commas between them."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.places)

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Every host and port, in order."""
        return ((self.host, self.port), *self.others)

    @property
    def link(self) -> str:
        """The whole link with the invitation: for the person invited, never for a log."""
        return str(self) if self.invitation is None else f"{self}#{_written(self.invitation)}"


def pin(raw: bytes) -> Pin:
    """Check 32 raw bytes. Raises `ValueRejected` for another length."""
    if len(raw) != PIN_SIZE:
        raise ValueRejected(f"a pin is {PIN_SIZE} bytes, not {len(raw)}")
    return Pin(bytes(raw))


def pin_of(certificate: bytes) -> Pin:
    """Give the pin of a certificate, of its DER."""
    import hashlib  # noqa: PLC0415 - most addresses have no pin

    return Pin(hashlib.sha256(certificate).digest())


def pin_text(value: Pin) -> str:
    """Give a pin as it is written: 43 characters of base64url."""
    return _written(value)


def parse_pin(text: str) -> Pin:
    """Read a pin of 43 characters. Raises `ValueRejected`."""
    return Pin(_read(text, PIN_SIZE, "a pin"))


def parse_port(text: str) -> int | None:
    """A TCP port, 1 to 65535, in plain decimal digits; None for anything else."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None
    port = int(digits)
    return port if 1 <= port <= 65535 else None


def parse_address(text: str) -> ServerAddress:
    """Read `HOST:PORT` or a link, of one place; an IPv6 address is in brackets. Raises
    `ValueRejected`.
    """
    return _parsed(text, lambda place: [_host_and_port(place)])


def parse_addresses(text: str) -> ServerAddress:
    """The same, or several places with commas between them, tried in their order. Raises
    `ValueRejected`.
    """
    return _parsed(text, _places)


def _parsed(text: str, places: Callable[[str], list[tuple[str, int]]]) -> ServerAddress:
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        if "@" in text or "#" in text:
            raise ValueRejected(f"a link begins with {SCHEME}: {_FORM}")
        (host, port), *others = places(text)
        return ServerAddress(host, port, others=tuple(others))
    if f"{scheme}://".lower() != SCHEME:
        raise ValueRejected(f"a link begins with {SCHEME}, not {_quoted(f'{scheme}://')}")
    if any(character.isspace() for character in rest):
        raise ValueRejected("a link must not contain a space or a line break")
    rest, hash_sign, invited = rest.partition("#")
    pins_text, at, place = rest.partition("@")
    if not at:
        raise ValueRejected(f"the pin is missing: {_FORM}")
    pins = _pins(pins_text)
    (host, port), *others = places(place)
    invitation = _read(invited, INVITATION_SIZE, "an invitation", secret=True) if hash_sign else None
    return ServerAddress(host, port, pins, invitation, tuple(others))


def shown(text: str) -> str:
    """Quote what should have been an address: on one line, shortened, and without an invitation."""
    before, hash_sign, _ = text.partition("#")
    return _quoted(before + hash_sign, 120)


def _pins(text: str) -> tuple[Pin, ...]:
    pins = tuple(parse_pin(part) for part in text.split(",", MOST_PINS))
    if len(pins) > MOST_PINS:
        raise ValueRejected(f"a link has at most {MOST_PINS} pins")
    if len(set(pins)) != len(pins):
        raise ValueRejected("the two pins are the same one")
    return pins


def _places(text: str) -> list[tuple[str, int]]:
    parts = text.split(",", MOST_PLACES)
    if len(parts) > MOST_PLACES:
        raise ValueRejected(f"there are at most {MOST_PLACES} HOST:PORT in a list")
    places = [_host_and_port(part) for part in parts]
    if len(set(places)) != len(places):
        raise ValueRejected("the same HOST:PORT is there twice")
    return places


def _host_and_port(text: str) -> tuple[str, int]:
    if not text:
        raise ValueRejected("HOST:PORT is missing")
    host, colon, port_text = text.rpartition(":")
    if not colon or "]" in port_text:
        raise ValueRejected("the port is missing: HOST:PORT")
    host = _host(host)
    port = parse_port(port_text)
    if port is None:
        raise ValueRejected(f"a port is a number from 1 to 65535, not {_quoted(port_text)}")
    return host, port


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return _in_brackets(text[1:-1])
    if not text:
        raise ValueRejected("the host is missing: HOST:PORT")
    if ":" in text and _NEVER_IN_A_HOST.isdisjoint(text.replace(":", "")):
        raise ValueRejected("use one colon, before the port, and write an IPv6 address in brackets: [::1]:1357")
    if len(text) > _LONGEST_HOST:
        raise ValueRejected(f"a host has at most {_LONGEST_HOST} characters, not {len(text)}")
    for character in text:
        if character in _NEVER_IN_A_HOST or character.isspace() or not character.isprintable():
            raise ValueRejected(f"a host has no {character!r} in it")
    return text


def _in_brackets(text: str) -> str:
    import ipaddress  # noqa: PLC0415 - few addresses have brackets

    try:
        ipaddress.IPv6Address(text)
    except ValueError as error:
        raise ValueRejected(f"the brackets must hold an IPv6 address, not {_quoted(text)}") from error
    if not all(character.isprintable() and character not in _NEVER_IN_A_HOST - {":"} for character in text):
        raise ValueRejected(f"the brackets must hold an IPv6 address, not {_quoted(text)}")
    return text


def _written(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode("ascii").translate(_TO_URL).rstrip("=")


def _read(text: str, size: int, what: str, *, secret: bool = False) -> bytes:
    """Bytes as base64url without padding: one text for each, no other one."""
    length = (size * 4 + 2) // 3
    found = "" if secret else f", not {_quoted(text)}"
    if len(text) != length:
        raise ValueRejected(f"{what} has {length} characters (base64url without padding), not {len(text)}")
    try:
        raw = binascii.a2b_base64(text.translate(_FROM_URL) + "=" * (-length % 4), strict_mode=True)
    except ValueError as error:
        raise ValueRejected(f"{what} is base64url without padding{found}") from error
    # The bits that no byte needs are zeros, and the alphabet is the one of URLs.
    if _written(raw) != text:
        raise ValueRejected(f"{what} is base64url without padding{found}")
    return raw


def _quoted(text: str, longest: int = _LONGEST_QUOTE) -> str:
    return ascii(text[:longest]) + ("…" if len(text) > longest else "")
