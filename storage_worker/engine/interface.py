"""The interface between the rules and the engine that keeps the store.

Owns: what an engine is, as protocols.
Promises: one direction and one meaning of commit. Rules decide, and hand records to the engine. The
reads of the same turn see them at once. When `turn` ends they are durable, all of them or none; the
answers are given after that. No engine calls rules, except the `RunRules` that a call of
`accept_run` passes in.
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

from common.storage_protocol.operations import (
    Mail,
    MessagesStored,
    Refused,
    Stored,
    StoreMessages,
    StoreMessagesOnce,
    UserEntry,
)
from storage_worker.engine.records import Decided, InvitationMade, OldMail, TokenUsed
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
    KeptName,
    MailboxStats,
    MailPlace,
    PublishedKeys,
    Slot,
    Span,
    Totals,
    User,
)


class Users(Protocol):
    """The registered users, by row in the order of registration. Rows begin with 1, and none is
    used twice. Deleted users are not found here, except by `name_is_kept` and `deletion`.
    """

    def find(self, client_id: bytes) -> User | None:
        """The user with this id."""

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        """Client id and public key of the user with this name (case-sensitive)."""

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        """Whether a name looks like one of these. `beyond_ascii`: only names beyond ASCII count."""

    def name_is_kept(self, name: str) -> bool:
        """Whether a deleted user had this name, and it was not freed."""

    def deletion(self, client_id: bytes) -> Deletion | None:
        """How far the deletion of the user with this id is; None if there was none."""

    def refresh(self, client_id: bytes) -> None:
        """Where others change users, too: this one may have changed, so remember nothing of
        them.
        """

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""

    def last_row(self) -> int:
        """The row of the user who registered last; 0 for none."""

    def count(self, until: int) -> int:
        """How many users have a row up to `until`."""

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """Users with `after` < row <= `until`, at most a page, and the row to continue after."""

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """At most `most` users with a row above `after`, in order, for an operator."""

    def unseen_since(self, day: int, after: int, until: int) -> Sequence[User]:
        """Users with `after` < row <= `until` who were seen last before this day (since 1970, UTC),
        in order. Those who are disabled are left out, and those of whom it is not known.
        """


class Invitations(Protocol):
    """Invitations to register, for servers where registration is not open."""

    def find(self, digest: bytes) -> Invitation | None:
        """The invitation with this SHA-256, which may have expired; None if it was used up."""

    def all(self) -> list[Invitation]:
        """All invitations, by the time when they expire."""


class RunningTime(Protocol):
    """How long workers have run on this store, as `RunningNoted` says it."""

    def hours(self) -> int:
        """In all."""

    def first_day_after(self, hours: int) -> int | None:
        """The first of the days (since 1970, UTC) that the clock showed when workers had run more
        than so many hours; None for none.
        """


class Mailbox(Protocol):
    """What the rules know of one mailbox.

    `messages` and `content_bytes` count what is pending, and the room that unfinished uploads take.
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
        """Whether `count_senders` was called for this mailbox, and its counts were not dropped."""

    def oldest_unflushed(self) -> int | None:
        """The lowest sequence not yet flushed; a run in progress asks this."""


class Mailboxes(Protocol):
    """The mail. Mailboxes are named by their users' rows."""

    @property
    def sequence(self) -> int:
        """The highest sequence ever given to a message; none is ever used twice."""

    def mailbox(self, user: int) -> Mailbox:
        """The mailbox of a user."""

    def pending(self, user: int) -> MailboxStats:
        """What is pending in a mailbox, without unfinished uploads; caches nothing."""

    def accepted_before(self, day: int) -> int:
        """The highest sequence known to have been given before this day (since 1970, UTC) began; 0
        for none.
        """

    def old_mail(self, place: MailPlace, sequence: int, pages: int) -> OldMail:
        """What is pending up to a sequence, after `place`, as intervals of mailboxes of about
        `pages` pages.
        """

    def is_current(self, box: Mailbox) -> bool:
        """Whether `mailbox` would still return this object."""

    def charge(self, user: int, messages: int, content_bytes: int) -> None:
        """Reserve room in a mailbox for an unfinished upload, or with negative numbers free it. Not
        durable.
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
        """What is pending from `first` to `last`, up to `max_bytes`, at least one message; None if
        nothing is pending. A message counts as its content plus `envelope_bytes`.
        """

    def read(self, user: int, first: int, offset: int, last: int, page_bytes: int) -> Mail:
        """A page of the messages `first` to `last`, beginning `offset` bytes into message `first`.

        At most `page_bytes` of content, but never empty if there is a message. Messages of up to
        `page_bytes` are whole; larger ones come in parts, one part per page.
        """

    def first_page(
        self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int, page_bytes: int
    ) -> tuple[Span, Mail] | None:
        """What `span` finds, and what `read` gives of it from its beginning; None for nothing."""


class Tokens(Protocol):
    """The tokens under which something was sent."""

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within 7 days, among their newest 1,024."""


