"""The storage worker's operations, and their outcomes.

Owns: the operations and outcomes as typed values, and one table, operation -> outcomes, replay
class, work.
Promises: every operation has a row, or this module can't be imported. Every value is checked for
type and size when it is decoded (msgspec); outcomes say nothing of codes or bytes of the client
protocol.
Exposure: gateway and worker trust each other, but not each other's state: what can't be decoded is
refused.

Every operation on behalf of a user carries `authenticated`: whether its connection is
authenticated as that user.
Only the worker decides whether that is needed. Sequences are the store's message numbers, u64, from
1, never used twice; 0 stands for "before the first". Times are Unix milliseconds. Sizes are bytes.

Source: docs/storage-protocol.md, "Operations".
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args

from msgspec import Meta, Struct

from common.storage_protocol.message_format import ENTRY_HEAD
from common.tables import complete
from common.values import LONGEST_BUNDLE, MOST_PUBLISHED, ONE_TIME_KEY_SIZE

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Key = Annotated[bytes, Meta(min_length=160, max_length=160)]
Bundle = Annotated[bytes, Meta(min_length=1, max_length=LONGEST_BUNDLE)]
OneTimeKeys = Annotated[bytes, Meta(max_length=MOST_PUBLISHED * ONE_TIME_KEY_SIZE)]
"""One-time keys, one behind the other."""
OneTimeKey = Annotated[bytes, Meta(max_length=ONE_TIME_KEY_SIZE)]
"""One of them, or nothing."""
U8 = Annotated[int, Meta(ge=0, le=255)]
U16 = Annotated[int, Meta(ge=0, le=65535)]
U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What SQLite can hold; u64 values of clients beyond it are cut to its end by the
gateway, which changes no meaning.
"""
Name = Annotated[str, Meta(min_length=1, max_length=254)]


class _Value(Struct, array_like=True, frozen=True, gc=False):
    """A small tuple-like value: cheap to make, to encode and to compare."""


# --- operations
# -----------------------------------------------------------------------------------------------


class Register(_Value, frozen=True, tag=1):
    """Make a user. `greeted`: on a connection of the extension. There the name may be beyond ASCII,
    looks like nobody else's, and with the very same key gives the same id instead of NAME_TAKEN.

    `wanted`: the id that the user had before a backup was put back; it is given where it is free
    and one of ours. `invitation`: used once, where the server wants one. Outcome: `Registered`, or
    `Refused` MALFORMED, NAME_TAKEN, INVITATION, REGISTRATION_CLOSED, STORAGE_FULL.
    """

    name: Name
    public_key: Key
    greeted: bool = False
    wanted: Id | None = None
    invitation: Id | None = None


class ListUsers(_Value, frozen=True, tag=2):
    """One page of all users but the requester, oldest first.

    `after` and `until` are row numbers: 0 and 0 on the first ask, then the last row seen and the
    `until` of the first `UsersPage`, so that users who register meanwhile change nothing. Outcome:
    `UsersPage` or `Refused`.
    """

    requester: Id
    authenticated: bool
    after: U63 = 0
    until: U63 = 0


class GetPublicKey(_Value, frozen=True, tag=3):
    """The public key of `subject`. Outcome: `KeyFound` or `Refused`."""

    requester: Id
    authenticated: bool
    subject: Id


class StoreMessage(_Value, frozen=True, tag=4):
    """Accept a message. Its sequence, and with it its place in the order, is given in the commit.

    With a `token` (16 bytes; needs an authenticated connection) the same token, recipient, kind and
    content SHA-256 is answered with the first outcome and stored once. Outcome: `Stored`, or
    `Refused`.
    """

    sender: Id
    authenticated: bool
    recipient: Id
    kind: U8
    content: bytes
    token: Id | None = None


class BeginUpload(_Value, frozen=True, tag=5):
    """Announce a message whose content comes in chunks. `upload` is unique within a slot's epoch.

    Outcome: `UploadProgress`, or `Refused` for everything that could refuse the message itself. An
    upload ends with the worker process that began it.
    """

    upload: U63
    sender: Id
    authenticated: bool
    recipient: Id
    kind: U8
    size: U32
    token: Id | None = None


