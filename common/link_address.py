"""The address of a storage worker on another machine, and the keys of the link: text <-> values.

Owns: `tcp://[KEY@]HOST:PORT`, and how a key is written (43 characters of base64url).
Promises: pure. A text has one meaning only, or is a `ValueRejected` that says what is wrong.
Exposure: the operator's command lines and files.

Source: docs/operations.md, "Gateways and workers on several machines".
"""

import ipaddress
from typing import Final, NamedTuple

from common.errors import ValueRejected
from common.server_address import Pin, parse_address, parse_pin, pin_text

SCHEME: Final = "tcp://"
KEY_SIZE: Final = 32
_FORM: Final = "tcp://KEY@HOST:PORT"


class LinkAddress(NamedTuple):
    """Where a worker takes gateways. `key`: its public key, 32 bytes; None where nothing is
    encrypted.
    """

    host: str
    port: int
    key: bytes | None = None

    @property
    def endpoint(self) -> str:
        """As ZeroMQ has it, without a key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}"

    @property
    def is_of_this_machine(self) -> bool:
        """Whether no other machine can reach it, or stand in for it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            # A name leads wherever the system says.
            return False


def parse_link(text: str) -> LinkAddress:
    """Read `tcp://HOST:PORT` or `tcp://KEY@HOST:PORT`. Raises `ValueRejected`."""
    if not text.startswith(SCHEME):
        raise ValueRejected(f"the address of a link is {_FORM}")
    before, at, place = text.removeprefix(SCHEME).rpartition("@")
    found = parse_address(place)
    return LinkAddress(found.host, found.port, parse_key(before) if at else None)


def parse_key(text: str) -> bytes:
    """Read a key of 43 characters. Raises `ValueRejected`, without the text: it may be a secret."""
    try:
        return parse_pin(text)
    except ValueRejected as error:
        raise ValueRejected("a key of the link has 43 characters, base64url without padding") from error


def key_text(key: bytes) -> str:
    """A key as it is written."""
    return pin_text(Pin(key))
