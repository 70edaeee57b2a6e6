"""Other numberings and the other byte order of the published protocol, translated at the edge of
the codec.

Owns: which codes are aliases of 600 to 604, which first codes show a big-endian client, and how
responses are translated for such a client.
Promises: pure. Nothing here is called for a client that uses our own numbers. Translation keeps
sizes.
Exposure: `meaning_of` and `is_big_endian` are fed with strangers' numbers; `BigEndianReplies` with
our own responses.

Source: docs/client-protocol.md, "Other numberings and byte order".
"""

from struct import Struct
from typing import Final

from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import STORED, WAITING_HEAD, ResponseCode

LAST_OWN_CODE: Final = max(RequestCode)
"""Every other code that means something is higher, in either byte order."""
_UNKNOWN: Final = 0
"""A code that no request has."""
_PUBLISHED: Final = range(RequestCode.REGISTER, RequestCode.PULL + 1)
_ALIASES: Final[dict[int, int]] = {
    first + offset: code for first in (700, 1100) for offset, code in enumerate(_PUBLISHED)
}
_BIG_ENDIAN: Final[dict[int, int]] = {
    int.from_bytes(code.to_bytes(2, "big"), "little"): meaning
    for code, meaning in ({code: code for code in _PUBLISHED} | _ALIASES).items()
}
"""Codes as they look when a big-endian one is read as little-endian."""
_BIG_HEADER: Final = Struct(">BHI")
_BIG_ID: Final = Struct(">16sI")
_BIG_WAITING: Final = Struct(">16sIBI")


def meaning_of(code: int) -> int:
    """Our code for a little-endian code; unchanged if it is not an alias."""
    return _ALIASES.get(code, code)


def is_big_endian(code: int) -> bool:
    """Whether a connection's first code, read as little-endian, shows a big-endian client."""
    return code in _BIG_ENDIAN


def big_endian_meaning_of(code: int) -> int:
    """Our code for what a big-endian client means by `code`, read as little-endian.

    No such client uses the extension, and little-endian codes are invalid here: both become an
    unknown code.
    """
    return _BIG_ENDIAN.get(code, _UNKNOWN)


def swapped(number: int) -> int:
    """A u32 in the other byte order."""
    return int.from_bytes(number.to_bytes(4, "big"), "little")


class BigEndianReplies:
    """Translates the responses of one connection, in any split of their bytes."""

    def __init__(self) -> None:
        self._held = b""
        self._list_left = 0
        self._plain_left = 0
        self._padding = False

    def turn(self, data: bytes) -> bytes:
        """The same bytes with big-endian numbers. The rest of a head that is cut off comes
        later.
        """
        data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at = 0
        while at < len(data):
            size = len(data) if self._padding else self._plain_left
            if size:
                part = data[at : at + size]
                self._plain_left -= 0 if self._padding else len(part)
                parts.append(part)
                at += len(part)
                continue
            turned = self._head(data, at)
            if turned is None:
                self._held = data[at:]
                break
            parts.append(turned)
            at += len(turned)
        return b"".join(parts)

    def _head(self, data: bytes, at: int) -> bytes | None:
        """The head at `at`, translated; None if it is cut off."""
        left = len(data) - at
        if self._list_left:
            if left < WAITING_HEAD.size:
                return None
            sender, number, kind, size = WAITING_HEAD.unpack_from(data, at)
            self._plain_left = size
            self._list_left -= WAITING_HEAD.size + size
            return _BIG_WAITING.pack(sender, number, kind, size)
        if not data[at]:
            # No response begins with version 0: zeros for a padded client, and nothing after them.
            self._padding = True
            return b""
        if left < RESPONSE_HEADER.size:
            return None
        version, code, size = RESPONSE_HEADER.unpack_from(data, at)
        header = _BIG_HEADER.pack(version, code, size)
        if code == ResponseCode.STORED:
            if left < RESPONSE_HEADER.size + STORED.size:
                return None
            return header + _BIG_ID.pack(*STORED.unpack_from(data, at + RESPONSE_HEADER.size))
        if code == ResponseCode.WAITING:
            self._list_left = size
        else:
            self._plain_left = size
        return header