class Chunk(_Value, frozen=True, tag=6):
    """The next bytes of an upload's content. Outcome: `UploadProgress`, `UploadUnknown`,
    or `Refused`.
    """

    upload: U63
    content: bytes


class CommitUpload(_Value, frozen=True, tag=7):
    """The content is complete: accept the message. It is accepted once all of its content is on
    disk.

    Outcome: `Stored`; `UploadProgress` while some of the content is not on disk yet, after which
    the gateway asks again; `UploadUnknown`; or `Refused`.
    """

    upload: U63


class AbortUpload(_Value, frozen=True, tag=8):
    """Forget an upload. Outcome: `Done`, also where there is none."""

    upload: U63


class Pull(_Value, frozen=True, tag=9):
    """Lease what waits for the requester, up to `max_bytes`, at least one message.

    A message counts as its content and `envelope_bytes`. `lease` is chosen by the gateway, unique
    within a slot's epoch; a repeat gives the same interval. At most `page_bytes` of content come
    with the outcome, the rest by `PullPage`. Outcome: `Pulled` or `Refused`.
    """

    lease: U63
    requester: Id
    authenticated: bool
    max_bytes: U63
    envelope_bytes: U8
    page_bytes: U32


class PullPage(_Value, frozen=True, tag=10):
    """More of a mailbox: from `offset` bytes into message `sequence` on, up to and with message
    `last`.

    Outcome: `Page` (which may be empty where the messages are gone) or `Refused`.
    """

    requester: Id
    authenticated: bool
    sequence: U63
    offset: U32
    last: U63
    page_bytes: U32


class Settle(_Value, frozen=True, tag=11):
    """The client has the messages `first` to `last` of its mailbox: delete them and end the lease.

    It carries the interval, so it is understood by a worker that has forgotten the lease. Outcome:
    `Done`; a void settle (nothing there, or an unauthenticated connection for a user who has
    authenticated meanwhile) changes nothing.
    """

    lease: U63
    requester: Id
    authenticated: bool
    first: U63
    last: U63


class Release(_Value, frozen=True, tag=12):
    """There is no evidence that the client has them: the messages of this lease are pending again.
    Outcome: `Done`.
    """

    lease: U63


class Fetch(_Value, frozen=True, tag=13):
    """643: delete what has a sequence <= `ack`, then read what is above it, in order and without
    gaps.

    `max_bytes` counts as in `Pull`. `watch`: where nothing waits, name this mailbox in the next
    `MailArrived` that concerns it. Outcome: `Fetched`, or `Refused` MALFORMED for an `ack` above
    the highest sequence ever given.
    """

    requester: Id
    authenticated: bool
    ack: U63
    max_bytes: U63
    envelope_bytes: U8
    page_bytes: U32
    watch: bool


class StoreMessages(_Value, frozen=True, tag=16):
    """Accept messages that came as 603s, in their order, as `StoreMessage` would one by one,
    without tokens.

    `frames` are the requests as they came, one behind the other, of any connections with the same
    `authenticated`: the sender [16], 7 bytes that mean nothing here, the recipient [16], kind u8,
    content size u32, content (`SEND_FRAME`). Outcome: `MessagesStored`. Frames that do not end with
    `frames` are a gateway's bug, for which the batch is refused.
    """

    authenticated: bool
    frames: bytes


class StoreMessagesOnce(_Value, frozen=True, tag=24):
    """Accept messages that came as 642s, in their order, as `StoreMessage` would one by one, each
    with its token.

    As `StoreMessages`, but in a frame the token [16] lies before the recipient (`SEND_ONCE_FRAME`).
    Outcome: `MessagesStored`.
    """

    authenticated: bool
    frames: bytes


class GetUploadProgress(_Value, frozen=True, tag=17):
    """Ask how much of an upload is not on disk yet. Outcome: `UploadProgress`, `UploadUnknown`,
    or `Refused`.
    """

    upload: U63


class GetProofKey(_Value, frozen=True, tag=14):
    """The requester's own public key, for checking a signature. Needs no proof. Outcome:
    `KeyFound` or `Refused`.
    """

    requester: Id


class MarkAuthenticated(_Value, frozen=True, tag=15):
    """The gateway saw a valid signature: mark the user authenticated for good.

    Ends the leases that unauthenticated connections hold on the mailbox and voids their later
    settling. Outcome: `Done` or `Refused`; with several shards `TellOthers` at first, after which
    the gateway sends `Forget` to the other shards and then asks again with `told`.
    """

    requester: Id
    told: bool = False


