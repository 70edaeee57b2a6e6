"""The numbers of the client protocol.

Owns: versions, request and response codes, features. Nothing else in the project writes these
numbers.
Promises: part 1's numbers are the published ones; the rest uses codes no known MessageU program
uses. 605 is never used: one public server deletes the account on it.
Exposure: constants only.

Source: docs/client-protocol.md.
"""

from enum import IntEnum, IntFlag
from typing import Final

SERVER_VERSION: Final = 2
"""The version byte of every response; what requests carry there is ignored."""
CLIENT_VERSION: Final = 2
"""The version byte of our client's requests."""
VERSIONS: Final = (2, 1)
"""The version bytes that servers of the published protocol want: most take either, some
one alone.
"""
EXTENSION_VERSION: Final = 1
PADDED_BLOCK: Final = 1024
"""Some clients pad every request with zeros to a multiple of this many bytes and read
replies in such blocks.
"""


class RequestCode(IntEnum):
    """What a client may ask."""

    REGISTER = 600
    LIST_USERS = 601
    PUBLIC_KEY = 602
    SEND = 603
    PULL = 604
    HELLO = 640
    PROVE = 641
    SEND_ONCE = 642
    FETCH = 643


class ResponseCode(IntEnum):
    """What a server may answer."""

    REGISTERED = 2100
    USERS = 2101
    PUBLIC_KEY = 2102
    STORED = 2103
    WAITING = 2104
    HELLO = 2140
    AUTHENTICATED = 2141
    FETCHED = 2143
    ERROR = 9000
    ERROR_WITH_REASON = 9001


class Feature(IntFlag):
    """Bits of 640 and 2140."""

    SEND_ONCE = 1
    FETCH = 2
    CIPHER_SUITE = 4
    REASONS = 8


SERVER_FEATURES: Final = Feature.SEND_ONCE | Feature.FETCH | Feature.REASONS
"""What this server offers. Bit 2 is reserved for a newer cipher suite."""
