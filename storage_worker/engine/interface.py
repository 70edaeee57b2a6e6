"""The seam between the rules and whatever keeps the store.

Owns: what an engine is, as protocols.
Promises: one direction and one meaning of commit. Rules decide, and hand records to the engine. The
reads of the same turn see them at once. When `turn` ends they are durable, all of them or none; the
answers are given after that. No engine calls rules, but for `RunRules`, which a call of
`accept_run` brings along.
Exposure: none of its own.

    with engine.turn(…):        begin
        rule: engine.users …    read
        engine.apply(record)    decide; the turn's reads see it
                                the end: commit, durable
    engine.take_received()      answer

Source: docs/storage-engine.md.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from common.storage_protocol.operations import Mail, MessagesStored, Refused, StoreMessages, UserEntry
from storage_worker.engine.records import Decided, OldMail, TokenUsed
from storage_worker.engine.sender_counts import SenderCounts
from storage_worker.engine.values import (
    Account,
    Admission,
    BackupState,
    Capacity,
    Deletion,
    Grants,
    Identity,
    Invitation,
    MailboxStats,
    MailPlace,
    Slot,
    Span,
    Totals,
    User,
)


class Users(Protocol):
    """The registered users, by row in the order of registration. Rows begin with 1, and none is
    given twice. A deleted user is none: nothing here finds one, but for `name_is_kept` and
    `deletion`.
    """

    def find(self, client_id: bytes) -> User | None:
        """The user with this id."""

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        """Client id and public key of the user with this name (case-sensitive)."""

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        """Whether a name looks like one of these. `beyond_ascii`: of names beyond ASCII alone."""

    def name_is_kept(self, name: str) -> bool:
        """Whether a deleted user had this name, and it was not freed."""

    def deletion(self, client_id: bytes) -> Deletion | None:
        """How far the deletion of the user is who had this id; None where there was none."""

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""

    def last_row(self) -> int:
        """The row of the user who registered last; 0 for none."""

    def count(self, until: int) -> int:
        """How many users have a row up to `until`."""

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """Users with `after` < row <= `until`, at most a page, and the row to continue after."""

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """At most so many users with a row above `after`, in order, for an operator."""


class Invitations(Protocol):
    """What lets somebody register where that is not open to everybody."""

    def find(self, digest: bytes) -> Invitation | None:
        """The invitation with this SHA-256, whose time may be over; None where it was used up."""

    def all(self) -> list[Invitation]:
        """Every one, those that end first first."""


class Mailbox(Protocol):
    """What the rules know of one mailbox.

    `messages` and `content_bytes` count what is pending, and what unfinished uploads to it take of
    its room.
    """

    @property
    def user(self) -> int:
        """Its user's row."""

    @property
    def messages(self) -> int:
        """See above."""

    @property
    def content_bytes(self) -> int:
        """See above."""

    @property
    def is_counted(self) -> bool:
        """Whether `count_senders` was asked for this mailbox, and its counts were not dropped."""

    def oldest_unflushed(self) -> int | None:
        """The lowest sequence that the present run has put here, among others."""


class Mailboxes(Protocol):
    """The mail. Mailboxes are named by their users' rows."""

    @property
    def sequence(self) -> int:
        """The highest sequence ever given to a message; none is given twice, whatever happens."""

    def mailbox(self, user: int) -> Mailbox:
        """The mailbox of a user."""

    def pending(self, user: int) -> MailboxStats:
        """What is pending of a mailbox, without unfinished uploads; keeps nothing in memory."""

    def accepted_before(self, day: int) -> int:
        """The highest sequence of which is known that it was given before this day (days since
        1970, UTC) began; 0 for none.
        """

    def old_mail(self, place: MailPlace, sequence: int, pages: int) -> OldMail:
        """What is pending up to a sequence, behind `place`: intervals of mailboxes, of about so
        many pages.
        """

    def is_current(self, box: Mailbox) -> bool:
        """Whether `mailbox` would still give this one."""

    def charge(self, user: int, messages: int, content_bytes: int) -> None:
        """An unfinished upload takes so much of a mailbox's room, or with negative numbers gives it
        back. Not durable.
        """

    def new_blob_id(self) -> int:
        """A number for a content that becomes a blob."""

    def count_senders(self, user: int, dropped: MailboxStats, work: int) -> tuple[SenderCounts, int]:
        """Continue to count a mailbox's senders, for about `work` microseconds: the counts, and how
        much of `work` is left. The counts are kept with the mailbox, until it holds no more than
        `dropped`.
        """

    def oldest(self, user: int, after: int, before: int) -> int | None:
        """The lowest pending sequence between `after` and `before`, both excluded."""

    def span(self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int) -> Span | None:
        """What is pending from `first` to `last`, up to `max_bytes`, at least one message; None for
        nothing. A message counts as its content and `envelope_bytes`.
        """

    def read(self, user: int, first: int, offset: int, last: int, page_bytes: int) -> Mail:
        """A page of the messages `first` to `last`, beginning `offset` bytes into message `first`.

        At most `page_bytes` of content, but something where a message is there. Messages of up to
        `page_bytes` come whole, larger ones in parts, one part a page.
        """


class Tokens(Protocol):
    """The tokens under which something was sent."""

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within 7 days, among their newest 1,024."""


class Slots(Protocol):
    """The gateways' slots."""

    def find(self, slot: int) -> Slot | None:
        """The slot; None where no gateway ever greeted on it."""


class Blocks(Protocol):
    """Whom users have blocked, by rows."""

    def holds(self, user: int, sender: int) -> bool:
        """Whether the user has blocked the sender."""

    def count(self, user: int) -> int:
        """How many senders the user has blocked."""


