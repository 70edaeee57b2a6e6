"""Values that are valid by construction.

Owns: what a client id, a user name, a public key, a token and a message kind may look like.
Promises: whoever holds one of these types holds a checked value; the functions below are the only
makers.
Exposure: fed with bytes from strangers; every rejection is a `ValueRejected` that says why.

Source: docs/client-protocol.md, "Fields".
"""

from enum import IntEnum
from typing import Final, NewType

from common.errors import ValueRejected

CLIENT_ID_SIZE: Final = 16
NAME_FIELD_SIZE: Final = 255
MAX_NAME_LENGTH: Final = NAME_FIELD_SIZE - 1
PUBLIC_KEY_SIZE: Final = 160
TOKEN_SIZE: Final = 16
LONGEST_BUNDLE: Final = 4096
"""Bytes of a user's published keys, without one-time keys. The server looks at nothing in them."""
ONE_TIME_KEY_SIZE: Final = 96
MOST_PUBLISHED: Final = 50
"""One-time keys in one publication."""
MOST_KEPT: Final = 100
"""One-time keys of one user that the server keeps."""

ClientId = NewType("ClientId", bytes)
"""16 raw bytes that name a user."""

Username = NewType("Username", str)
"""1 to 254 characters of printable ASCII, no space at either end, case-sensitive."""

PublicKey = NewType("PublicKey", bytes)
"""160 bytes: X.509 SubjectPublicKeyInfo DER of an RSA-1024 key. The server looks into it
only to check a proof.
"""

Invitation = NewType("Invitation", bytes)
"""16 random bytes that let somebody register. The server keeps their hash."""

Token = NewType("Token", bytes)
"""16 bytes that name one message of one sender, so that a resend can be recognised."""

NO_CLIENT: Final = ClientId(bytes(CLIENT_ID_SIZE))
"""What clients without an identity put into a header; never given to anybody."""


class MessageKind(IntEnum):
    """What a message is to its receiver; the server only checks that the number is one of these."""

    KEY_REQUEST = 1
    KEY = 2
    TEXT = 3
    FILE = 4
    SEALED = 5
    """Of the extension alone: 642 brings it, 643 hands it out, and nothing else does."""


MESSAGE_KINDS: Final = frozenset(int(kind) for kind in MessageKind if kind != MessageKind.SEALED)
"""Those of the published protocol as plain numbers, for the code that looks at every message."""
KINDS_SENT_ONCE: Final = MESSAGE_KINDS | {int(MessageKind.SEALED)}
"""Those that 642 may bring."""


class RefusalReason(IntEnum):
    """Why something was not done. The numbers are those of response 9001."""

    MALFORMED = 1
    REQUESTER_UNKNOWN = 2
    RECIPIENT_UNKNOWN = 3
    PROOF_NEEDED = 4
    TOO_LARGE = 5
    MAILBOX_FULL = 6
    TOO_FAST = 7
    STORAGE_FULL = 8
    TOKEN_REUSED = 9
    NAME_TAKEN = 10
    SENDER_SHARE = 11
    DAMAGED = 12
    INVITATION = 13
    REGISTRATION_CLOSED = 14
    DISABLED = 15
    NO_KEYS = 16
    UNAVAILABLE = 17
    """A part of the server is down; nothing was done."""


class Registration(IntEnum):
    """Who may register at a server. The numbers are those of response 2148."""

    OPEN = 0
    INVITED = 1
    CLOSED = 2


def client_id(raw: bytes) -> ClientId:
    """Check 16 raw bytes. Raises `ValueRejected` for another length."""
    if len(raw) != CLIENT_ID_SIZE:
        raise ValueRejected(f"a client id is {CLIENT_ID_SIZE} bytes, not {len(raw)}")
    return ClientId(bytes(raw))


def client_id_from_hex(text: str) -> ClientId:
    """Read 32 hex digits, upper or lower case. Raises `ValueRejected`."""
    try:
        return client_id(bytes.fromhex(text.strip()))
    except ValueError as error:
        raise ValueRejected("a client id is written as 32 hex digits") from error


def username(text: str) -> Username:
    """Check a user's name. Raises `ValueRejected` that says which rule it breaks."""
    if not text:
        raise ValueRejected("a name needs at least one character")
    if len(text) > MAX_NAME_LENGTH:
        raise ValueRejected(f"a name has at most {MAX_NAME_LENGTH} characters, not {len(text)}")
    if not (text.isascii() and text.isprintable()):
        raise ValueRejected("a name is made of printable ASCII characters only")
    if text[0] == " " or text[-1] == " ":
        raise ValueRejected("a name neither begins nor ends with a space")
    return Username(text)


def public_key(raw: bytes) -> PublicKey:
    """Check the length of a public key's DER: 160 bytes. Raises `ValueRejected`."""
    if len(raw) != PUBLIC_KEY_SIZE:
        raise ValueRejected(f"a public key is {PUBLIC_KEY_SIZE} bytes, not {len(raw)}")
    return PublicKey(bytes(raw))


def token(raw: bytes) -> Token:
    """Check 16 raw bytes. Raises `ValueRejected` for another length."""
    if len(raw) != TOKEN_SIZE:
        raise ValueRejected(f"a token is {TOKEN_SIZE} bytes, not {len(raw)}")
    return Token(bytes(raw))