class DeleteAccount(_Value, frozen=True, tag=18):
    """Delete the user, and what the store has of them: mail that is pending for them, keys, tokens,
    uploads.

    Outcome: `DeletionGoesOn` while some of it is still there, after which the gateway asks again;
    `Done`; or `Refused`. A user who is deleted gets `Done`, one who never was REQUESTER_UNKNOWN.
    """

    requester: Id
    authenticated: bool


class GetAbout(_Value, frozen=True, tag=19):
    """What the server tells everybody about itself. Outcome: `AboutServer`."""


class SetBlock(_Value, frozen=True, tag=20):
    """From now on keep messages of `sender` out of the requester's mailbox, or no longer. Needs an
    authenticated connection.

    The sender is answered as before: their messages get sequences, and are stored nowhere. Outcome:
    `Done`, or `Refused`: RECIPIENT_UNKNOWN for the sender, MALFORMED for the requester's own id,
    TOO_LARGE where the requester has blocked as many as one may.
    """

    requester: Id
    authenticated: bool
    sender: Id
    blocked: bool


class PublishKeys(_Value, frozen=True, tag=21):
    """The requester's bundle is this one, and these one-time keys are kept behind those that are
    there, or (`forget`) in their place. Needs an authenticated connection.

    The very same publication as the last one changes nothing. Outcome: `KeysKept`, or `Refused`.
    """

    requester: Id
    authenticated: bool
    forget: bool
    bundle: Bundle
    one_time_keys: OneTimeKeys


class ClaimKey(_Value, frozen=True, tag=22):
    """The bundle of `subject`, and (`one_time`) the oldest of their one-time keys, which nobody
    else gets. Needs an authenticated connection. Outcome: `KeyClaimed`, or `Refused` NO_KEYS.
    """

    requester: Id
    authenticated: bool
    subject: Id
    one_time: bool


class Forget(_Value, frozen=True, tag=23):
    """The directory knows something new of a user: they have authenticated, or are deleted. Look
    them up anew. Ends the leases of unauthenticated connections as `MarkAuthenticated` does.
    Outcome: `Done`, or `Refused` UNAVAILABLE.
    """

    subject: Id


Operation = (
    Register
    | ListUsers
    | GetPublicKey
    | StoreMessage
    | BeginUpload
    | Chunk
    | CommitUpload
    | AbortUpload
    | Pull
    | PullPage
    | Settle
    | Release
    | Fetch
    | GetProofKey
    | MarkAuthenticated
    | DeleteAccount
    | GetAbout
    | StoreMessages
    | StoreMessagesOnce
    | GetUploadProgress
    | Forget
    | SetBlock
    | PublishKeys
    | ClaimKey
)


# --- outcomes
# -------------------------------------------------------------------------------------------------


class Registered(_Value, frozen=True, tag=1):
    """The user exists and is on disk."""

    client_id: Id


class UserEntry(_Value, frozen=True):
    """One user of a list."""

    client_id: Id
    name: Name


class UsersPage(_Value, frozen=True, tag=2):
    """`count`: users in the whole list (without the requester, up to `until`); 0 on later pages.

    `last`: the row to continue after.
    The list is complete when `last` equals `until`.
    """

    count: U63
    last: U63
    until: U63
    users: list[UserEntry]


class KeyFound(_Value, frozen=True, tag=3):
    """A user and the public key they registered."""

    client_id: Id
    public_key: Key


class Stored(_Value, frozen=True, tag=4):
    """Accepted: on disk after the commit that this outcome is part of."""

    sequence: U63


class Done(_Value, frozen=True, tag=5):
    """Done, with no further value."""


class Part(_Value, frozen=True):
    """A part of one large message: `content` are its bytes from `offset` on; `head` is
    its entry's head.
    """

    head: Annotated[bytes, Meta(min_length=ENTRY_HEAD.size, max_length=ENTRY_HEAD.size)]
    sequence: U63
    size: U32
    offset: U32
    content: bytes


