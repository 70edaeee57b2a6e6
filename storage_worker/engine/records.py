"""What a turn changes, as values: rules decide them, engines commit and apply them.

Owns: the records. Promises: a record says what was decided, never what was asked: applying it again
to the state before it gives the state after it, whatever the settings, the clock or the disk are
then.
Exposure: none.
"""

from msgspec import Struct

from storage_worker.engine.values import MailPlace


class _RecordBase(Struct, array_like=True, frozen=True, gc=False):
    """Encoded as an array that begins with its tag."""


class MessagesAccepted(_RecordBase, frozen=True, tag=1):
    """The messages of `frames` (see `StoreMessages`) but those at the indexes `refused` are in
    their mailboxes.

    Theirs are the sequences from `first` on, and the tokens that `seed` (12 bytes) and their index
    make. Those at `dropped` have a sequence and are in no mailbox.
    """

    authenticated: bool
    first: int
    accepted_at: int
    seed: bytes
    frames: bytes
    refused: list[int]
    dropped: list[int] = []


class MessageAccepted(_RecordBase, frozen=True, tag=2):
    """A message is in the mailbox of user row `recipient`. `entry`: its head alone where
    blob `blob_id` has the rest.
    """

    recipient: int
    sequence: int
    entry: bytes
    blob_id: int


class MailRemoved(_RecordBase, frozen=True, tag=3):
    """The messages `first` to `last` of the mailbox of user row `recipient` are no more."""

    recipient: int
    first: int
    last: int


class OldMail(Struct, frozen=True):
    """What may be deleted of old mail, and where to look on; None: that was all."""

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
    """The user of this row authenticated for the first time."""

    user: int


class UserDeleted(_RecordBase, frozen=True, tag=8):
    """The user of this row is no more. What the store has of them goes in steps, between turns."""

    user: int


class UserSeen(_RecordBase, frozen=True, tag=9):
    """The user of this row asked for something on this day (since 1970, UTC)."""

    user: int
    day: int


class UserDisabled(_RecordBase, frozen=True, tag=10):
    """From now on nothing is done for the user of this row, or it is again."""

    user: int
    disabled: bool


class InvitationMade(Struct, frozen=True):
    """Whoever has what `digest` is the SHA-256 of may register, so often, until `expires_at`."""

    digest: bytes
    uses: int
    expires_at: int


class InvitationUsed(Struct, frozen=True):
    """One of its uses is used; with the last one it is no more."""

    digest: bytes


class InvitationRevoked(Struct, frozen=True):
    """It is no more."""

    digest: bytes


class SequenceUsed(_RecordBase, frozen=True, tag=11):
    """This sequence was answered for a message that is in no mailbox, and is given to none."""

    sequence: int


class SenderBlocked(_RecordBase, frozen=True, tag=12):
    """The user of row `user` wants no messages of the user of row `sender`, or (not `blocked`)
    wants them again.
    """

    user: int
    sender: int
    blocked: bool


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


Record = (
    MessagesAccepted
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
    | UserRegistered
    | InvitationChange
)
"""What rules hand to `Engine.apply`; of a run of sends `Engine.accept_run` makes the record."""
