"""The bytes of a message: the envelope outside, the head inside.

Owns: both layouts, and the check of the padding. Promises: pure.
Exposure: reads what strangers sent; any bytes end in a value or None.

    content      version u8 | outer key number u32 | sealed size u32 | sealed | attachment
    sealed       HPKE of: type of the Olm message u8 | Olm message
    inside Olm   form u8 | payload size u32 | number u32 | sender id [16] | recipient id [16] |
                 sender's ed25519 [32] | recipient's ed25519 [32] | payload | zeros

Source: docs/suite-1.md, "A message".
"""

import struct
from typing import Final, NamedTuple

from client.suite1.padding import padme
from client.suite1.values import KEY_SIZE, MAX_SEALED, VERSION, Pair

ENVELOPE: Final = struct.Struct("<BII")
INNER: Final = struct.Struct(f"<BII16s16s{KEY_SIZE}s{KEY_SIZE}s")
PAYLOAD: Final = 1
"""The form of most messages."""
RENEWED: Final = 2
"""The same in a session that takes the place of one that failed."""


class Envelope(NamedTuple):
    """The first nine bytes of a message."""

    version: int
    outer_number: int
    sealed_size: int

    @property
    def size(self) -> int:
        """How many bytes of the content come before the attachment. Look at `is_too_long` first:
        a stranger's word can be 4 GiB.
        """
        return ENVELOPE.size + self.sealed_size

    @property
    def is_too_long(self) -> bool:
        """Whether no message of this suite has a sealed part of this size."""
        return self.sealed_size > MAX_SEALED


class Inner(NamedTuple):
    """What Olm's plain text holds. The keys are ed25519 keys."""

    form: int
    number: int
    pair: Pair
    sender_key: bytes
    recipient_key: bytes
    payload: bytes


def envelope(head: bytes) -> Envelope | None:
    """Read the first nine bytes of a content; None if there are fewer."""
    return Envelope(*ENVELOPE.unpack_from(head)) if len(head) >= ENVELOPE.size else None


def enveloped(outer_number: int, sealed: bytes) -> bytes:
    """Return a content up to the attachment."""
    return ENVELOPE.pack(VERSION, outer_number, len(sealed)) + sealed


def packed(inner: Inner) -> bytes:
    """Return Olm's plain text, padded so that its ciphertext has a length of Padmé."""
    head = INNER.pack(
        inner.form, len(inner.payload), inner.number, inner.pair.sender, inner.pair.recipient, inner.sender_key,
        inner.recipient_key,
    )  # fmt: skip
    size = len(head) + len(inner.payload)
    return b"".join((head, inner.payload, bytes(padded_size(size) - size)))


def unpacked(plain: bytes) -> Inner | None:
    """Read Olm's plain text; None unless its length is the one that `packed` gives, and all behind
    the payload is zeros.
    """
    if len(plain) < INNER.size:
        return None
    form, payload_size, number, sender, recipient, sender_key, recipient_key = INNER.unpack_from(plain)
    end = INNER.size + payload_size
    if len(plain) != padded_size(end) or any(plain[end:]):
        return None
    return Inner(form, number, Pair(sender, recipient), sender_key, recipient_key, plain[INNER.size : end])


def padded_size(size: int) -> int:
    """Return the length of a padded plain text. AES-CBC adds a byte or more and makes whole blocks
    of 16; lengths of Padmé from 256 on are whole blocks.
    """
    return padme(size + 1) - 1
