"""The values that rules and engines exchange besides records.

Owns: users, slots, totals of mailboxes, what an engine has room for. Promises: they are independent
of how an engine stores them.
Exposure: none.
"""

from enum import Enum, IntEnum, auto
from typing import NamedTuple

from common.values import ONE_TIME_KEY_SIZE


class KeyState(IntEnum):
    """Whether a user has published keys."""

    NEVER = 0
    REMOVED = 1
    """An operator has removed them. What was sent under them may still be pending."""
    KEPT = 2


class PublishedKeys(NamedTuple):
    """What a user has published. `bundle`: empty where it was removed. `digest`: names the last
    publication, or the removal; `one_time_keys`: one behind the other, the oldest first, of the
    store's `generation`.
    """

    bundle: bytes
    digest: bytes
    generation: int
    one_time_keys: bytes

    def count(self, generation: int) -> int:
        """How many one-time keys there are in this generation of the store: those of another one
        may have been given out.
        """
        return len(self.one_time_keys) // ONE_TIME_KEY_SIZE if generation == self.generation else 0


class User:
    """What operations need to know of a user. Records name the user by `row`.

    `must_authenticate`: the user has authenticated once, and since then only authenticated
    connections act for them. `blocks`: whether they may have blocked somebody; False means that
    they have not. `seen`: the last day (since 1970, UTC) on which they asked for something; -1: not
    known. `is_told`: where there are several shards, whether all of them know that the user must
    authenticate. `keys`: what is known of published keys; while the user need not authenticate they
    count as none.
    """

    __slots__ = ("blocks", "client_id", "is_disabled", "is_told", "keys", "must_authenticate", "row", "seen")

    def __init__(
        self,
        row: int,
        client_id: bytes,
        must_authenticate: bool,
        blocks: bool,
        seen: int = -1,
        is_disabled: bool = False,
        is_told: bool = True,
        keys: KeyState = KeyState.NEVER,
    ) -> None:
        self.row = row
        self.client_id = client_id
        self.must_authenticate = must_authenticate
        self.blocks = blocks
        self.seen = seen
        self.is_disabled = is_disabled
        self.is_told = is_told
        self.keys = keys

    @property
    def takes_sealed(self) -> bool:
        """Whether messages of type 5 may be sent to the user."""
        return self.keys is KeyState.KEPT and self.must_authenticate


class Account(NamedTuple):
    """A registered user, for an operator. `row` as in `User`. `registered` and `seen` are days
    since 1970, UTC; None: before they were noted. `one_time_keys`: how many are kept; None: the
    user has no bundle.
    """

    row: int
    client_id: bytes
    name: str
    must_authenticate: bool
    registered: int | None = None
    seen: int | None = None
    is_disabled: bool = False
    one_time_keys: int | None = None


class Deletion(Enum):
    """How far the deletion of a user is."""

    GOES_ON = auto()
    """The user is no more, and some of what the store had of them is still there."""
    HELD_UP = auto()
    """The same, and what is left can't be deleted: it is altered."""
    DONE = auto()


class KeptName(NamedTuple):
    """Nobody can register `name` until it is freed. `goes_on`: what the user had is still there."""

    name: str
    goes_on: bool


class Invitation(NamedTuple):
    """`digest`: SHA-256 of the 16 bytes of the invitation; `uses`: so many are left; `expires_at`
    in Unix milliseconds.
    """

    digest: bytes
    uses: int
    expires_at: int


class MailboxStats(NamedTuple):
    """How many messages a mailbox holds, and the bytes of their contents."""

    messages: int
    content_bytes: int


class Totals(NamedTuple):
    """Totals of the store. `mailboxes`: those with mail. `accepted`: messages since the store was
    made, at most so many where it is not `accepted_exactly`. `unused_bytes`: room that deleted mail
    left inside the store. `starts`: how often it was opened. `with_keys`: users who have published
    a bundle; `one_time_keys`: of all of them.
    """

    users: int
    authenticated: int
    mailboxes: int
    messages: int
    content_bytes: int
    accepted: int
    accepted_exactly: bool
    unused_bytes: int
    starts: int
    with_keys: int = 0
    one_time_keys: int = 0


class MailPlace(NamedTuple):
    """Behind the message `sequence` of the mailbox of user row `user`, in the order of both."""

    user: int
    sequence: int


class ExpiryState(NamedTuple):
    """How much mail has expired so far."""

    running: bool = False
    messages: int = 0
    content_bytes: int = 0


class BackupState(NamedTuple):
    """The current or last backup. `folder`: empty if there was none.

    `problem`: why there is no copy, empty for none. `pause_ms`: how long requests waited for it.
    `contents`: large messages, of `content_bytes`; `missing`: those whose files were lost before.
    """

    running: bool = False
    folder: str = ""
    problem: str = ""
    pause_ms: int = 0
    database_bytes: int = 0
    contents: int = 0
    content_bytes: int = 0
    missing: int = 0


class Span(NamedTuple):
    """Messages `first` to `last` of a mailbox: how many, and the bytes of their contents."""

    first: int
    last: int
    messages: int
    content_bytes: int


class Slot(NamedTuple):
    """`earlier`: incarnations that were succeeded, 16 bytes each.

    `outcomes`: of batch `number`, `before`: of the one before it; None: refused. There is no batch
    0.
    """

    epoch: int
    incarnation: bytes
    earlier: bytes
    number: int
    outcomes: bytes | None
    before: bytes | None

    def kept(self, number: int) -> bytes | None:
        """What was kept of the answer to one of the last two batches."""
        return self.outcomes if number == self.number else self.before


class Admission(IntEnum):
    """What is accepted at the moment."""

    OPEN = 0
    NO_MAIL = 1
    """Room is short: nothing new is begun, an upload that is there may be accepted."""
    NOTHING = 2
    """The engine had no room: nothing that could grow the store is tried."""


class Capacity(NamedTuple):
    """What an engine has room for in a turn. `for_uploads`: bytes that all unfinished uploads
    together may hold. `is_damaged`: what is not admitted is refused for damage.
    """

    level: Admission
    for_uploads: int
    is_damaged: bool


class Grants(NamedTuple):
    """The assumptions that an engine lets its worker make.

    `sole_owner`: no other worker process uses the store while this one does. Leases, subscriptions,
    unfinished uploads and everything that is remembered of a read may live in this process's
    memory. An engine that does not grant it needs rules that keep these in the store.
    """

    sole_owner: bool


class Identity(NamedTuple):
    """The store as gateways know it. `server_id`: 16 bytes; `generation` grows where what was
    acknowledged may be lost. `shard` of `shards`: which part of a server it is.
    """

    server_id: bytes
    generation: int
    shard: int = 0
    shards: int = 1
