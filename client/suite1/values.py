"""The values of suite 1 that both sides see, its constants, and the names of its failures.

Owns: public keys and bundles as values, sizes, times, the reasons why something is refused.
Promises: pure data.
Exposure: none; whoever reads a stranger's bytes makes these values.

Source: docs/suite-1.md, "Constants" and "Failures".
"""

from enum import StrEnum
from typing import Final, NamedTuple

from client.errors import ClientError

VERSION: Final = 1
"""Of bundles and of messages."""
MESSAGE_TYPE: Final = 5
"""The type of a message of this suite in 642 and 643."""
KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
OUTER_PUBLIC_SIZE: Final = 1216
"""ML-KEM-768's 1,184 bytes, then X25519's 32."""
OUTER_OVERHEAD: Final = 1136
"""What HPKE adds: 1,120 bytes of X-Wing's encapsulation and 16 of Poly1305's tag."""
BUNDLE_SIZE: Final = 1389
ONE_TIME_SIZE: Final = KEY_SIZE + SIGNATURE_SIZE

HOUR: Final = 3_600_000
"""Times are in milliseconds, as everywhere in the client."""
DAY: Final = 24 * HOUR
ROTATE_AFTER: Final = 6 * DAY
"""The age at which a home replaces its outer key and its fallback key."""
VALID_FOR: Final = 7 * DAY
"""From when an outer key is made until senders ask for another one."""
KEPT_AFTER: Final = 7 * DAY
"""How much longer its private half is kept, for mail on its way."""
FARTHEST: Final = 14 * DAY
"""A bundle that claims to be valid for longer than this from now is refused."""
RENEW_AT_MOST: Final = HOUR
"""At least this long between two renewals of the sessions with one peer."""
ASK_AT_MOST: Final = HOUR
"""At least this long between two requests to one peer to send again what could not be opened."""
REPLACE_AT_MOST: Final = DAY
"""At least this long between two replacements of all that a home published."""

ONE_TIME_BATCH: Final = 50
"""One-time keys in one publication."""
ONE_TIME_LOW: Final = 50
"""A server that keeps fewer than this gets more."""
MAX_SESSIONS: Final = 5
"""Kept for each peer; a new one takes the place of the one that opened nothing for longest."""
MAX_SESSION_IDS: Final = 512
"""Remembered for each peer while a fallback key could start the same session again."""
MAX_DIGESTS: Final = 64
"""Remembered of the contents that a peer's last messages had."""
MAX_PAYLOAD: Final = 16 * 1024 * 1024
MAX_SEALED: Final = 17 * 1024 * 1024
"""The longest sealed part: the longest payload, padded, has room in it."""


class Identity(NamedTuple):
    """Who somebody is in this suite: two public keys of 32 bytes. Both are pinned."""

    ed25519: bytes
    curve25519: bytes


class OuterKey(NamedTuple):
    """The public half of somebody's outer key. `valid_until` in Unix milliseconds."""

    number: int
    valid_until: int
    public: bytes


class Bundle(NamedTuple):
    """What somebody published, after its signature was checked."""

    identity: Identity
    outer: OuterKey
    fallback: bytes


class Claim(NamedTuple):
    """What the server answered to a claim, after every check. `one_time_key`: 32 bytes, or None:
    then the fallback key starts the session.
    """

    bundle: Bundle
    one_time_key: bytes | None


class Pair(NamedTuple):
    """The client ids of a message's sender and recipient, 16 bytes each."""

    sender: bytes
    recipient: bytes


class BundleFailure(StrEnum):
    """Why a bundle or a one-time key is not believed."""

    MALFORMED = "malformed"
    VERSION = "later-version"
    SIGNATURE = "signature"
    IDENTITY_CHANGED = "identity-changed"
    TOO_FAR = "too-far"
    OLDER = "older"
    OUTER_KEY = "outer-key"
    ONE_TIME_SIGNATURE = "one-time-signature"
    SESSION_KEY = "session-key"


class BundleRefused(ClientError):
    """A bundle, or the one-time key beside it, failed a check; nothing of it was used."""

    def __init__(self, failure: BundleFailure) -> None:
        super().__init__(_BUNDLE_SENTENCES[failure])
        self.failure = failure


_BUNDLE_SENTENCES: Final = {
    BundleFailure.MALFORMED: "the keys that the server names have the wrong size",
    BundleFailure.VERSION: "the keys that the server names are of a later version of the cipher suite",
    BundleFailure.SIGNATURE: "the keys that the server names are not signed by their owner",
    BundleFailure.IDENTITY_CHANGED: "the server names another identity than the one that is known",
    BundleFailure.TOO_FAR: "the keys that the server names claim to be valid for longer than any are",
    BundleFailure.OLDER: "the server names older keys than it did before",
    BundleFailure.OUTER_KEY: "the outer key that the server names can't be used",
    BundleFailure.ONE_TIME_SIGNATURE: "the one-time key that the server gave is not signed by its owner",
    BundleFailure.SESSION_KEY: "the keys that the server gave can't start a session",
}


class OpenFailure(StrEnum):
    """Why a message was not opened."""

    MALFORMED = "malformed"
    VERSION = "later-version"
    REPEATED = "repeated"
    USED_KEY = "used-key"
    OUTER_KEY_UNKNOWN = "outer-key-unknown"
    OUTER_DAMAGED = "outer-damaged"
    INNER_MALFORMED = "inner-malformed"
    OTHER_IDENTITY = "other-identity"
    ONE_TIME_KEY_UNKNOWN = "one-time-key-unknown"
    TOO_MANY_SESSIONS = "too-many-sessions"
    NO_SESSION = "no-session"
    WRONG_IDS = "wrong-ids"
    WRONG_KEYS = "wrong-keys"


RENEWING: Final = frozenset(
    {
        OpenFailure.OUTER_KEY_UNKNOWN,
        OpenFailure.OUTER_DAMAGED,
        OpenFailure.INNER_MALFORMED,
        OpenFailure.ONE_TIME_KEY_UNKNOWN,
        OpenFailure.USED_KEY,
        OpenFailure.NO_SESSION,
    }
)
"""After these the next message to that peer starts a new session."""
REPLACING: Final = frozenset({OpenFailure.OUTER_KEY_UNKNOWN, OpenFailure.ONE_TIME_KEY_UNKNOWN})
"""After these, of somebody with whom there were messages before, the server seems to have keys that
this home has not: they are replaced, if `own_keys.replacement_due` says so.
"""
