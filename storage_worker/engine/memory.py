"""An engine that keeps everything in this process's memory: for tests.

Owns: a `Disk`, a value that outlives the engine, so that a restart can be tested.
Promises: those of the interface, in the simplest form: one list of messages per mailbox, and a copy
of the state for each turn. Other engines are compared with it.
Exposure: none; no program opens it.
"""

import copy
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Final

from common.errors import FrameUndecodable
from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.message_format import (
    ENTRY_HEAD,
    FLAG_AUTHENTICATED,
    SEND_FRAME,
    FrameOnce,
    walk_frames_once,
)
from common.storage_protocol.operations import (
    NO_MAIL,
    Mail,
    MessagesStored,
    Part,
    Refused,
    RefusedFrame,
    RepeatedFrame,
    Stored,
    StoreMessages,
    StoreMessagesOnce,
    UserEntry,
)
from common.values import MESSAGE_KINDS, ONE_TIME_KEY_SIZE
from storage_worker.engine import interface
from storage_worker.engine.errors import StorageError, StoreDamaged, StoreFull
from storage_worker.engine.interface import RunRules
from storage_worker.engine.records import (
    BatchApplied,
    Decided,
    InvitationMade,
    InvitationRevoked,
    InvitationUsed,
    KeysPublished,
    MailRemoved,
    MessageAccepted,
    OldMail,
    OneTimeKeyClaimed,
    RunningNoted,
    SenderBlocked,
    SequenceUsed,
    SlotTaken,
    TokenUsed,
    UserAuthenticated,
    UserDeleted,
    UserDisabled,
    UserRegistered,
    UserSeen,
)
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
    KeyState,
    MailboxStats,
    MailPlace,
    PublishedKeys,
    Slot,
    Span,
    Totals,
    User,
)

USERS_PER_PAGE: Final = 500
TOKENS_PER_SENDER: Final = 1024
DAY_MS: Final = 24 * 3600 * 1000
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_ENVELOPE_IN_PAGE: Final = 64
_SEED_SIZE: Final = 12

assert MOST_IN_FLIGHT == 2, "a slot keeps the outcomes of two batches"


class _Message:
    """`entry`: the whole entry, or only its head if blob `blob_id` has the content."""

    __slots__ = ("blob_id", "entry", "sequence", "size")

    def __init__(self, sequence: int, entry: bytes, blob_id: int) -> None:
        self.sequence = sequence
        self.entry = entry
        self.blob_id = blob_id
        self.size: int = ENTRY_HEAD.unpack_from(entry)[6]


class _Account:
    """One registered user. Rows are places in a list, from 1."""

    def __init__(self, user: UserRegistered) -> None:
        self.client_id = user.client_id
        self.name = user.name
        self.public_key = user.public_key
        self.looks = user.looks
        self.must_authenticate = False
        self.is_deleted = False
        self.registered = self.seen = user.day
        self.is_disabled = False


class _State:
    """Everything durable."""

    def __init__(self) -> None:
        self.accounts: list[_Account] = []
        self.mail: dict[int, list[_Message]] = {}
        self.tokens: list[TokenUsed] = []
        self.invitations: dict[bytes, Invitation] = {}
        self.slots: dict[int, Slot] = {}
        self.blocks: set[tuple[int, int]] = set()
        self.keys: dict[int, PublishedKeys] = {}
        self.sequence = 0
        self.accepted = 0
        self.blob_id = 0
        self.days: dict[int, int] = {}
        """The sequence when a day began."""
        self.running: dict[int, int] = {}
        """How many hours workers had run when the clock last showed a day."""

    def copied(self) -> "_State":
        """A copy. Messages and tokens are shared, because they never change."""
        other = _State()
        other.accounts = [copy.copy(account) for account in self.accounts]
        other.mail = {user: list(messages) for user, messages in self.mail.items()}
        other.tokens = list(self.tokens)
        other.invitations = dict(self.invitations)
        other.slots = dict(self.slots)
        other.days = dict(self.days)
        other.running = dict(self.running)
        other.blocks = set(self.blocks)
        other.keys = dict(self.keys)
        other.sequence, other.accepted, other.blob_id = self.sequence, self.accepted, self.blob_id
        return other


