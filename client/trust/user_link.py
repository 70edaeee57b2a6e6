"""Links that name a user with the fingerprint of their keys of cipher suite 1.

Owns: the form of such a link.
Promises: a link that is read back gives what it was made of; anything else is `ValueRejected`.
Exposure: reads what somebody pasted or scanned.

    messageu-user:NAME#FINGERPRINT    the name percent-encoded, the fingerprint's 32 bytes in
                                      base64url without padding, 43 characters

Source: docs/suite-1.md, "Safety number 2"; docs/client.md, "Trust".
"""

import base64
import binascii
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from common.errors import ValueRejected

SCHEME: Final = "messageu-user:"
_SIZE: Final = 32
_LENGTH: Final = 43


class UserLink(NamedTuple):
    """A user's name, and the fingerprint of their keys."""

    name: str
    fingerprint: bytes

    def __str__(self) -> str:
        code = base64.urlsafe_b64encode(self.fingerprint).decode("ascii").rstrip("=")
        return f"{SCHEME}{quote(self.name, safe='')}#{code}"


def is_link(text: str) -> bool:
    """Whether a text is meant to be such a link."""
    return text.strip().startswith(SCHEME)


def parse(text: str) -> UserLink:
    """Read a link. Raises `ValueRejected`."""
    name, _, code = text.strip().removeprefix(SCHEME).partition("#")
    try:
        decoded_name = unquote(name, errors="strict")
        fingerprint = base64.b64decode(f"{code}=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable() from error
    if not is_link(text) or not decoded_name or len(code) != _LENGTH or len(fingerprint) != _SIZE:
        raise _unreadable()
    return UserLink(decoded_name, fingerprint)


def _unreadable() -> ValueRejected:
    return ValueRejected(f"that is no link of a user: {SCHEME}NAME#FINGERPRINT, with 43 characters behind the #")
