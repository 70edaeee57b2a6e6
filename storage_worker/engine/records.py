"""What a turn changes, as values: rules decide them, engines commit and apply them.

Owns: the records. Promises: a record says what was decided, not what was requested: applying it
again to the state before it gives the state after it, whatever the settings, the clock or the disk
are by then.
Exposure: none.
"""

from msgspec import Struct

from storage_worker.engine.values import MailPlace


class _RecordBase(Struct, array_like=True, frozen=True, gc=False):
    """Encoded as an array that begins with its tag."""


class MessagesAccepted(_RecordBase, frozen=True, tag=1):
    """The messages of `frames` (see `StoreMessages`), except those at the indexes `refused`, are in
    their mailboxes.

    They have the sequences from `first` on, and tokens made of `seed` (12 bytes) and their index.
    Those at `dropped` have a sequence, but are in no mailbox.
    """

    authenticated: bool
    first: int
    accepted_at: int
    seed: bytes
    frames: bytes
    refused: list[int]
    dropped: list[int] = []


class MessageAccepted(_RecordBase, frozen=True, tag=2):
    """A message is in the mailbox of user row `recipient`. `entry`: only its head if blob `blob_id`
    has the rest.
    """

    recipient: int
    sequence: int
    entry: bytes
    blob_id: int


class MailRemoved(_RecordBase, frozen=True, tag=3):
    """The messages `first` to `last` of the mailbox of user row `recipient` are deleted."""

    recipient: int
    first: int
    last: int


class OldMail(Struct, frozen=True):
    """Old mail that may be deleted, and where to continue; None: that was all."""

    removed: list[MailRemoved]
    behind: MailPlace | None


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


class UserAuthenticated(_RecordBase, frozen=True, tag=7):
    """The user of this row authenticated for the first time. `told`: every other shard knows it."""

    user: int
    told: bool = False


class UserDeleted(_RecordBase, frozen=True, tag=8):
    """The user of this row is deleted. Their data is deleted in steps, between turns."""

    user: int


class UserSeen(_RecordBase, frozen=True, tag=9):
    """The user of this row was active on this day (since 1970, UTC)."""

    user: int
    day: int


class UserDisabled(_RecordBase, frozen=True, tag=10):
    """The user of this row is disabled, or enabled again."""

    user: int
    disabled: bool


class InvitationMade(Struct, frozen=True):
    """An invitation, of which `digest` is the SHA-256, is good for `uses` registrations until
    `expires_at`.
    """

    digest: bytes
    uses: int
    expires_at: int


class InvitationUsed(Struct, frozen=True):
    """One use of the invitation is used; after the last one it is deleted."""

    digest: bytes


class InvitationRevoked(Struct, frozen=True):
    """The invitation is deleted."""

    digest: bytes


class SequenceUsed(_RecordBase, frozen=True, tag=11):
    """This sequence was answered for a message that is not stored; no other message gets it."""

    sequence: int


class SenderBlocked(_RecordBase, frozen=True, tag=12):
    """The user of row `user` wants no messages of the user of row `sender`, or (not `blocked`)
    wants them again.
    """

    user: int
    sender: int
    blocked: bool


class KeysPublished(_RecordBase, frozen=True, tag=13):
    """The user of row `user` has this bundle. Of their one-time keys the first `dropped` are
    forgotten, and `added` are behind the others. `digest`: the SHA-256 of the publication;
    `generation`: that of the store, without which the one-time keys are worth nothing. `follows`:
    the digest of what there was before, empty for nothing.
    """

    user: int
    generation: int
    bundle: bytes
    digest: bytes
    dropped: int
    added: bytes
    follows: bytes


class OneTimeKeyClaimed(_RecordBase, frozen=True, tag=14):
    """The first one-time key of the user of row `user` was given to somebody."""

    user: int


class MessagesAcceptedOnce(_RecordBase, frozen=True, tag=15):
    """The messages of `frames` (see `StoreMessagesOnce`), except those at the indexes `left_out`,
    are in their mailboxes, and their tokens are used.

    They have the sequences from `first` on. Those at `dropped` have a sequence and a used token,
    but are in no mailbox. `senders`: the user rows of the senders, one for each stretch of frames
    with the same sender; 0 where all of the stretch is left out.
    """

    first: int
    accepted_at: int
    frames: bytes
    senders: list[int]
    left_out: list[int]
    dropped: list[int] = []


class UserRegistered(Struct, frozen=True):
    """There is a user with this id and name, which were free. The engine gives the row.

    `looks`: what the name looks like (`common.name_rule.looks`).
    """

    client_id: bytes
    name: str
    public_key: bytes
    looks: tuple[str, ...]
    day: int | None = None
    """Since 1970, UTC."""


class RunningNoted(Struct, frozen=True):
    """The worker has run so many hours more, and its clock shows this day (since 1970, UTC)."""

    day: int
    hours: int


Record = (
    MessagesAccepted
    | MessagesAcceptedOnce
    | MessageAccepted
    | MailRemoved
    | TokenUsed
    | SlotTaken
    | BatchApplied
    | UserAuthenticated
    | UserDeleted
    | UserSeen
    | UserDisabled
    | SequenceUsed
    | SenderBlocked
    | KeysPublished
    | OneTimeKeyClaimed
)
"""What a log of turns can hold."""
InvitationChange = InvitationMade | InvitationUsed | InvitationRevoked
Decided = (
    MessageAccepted
    | MailRemoved
    | TokenUsed
    | SlotTaken
    | BatchApplied
    | UserAuthenticated
    | UserDeleted
    | UserSeen
    | UserDisabled
    | SequenceUsed
    | SenderBlocked
    | KeysPublished
    | OneTimeKeyClaimed
    | UserRegistered
    | InvitationChange
    | RunningNoted
)
"""What rules hand to `Engine.apply`; of a run of sends `Engine.accept_run` makes the record."""