class Disk:
    """What a restart finds: the state of the last commit, and blobs. `room`: bytes of entries that
    a turn may add; beyond it a turn fails with `StoreFull`. `takes_mail`: whether mail is admitted.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.state = _State()
        self.blobs: dict[int, bytes] = {}
        self.room = 2**62
        self.takes_mail = True
        self.starts = 0


class _Users:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    @property
    def _accounts(self) -> list[_Account]:
        return self._engine.state.accounts

    def find(self, client_id: bytes) -> User | None:
        for row, account in enumerate(self._accounts, 1):
            if account.client_id == client_id and not account.is_deleted:
                seen = -1 if account.seen is None else account.seen
                blocks = any(user == row for user, _ in self._engine.state.blocks)
                keys = KeyState.KEPT if row in self._engine.state.keys else KeyState.NEVER
                return User(row, client_id, account.must_authenticate, blocks, seen, account.is_disabled, keys=keys)
        return None

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        for account in self._accounts:
            if account.name == name and not account.is_deleted:
                return account.client_id, account.public_key
        return None

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        return any(
            not set(looks).isdisjoint(account.looks)
            for account in self._accounts
            if not (beyond_ascii and account.name.isascii())
        )

    def name_is_kept(self, name: str) -> bool:
        return any(account.name == name and account.is_deleted for account in self._accounts)

    def deletion(self, client_id: bytes) -> Deletion | None:
        gone = any(account.client_id == client_id and account.is_deleted for account in self._accounts)
        return Deletion.DONE if gone else None

    def refresh(self, client_id: bytes) -> None:
        """Nobody else changes users."""

    def public_key(self, user: User) -> bytes:
        return self._accounts[user.row - 1].public_key

    def last_row(self) -> int:
        return len(self._accounts)

    def count(self, until: int) -> int:
        return sum(not account.is_deleted for account in self._accounts[:until])

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        rows = [row for row in range(after + 1, min(until, len(self._accounts)) + 1) if self._is_there(row)]
        rows = rows[:USERS_PER_PAGE]
        last = rows[-1] if len(rows) == USERS_PER_PAGE else until
        return last, [
            UserEntry(self._accounts[row - 1].client_id, self._accounts[row - 1].name)
            for row in rows
            if row != without.row
        ]

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        rows = [row for row in range(after + 1, len(self._accounts) + 1) if self._is_there(row)][:most]
        found = [(row, self._accounts[row - 1]) for row in rows]
        return [
            Account(
                row, one.client_id, one.name, one.must_authenticate, one.registered, one.seen, one.is_disabled,
                self._engine.keys.count(row),
            )
            for row, one in found
        ]  # fmt: skip

    def unseen_since(self, day: int, after: int, until: int) -> Sequence[User]:
        users = [self.find(one.client_id) for one in self._accounts[after:until]]
        return [user for user in users if user is not None and 0 <= user.seen < day and not user.is_disabled]

    def _is_there(self, row: int) -> bool:
        return not self._accounts[row - 1].is_deleted


class _Invitations:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    @property
    def _kept(self) -> dict[bytes, Invitation]:
        return self._engine.state.invitations

    def find(self, digest: bytes) -> Invitation | None:
        return self._kept.get(digest)

    def all(self) -> list[Invitation]:
        return sorted(self._kept.values(), key=lambda one: (one.expires_at, one.digest))


class _RunningTime:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    @property
    def _kept(self) -> dict[int, int]:
        return self._engine.state.running

    def hours(self) -> int:
        return max(self._kept.values(), default=0)

    def first_day_after(self, hours: int) -> int | None:
        return min((day for day, then in self._kept.items() if then > hours), default=None)


class _Mailbox:
    def __init__(self, engine: "MemoryEngine", user: int) -> None:
        self._engine = engine
        self.user = user
        self.uploads = self.upload_bytes = 0

    @property
    def messages(self) -> int:
        return len(self._engine.pending(self.user)) + self.uploads

    @property
    def content_bytes(self) -> int:
        return sum(message.size for message in self._engine.pending(self.user)) + self.upload_bytes

    @property
    def is_counted(self) -> bool:
        # All at once, where somebody asks.
        return False

    def oldest_unflushed(self) -> int | None:
        messages = self._engine.pending(self.user)
        return messages[0].sequence if messages else None


class _Mailboxes:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine
        self._boxes: dict[int, _Mailbox] = {}

    @property
    def sequence(self) -> int:
        return self._engine.state.sequence

    def mailbox(self, user: int) -> _Mailbox:
        return self._boxes.setdefault(user, _Mailbox(self._engine, user))

    def pending(self, user: int) -> MailboxStats:
        messages = self._engine.pending(user)
        return MailboxStats(len(messages), sum(message.size for message in messages))

    def accepted_before(self, day: int) -> int:
        days = self._engine.state.days
        if not days or min(days) > day:
            return 0
        return min((sequence for noted, sequence in days.items() if noted >= day), default=self.sequence)

    def old_mail(self, place: MailPlace, sequence: int, pages: int) -> OldMail:
        state = self._engine.state
        old = [
            (user, message.sequence)
            for user, messages in sorted(state.mail.items())
            for message in messages
            if message.sequence <= sequence and (user, message.sequence) > place
        ]
        removed = [MailRemoved(user, one, one) for user, one in old[:pages]]
        return OldMail(removed, MailPlace(*old[pages - 1]) if len(old) > pages else None)

    def is_current(self, box: interface.Mailbox) -> bool:
        return self._boxes.get(box.user) is box

    def charge(self, user: int, messages: int, content_bytes: int) -> None:
        box = self.mailbox(user)
        box.uploads += messages
        box.upload_bytes += content_bytes

    def new_blob_id(self) -> int:
        self._engine.state.blob_id += 1
        return self._engine.state.blob_id

    def count_senders(self, user: int, dropped: MailboxStats, work: int) -> tuple[SenderCounts, int]:
        # All of them at once: nothing is large here.
        counts = SenderCounts(dropped)
        for message in self._engine.pending(user):
            counts.add(message.entry if not message.blob_id else message.entry + bytes(message.size))
        counts.completed(self.sequence)
        return counts, work

    def _between(self, user: int, first: int, last: int) -> list[_Message]:
        return [message for message in self._engine.pending(user) if first <= message.sequence <= last]

    def oldest(self, user: int, after: int, before: int) -> int | None:
        found = self._between(user, after + 1, before - 1)
        return found[0].sequence if found else None

    def span(self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int) -> Span | None:
        taken: list[_Message] = []
        room = max_bytes
        for message in self._between(user, first, last):
            room -= message.size + envelope_bytes
            if taken and room < 0:
                break
            taken.append(message)
        if not taken:
            return None
        return Span(taken[0].sequence, taken[-1].sequence, len(taken), sum(message.size for message in taken))

    def first_page(
        self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int, page_bytes: int
    ) -> tuple[Span, Mail] | None:
        span = self.span(user, first, last, max_bytes, envelope_bytes)
        return None if span is None else (span, self.read(user, span.first, 0, span.last, page_bytes))

    def read(self, user: int, first: int, offset: int, last: int, page_bytes: int) -> Mail:
        budget = page_bytes = max(page_bytes, 1)
        whole: list[bytes] = []
        last_whole = 0
        for message in self._between(user, first, last):
            skipped = offset if message.sequence == first else 0
            if skipped and skipped >= message.size:
                continue
            entry = message.entry + self._engine.disk.blobs[message.blob_id] if message.blob_id else message.entry
            head, content = entry[: ENTRY_HEAD.size], entry[ENTRY_HEAD.size :]
            if (skipped or message.size > page_bytes) and not whole:
                part = content[skipped : skipped + page_bytes]
                return Mail(b"", 0, Part(head, message.sequence, message.size, skipped, part))
            if message.size > budget:
                break
            whole.append(entry)
            last_whole = message.sequence
            budget -= message.size + _ENVELOPE_IN_PAGE
            if budget <= 0:
                break
        return Mail(b"".join(whole), last_whole) if whole else NO_MAIL


class _Tokens:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        newest = [used for used in self._engine.state.tokens if used.sender == sender][-TOKENS_PER_SENDER:]
        for used in reversed(newest):
            if used.token == token:
                return used if now_ms - used.accepted_at <= TOKEN_LIFE_MS else None
        return None


class _Slots:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    def find(self, slot: int) -> Slot | None:
        slots = self._engine.state.slots
        return slots.get(slot)


class _Blocks:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    def holds(self, user: int, sender: int) -> bool:
        return (user, sender) in self._engine.state.blocks

    def count(self, user: int) -> int:
        return sum(one == user for one, _ in self._engine.state.blocks)


class _Keys:
    def __init__(self, engine: "MemoryEngine") -> None:
        self._engine = engine

    def find(self, user: int) -> PublishedKeys | None:
        keys = self._engine.state.keys
        return keys.get(user)

    def count(self, user: int) -> int | None:
        found = self.find(user)
        return None if found is None else found.count(self._engine.identity.generation)


class _Blobs:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def append(self, blob_id: int, data: bytes) -> None:
        self._disk.blobs[blob_id] = self._disk.blobs.get(blob_id, b"") + data

    def unsynced(self, blob_id: int) -> int:
        return 0

    def finish(self, blob_id: int) -> int:
        self._disk.blobs.setdefault(blob_id, b"")
        return 0

    def remove(self, blob_id: int) -> None:
        self._disk.blobs.pop(blob_id, None)


class MemoryEngine:
    """An `Engine` over `disk`. `random_bytes(n)` gives n random bytes."""

    def __init__(self, disk: Disk, random_bytes: Callable[[int], bytes]) -> None:
        self.disk = disk
        self.state = disk.state.copied()
        """What the present turn sees."""
        self._random_bytes = random_bytes
        self._received: set[int] = set()
        self._turn_received: set[int] = set()
        self._added_bytes = 0
        self.grants = Grants(sole_owner=True)
        self.identity = disk.identity
        self.users = _Users(self)
        self.invitations = _Invitations(self)
        self.running_time = _RunningTime(self)
        self.mailboxes = _Mailboxes(self)
        self.tokens = _Tokens(self)
        self.slots = _Slots(self)
        self.blocks = _Blocks(self)
        self.keys = _Keys(self)
        self.blobs = _Blobs(disk)
        self._sweep()
        disk.starts += 1

    def pending(self, user: int) -> list[_Message]:
        """The messages of a mailbox, in order."""
        return self.state.mail.setdefault(user, [])

    def _sweep(self) -> None:
        named = {message.blob_id for messages in self.state.mail.values() for message in messages}
        for blob_id in self.disk.blobs.keys() - named:
            del self.disk.blobs[blob_id]

    # --- a turn
    # ----------------------------------------------------------------------------------------------

    def prepare(self, now_ms: int, messages: int, uploaded: int) -> Capacity:
        """Room as the disk says."""
        return Capacity(Admission.OPEN if self.disk.takes_mail else Admission.NO_MAIL, 2**62, is_damaged=False)

    @contextmanager
    def turn(self, now_ms: int, level: Admission, *, registers: bool) -> Generator[None]:
        """Begin a turn; its end commits."""
        self.state.days.setdefault(now_ms // DAY_MS, self.state.sequence)
        yield
        if self._added_bytes > self.disk.room:
            raise StoreFull("there is no room for this turn")
        was, self.disk.state = self.disk.state, self.state.copied()
        before = {message.blob_id for messages in was.mail.values() for message in messages}
        after = {message.blob_id for messages in self.state.mail.values() for message in messages}
        for blob_id in before - after:
            self.blobs.remove(blob_id)
        self._received |= self._turn_received
        self._end_turn()

    def _end_turn(self) -> None:
        self._turn_received = set()
        self._added_bytes = 0

    def apply(self, decided: Decided) -> None:
        """Apply a record: the reads of this turn see it, and the end of the turn commits it."""
        state = self.state
        match decided:
            case MessageAccepted():
                self._put(decided)
            case MailRemoved(recipient, first, last):
                state.mail[recipient] = [one for one in self.pending(recipient) if not first <= one.sequence <= last]
            case TokenUsed():
                state.tokens.append(decided)
            case SlotTaken(slot, epoch, incarnation, earlier):
                state.slots[slot] = Slot(epoch, incarnation, earlier, 0, None, None)
            case BatchApplied(slot, number, outcomes):
                found = state.slots[slot]
                state.slots[slot] = found._replace(number=number, outcomes=outcomes, before=found.outcomes)
            case UserAuthenticated(user):
                state.accounts[user - 1].must_authenticate = True
            case UserSeen(user, day):
                state.accounts[user - 1].seen = day
            case UserDisabled(user, disabled):
                state.accounts[user - 1].is_disabled = disabled
            case SequenceUsed(sequence):
                state.sequence = sequence
            case SenderBlocked(user, sender, blocked):
                (state.blocks.add if blocked else state.blocks.discard)((user, sender))
            case KeysPublished(user, generation, bundle, digest, dropped, added, _follows):
                before = state.keys.get(user)
                kept = b"" if before is None else before.one_time_keys[dropped * ONE_TIME_KEY_SIZE :]
                state.keys[user] = PublishedKeys(bundle, digest, generation, kept + added)
            case OneTimeKeyClaimed(user):
                published = state.keys[user]
                state.keys[user] = published._replace(one_time_keys=published.one_time_keys[ONE_TIME_KEY_SIZE:])
            case UserRegistered():
                state.accounts.append(_Account(decided))
            case UserDeleted(user):
                state.accounts[user - 1].is_deleted = True
                state.mail.pop(user, None)
                state.blocks = {pair for pair in state.blocks if user not in pair}
                state.keys.pop(user, None)
                state.tokens = [used for used in state.tokens if used.sender != user]
            case InvitationMade(digest, uses, expires_at):
                state.invitations[digest] = Invitation(digest, uses, expires_at)
            case InvitationUsed(digest):
                left = state.invitations.pop(digest)
                if left.uses > 1:
                    state.invitations[digest] = left._replace(uses=left.uses - 1)
            case InvitationRevoked(digest):
                state.invitations.pop(digest, None)
            case RunningNoted(day, hours):
                state.running[day] = self.running_time.hours() + hours

    def _put(self, message: MessageAccepted) -> None:
        self.pending(message.recipient).append(_Message(message.sequence, message.entry, message.blob_id))
        self.state.sequence = message.sequence
        self.state.accepted += 1
        self._turn_received.add(message.recipient)
        self._added_bytes += len(message.entry)

    def accept_run(self, run: StoreMessages | StoreMessagesOnce, rules: RunRules) -> tuple[MessagesStored, int]:
        """Decide, number and apply a run of messages; also returns the bytes accepted."""
        if isinstance(run, StoreMessagesOnce):
            return self._accept_once(run, rules)
        frames, first = run.frames, self.state.sequence + 1
        seed = self._random_bytes(_SEED_SIZE)
        refused: list[RefusedFrame] = []
        index = at = 0
        while at < len(frames):
            sender_id, recipient_id, kind, size = SEND_FRAME.unpack_from(frames, at)
            start = at + SEND_FRAME.size
            at = start + size
            if at > len(frames):
                raise FrameUndecodable("the last frame of a run is cut off")
            recipient = self.users.find(recipient_id)
            sequence = self.state.sequence + 1
            refusal = rules.sender_refusal(self.users.find(sender_id), run.authenticated, once=False)
            if refusal is None and (
                recipient is None or kind not in MESSAGE_KINDS or size > rules.largest_message or not rules.takes_mail
            ):
                refusal = rules.message_refusal(recipient, kind, size)
            if refusal is None and recipient is not None:
                refusal = rules.crowded(self.mailboxes.mailbox(recipient.row), sender_id, 1, size, sequence)
                if refusal is None:
                    flags = FLAG_AUTHENTICATED if run.authenticated else 0
                    token = seed + index.to_bytes(4, "little")
                    head = ENTRY_HEAD.pack(sender_id, token, sequence, rules.now_ms, flags, kind, size)
                    if recipient.blocks and rules.is_blocked(recipient, sender_id):
                        self.state.sequence = sequence
                    else:
                        self._put(MessageAccepted(recipient.row, sequence, head + frames[start:at], 0))
            if refusal is not None:
                refused.append(RefusedFrame(index, refusal.reason, refusal.retry_after))
            index += 1
        return MessagesStored(first, refused), len(frames) if self.state.sequence >= first else 0

    def _accept_once(self, run: StoreMessagesOnce, rules: RunRules) -> tuple[MessagesStored, int]:
        first = self.state.sequence + 1
        refused: list[RefusedFrame] = []
        repeated: list[RepeatedFrame] = []
        for index, frame in enumerate(walk_frames_once(run.frames)):
            before = self.state.sequence
            outcome = self._once(frame, run.authenticated, rules)
            if isinstance(outcome, Refused):
                refused.append(RefusedFrame(index, outcome.reason, outcome.retry_after))
            elif self.state.sequence == before:
                repeated.append(RepeatedFrame(index, outcome.sequence))
        return MessagesStored(first, refused, repeated), len(run.frames) if self.state.sequence >= first else 0

    def _once(self, frame: FrameOnce, authenticated: bool, rules: RunRules) -> Stored | Refused:
        sender_id, token, recipient_id, kind, content = frame
        sender, recipient = self.users.find(sender_id), self.users.find(recipient_id)
        refusal = rules.sender_refusal(sender, authenticated, once=True)
        refusal = refusal or rules.once_refusal(recipient, kind, len(content))
        if refusal is not None:
            return refusal
        assert sender is not None, "it was not refused"
        assert recipient is not None, "it was not refused"
        digest = sha256(content).digest()
        sent = self.tokens.find(sender.row, token, rules.now_ms)
        if sent is not None:
            return rules.sent_before(sent, recipient, kind, digest)
        sequence = self.state.sequence + 1
        refusal = rules.new_refusal(recipient, kind)
        refusal = refusal or rules.crowded(self.mailboxes.mailbox(recipient.row), sender_id, 1, len(content), sequence)
        if refusal is not None:
            return refusal
        head = ENTRY_HEAD.pack(sender_id, token, sequence, rules.now_ms, FLAG_AUTHENTICATED, kind, len(content))
        if recipient.blocks and rules.is_blocked(recipient, sender_id):
            self.state.sequence = sequence
        else:
            self._put(MessageAccepted(recipient.row, sequence, head + content, 0))
        self.state.tokens.append(TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, rules.now_ms))
        return Stored(sequence)

    def roll_back(self) -> None:
        """A turn was undone: return to the state of the disk."""
        self.state = self.disk.state.copied()
        self._end_turn()

    def take_received(self) -> Sequence[int]:
        """The rows of users who got mail in turns since the last call."""
        received, self._received = sorted(self._received), set()
        return received

    def accepted(self, content_bytes: int) -> None:
        """A turn was committed that accepted this many bytes of content."""

    def found_full(self, now_ms: int) -> None:
        """Nothing to do: the next turn may find more room."""

    # --- errors
    # ----------------------------------------------------------------------------------------------

    def damage(self, error: BaseException) -> str | None:
        """Nothing is ever altered here."""
        return str(error) if isinstance(error, StoreDamaged) else None

    def refuse_undone(self, error: BaseException) -> None:
        """No read undoes a turn."""

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception is the store's failure."""
        return isinstance(error, StorageError) and not isinstance(error, StoreDamaged)

    # --- between turns
    # ----------------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[None]:
        """There are no errors to translate."""
        return nullcontext()

    def begin_backup(self, folder: Path, now_ms: int) -> str | None:
        """Refused: there is nothing that another process could be started on."""
        return "this engine keeps everything in memory"

    @property
    def backup(self) -> BackupState:
        """No backup is ever made."""
        return BackupState()

    def totals(self) -> Totals:
        """Totals of the store."""
        accounts = [account for account in self.state.accounts if not account.is_deleted]
        loads = [self.mailboxes.pending(user) for user in self.state.mail]
        return Totals(
            users=len(accounts),
            authenticated=sum(account.must_authenticate for account in accounts),
            mailboxes=sum(load.messages > 0 for load in loads),
            messages=sum(load.messages for load in loads),
            content_bytes=sum(load.content_bytes for load in loads),
            accepted=self.state.accepted,
            accepted_exactly=True,
            unused_bytes=0,
            starts=self.disk.starts,
            with_keys=len(self.state.keys),
            one_time_keys=sum(self.keys.count(user) or 0 for user in self.state.keys),
        )

    @property
    def has_pending(self) -> bool:
        """Nothing is ever due."""
        return False

    @property
    def is_busy(self) -> bool:
        """Nothing is ever due."""
        return False

    def look_again(self) -> None:
        """No command changes it."""

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Nobody else deletes users."""
        return []

    def maintain(self, now_ms: int) -> None:
        """Nothing is ever due."""

    def close(self, now_ms: int) -> None:
        """The disk has everything."""
