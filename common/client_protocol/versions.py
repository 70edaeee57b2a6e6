"""Versions of the client protocol, and the features that 640 and 2140 name.

Owns: these numbers. The codes are in `requests` and `responses`, with their layouts.
Promises: the versions of part 1 are the published ones.
Exposure: constants only.

Source: docs/client-protocol.md.
"""

from enum import IntFlag
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


class Feature(IntFlag):
    """Bits of 640 and 2140."""

    SEND_ONCE = 1
    FETCH = 2
    KEYS = 4
    REASONS = 8
    ACCOUNTS = 16
    CERTIFICATES = 32
    BLOCKING = 64


SERVER_FEATURES: Final = (
    Feature.SEND_ONCE | Feature.FETCH | Feature.KEYS | Feature.REASONS | Feature.ACCOUNTS | Feature.BLOCKING
)
"""What this server offers on every connection."""
TLS_FEATURES: Final = SERVER_FEATURES | Feature.CERTIFICATES
"""What it offers over TLS."""