class Mail(_Value, frozen=True):
    """A page of a mailbox: whole messages as entries (`common.storage_protocol.message_format`),
    one behind the other, then perhaps a part.

    `last`: the sequence of the last whole message; 0 where there is none.
    """

    entries: bytes = b""
    last: U63 = 0
    part: Part | None = None

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.entries) or self.part is not None


NO_MAIL: Final = Mail()


class Pulled(_Value, frozen=True, tag=6):
    """The interval `first` to `last` of the mailbox is hidden from other fetches until it is
    settled or released.

    `count` messages with `content_bytes` of content in all; both are fixed with the lease. An empty
    mailbox gives `first` = `last` = 0 and no lease.
    """

    first: U63
    last: U63
    count: U63
    content_bytes: U63
    page: Mail


class Page(_Value, frozen=True, tag=7):
    """More pieces, in order. Shorter than asked for only where `page_bytes` was reached
    or messages are gone.
    """

    page: Mail


class Fetched(_Value, frozen=True, tag=8):
    """643's messages: `count` of them up to sequence `last`, `content_bytes` in all, the first page
    at once.

    `committed` is the highest sequence of the store: a waiting client is asked for again when a
    later one comes.
    """

    last: U63
    count: U63
    content_bytes: U63
    committed: U63
    page: Mail


class RefusedFrame(_Value, frozen=True):
    """One message of a run that was not stored: its place in the run, from 0, and why."""

    index: U32
    reason: U8
    retry_after: U32 = 0


class RepeatedFrame(_Value, frozen=True):
    """One message of a run that was accepted before under its token: its place in the run, from 0,
    and the sequence that it got then.
    """

    index: U32
    sequence: U63


class MessagesStored(_Value, frozen=True, tag=10):
    """The messages of a run but the `refused` and the `repeated` ones (each by growing index) are
    accepted.

    Theirs are the sequences `first`, `first` + 1, …, in order.
    """

    first: U63
    refused: list[RefusedFrame]
    repeated: list[RepeatedFrame] = []


class UploadProgress(_Value, frozen=True, tag=11):
    """An upload continues; `unsynced` bytes of its content are not on disk yet."""

    unsynced: U63


class UploadUnknown(_Value, frozen=True, tag=12):
    """There is no such upload: the worker that began it has ended, or a greeting ended
    it. Nothing of it is stored.
    """


class DeletionGoesOn(_Value, frozen=True, tag=13):
    """The user is deleted; some of their data is still there."""


class AboutServer(_Value, frozen=True, tag=14):
    """What 2148 tells. `registration`: a number of `Registration`; `text` in UTF-8."""

    expire_days: U16
    largest_message: U32
    mailbox_messages: U32
    mailbox_bytes: U63
    registration: U8
    text: bytes


class KeysKept(_Value, frozen=True, tag=15):
    """So many one-time keys of the user are kept now."""

    kept: U16


class KeyClaimed(_Value, frozen=True, tag=16):
    """A user's bundle. `one_time_key`: empty where none is left, or none was asked for."""

    bundle: Bundle
    one_time_key: OneTimeKey


class TellOthers(_Value, frozen=True, tag=17):
    """Marked; but other shards may still know the user as one who never authenticated."""


class Refused(_Value, frozen=True, tag=9):
    """Not done, and why; `retry_after` in seconds where trying again makes sense."""

    reason: U8
    retry_after: U32 = 0


Outcome = (
    Registered
    | UsersPage
    | KeyFound
    | Stored
    | Done
    | Pulled
    | Page
    | Fetched
    | Refused
    | MessagesStored
    | UploadProgress
    | UploadUnknown
    | DeletionGoesOn
    | AboutServer
    | KeysKept
    | KeyClaimed
    | TellOthers
)


# --- the table
# ------------------------------------------------------------------------------------------------


class Replay(Enum):
    """What the worker answers when the batch of an operation comes again."""

    KEPT = auto()
    """The outcome that was kept with the batch's number."""
    READ_AGAIN = auto()
    """What it reads now."""
    READ_AGAIN_UNLESS_EMPTY = auto()
    """What it reads now; the kept outcome where it had taken no lease."""


class OperationRow(NamedTuple):
    """What is known of an operation. `outcomes`: beside `Refused`, which every one may have.

    `work`: microseconds that the worker may need for it, on a slow machine; it may be wrong by a
    few times. See `common.storage_protocol.work_estimate`.
    """

    operation: type[Any]
    outcomes: tuple[type[Outcome], ...]
    replay: Replay
    work: Callable[[Any], int]


