"""An operator's requests to a running storage worker, and its answers, as frames.

Owns: the requests and answers as typed values, and their frames.
Promises: encoding and decoding come in pairs, and every value is checked for type and size. A
request that can't be decoded still gives its number, so that it can be answered.
Exposure: whoever may enter the link's folder. A wrong frame is a `FrameUndecodable`, and nothing
else.

A request belongs to no slot and to no batch: it is answered once, between two turns, and is never
resent. The requester chooses its number, to tell answers apart.

Source: docs/storage-protocol.md, "Administration".
"""

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from common.errors import FrameUndecodable
from common.storage_protocol.frames import HEADER_SIZE, UNDECODABLE, FrameType, Level, framed, read_header
from common.storage_protocol.operations import U16, U63, Id, Name

_NUMBER_AT: Final = 12
_TYPE_AT: Final = 1
LONGEST_EXPIRY: Final = 36_500
"""Days."""
MAILBOXES_AT_ONCE: Final = 200
"""Rows in one request: each mailbox is looked up, for which everybody waits."""
Sentence = Annotated[str, Meta(max_length=4096)]
Kind = TypeVar("Kind")


class _Value(Struct, array_like=True, frozen=True, gc=False):
    """Encoded as an array that begins with its tag."""


class ListAccounts(_Value, frozen=True, tag=1):
    """The next users in the order of registration, behind row `after`. Answer: `Accounts`."""

    after: U63 = 0


class GetTotals(_Value, frozen=True, tag=2):
    """The totals of the store. Answer: `Totals`."""


class BeginBackup(_Value, frozen=True, tag=3):
    """Begin to copy the store into this empty folder. Answer: `Backup`."""

    folder: Sentence


class GetBackup(_Value, frozen=True, tag=4):
    """The state of the last backup. Answer: `Backup`."""


class SetLogLevel(_Value, frozen=True, tag=5):
    """Log from this level on, worker and gateways. Answer: `Obeyed`."""

    level: Level


class DrainServer(_Value, frozen=True, tag=6):
    """Have the gateways finish what is in flight and end; then the worker ends too. Answer:
    `Obeyed`, when that begins.
    """


class Expire(_Value, frozen=True, tag=7):
    """Begin to delete what was accepted more than so many days ago. Answer: `Expiry`."""

    days: Annotated[int, Meta(ge=1, le=LONGEST_EXPIRY)]


class GetExpiry(_Value, frozen=True, tag=8):
    """How far the expiry is that was begun last. Answer: `Expiry`."""


class SetDisabled(_Value, frozen=True, tag=9):
    """Disable or enable the user of this name. Answer: `Obeyed`."""

    name: Name
    disabled: bool


class UsersChanged(_Value, frozen=True, tag=10):
    """The asker has changed the tables: see it now, and end what deleted users wait for. Answer:
    `Obeyed`.
    """


class GetMailboxes(_Value, frozen=True, tag=11):
    """What waits for the users of these rows, of whom the worker may have no list. Answer:
    `Mailboxes`.
    """

    rows: Annotated[list[U63], Meta(max_length=MAILBOXES_AT_ONCE)]


class Account(Struct, array_like=True, frozen=True, gc=False):
    """One user, and what waits for them. `registered` and `seen`: days since 1970, UTC; nil: before
    they were noted. `one_time_keys`: how many are kept; nil: the user has published no keys.
    """

    row: U63
    client_id: Id
    name: Name
    authenticated: bool
    messages: U63
    content_bytes: U63
    registered: U63 | None = None
    seen: U63 | None = None
    disabled: bool = False
    one_time_keys: U63 | None = None


class Accounts(_Value, frozen=True, tag=1):
    """Some users. `last`: the row to ask on behind; 0 where these were the last ones."""

    last: U63
    accounts: list[Account]