class Slots(Protocol):
    """The gateways' slots."""

    def find(self, slot: int) -> Slot | None:
        """The slot; None if no gateway ever greeted on it."""


class Blocks(Protocol):
    """Whom users have blocked, by rows."""

    def holds(self, user: int, sender: int) -> bool:
        """Whether the user has blocked the sender."""

    def count(self, user: int) -> int:
        """How many senders the user has blocked."""


class Keys(Protocol):
    """What users have published, by rows."""

    def find(self, user: int) -> PublishedKeys | None:
        """What this user has published; None for nothing, without a bundle where it was removed."""


class Blobs(Protocol):
    """Large contents, by number. Those that no message names are gone after a restart."""

    def append(self, blob_id: int, data: bytes) -> None:
        """Append bytes. Raises `StoreFull`; the caller then has to remove the blob."""

    def unsynced(self, blob_id: int) -> int:
        """Bytes of a growing blob that are not durable."""

    def finish(self, blob_id: int) -> int:
        """The blob is complete. Returns how many bytes are not durable yet; at 0, a message may
        name it.
        """

    def remove(self, blob_id: int) -> None:
        """Delete it, if it exists."""


class RunRules(Protocol):
    """What `Engine.accept_run` asks of the rules when its own comparisons don't decide."""

    @property
    def now_ms(self) -> int:
        """The turn's time."""

    @property
    def largest_message(self) -> int:
        """Bytes of the largest content."""

    @property
    def calm(self) -> MailboxStats:
        """Up to this, a mailbox accepts mail from every sender without `crowded`."""

    @property
    def takes_mail(self) -> bool:
        """Whether new mail is accepted."""

    def sender_refusal(self, sender: User | None, authenticated: bool, *, once: bool) -> Refused | None:
        """Why a sender may not send, or None. `once`: with tokens."""

    def message_refusal(self, recipient: User | None, kind: int, size: int) -> Refused:
        """Why a message is not accepted: its recipient, kind or size is invalid, or no mail is
        accepted.
        """

    def once_refusal(self, recipient: User | None, kind: int, size: int) -> Refused | None:
        """Why a message with a token is not accepted, whatever was sent under its token, or
        None.
        """

    def sent_before(self, sent: TokenUsed, recipient: User, kind: int, digest: bytes) -> Stored | Refused:
        """The answer for a token under which this was sent."""

    def new_refusal(self, recipient: User, kind: int) -> Refused | None:
        """Why a message with a token that is new is not accepted, apart from the limits of its
        mailbox, or None.
        """

    def ids_are_new(self, sequence: int) -> bool:
        """Whether no message id can repeat up to this sequence."""

    def would_repeat_an_id(self, box: Mailbox, sequence: int) -> bool:
        """Whether a message with this sequence could have the id of another one."""

    def crowded(self, box: Mailbox, sender: bytes, messages: int, size: int, sequence: int) -> Refused | None:
        """Why a mailbox beyond `calm` does not accept this much more from this sender, or None."""

    def is_blocked(self, recipient: User, sender: bytes) -> bool:
        """Whether a recipient who may have blocked somebody has blocked the sender with this id.
        The message then gets a sequence, but is not stored.
        """

    def unreadable(self, error: Exception) -> Refused:
        """The refusal for data that could not be read. Re-raises any other error."""