_ANY_WORK: Final = 20
_REGISTER_WORK: Final = 200
_USERS_WORK: Final = 3_000
_KEYS_WORK: Final = 100
_MAIL_WORK: Final = 200
_BYTES_READ: Final = 200
_BYTES_SENT: Final = 64
_BYTES_SENT_ONCE: Final = 24
_BYTES_OF_CHUNK: Final = 200
"""Bytes a microsecond."""
_LARGEST_PAGE: Final = 4 * 1024 * 1024

Asked = TypeVar("Asked")


def _row(
    operation: type[Asked],
    outcomes: tuple[type[Outcome], ...],
    replay: Replay,
    work: Callable[[Asked], int] = lambda _operation: _ANY_WORK,
) -> OperationRow:
    """A row, whose functions fit its type."""
    return OperationRow(operation, outcomes, replay, work)


def _page_work(operation: Pull | PullPage | Fetch) -> int:
    return _MAIL_WORK + min(operation.page_bytes, _LARGEST_PAGE) // _BYTES_READ


ROWS: Final = (
    _row(Register, (Registered,), Replay.KEPT, lambda _register: _REGISTER_WORK),
    _row(ListUsers, (UsersPage,), Replay.READ_AGAIN, lambda _list_users: _USERS_WORK),
    _row(GetPublicKey, (KeyFound,), Replay.READ_AGAIN),
    _row(StoreMessage, (Stored,), Replay.KEPT),
    _row(BeginUpload, (UploadProgress,), Replay.KEPT),
    _row(
        Chunk,
        (UploadProgress, UploadUnknown),
        Replay.KEPT,
        lambda chunk: _ANY_WORK + len(chunk.content) // _BYTES_OF_CHUNK,
    ),
    _row(CommitUpload, (Stored, UploadProgress, UploadUnknown), Replay.KEPT),
    _row(AbortUpload, (Done,), Replay.KEPT),
    _row(Pull, (Pulled,), Replay.READ_AGAIN_UNLESS_EMPTY, _page_work),
    _row(PullPage, (Page,), Replay.READ_AGAIN, _page_work),
    _row(Settle, (Done,), Replay.KEPT),
    _row(Release, (Done,), Replay.KEPT),
    _row(Fetch, (Fetched,), Replay.READ_AGAIN, _page_work),
    _row(GetProofKey, (KeyFound,), Replay.READ_AGAIN),
    _row(MarkAuthenticated, (Done, TellOthers), Replay.KEPT),
    _row(
        StoreMessages,
        (MessagesStored,),
        Replay.KEPT,
        lambda messages: _ANY_WORK + len(messages.frames) // _BYTES_SENT,
    ),
    _row(
        StoreMessagesOnce,
        (MessagesStored,),
        Replay.KEPT,
        lambda messages: _ANY_WORK + len(messages.frames) // _BYTES_SENT_ONCE,
    ),
    _row(GetUploadProgress, (UploadProgress, UploadUnknown), Replay.READ_AGAIN),
    _row(DeleteAccount, (Done, DeletionGoesOn), Replay.KEPT),
    _row(GetAbout, (AboutServer,), Replay.READ_AGAIN),
    _row(SetBlock, (Done,), Replay.KEPT),
    _row(PublishKeys, (KeysKept,), Replay.KEPT, lambda _publish: _KEYS_WORK),
    # Also where no one-time key was given: computed again, one that came since would be given, and
    # the gateway may have told of none.
    _row(ClaimKey, (KeyClaimed,), Replay.KEPT, lambda _claim: _KEYS_WORK),
    _row(Forget, (Done,), Replay.KEPT),
)
OPERATIONS: Final[Mapping[type[Operation], OperationRow]] = complete(
    "OPERATIONS of common/storage_protocol/operations.py", {row.operation: row for row in ROWS}, get_args(Operation)
)
"""Every operation. Its rule is in the worker's table, `storage_worker.rules`."""
READ_AGAIN: Final = tuple(row.operation for row in ROWS if row.replay is not Replay.KEPT)
"""Operations that are computed again when a batch is resent; the outcomes of all others are kept
with the batch, and those of a Pull that took no lease."""