class Totals(_Value, frozen=True, tag=2):
    """Live numbers. `accepted` is at most so many where it is not `accepted_exactly`. `with_keys`:
    users who have published keys.
    """

    users: U63
    authenticated: U63
    mailboxes: U63
    messages: U63
    content_bytes: U63
    uploads: U63
    upload_bytes: U63
    accepted: U63
    accepted_exactly: bool
    unused_bytes: U63
    generation: U63
    starts: U63
    with_keys: U63 = 0
    one_time_keys: U63 = 0


class NotDone(_Value, frozen=True, tag=3):
    """Nothing was done. `problem`: why, as a sentence for the operator."""

    problem: Sentence


class Backup(_Value, frozen=True, tag=4):
    """The current or last backup; an empty `folder` if there was none. `problem`: why there is no
    copy. `missing`: large contents whose files were lost before.
    """

    running: bool
    folder: Sentence
    problem: Sentence
    pause_ms: U63
    database_bytes: U63
    contents: U63
    content_bytes: U63
    missing: U63


class Expiry(_Value, frozen=True, tag=6):
    """The expiry that goes on, or the last one: what it has deleted."""

    running: bool
    messages: U63
    content_bytes: U63


class Obeyed(_Value, frozen=True, tag=5):
    """It is done, or it begins."""


class Pending(Struct, array_like=True, frozen=True, gc=False):
    """What waits for one user."""

    messages: U63
    content_bytes: U63


class Mailboxes(_Value, frozen=True, tag=7):
    """In the order of the rows; and which part of how many the worker has."""

    shard: U16
    shards: U16
    mailboxes: list[Pending]


AdminRequest = (
    ListAccounts
    | GetTotals
    | BeginBackup
    | GetBackup
    | SetLogLevel
    | DrainServer
    | Expire
    | GetExpiry
    | SetDisabled
    | UsersChanged
    | GetMailboxes
)
AdminAnswer = Accounts | Totals | NotDone | Backup | Obeyed | Expiry | Mailboxes

_requests: Final[msgspec.msgpack.Decoder[AdminRequest]] = msgspec.msgpack.Decoder(AdminRequest)
_answers: Final[msgspec.msgpack.Decoder[AdminAnswer]] = msgspec.msgpack.Decoder(AdminAnswer)


def is_admin(frame: bytes) -> bool:
    """Whether a frame that came to the worker is an operator's, whatever else it is."""
    return len(frame) >= HEADER_SIZE and frame[_TYPE_AT] == FrameType.ADMIN


def is_admin_answer(frame: bytes) -> bool:
    """Whether a frame that came from the worker is for an operator."""
    return len(frame) >= HEADER_SIZE and frame[_TYPE_AT] == FrameType.ADMIN_ANSWER


def number_of(frame: bytes) -> int:
    """The number of a frame that has a whole header."""
    return int.from_bytes(frame[_NUMBER_AT:HEADER_SIZE], "little")


def encode_request(number: int, request: AdminRequest) -> bytes:
    """Operator to worker."""
    return framed(FrameType.ADMIN, 0, 0, number, request)


def decode_request(frame: bytes) -> AdminRequest:
    """The pair of `encode_request`. Raises `FrameUndecodable`."""
    return _decode(frame, FrameType.ADMIN, _requests)


def encode_answer(number: int, answer: AdminAnswer) -> bytes:
    """Worker to operator."""
    return framed(FrameType.ADMIN_ANSWER, 0, 0, number, answer)


def decode_answer(frame: bytes) -> AdminAnswer:
    """The pair of `encode_answer`. Raises `FrameUndecodable`."""
    return _decode(frame, FrameType.ADMIN_ANSWER, _answers)


def _decode(frame: bytes, expected: FrameType, decoder: msgspec.msgpack.Decoder[Kind]) -> Kind:
    kind = read_header(frame)[0]
    if kind != expected:
        raise FrameUndecodable(f"type {kind} where {expected} was expected")
    try:
        found = decoder.decode(memoryview(frame)[HEADER_SIZE:])
    except UNDECODABLE as error:
        raise FrameUndecodable(f"body of type {kind}: {error}") from error
    return found