class OperatorsTables(Protocol):
    """What an operator's commands change beside the worker, which sees it with a later turn. Each
    method is a transaction of its own.
    """

    def make_invitation(self, made: InvitationMade, now_ms: int) -> None:
        """Make one, and drop those whose time is over."""

    def invitations(self) -> list[Invitation]:
        """All of them, by the time when they expire."""

    def revoke(self, digests: Sequence[bytes]) -> None:
        """Drop these."""

    def delete(self, name: str) -> bool:
        """Mark a user as deleted; whether there was one. The worker does the rest."""

    def kept_names(self) -> list[KeptName]:
        """The names of deleted users that were not freed, in the order of registration."""

    def free(self, name: str) -> bool:
        """Let others register a deleted user's name, and what looks like it; whether there was
        one.
        """

    def is_leaving(self, name: str) -> bool | None:
        """Whether what the user of this name had is being deleted; None for no user."""

    def re_key(self, name: str, key: bytes, day: int) -> bool:
        """Give a user another public key, as seen on this day, and remove the keys that they have
        published; whether there is one.
        """

    def unprove(self, name: str) -> bool:
        """Let programs of the published protocol act for a user again, until their next proof;
        whether there is one.
        """


class Engine(Protocol):
    """One open store. Any method may raise `StoreFailed`; what is on disk is then unknown, and the
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
        """The invitations."""

    @property
    def running_time(self) -> RunningTime:
        """How long workers have run."""

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
    def keys(self) -> Keys:
        """What users have published."""

    @property
    def blobs(self) -> Blobs:
        """Large contents."""

    # --- a turn

    def prepare(self, now_ms: int, messages: int, uploaded: int) -> Capacity:
        """Prepare a turn that may accept this many messages; returns what there is room for.
        `uploaded`: bytes that unfinished uploads hold.
        """

    def turn(self, now_ms: int, level: Admission, *, registers: bool) -> AbstractContextManager[None]:
        """Begin a turn; its end commits. `registers`: a user may be registered in it, an
        invitation changed, or the running time noted.

        Any exception inside undoes the whole turn on disk; so do `StoreFull` and `StoreDamaged`,
        which the end may raise. `roll_back` has to follow.
        """

    def apply(self, decided: Decided) -> None:
        """Inside a turn: apply a record. The reads of this turn see it, and the end of the turn
        commits it. A record that changes nothing is dropped. Raises `TablesDamaged`.
        """

    def accept_run(self, run: StoreMessages | StoreMessagesOnce, rules: RunRules) -> tuple[MessagesStored, int]:
        """Inside a turn: decide, number and apply a run of messages; also returns the bytes
        accepted. It is the engine's own loop, because a run has hundreds of messages. Raises
        `FrameUndecodable`.
        """

    def roll_back(self) -> None:
        """A turn was undone: forget what was applied in it."""

    def take_received(self) -> Sequence[int]:
        """The rows of users who got mail in turns since the last call."""

    def accepted(self, content_bytes: int) -> None:
        """A turn was committed that accepted this many bytes of content."""

    def found_full(self, now_ms: int) -> None:
        """A turn found no room: nothing is admitted until the engine has looked again."""

    # --- errors

    def damage(self, error: BaseException) -> str | None:
        """If an exception means that data is damaged: what is damaged, and the next step. None for
        any other.
        """

    def refuse_undone(self, error: BaseException) -> None:
        """Raise `TablesDamaged` if such damage has undone the turn, in which nothing may follow."""

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception is a failure of the store, rather than a bug or damage."""

    # --- between turns

    def reading(self) -> AbstractContextManager[None]:
        """A context for reads between turns, in which the engine's errors become ours."""

    def begin_backup(self, folder: Path, now_ms: int) -> str | None:
        """Begin to copy the store into an empty folder, while turns go on; returns why that is not
        possible, or None. The copy has everything that was committed before, and its next start
        begins a new generation.
        """

    @property
    def backup(self) -> BackupState:
        """The current or last backup."""

    def totals(self) -> Totals:
        """Totals of the store, including the last turn."""

    @property
    def has_pending(self) -> bool:
        """Whether `maintain` will soon have something to do."""

    @property
    def is_busy(self) -> bool:
        """Whether `maintain` goes on with something that should not wait for gateways."""

    def look_again(self) -> None:
        """An operator's command has changed tables: see it with the next turn."""

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Between two turns, where others delete users, too: rows and client ids of those who were
        deleted since the last call.
        """

    def maintain(self, now_ms: int) -> None:
        """Between two turns: maintenance that keeps the store small and fast."""

    def close(self, now_ms: int) -> None:
        """Close the store in order."""