class Blobs(Protocol):
    """Large contents, by number. Those that no message names are gone after a restart."""

    def append(self, blob_id: int, data: bytes) -> None:
        """The next bytes. Raises `StoreFull`, after which the blob is to be removed."""

    def unsynced(self, blob_id: int) -> int:
        """Bytes of a growing blob that are not durable."""

    def finish(self, blob_id: int) -> int:
        """All of it came: how many bytes are not durable yet. A message may name it at 0."""

    def remove(self, blob_id: int) -> None:
        """Delete it; one that is not there is none."""


class RunRules(Protocol):
    """What `Engine.accept_run` asks of the rules where its own comparisons don't decide."""

    @property
    def now_ms(self) -> int:
        """The turn's time."""

    @property
    def largest_message(self) -> int:
        """Bytes of the largest content."""

    @property
    def calm(self) -> MailboxStats:
        """Up to this a mailbox takes from everybody, without a question."""

    @property
    def takes_mail(self) -> bool:
        """Whether anything may come in."""

    def sender_refusal(self, sender: User | None, authenticated: bool) -> Refused | None:
        """Why a sender may not send, or None."""

    def message_refusal(self, recipient: User | None, kind: int, size: int) -> Refused:
        """Why a message is not accepted whose recipient, kind or size is none that is, or for which
        nothing may come in.
        """

    def ids_are_new(self, sequence: int) -> bool:
        """Whether up to this sequence no id can be there for the second time."""

    def would_repeat_an_id(self, box: Mailbox, sequence: int) -> bool:
        """Whether a message under this sequence could have another's id."""

    def crowded(self, box: Mailbox, sender: bytes, messages: int, size: int, sequence: int) -> Refused | None:
        """Why a mailbox beyond `calm` does not take so much more from this sender, or None."""

    def is_blocked(self, recipient: User, sender: bytes) -> bool:
        """Whether a recipient who may have blocked somebody has blocked the sender with this id:
        the message gets a sequence, and is put nowhere.
        """

    def unreadable(self, error: Exception) -> Refused:
        """The refusal of what could not be read. Raises anything else again."""


class Engine(Protocol):
    """One open store. Everything may raise `StoreFailed`, after which nothing is known and the
    worker ends.
    """

    @property
    def grants(self) -> Grants:
        """What the worker may assume."""

    @property
    def identity(self) -> Identity:
        """The store as gateways know it."""

    @property
    def users(self) -> Users:
        """The registered users."""

    @property
    def invitations(self) -> Invitations:
        """What lets somebody register."""

    @property
    def mailboxes(self) -> Mailboxes:
        """The mail."""

    @property
    def tokens(self) -> Tokens:
        """The tokens of sends."""

    @property
    def slots(self) -> Slots:
        """The gateways' slots."""

    @property
    def blocks(self) -> Blocks:
        """Whom users have blocked."""

    @property
    def blobs(self) -> Blobs:
        """Large contents."""

    # --- a turn

    def prepare(self, now_ms: int, messages: int, uploaded: int) -> Capacity:
        """Before a turn that may accept so many messages: what there is room for. `uploaded`: bytes
        that unfinished uploads hold.
        """

    def turn(self, now_ms: int, level: Admission, *, registers: bool) -> AbstractContextManager[None]:
        """Begin a turn; its end commits. `registers`: a user may be registered in it, or an
        invitation changed.

        Any exception from inside undoes all of it on the disk, and so do `StoreFull` and
        `StoreDamaged`, which the end may raise; `roll_back` has to follow.
        """

    def apply(self, decided: Decided) -> None:
        """Inside a turn: the reads of this turn see it, and the end of the turn commits it. A
        record that changes nothing is dropped. Raises `TablesDamaged`.
        """

    def accept_run(self, run: StoreMessages, rules: RunRules) -> tuple[MessagesStored, int]:
        """Inside a turn: decide, number and apply a run of messages without tokens, and the bytes
        that came in. The engine's own loop: it takes hundreds of messages at a time.
        Raises `FrameUndecodable`.
        """

    def roll_back(self) -> None:
        """A turn was undone: forget what was applied in it."""

    def take_received(self) -> Sequence[int]:
        """The rows of users for whom turns brought mail since this was asked last."""

    def accepted(self, content_bytes: int) -> None:
        """A turn was committed in which so much came in."""

    def found_full(self, now_ms: int) -> None:
        """A turn found no room: nothing is admitted until the engine has looked again."""

    # --- errors

    def damage(self, error: BaseException) -> str | None:
        """What is altered, and the next step, where an exception says that something which was read
        is; None for any other.
        """

    def refuse_undone(self, error: BaseException) -> None:
        """Raise `TablesDamaged` where such damage undid the turn: nothing may follow in it."""

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception is the store's failure: no bug, no damage."""

    # --- between turns

    def reading(self) -> AbstractContextManager[None]:
        """Around reads between turns: the engine's errors become ours."""

    def begin_backup(self, folder: Path, now_ms: int) -> str | None:
        """Begin to copy the store into an empty folder, while turns go on; why that can't be, or
        None. All that was committed before is in the copy, whose next start begins a new
        generation.
        """

    @property
    def backup(self) -> BackupState:
        """The backup that is being made, or the last one."""

    def totals(self) -> Totals:
        """The store in a few numbers, with what the last turn did."""

    @property
    def has_pending(self) -> bool:
        """Whether `maintain` will have something to do before long."""

    @property
    def is_busy(self) -> bool:
        """Whether `maintain` goes on with something that should not wait for gateways."""

    def maintain(self, now_ms: int) -> None:
        """Between two turns: whatever keeps the store small and quick."""

    def close(self, now_ms: int) -> None:
        """An orderly end."""
