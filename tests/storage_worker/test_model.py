"""The worker's rules against a dictionary: any mixture of operations, resends, restarts and full
disks.

The machine asks through a gateway's batches, as the gateway does, and predicts every outcome. After
each step it reads all mailboxes and compares.
"""

import tempfile
from abc import abstractmethod
from itertools import count
from pathlib import Path
from typing import ClassVar, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    KeyClaimed,
    KeysKept,
    ListUsers,
    MarkAuthenticated,
    Operation,
    Outcome,
    Page,
    PublishKeys,
    Pull,
    Pulled,
    PullPage,
    Refused,
    Register,
    Registered,
    Release,
    SetBlock,
    Settle,
    Stored,
    StoreMessage,
    UploadProgress,
    UploadUnknown,
    UsersPage,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.memory import Disk
from storage_worker.engine.values import Identity
from storage_worker.rules.admission import Limits
from storage_worker.rules.answers import RETRY_AFTER
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import (
    Gateway,
    MemoryWorker,
    PostgresWorker,
    SqliteWorker,
    WorkerUnderTest,
    pieces,
)

NAMES = ["alice", "bob", "carol", "dave"]
KEYS = [bytes(160), bytes([1]) * 160]
TOKENS = [bytes([number]) * 16 for number in range(4)]
END = 2**63 - 1
MAILBOX_MESSAGES = 12
TURN_MS = 2000
LIMITS = Limits(largest_message=299_999, mailbox_messages=MAILBOX_MESSAGES, sender_share=25)
SHARE = 3
"""Of a mailbox with more than six."""
FULL = Refused(Reason.STORAGE_FULL, RETRY_AFTER)

people = st.integers(0, len(NAMES) - 1)
small = st.binary(max_size=6)
contents = st.one_of(small, small, st.sampled_from([70_000, 300_000]).map(bytes))
tokens = st.none() | st.sampled_from(TOKENS)


class User:
    def __init__(self, client_id: bytes, key: bytes) -> None:
        self.client_id = client_id
        self.key = key
        self.must_authenticate = False
        self.mailbox: dict[int, tuple[bytes, int, bytes, bool]] = {}
        self.sent: dict[bytes, tuple[bytes, int, bytes, int]] = {}
        self.blocked: set[bytes] = set()
        self.bundle = b""
        self.one_time: list[bytes] = []
        self.publication: PublishKeys | None = None


class Lease(NamedTuple):
    number: int
    user: User
    first: int
    last: int
    authenticated: bool


def no_room(sender: User, receiver: User) -> Refused | None:
    """Why a mailbox takes no more of this sender."""
    waiting = len(receiver.mailbox)
    if waiting >= MAILBOX_MESSAGES:
        return Refused(Reason.MAILBOX_FULL, RETRY_AFTER)
    mine = sum([message[0] == sender.client_id for message in receiver.mailbox.values()])
    if waiting >= MAILBOX_MESSAGES // 2 and mine >= SHARE:
        return Refused(Reason.SENDER_SHARE, RETRY_AFTER)
    return None


class WorkerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lives = count(1)
        self.numbers = count(1)
        self.users: dict[str, User] = {}
        self.leases: dict[int, Lease] = {}
        self.ended: list[Lease] = []
        self.highest = 0
        self.now_ms = 10**9
        self.last: tuple[list[Operation], list[Outcome]] | None = None
        self.open()
        self.gateway = Gateway(self.worker)

    def open(self) -> None:
        self.worker = self.new_life(next(self.lives) * 1_000_000)

    @abstractmethod
    def new_life(self, seed: int) -> WorkerUnderTest:
        """The next worker on the same store."""

    def teardown(self) -> None:
        self.worker.kill()

    # --- asking
    # ----------------------------------------------------------------------------------------------

    def ask(self, *operations: Operation) -> list[Outcome]:
        self.worker.now_ms += TURN_MS
        outcomes = self.gateway.ask(*operations)
        self.last = (list(operations), outcomes)
        return outcomes

    def user(self, person: int) -> User | None:
        return self.users.get(NAMES[person])

    def id_of(self, person: int) -> bytes:
        user = self.user(person)
        return user.client_id if user else bytes([person]) * 16

    def name_refusal(self, person: int, authenticated: bool) -> Refused | None:
        user = self.user(person)
        if user is None:
            return Refused(Reason.REQUESTER_UNKNOWN)
        return Refused(Reason.PROOF_NEEDED) if user.must_authenticate and not authenticated else None

    # --- rules
    # ----------------------------------------------------------------------------------------------

    @rule(person=people, key=st.sampled_from(KEYS), again=st.booleans())
    def register(self, person: int, key: bytes, again: bool) -> None:
        [outcome] = self.ask(Register(NAMES[person], key, again))
        user = self.user(person)
        if user is None:
            assert isinstance(outcome, Registered)
            self.users[NAMES[person]] = User(outcome.client_id, key)
        elif again and key == user.key:
            assert outcome == Registered(user.client_id)
        else:
            assert outcome == Refused(Reason.NAME_TAKEN)

    @rule(person=people, authenticated=st.booleans())
    def list_users(self, person: int, authenticated: bool) -> None:
        [outcome] = self.ask(ListUsers(self.id_of(person), authenticated))
        refusal = self.name_refusal(person, authenticated)
        if refusal:
            assert outcome == refusal
        else:
            assert isinstance(outcome, UsersPage)
            found = [(entry.name, entry.client_id) for entry in outcome.users]
            assert found == [(name, user.client_id) for name, user in self.users.items() if name != NAMES[person]]

    def predict_send(
        self, person: int, recipient: int, authenticated: bool, kind: int, content: bytes, token: bytes | None
    ) -> Outcome:
        """What a send answers, with its effect on the model."""
        refusal = self.name_refusal(person, authenticated)
        if refusal:
            return refusal
        sender, receiver = self.user(person), self.user(recipient)
        assert sender
        if token is not None and not authenticated:
            return Refused(Reason.PROOF_NEEDED)
        if receiver is None:
            return Refused(Reason.RECIPIENT_UNKNOWN)
        if kind == 9 or (kind == 5 and token is None):
            return Refused(Reason.MALFORMED)
        if len(content) > 299_999:
            return Refused(Reason.TOO_LARGE)
        if token in sender.sent:
            *same, sequence = sender.sent[token]
            return Stored(sequence) if same == [receiver.client_id, kind, content] else Refused(Reason.TOKEN_REUSED)
        if kind == 5 and not (receiver.bundle and receiver.must_authenticate):
            return Refused(Reason.NO_KEYS)
        refused = no_room(sender, receiver)
        if refused:
            return refused
        self.highest += 1
        if sender.client_id not in receiver.blocked:
            receiver.mailbox[self.highest] = (sender.client_id, kind, content, authenticated)
        if token is not None:
            sender.sent[token] = (receiver.client_id, kind, content, self.highest)
        return Stored(self.highest)

    @rule(
        sends=st.lists(
            st.tuples(people, people, st.booleans(), st.sampled_from([1, 3, 5, 5, 9]), contents, tokens),
            min_size=1,
            max_size=5,
        )
    )
    def send(self, sends: list[tuple[int, int, bool, int, bytes, bytes | None]]) -> None:
        outcomes = self.ask(
            *[
                StoreMessage(self.id_of(sender), authenticated, self.id_of(recipient), kind, content, token)
                for sender, recipient, authenticated, kind, content, token in sends
            ]
        )
        assert outcomes == [self.predict_send(*send) for send in sends]

    @rule(
        person=people,
        recipient=people,
        authenticated=st.booleans(),
        content=contents,
        token=tokens,
        cut=st.integers(0, 8),
    )
    def upload(
        self, person: int, recipient: int, authenticated: bool, content: bytes, token: bytes | None, cut: int
    ) -> None:
        number = next(self.numbers)
        begun, *_, outcome = self.ask(
            BeginUpload(number, self.id_of(person), authenticated, self.id_of(recipient), 4, len(content), token),
            Chunk(number, content[:cut]),
            Chunk(number, content[cut:]),
            CommitUpload(number),
        )
        sender, receiver = self.user(person), self.user(recipient)
        known = sender is not None and token is not None and token in sender.sent
        if known and sender and receiver and no_room(sender, receiver) and authenticated and len(content) < 300_000:
            # A token that was used is known by its content only, so a full mailbox is seen first.
            assert begun == no_room(sender, receiver)
            return
        expected = self.predict_send(person, recipient, authenticated, 4, content, token)
        if isinstance(begun, UploadProgress):
            assert outcome == expected
        else:
            assert begun == expected
            assert outcome == UploadUnknown()

    @rule(person=people, sender=people, authenticated=st.sampled_from([True, True, False]), blocked=st.booleans())
    def block(self, person: int, sender: int, authenticated: bool, blocked: bool) -> None:
        [outcome] = self.ask(SetBlock(self.id_of(person), authenticated, self.id_of(sender), blocked))
        refusal = self.name_refusal(person, authenticated) or (None if authenticated else Refused(Reason.PROOF_NEEDED))
        if refusal is None and self.user(sender) is None:
            refusal = Refused(Reason.RECIPIENT_UNKNOWN)
        if refusal is None and blocked and sender == person:
            refusal = Refused(Reason.MALFORMED)
        if refusal:
            assert outcome == refusal
            return
        assert outcome == Done()
        user = self.user(person)
        assert user
        (user.blocked.add if blocked else user.blocked.discard)(self.id_of(sender))

    @rule(
        person=people,
        authenticated=st.sampled_from([True, True, False]),
        forget=st.booleans(),
        bundle=st.sampled_from([b"one", b"two"]),
        numbers=st.lists(st.integers(0, 9), max_size=4),
    )
    def publish(self, person: int, authenticated: bool, forget: bool, bundle: bytes, numbers: list[int]) -> None:
        keys = [bytes([number]) * 96 for number in numbers]
        request = PublishKeys(self.id_of(person), authenticated, forget, bundle, b"".join(keys))
        [outcome] = self.ask(request)
        refusal = self.name_refusal(person, authenticated) or (None if authenticated else Refused(Reason.PROOF_NEEDED))
        if refusal:
            assert outcome == refusal
            return
        user = self.user(person)
        assert user
        asks_alone = not forget and not keys and user.bundle == bundle
        if not asks_alone and request != user.publication:
            user.bundle, user.publication = bundle, request
            user.one_time = list(dict.fromkeys([*([] if forget else user.one_time), *keys]))
        assert outcome == KeysKept(len(user.one_time))

    @rule(person=people, subject=people, authenticated=st.sampled_from([True, True, False]), one_time=st.booleans())
    def claim(self, person: int, subject: int, authenticated: bool, one_time: bool) -> None:
        [outcome] = self.ask(ClaimKey(self.id_of(person), authenticated, self.id_of(subject), one_time))
        refusal = self.name_refusal(person, authenticated) or (None if authenticated else Refused(Reason.PROOF_NEEDED))
        user = self.user(subject)
        if refusal is None and user is None:
            refusal = Refused(Reason.RECIPIENT_UNKNOWN)
        if refusal or user is None:
            assert outcome == refusal
        elif not (user.bundle and user.must_authenticate):
            assert outcome == Refused(Reason.NO_KEYS)
        else:
            given = user.one_time.pop(0) if one_time and user.one_time else b""
            assert outcome == KeyClaimed(user.bundle, given)

    @rule(person=people, authenticated=st.booleans(), max_bytes=st.sampled_from([0, 60, 100_000, END]))
    def fetch(self, person: int, authenticated: bool, max_bytes: int) -> None:
        number = next(self.numbers)
        [outcome] = self.ask(Pull(number, self.id_of(person), authenticated, max_bytes, 25, 2**20))
        refusal = self.name_refusal(person, authenticated)
        if refusal:
            assert outcome == refusal
            return
        user = self.user(person)
        assert user
        hidden = [lease for lease in self.leases.values() if lease.user is user]
        expected: list[int] = []
        total = 0
        for sequence, (_, kind, content, _) in sorted(user.mailbox.items()):
            if kind == 5:
                if expected:
                    break
                continue
            if any(lease.first <= sequence <= lease.last for lease in hidden):
                if expected:
                    break
                continue
            if expected and any(expected[0] < lease.first < sequence for lease in hidden):
                break
            total += len(content) + 25
            if expected and total > max_bytes:
                break
            expected.append(sequence)
        assert isinstance(outcome, Pulled)
        assert outcome.count == len(expected)
        assert outcome.content_bytes == sum(len(user.mailbox[sequence][2]) for sequence in expected)
        assert {piece.sequence for piece in pieces(outcome.page)} <= set(expected)
        if expected:
            assert (outcome.first, outcome.last) == (expected[0], expected[-1])
            self.leases[number] = Lease(number, user, outcome.first, outcome.last, authenticated)

    @precondition(lambda self: self.leases or self.ended)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from([*self.leases.values(), *self.ended]))
        [outcome] = self.ask(Settle(lease.number, lease.user.client_id, lease.authenticated, lease.first, lease.last))
        assert outcome == Done()
        self.leases.pop(lease.number, None)
        if lease.authenticated or not lease.user.must_authenticate:
            for sequence in [s for s in lease.user.mailbox if lease.first <= s <= lease.last]:
                del lease.user.mailbox[sequence]

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.leases)))
        assert self.ask(Release(number)) == [Done()]
        self.ended.append(self.leases.pop(number))

    @rule(person=people, authenticated=st.booleans(), ack=st.integers(0, 40), max_bytes=st.sampled_from([0, 120, END]))
    def fetch_after(self, person: int, authenticated: bool, ack: int, max_bytes: int) -> None:
        [outcome] = self.ask(Fetch(self.id_of(person), authenticated, ack, max_bytes, 54, 2**20, False))
        refusal = self.name_refusal(person, authenticated) or (None if authenticated else Refused(Reason.PROOF_NEEDED))
        if refusal is None and ack > self.highest:
            refusal = Refused(Reason.MALFORMED)
        if refusal:
            assert outcome == refusal
            return
        user = self.user(person)
        assert user
        for sequence in [sequence for sequence in user.mailbox if sequence <= ack]:
            del user.mailbox[sequence]
        expected: list[int] = []
        total = 0
        for sequence in sorted(user.mailbox):
            total += len(user.mailbox[sequence][2]) + 54
            if expected and total > max_bytes:
                break
            expected.append(sequence)
        assert isinstance(outcome, Fetched)
        assert outcome.count == len(expected)
        assert outcome.last == (expected[-1] if expected else 0)
        assert outcome.committed == self.highest

    @rule(person=people)
    def prove(self, person: int) -> None:
        [outcome] = self.ask(MarkAuthenticated(self.id_of(person)))
        user = self.user(person)
        if user is None:
            assert outcome == Refused(Reason.REQUESTER_UNKNOWN)
            return
        assert outcome == Done()
        user.must_authenticate = True
        for lease in [lease for lease in self.leases.values() if lease.user is user and not lease.authenticated]:
            self.ended.append(self.leases.pop(lease.number))

    # --- what may happen to a worker
    # ---------------------------------------------------------------------------

    @precondition(lambda self: self.last)
    @rule()
    def resend(self) -> None:
        assert self.last
        operations, outcomes = self.last
        again = self.gateway.resend()
        for operation, first, second in zip(operations, outcomes, again, strict=True):
            if isinstance(operation, Pull) and isinstance(second, Pulled) and second.count:
                # Where the worker forgot the lease it is taken anew, and may be another interval.
                user = next(user for user in self.users.values() if user.client_id == operation.requester)
                self.leases[operation.lease] = Lease(
                    operation.lease, user, second.first, second.last, operation.authenticated
                )
            elif not isinstance(operation, Pull | Fetch | ListUsers):
                assert first == second

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        self.now_ms = self.worker.now_ms
        if orderly:
            self.worker.close()
        else:
            self.worker.kill()
        self.open()
        # After an orderly end the numbers go on; after a death they go on above all that was
        # reserved.
        highest = self.worker.rules.highest
        assert highest == self.highest if orderly else highest >= self.highest
        self.highest = highest
        self.gateway.worker = self.worker
        self.ended += self.leases.values()
        self.leases.clear()

    @rule()
    def greet(self) -> None:
        self.gateway = Gateway(self.worker)
        self.last = None
        self.ended += self.leases.values()
        self.leases.clear()

    @rule(person=people, recipient=people, room=st.integers(0, 40))
    def full(self, person: int, recipient: int, room: int) -> None:
        """The engine finds no room, in the middle of a batch that also releases leases."""
        self.worker.limit_room(room)
        send = (person, recipient, True, 3, bytes(60_000), None)
        released = sorted(self.leases)
        outcomes = self.ask(
            *[Release(number) for number in released],
            *[StoreMessage(self.id_of(person), True, self.id_of(recipient), 3, bytes(60_000))] * 3,
        )
        self.worker.limit_room(None)
        self.ended += [self.leases.pop(number) for number in released]
        sent = outcomes[len(released) :]
        if FULL in sent:
            assert sent == [FULL] * 3
        else:
            assert sent == [self.predict_send(*send) for _ in range(3)]

    @rule(person=people, recipient=people)
    def below_the_mark(self, person: int, recipient: int) -> None:
        self.worker.admit(mail=False)
        [outcome] = self.ask(StoreMessage(self.id_of(person), True, self.id_of(recipient), 3, b"x"))
        self.worker.admit(mail=True)
        if self.user(person) is None:
            assert outcome == Refused(Reason.REQUESTER_UNKNOWN)
        elif self.user(recipient) is None:
            assert outcome == Refused(Reason.RECIPIENT_UNKNOWN)
        else:
            assert outcome == FULL

    # --- what must hold
    # ----------------------------------------------------------------------------------------

    @invariant()
    def mailboxes_are_as_they_should_be(self) -> None:
        users = list(self.users.values())
        self.worker.now_ms += 2000
        last_batch = self.gateway.last_batch
        reader = Gateway(self.worker, slot=1)
        outcomes = reader.ask(*[PullPage(user.client_id, True, 0, 0, END, 2**30) for user in users])
        self.gateway.last_batch = last_batch
        for user, outcome in zip(users, outcomes, strict=True):
            assert isinstance(outcome, Page)
            found = {
                piece.sequence: (piece.sender, piece.kind, piece.content, piece.authenticated)
                for piece in pieces(outcome.page)
            }
            assert found == user.mailbox
            assert list(found) == sorted(found)


