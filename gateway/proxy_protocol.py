"""The header of the PROXY protocol, version 2: bytes -> the client that a proxy forwards for.

Owns: the header's layout and its bound. Promises: pure; accepts any bytes without raising. What
follows the header is not looked at.
Exposure: proxies that the operator named; what they say about a client is believed.

Source: "The PROXY protocol, versions 1 & 2", 2.2 (haproxy.org/download/1.8/doc/proxy-protocol.txt).
"""

import ipaddress
from struct import Struct
from typing import Final

HEAD_SIZE: Final = 16
LONGEST_REST: Final = 2048
"""Addresses take at most 216 bytes; behind them a proxy may put remarks, as the name that TLS was
asked for.
"""
_HEAD: Final = Struct("!12sBBH")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_ADDRESS_SIZES: Final = {0x11: 4, 0x21: 16}
"""By family and protocol, of TCP: the bytes of the client's address, which comes first."""


def rest_size(head: bytes) -> int | None:
    """How many bytes of the header follow its first 16; None if these do not begin one."""
    signature, command, _family, size = _HEAD.unpack(head)
    if signature != _SIGNATURE or command not in (_LOCAL, _PROXY) or size > LONGEST_REST:
        return None
    return int(size)


def client_address(head: bytes, rest: bytes) -> str | None:
    """The client's numeric address; None if the proxy connects for itself, or does not know it."""
    _signature, command, family, _size = _HEAD.unpack(head)
    size = _ADDRESS_SIZES.get(family, 0)
    if command != _PROXY or not size or len(rest) < size:
        return None
    return str(ipaddress.ip_address(rest[:size]))
