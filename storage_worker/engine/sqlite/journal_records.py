"""What a turn changed, as values, and the bytes of them that the journal keeps.

Owns: the effects and their encoding.
Promises: an effect says what was decided, never what was asked: applying it again to the state
before it gives the state after it, whatever the settings, the clock or the disk are then.
Exposure: none; written and read by this program alone.
"""

from typing import Final

import msgspec
from msgspec import Struct

from common.errors import StoreFailed


class _RecordBase(Struct, array_like=True, frozen=True, gc=False):
    """Encoded as an array that begins with its tag."""


class MessagesAccepted(_RecordBase, frozen=True, tag=1):
    """The messages of `frames` (see `StoreMessages`) but those at the indexes `refused` are in
    their mailboxes.

    Theirs are the sequences from `first` on, and the tokens that `seed` (12 bytes) and their index
    make.
    """

    proven: bool
    first: int
    accepted_at: int
    seed: bytes
    frames: bytes
    refused: list[int]


class MessageAccepted(_RecordBase, frozen=True, tag=2):
    """A message is in the mailbox of user row `recipient`. `entry`: its head alone where
    file `body` has the rest.
    """

    recipient: int
    sequence: int
    entry: bytes
    body: int


class MailRemoved(_RecordBase, frozen=True, tag=3):
    """The messages `first` to `last` of the mailbox of user row `recipient` are no more."""

    recipient: int
    first: int
    last: int


class TokenUsed(_RecordBase, frozen=True, tag=4):
    """What was sent under a token. `sender` and `recipient` are user rows, `digest` is
    the content's SHA-256.
    """

    sequence: int
    sender: int
    token: bytes
    recipient: int
    kind: int
    digest: bytes
    accepted_at: int


class SlotTaken(_RecordBase, frozen=True, tag=5):
    """A gateway greeted. `earlier`: the incarnations before it, newest first, 16 bytes each."""

    slot: int
    epoch: int
    incarnation: bytes
    earlier: bytes


class BatchApplied(_RecordBase, frozen=True, tag=6):
    """Batch `number` of the slot's epoch is applied. `outcomes`: what was kept of its
    answers; None: it was refused.
    """

    slot: int
    number: int
    outcomes: bytes | None


class UserProven(_RecordBase, frozen=True, tag=7):
    """The user of this row proved himself."""

    user: int


Record = MessagesAccepted | MessageAccepted | MailRemoved | TokenUsed | SlotTaken | BatchApplied | UserProven

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def encode_records(effects: list[Record]) -> bytes:
    """The bytes of one turn's effects."""
    return _encoder.encode(effects)


def decode_records(data: bytes) -> list[Record]:
    """The pair of `encode_records`. Raises `StoreFailed` for what no version of this
    program wrote.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreFailed(f"the journal holds something that can't be read: {error}") from error