class SqliteMachine(WorkerMachine):
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__()

    def new_life(self, seed: int) -> SqliteWorker:
        return SqliteWorker(Path(self.folder.name), limits=LIMITS, min_free_bytes=1000, seed=seed, now_ms=self.now_ms)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class MemoryMachine(WorkerMachine):
    def __init__(self) -> None:
        self.disk = Disk(Identity(bytes(16), 1))
        super().__init__()

    def new_life(self, seed: int) -> MemoryWorker:
        return MemoryWorker(self.disk, limits=LIMITS, seed=seed, now_ms=self.now_ms)


class PostgresWorkerOfTheModel(PostgresWorker):
    def admit(self, *, mail: bool) -> None:
        """For the next turn, which is later."""
        if not mail:
            self.engine.found_full(self.now_ms + TURN_MS)


class PostgresMachine(WorkerMachine):
    """Flushes are slow: some turns go by while one is under way."""

    server: ClassVar[PostgresServer]

    def __init__(self) -> None:
        self.url = self.server.empty_database()
        super().__init__()

    def new_life(self, seed: int) -> PostgresWorker:
        return PostgresWorkerOfTheModel(self.url, patience=9, limits=LIMITS, seed=seed, now_ms=self.now_ms)


SETTINGS = settings(max_examples=20, stateful_step_count=30)
TestWorker = SqliteMachine.TestCase
TestWorker.settings = SETTINGS
TestWorkerInMemory = MemoryMachine.TestCase
TestWorkerInMemory.settings = SETTINGS


def test_worker_over_postgres(postgres: PostgresServer) -> None:
    PostgresMachine.server = postgres
    run_state_machine_as_test(PostgresMachine, settings=SETTINGS)
