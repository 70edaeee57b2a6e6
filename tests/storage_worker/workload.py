"""Batches as a busy server has them, and a list of what was acknowledged, for tests that break
the disk under it.

Four users write to each other, 604 and 643 take turns on their mailboxes; one of them publishes
one-time keys, and the other one claims them. The list believes answers alone: what was answered
must be true, what was not is unknown until it is resent.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import Batch, Reply
from common.storage_protocol.message_format import pack_frame, pack_frame_once, walk_frames, walk_frames_once
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    Done,
    Fetch,
    KeyClaimed,
    KeysKept,
    MarkAuthenticated,
    MessagesStored,
    Operation,
    Outcome,
    Page,
    PublishKeys,
    Pull,
    Pulled,
    PullPage,
    Register,
    Registered,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker, pieces

END = 2**63 - 1


class Findings(NamedTuple):
    """What was acknowledged and is not as it was acknowledged."""

    lost: int
    returned: int
    unexpected: int

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return self == (0, 0, 0)


class Workload:
    """Drives one worker after the other through one gateway. `pending`: batches that were
    not answered, in order.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.users: list[bytes] = []
        self.stored: dict[int, tuple[bytes, bytes]] = {}
        self.deleted: set[int] = set()
        self.leased: dict[int, tuple[bytes, int, int]] = {}
        self.pending: list[Batch] = []
        self.acknowledged = 0
        self.published: set[bytes] = set()
        self.sent_once: dict[bytes, int] = {}
        """Frames with tokens that were acknowledged, and their sequences."""
        self.twice = 0
        """Messages with tokens that got another sequence when they were sent again."""
        self.claimed: Counter[bytes] = Counter()
        """One-time keys of the first user, as answers tell."""
        self._count = 0
        self._uploads = 0
        self.gateway: Gateway | None = None

    # --- working
    # ----------------------------------------------------------------------------------------------

    def begin(self, worker: SqliteWorker) -> None:
        """Greet, and register where that was not done."""
        self.gateway = Gateway(worker, incarnation=self._chance.randbytes(16))
        self.pending.clear()
        self.leased.clear()
        while not self.users:
            # Refused where the disk was full at this moment.
            self.ask(*[Register(name, KEY, greeted=True) for name in ("alice", "bob", "carol", "dave")])

    def step(self) -> None:
        """One batch. What breaks the disk passes through; the batch is `pending` then."""
        if self.leased and self._chance.random() < 0.5:
            number, (user, first, last) = self.leased.popitem()
            self.ask(Settle(number, user, True, first, last), *self._sends(2))
        elif self._chance.random() < 0.3:
            self._count += 1
            user = self._chance.choice(self.users)
            self.ask(*self._sends(2), Pull(self._count, user, True, self._chance.randrange(9000), 25, 100))
        elif self._chance.random() < 0.2:
            ack = self._chance.randrange(max(self.stored, default=0) + 1)
            self.ask(Fetch(self._chance.choice(self.users), True, ack, 2000, 54, 100, False))
        elif self._chance.random() < 0.2:
            self.ask(*self._upload())
        elif self._chance.random() < 0.3:
            self.ask(*self._sends(2), *self._keys(), *self._sends(2))
        elif self._chance.random() < 0.4:
            self.ask(self._run(20), *self._sends(2), self._run_once(20), self._run(3))
        else:
            self.ask(*self._sends(20))

    def _content(self, size: int) -> bytes:
        self._count += 1
        return b"%d." % self._count + bytes(size)

    def _sends(self, most: int) -> list[Operation]:
        return [
            StoreMessage(
                self._chance.choice(self.users),
                True,
                self._chance.choice(self.users),
                3,
                self._content(self._chance.choice([0, 50, 50, 300, 5000])),
                self._chance.choice([None, self._chance.randbytes(16)]),
            )
            for _ in range(self._chance.randrange(most + 1))
        ]

    def _run(self, most: int) -> Operation:
        frames = [
            pack_frame(
                self._chance.choice(self.users),
                self._chance.choice([*self.users, bytes(16)]),
                3,
                self._content(self._chance.choice([0, 50, 300, 5000])),
            )
            for _ in range(self._chance.randrange(most + 1))
        ]
        return StoreMessages(True, b"".join(frames))

    def _run_once(self, most: int) -> Operation:
        """New ones, and some that were sent before."""
        frames = [
            pack_frame_once(
                self._chance.choice(self.users),
                self._chance.randbytes(16),
                self._chance.choice([*self.users, bytes(16)]),
                3,
                self._content(self._chance.choice([0, 50, 300, 5000])),
            )
            for _ in range(self._chance.randrange(most + 1))
        ]
        known = list(self.sent_once)[-200:]
        frames += [self._chance.choice(known) for _ in range(self._chance.randrange(4)) if known]
        self._chance.shuffle(frames)
        return StoreMessagesOnce(True, b"".join(frames))

    def _upload(self) -> list[Operation]:
        self._uploads += 1
        content = self._content(self._chance.choice([10, 70_000]))
        sender, recipient, *_ = self.users
        return [
            BeginUpload(self._uploads, sender, True, recipient, 3, len(content)),
            Chunk(self._uploads, content[:30_000]),
            Chunk(self._uploads, content[30_000:]),
            CommitUpload(self._uploads),
        ]

    def _keys(self) -> list[Operation]:
        """Some are published or claimed, and never so many kept that the oldest would go."""
        owner, other, *_ = self.users
        claims: list[Operation] = [ClaimKey(other, True, owner, True)] * self._chance.randrange(4)
        if len(self.published) - len(self.claimed) > 50:
            return claims
        keys = _one_by_one(self._chance.randbytes(96 * self._chance.randrange(4)))
        published = PublishKeys(owner, True, False, self._chance.randbytes(40), b"".join(keys))
        return [MarkAuthenticated(owner), published, *claims]

    def ask(self, *operations: Operation) -> None:
        """Send a batch and enter its answer; now and then it is lost, and both are sent
        again with the next one.
        """
        assert self.gateway
        self.gateway.worker.now_ms += self._chance.choice([1, 1, 1, 2000])
        batch = self.gateway.next_batch(*operations)
        self.pending.append(batch)
        outcomes = self.gateway.send(batch)
        if self.users and len(self.pending) < MOST_IN_FLIGHT and self._chance.random() < 0.2:
            return
        if len(self.pending) == 1:
            self._answered(outcomes)
            return
        for late in list(self.pending):
            self._answered(self.gateway.send(late))

    def _answered(self, outcomes: Sequence[Outcome]) -> None:
        """Of the first that is pending."""
        content = b""
        for operation, outcome in zip(self.pending.pop(0).operations, outcomes, strict=True):
            match operation, outcome:
                case Register(), Registered(client_id):
                    self.users.append(client_id)
                case StoreMessage(), Stored(sequence):
                    self.stored[sequence] = (operation.recipient, operation.content)
                    self.acknowledged += 1
                case StoreMessages(), MessagesStored():
                    self._run_stored(operation, outcome)
                case StoreMessagesOnce(), MessagesStored():
                    self._run_once_stored(operation, outcome)
                case BeginUpload(), _:
                    content = b""
                case Chunk(), _:
                    content += operation.content
                case CommitUpload(), Stored(sequence):
                    self.stored[sequence] = (self.users[1], content)
                    self.acknowledged += 1
                case Pull(), Pulled(first, last) if last:
                    self.leased[operation.lease] = (operation.requester, first, last)
                case Settle(), Done():
                    self._delete(operation.requester, operation.first, operation.last)
                case Fetch(), _:
                    self._delete(operation.requester, 0, operation.ack)
                case PublishKeys(), KeysKept():
                    self.published |= set(_one_by_one(operation.one_time_keys))
                case ClaimKey(), KeyClaimed(_, key) if key:
                    self.claimed[key] += 1
                case _:
                    pass

    def _run_stored(self, run: StoreMessages, outcome: MessagesStored) -> None:
        refused = {frame.index for frame in outcome.refused}
        sequence = outcome.first
        for index, frame in enumerate(walk_frames(run.frames)):
            if index not in refused:
                self.stored[sequence] = (frame.recipient, frame.content)
                self.acknowledged += 1
                sequence += 1

    def _run_once_stored(self, run: StoreMessagesOnce, outcome: MessagesStored) -> None:
        refused = {frame.index for frame in outcome.refused}
        repeated = {frame.index: frame.sequence for frame in outcome.repeated}
        sequence = outcome.first
        for index, frame in enumerate(walk_frames_once(run.frames)):
            if index in refused:
                continue
            whole = pack_frame_once(*frame)
            if index in repeated:
                if self.sent_once.setdefault(whole, repeated[index]) != repeated[index]:
                    self.twice += 1
                continue
            self.twice += whole in self.sent_once
            self.sent_once[whole] = sequence
            self.stored[sequence] = (frame.recipient, frame.content)
            self.acknowledged += 1
            sequence += 1

    def _delete(self, user: bytes, first: int, last: int) -> None:
        self.deleted |= set(self._of(user, first, last))

    def _of(self, user: bytes, first: int, last: int) -> list[int]:
        return [n for n, (recipient, _) in self.stored.items() if recipient == user and first <= n <= last]

    # --- after a break
    # -----------------------------------------------------------------------------------------

    def resume(self, worker: SqliteWorker) -> None:
        """The next worker: what was on its way is sent once more, as a gateway does."""
        assert self.gateway
        self.gateway.worker = worker
        self.leased.clear()
        while self.pending:
            answers = worker.handle(self.pending[0])
            if not answers or not isinstance(answers[0], Reply):
                break
            self._answered(answers[0].outcomes)

    def check(self, worker: SqliteWorker) -> Findings:
        """Compare what is there with what was acknowledged; reads through a gateway of its own."""
        found: dict[int, tuple[bytes, bytes]] = {}
        reader = Gateway(worker, slot=7, incarnation=self._chance.randbytes(16))
        for user in self.users:
            page = reader.one(PullPage(user, True, 0, 0, END, 2**30))
            if isinstance(page, Page):
                found |= {piece.sequence: (user, piece.content) for piece in pieces(page.page)}
        unknown: set[int] = set()
        maybe: set[bytes] = set()
        for operation in [operation for batch in self.pending for operation in batch.operations]:
            match operation:
                case StoreMessage():
                    maybe.add(operation.content)
                case StoreMessages():
                    maybe |= {frame.content for frame in walk_frames(operation.frames)}
                case StoreMessagesOnce():
                    maybe |= {frame.content for frame in walk_frames_once(operation.frames)}
                case CommitUpload():
                    maybe |= {content for _, content in found.values() if len(content) > 0}
                case Settle():
                    unknown |= set(self._of(operation.requester, operation.first, operation.last))
                case Fetch():
                    unknown |= set(self._of(operation.requester, 0, operation.ack))
                case _:
                    pass
        wanted = self.stored.keys() - self.deleted
        lost = {n for n in wanted - unknown if found.get(n) != self.stored[n]}
        unexpected = {n for n in found.keys() - self.stored.keys() if found[n][1] not in maybe}
        keys = self._check_keys(worker)
        return Findings(
            len(lost) + keys.lost,
            len(self.deleted & found.keys()) + keys.returned + self.twice,
            len(unexpected) + keys.unexpected,
        )

    def _check_keys(self, worker: SqliteWorker) -> Findings:
        """The same of one-time keys."""
        owner = worker.users.find(self.users[0])
        there = None if owner is None else worker.engine.keys.find(owner.row)
        kept = set() if there is None else set(_one_by_one(there.one_time_keys))
        unanswered = [operation for batch in self.pending for operation in batch.operations]
        maybe = {key for one in unanswered if isinstance(one, PublishKeys) for key in _one_by_one(one.one_time_keys)}
        taken = sum(isinstance(one, ClaimKey) for one in unanswered)
        gone = self.published - self.claimed.keys() - kept
        twice = [key for key, times in self.claimed.items() if times > 1 or key in kept]
        unknown = (kept | self.claimed.keys()) - self.published - maybe
        return Findings(max(0, len(gone) - taken), len(twice), len(unknown))


def _one_by_one(keys: bytes) -> list[bytes]:
    return [keys[at : at + 96] for at in range(0, len(keys), 96)]
