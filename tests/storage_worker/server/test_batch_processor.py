"""Greetings, numbers, resends, refused batches: every row of the storage protocol."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import FrameUndecodable
from common.storage_protocol.frames import (
    Batch,
    BatchRefused,
    GreetAgain,
    Hello,
    Reply,
    Superseded,
    UndecodableBatch,
    Welcome,
    decode_to_worker,
    encode_batch,
)
from common.storage_protocol.operations import (
    NO_MAIL,
    Done,
    Fetch,
    ListUsers,
    MarkAuthenticated,
    Operation,
    Pull,
    Pulled,
    Refused,
    Register,
    Registered,
    Release,
    Settle,
    Stored,
    StoreMessage,
    UploadUnknown,
    UsersPage,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.values import Admission, Capacity
from storage_worker.rules.rules import Rules
from storage_worker.server.batch_processor import EARLIER_KEPT, Inbound
from tests.storage_worker.worker_under_test import KEY, TO_VERSION_5, Gateway, SqliteWorker, the_one

Open = Callable[..., SqliteWorker]


def hello(number: int, slot: int = 0) -> Hello:
    return Hello(slot, number.to_bytes(16, "big"))


def epoch_of(answer: object) -> int:
    assert isinstance(answer, Welcome), answer
    return answer.epoch


def message_count(worker: SqliteWorker) -> int:
    worker.flush()
    return sum(load.messages for load in MailPages(worker.database).loads().values())


class TestGreeting:
    def test_welcome_tells_the_store(self, worker: SqliteWorker) -> None:
        [welcome] = worker.handle(hello(7))
        assert isinstance(welcome, Welcome)
        assert welcome[:4] == (0, 1, hello(7).incarnation, worker.incarnation)
        assert welcome.facts.server_id == worker.facts.server_id
        assert (welcome.facts.generation, welcome.facts.committed) == (1_000_000, 0)

    def test_committed_grows(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a", b"b")
        [welcome] = worker.handle(hello(8))
        assert isinstance(welcome, Welcome)
        assert welcome.facts.committed == 2

    def test_every_greeting_is_an_epoch_also_after_a_restart(self, open_worker: Open) -> None:
        worker = open_worker()
        assert [epoch_of(worker.handle(hello(n))[0]) for n in (1, 2)] == [1, 2]
        worker.kill()
        assert epoch_of(open_worker().handle(hello(3))[0]) == 3

    def test_a_resent_greeting_is_answered_and_makes_no_epoch(self, open_worker: Open) -> None:
        worker = open_worker()
        assert [epoch_of(answer) for answer in worker.handle(hello(1), hello(1))] == [1, 1]
        worker.kill()
        assert epoch_of(open_worker().handle(hello(1))[0]) == 1

    def test_a_resent_greeting_ends_nothing(self, worker: SqliteWorker) -> None:
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        lease = Pull(1, alice, False, 100, 25, 100)
        gateway.ask(lease)
        worker.handle(Hello(0, gateway.incarnation))
        outcome = gateway.one(Pull(2, alice, False, 100, 25, 100))
        assert isinstance(outcome, Pulled)
        assert outcome.count == 0

    def test_a_late_copy_of_an_earlier_greeting_takes_nothing(self, worker: SqliteWorker) -> None:
        worker.handle(hello(1))
        worker.handle(hello(2))
        assert worker.handle(hello(1)) == []
        [answer] = worker.handle(Batch(0, 2, 1, []))
        assert isinstance(answer, Reply)

    def test_as_many_earlier_greetings_as_are_kept(self, worker: SqliteWorker) -> None:
        for number in range(EARLIER_KEPT + 2):
            worker.handle(hello(number))
        assert worker.handle(hello(1)) == []
        assert epoch_of(worker.handle(hello(0))[0]) == EARLIER_KEPT + 3

    def test_slots_are_apart(self, worker: SqliteWorker) -> None:
        assert epoch_of(worker.handle(hello(1))[0]) == 1
        assert epoch_of(worker.handle(hello(2, slot=1))[0]) == 1
        [answer] = worker.handle(Batch(0, 1, 1, []))
        assert isinstance(answer, Reply)


class TestNumbers:
    def test_never_greeted(self, worker: SqliteWorker) -> None:
        assert the_one(GreetAgain, worker.handle(Batch(0, 1, 1, []))) == GreetAgain(0, 1, 1)

    @pytest.mark.parametrize("number", [0, 2, 3, 2**64 - 1])
    def test_a_number_that_is_not_the_next(self, worker: SqliteWorker, gateway: Gateway, number: int) -> None:
        answers = worker.handle(Batch(0, 1, number, [Register("alice", KEY)]))
        if number == 0:
            assert answers == []
        else:
            assert the_one(GreetAgain, answers) == GreetAgain(0, 1, number)
        assert worker.database.find("SELECT 1 FROM user") is None

    def test_a_late_copy_of_an_older_number_is_ignored(self, worker: SqliteWorker, gateway: Gateway) -> None:
        first = gateway.next_batch(Register("alice", KEY))
        gateway.send(first)
        for name in ("bob", "carol"):
            assert worker.handle(first) != []
            gateway.ask(Register(name, KEY))
        assert worker.handle(first) == []

    def test_one_that_came_before_its_predecessor_has_its_place_behind_it(
        self, worker: SqliteWorker, gateway: Gateway
    ) -> None:
        first, second = (gateway.next_batch(Register(name, KEY)) for name in ("alice", "bob"))
        assert the_one(GreetAgain, worker.handle(second)) == GreetAgain(0, 1, 2)
        assert [type(answer) for answer in worker.handle(first, second)] == [Reply, Reply]

    def test_an_epoch_nobody_was_given(self, worker: SqliteWorker, gateway: Gateway) -> None:
        assert the_one(GreetAgain, worker.handle(Batch(0, 2, 1, []))) == GreetAgain(0, 2, 1)

    def test_a_batch_of_a_past_epoch_is_not_read(self, worker: SqliteWorker, gateway: Gateway) -> None:
        late = gateway.next_batch(Register("alice", KEY))
        Gateway(worker)
        assert the_one(Superseded, worker.handle(late)) == Superseded(0, 1)
        assert the_one(Superseded, worker.handle(UndecodableBatch(0, 1, 1, ""))) == Superseded(0, 1)
        assert worker.database.find("SELECT 1 FROM user") is None

    def test_several_batches_in_one_drain(self, worker: SqliteWorker, gateway: Gateway) -> None:
        batches = [gateway.next_batch(Register(name, KEY)) for name in ("alice", "bob")]
        first, second = worker.handle(*batches)
        assert isinstance(first, Reply)
        assert isinstance(second, Reply)
        assert (first.number, second.number) == (1, 2)

    def test_answers_go_to_who_asked(self, worker: SqliteWorker) -> None:
        answers = worker.answers([Inbound(b"a", hello(1)), Inbound(b"b", hello(2, slot=1))])
        assert [answer.peer for answer in answers] == [b"a", b"b"]

    def test_hints_go_where_the_slot_was_heard_last(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(Fetch(alice, True, 0, 100, 54, 100, True))
        batch = gateway.next_batch(StoreMessage(alice, True, alice, 3, b"x"))
        _, notice = worker.answers([Inbound(b"reconnected", batch)])
        assert notice.peer == b"reconnected"

    def test_also_where_that_was_a_batch_that_makes_no_sense(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(Fetch(alice, True, 0, 100, 54, 100, True))
        worker.answers([Inbound(b"reconnected", UndecodableBatch(0, 1, gateway.number + 1, ""))])
        other = Gateway(worker, slot=1)
        _, notice = worker.answers([Inbound(b"other", other.next_batch(StoreMessage(alice, True, alice, 3, b"x")))])
        assert notice.peer == b"reconnected"

    def test_a_hint_for_a_slot_that_was_not_heard_since_the_start_is_dropped(self, open_worker: Open) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        worker.kill()
        worker = open_worker()
        worker.rules.begin(0, Capacity(Admission.OPEN, 0, is_damaged=False))
        worker.rules.apply(9, [Fetch(alice, True, 0, 100, 54, 100, True)])
        gateway.worker = worker
        gateway.store(alice, alice, b"x")
        assert gateway.arrived == []


class TestQuestion:
    """An empty batch, as a gateway sends it whose batch ended the worker twice: was it done?"""

    def test_what_was_not_done_never_will_be(self, open_worker: Open) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        lost = gateway.next_batch(StoreMessage(alice, False, bob, 3, b"x"))
        question = Batch(lost.slot, lost.epoch, lost.number, [])
        for _ in range(2):
            assert gateway.send(question) == []
            worker.kill()
            worker = gateway.worker = open_worker()
        assert worker.handle(lost) == [GreetAgain(lost.slot, lost.epoch, lost.number)]
        assert message_count(worker) == 0
        assert len(gateway.store(alice, bob, b"x")) == message_count(worker) == 1

    def test_what_was_done_is_not_answered(self, open_worker: Open) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        batch = gateway.next_batch(StoreMessage(alice, False, bob, 3, b"x"))
        gateway.send(batch)
        question = Batch(batch.slot, batch.epoch, batch.number, [])
        assert worker.handle(question) == [GreetAgain(batch.slot, batch.epoch, batch.number)]
        assert message_count(worker) == 1


class TestResend:
    @pytest.mark.parametrize("restart", [False, True])
    def test_changes_nothing_and_is_answered_the_same(self, open_worker: Open, restart: bool) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"before")
        batch = gateway.next_batch(
            StoreMessage(alice, False, bob, 3, b"x"),
            ListUsers(alice, False),
            Register("carol", KEY),
            Register("carol", KEY),
            Pull(1, bob, False, 1000, 25, 1000),
            Settle(7, bob, False, 1, 1),
        )
        first = gateway.send(batch)
        assert isinstance(first[0], Stored)
        assert first[3] == Refused(Reason.NAME_TAKEN)
        if restart:
            worker.kill()
            worker = gateway.worker = open_worker()
        before = message_count(worker)
        second = gateway.send(batch)
        assert message_count(worker) == before
        assert [first[n] for n in (0, 2, 3, 5)] == [second[n] for n in (0, 2, 3, 5)]
        page = second[1]
        assert isinstance(page, UsersPage)
        assert page.count == 2, "reads are computed again"
        leased = second[4]
        assert isinstance(leased, Pulled)
        assert leased.last == 2

    @pytest.mark.parametrize("restart", ["no", "from the journal", "from the database"])
    def test_the_last_two_are_answered_the_same(self, open_worker: Open, restart: str) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        batches = [gateway.next_batch(StoreMessage(alice, False, bob, 3, content)) for content in (b"x", b"y")]
        firsts = [gateway.send(batch) for batch in batches]
        if restart != "no":
            if restart == "from the database":
                worker.flush()
            worker.kill()
            worker = gateway.worker = open_worker()
        assert [gateway.send(batch) for batch in batches] == firsts
        assert message_count(worker) == 2
        assert isinstance(gateway.one(StoreMessage(alice, False, bob, 3, b"z")), Stored)

    def test_what_a_store_of_the_last_schema_did_not_keep_is_unknown(self, open_worker: Open) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        before, last = (gateway.next_batch(StoreMessage(alice, False, alice, 3, content)) for content in (b"x", b"y"))
        gateway.send(before)
        outcomes = gateway.send(last)
        worker.flush()
        list(worker.database.execute(f"{TO_VERSION_5} ALTER TABLE slot DROP COLUMN before; PRAGMA user_version = 2"))
        list(
            worker.database.execute("ALTER TABLE mail_page DROP COLUMN checksum; ALTER TABLE store DROP COLUMN journal")
        )
        worker.kill()
        worker = gateway.worker = open_worker()
        # It was done, so "not done" would be wrong.
        assert the_one(GreetAgain, worker.handle(before)) == GreetAgain(0, 1, before.number)
        assert gateway.send(last) == outcomes

    def test_three_times(self, gateway: Gateway) -> None:
        gateway.ask(Register("alice", KEY))
        assert gateway.resend() == gateway.resend()

    def test_after_new_mail_came_for_others(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        batch = gateway.next_batch(StoreMessage(alice, False, bob, 3, b"x"))
        first = gateway.send(batch)
        other = Gateway(worker, slot=1)
        other.store(alice, bob, b"y")
        assert gateway.send(batch) == first

    def test_an_ended_lease_stays_ended(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        for end in (Release(1), Settle(1, alice, False, 9, 9)):
            gateway.ask(Pull(1, alice, False, 100, 25, 100), end)
            gateway.resend()
            outcome = gateway.one(Pull(2, alice, False, 100, 25, 100))
            assert isinstance(outcome, Pulled)
            assert outcome.count == 1, end
            gateway.ask(Release(2))

    @pytest.mark.parametrize("batches", [1, 2])
    def test_a_fetch_that_found_nothing_takes_nothing_when_it_comes_again(
        self, worker: SqliteWorker, gateway: Gateway, batches: int
    ) -> None:
        alice, bob = gateway.register("alice", "bob")
        # The mail comes behind the fetch, in the same batch or in the one that is on its way with
        # it.
        fetch, send = Pull(1, bob, False, 100, 25, 100), StoreMessage(alice, False, bob, 3, b"x")
        groups: list[list[Operation]] = [[fetch, send]] if batches == 1 else [[fetch], [send]]
        messages = [gateway.next_batch(*group) for group in groups]
        first, *_, again = worker.handle(*messages, messages[0])
        assert isinstance(first, Reply)
        assert first.outcomes[0] == Pulled(0, 0, 0, 0, NO_MAIL)
        assert again == first
        outcome = gateway.one(Pull(2, bob, False, 100, 25, 100))
        assert isinstance(outcome, Pulled)
        assert outcome.count == 1, "no lease that nobody will end hides it"

    def test_a_lease_of_which_nothing_is_left_is_none(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        lease = gateway.next_batch(Pull(1, alice, False, 100, 25, 100))
        gateway.send(lease)
        gateway.ask(Fetch(alice, True, 1, 100, 54, 100, False))
        assert gateway.send(lease) == [Pulled(0, 0, 0, 0, NO_MAIL)]
        assert len(worker.rules.leases) == 0

    def test_in_one_drain_with_the_first(self, worker: SqliteWorker, gateway: Gateway) -> None:
        batch = gateway.next_batch(Register("alice", KEY))
        first, second = worker.handle(batch, batch)
        assert first == second

    def test_with_other_operations_is_no_resend(
        self, worker: SqliteWorker, gateway: Gateway, caplog: pytest.LogCaptureFixture
    ) -> None:
        gateway.ask(Register("alice", KEY))
        assert the_one(GreetAgain, worker.handle(Batch(0, 1, 1, []))) == GreetAgain(0, 1, 1)
        assert not any(record.exc_info for record in caplog.records), "nothing failed, so nothing of others is undone"

    def test_kept_outcomes_that_are_damaged_are_a_failure_of_that_batch_alone(
        self, worker: SqliteWorker, gateway: Gateway
    ) -> None:
        batch = gateway.next_batch(Register("alice", KEY))
        gateway.send(batch)
        worker.database.execute("UPDATE slot SET outcomes = x'ff'")
        worker.engine.slots.forget()
        assert the_one(GreetAgain, worker.handle(batch)) == GreetAgain(0, 1, 1)


class TestUndecodable:
    def undecodable(self, gateway: Gateway) -> UndecodableBatch:
        frame = encode_batch(gateway.next_batch(Register("alice", KEY)))
        message = decode_to_worker(frame[:-1])
        assert isinstance(message, UndecodableBatch)
        return message

    @pytest.mark.parametrize("restart", [False, True])
    def test_uses_its_number_up_also_when_it_comes_again(self, open_worker: Open, restart: bool) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        bad = self.undecodable(gateway)
        assert the_one(BatchRefused, worker.handle(bad)) == BatchRefused(0, 1, 1)
        if restart:
            worker.kill()
            worker = gateway.worker = open_worker()
        assert the_one(BatchRefused, worker.handle(bad)) == BatchRefused(0, 1, 1)
        assert the_one(BatchRefused, worker.handle(Batch(0, 1, 1, []))) == BatchRefused(0, 1, 1)
        assert isinstance(gateway.one(Register("alice", KEY)), Registered)
        assert the_one(BatchRefused, worker.handle(bad)) == BatchRefused(0, 1, 1)
        assert isinstance(gateway.one(Register("bob", KEY)), Registered)
        assert worker.handle(bad) == []

    def test_is_logged_as_a_bug(self, worker: SqliteWorker, gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
        worker.handle(self.undecodable(gateway))
        [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "batch 1 is refused, which is a bug" in record.getMessage()

    def test_out_of_order(self, worker: SqliteWorker, gateway: Gateway) -> None:
        assert the_one(GreetAgain, worker.handle(UndecodableBatch(0, 1, 5, ""))) == GreetAgain(0, 1, 5)

    def test_a_damaged_copy_of_what_was_done_is_unknown(self, worker: SqliteWorker, gateway: Gateway) -> None:
        gateway.ask(Register("alice", KEY))
        assert the_one(GreetAgain, worker.handle(UndecodableBatch(0, 1, 1, ""))) == GreetAgain(0, 1, 1)


class TestBugs:
    def break_at(self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """From now on registering `name` raises something that was not expected."""
        register = worker.rules.by_operation[Register]

        def broken(slot: int, wish: Register) -> Any:
            outcome = register(slot, wish)
            if wish.name == name:
                raise ZeroDivisionError
            return outcome

        monkeypatch.setitem(worker.rules.by_operation, Register, broken)

    def test_one_batch_is_refused_and_the_others_are_not(
        self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second, third = (Gateway(worker, slot) for slot in range(3))
        self.break_at(worker, monkeypatch, "bad")
        bad = second.next_batch(Register("x", KEY), Register("bad", KEY))
        answers = worker.handle(first.next_batch(Register("alice", KEY)), bad, third.next_batch(Register("carol", KEY)))
        assert isinstance(answers[0], Reply)
        assert the_one(BatchRefused, answers[1:2]) == BatchRefused(1, 1, 1)
        assert isinstance(answers[2], Reply)
        names = [row[0] for row in worker.database.execute("SELECT name FROM user ORDER BY row")]
        assert names == ["alice", "carol"], "nothing of the refused batch is there"
        assert any(record.exc_info for record in caplog.records), "with a traceback"
        assert the_one(BatchRefused, worker.handle(bad)) == BatchRefused(1, 1, 1)
        assert isinstance(second.one(Register("bob", KEY)), Registered)

    def test_two_bad_batches_in_one_drain(self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch) -> None:
        gateways = [Gateway(worker, slot) for slot in range(3)]
        self.break_at(worker, monkeypatch, "bad")
        answers = worker.handle(*[each.next_batch(Register("bad", KEY)) for each in gateways[:2]])
        assert [the_one(BatchRefused, [answer]).slot for answer in answers] == [0, 1]

    def test_memory_is_as_the_disk_is(self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch) -> None:
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, alice, b"a", b"b")
        gateway.ask(Pull(1, alice, False, 0, 25, 100), Fetch(bob, True, 0, 100, 54, 100, True))
        self.break_at(worker, monkeypatch, "bad")
        bad = gateway.next_batch(
            Pull(2, alice, False, 100, 25, 100),
            Release(1),
            MarkAuthenticated(alice),
            StoreMessage(alice, True, bob, 3, b"x", b"t" * 16),
            Fetch(alice, True, 2, 100, 54, 100, True),
            Register("carol", KEY),
            Register("bad", KEY),
        )
        the_one(BatchRefused, worker.handle(bad))
        everything = Pull(3, alice, False, 1000, 25, 1000)
        outcome = gateway.one(everything)
        assert isinstance(outcome, Pulled)
        assert (outcome.first, outcome.count) == (2, 1), "lease 1 stands, lease 2 is not there, nobody is authenticated"
        assert gateway.store(alice, alice, b"c") == [3]
        assert gateway.arrived == [], "alice's watch is undone"
        gateway.store(alice, bob, b"x")
        assert [notice.recipients for notice in gateway.arrived] == [[bob]], "bob's watch stands"

    def test_a_greeting_that_fails_ends_the_program(
        self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_rules: Rules, _slot: int) -> None:
            raise FrameUndecodable("not foreseen")

        monkeypatch.setattr(Rules, "greet", broken)
        with pytest.raises(FrameUndecodable):
            worker.handle(hello(1))


class TestFullStore:
    def fill(self, gateway: Gateway, sender: bytes, recipient: bytes) -> int:
        """Store until it is refused; how many there are."""
        stored = 0
        while True:
            outcomes = gateway.ask(*[StoreMessage(sender, False, recipient, 3, bytes(5000))] * 20)
            stored += sum(isinstance(outcome, Stored) for outcome in outcomes)
            if outcomes[-1] == Refused(Reason.STORAGE_FULL, 30):
                assert outcomes == [Refused(Reason.STORAGE_FULL, 30)] * 20, "a batch is refused as a whole"
                return stored

    def test_sends_are_refused_everything_else_goes_on_and_it_recovers(
        self, open_worker: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        worker = open_worker(size_limit=400 * 4096)
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        stored = self.fill(gateway, alice, bob)
        assert stored > 50
        for _ in range(50):
            # More than fits, and its outcomes need room of their own.
            outcomes = gateway.ask(*[StoreMessage(alice, False, bob, 3, bytes(200))] * 2000)
            assert set(outcomes) == {Refused(Reason.STORAGE_FULL, 30)}
            worker.now_ms += 700
        assert gateway.one(MarkAuthenticated(bob)) == Done()
        leased = gateway.one(Pull(1, bob, True, 2**40, 25, 100))
        assert isinstance(leased, Pulled)
        assert leased.count == stored
        worker.now_ms += 1000
        assert gateway.one(Settle(1, bob, True, leased.first, leased.last)) == Done()
        worker.now_ms += 1000
        assert len(gateway.store(alice, bob, *[bytes(5000)] * 50)) == 50
        told = [record.getMessage() for record in caplog.records if "full" in record.msg or "room" in record.msg]
        assert len(told) == 2, told

    def test_uploads(self, open_worker: Open) -> None:
        from common.storage_protocol.operations import BeginUpload, Chunk, CommitUpload

        worker = open_worker(size_limit=400 * 4096)
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(BeginUpload(1, alice, False, bob, 4, 3), Chunk(1, b"abc"), BeginUpload(2, alice, False, bob, 4, 3))
        self.fill(gateway, alice, bob)
        assert gateway.refused(BeginUpload(3, alice, False, bob, 4, 3)) is Reason.STORAGE_FULL
        assert gateway.refused(Chunk(2, b"abc")) is Reason.STORAGE_FULL
        assert gateway.one(CommitUpload(2)) == UploadUnknown()
        assert isinstance(gateway.one(CommitUpload(1)), Stored | Refused)

    def test_the_drain_that_found_it_full_is_answered_whole(self, open_worker: Open) -> None:
        worker = open_worker(size_limit=400 * 4096)
        gateway = Gateway(worker)
        other = Gateway(worker, slot=1)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, *[bytes(5000)] * 100)
        answers = worker.handle(
            gateway.next_batch(*[StoreMessage(alice, False, bob, 3, bytes(5000))] * 300),
            other.next_batch(Settle(1, bob, False, 1, 50), Register("carol", KEY)),
        )
        [first, second] = answers
        assert isinstance(first, Reply)
        assert set(first.outcomes) == {Refused(Reason.STORAGE_FULL, 30)}
        assert isinstance(second, Reply)
        assert second.outcomes == [Done(), Refused(Reason.STORAGE_FULL, 30)]
        assert message_count(worker) == 50

    def test_a_commit_of_an_upload_when_nothing_fits(self, open_worker: Open) -> None:
        from common.storage_protocol.operations import BeginUpload, Chunk, CommitUpload

        worker = open_worker(size_limit=400 * 4096)
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(BeginUpload(1, alice, False, bob, 4, 3), Chunk(1, b"abc"))
        *_, outcome = gateway.ask(*[StoreMessage(alice, False, bob, 3, bytes(5000))] * 500, CommitUpload(1))
        assert outcome == UploadUnknown(), "what was undone ends all uploads"

    def test_no_room_for_anything_ends_the_worker(self, open_worker: Open) -> None:
        worker = open_worker(size_limit=400 * 4096, journal_bytes=4096)
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"x")
        worker.flush()
        pages = worker.database.row("PRAGMA page_count")[0]
        worker.database.execute("PRAGMA secure_delete = 0")
        list(worker.database.execute(f"PRAGMA max_page_count = {pages}"))
        worker.database.drop_ballast()
        free = worker.database.row("PRAGMA freelist_count")[0]
        worker.database.execute("CREATE TABLE plug (x)")
        for size in (4000 * free, *[4000] * 40, *[300] * 80):
            try:
                worker.database.execute("INSERT INTO plug VALUES (zeroblob(?))", (size,))
            except Exception as error:
                assert "full" in str(error)
        # Its outcomes are more than the journal holds.
        batch = gateway.next_batch(Settle(1, alice, False, 1, 1), *[Release(1)] * 40_000)
        with pytest.raises(StoreFailed, match="no room even without new mail"):
            worker.handle(batch)

    def test_below_the_mark(self, open_worker: Open, caplog: pytest.LogCaptureFixture) -> None:
        from common.storage_protocol.operations import BeginUpload, Chunk, CommitUpload

        caplog.set_level(logging.INFO)
        worker = open_worker(min_free_bytes=1000)
        worker.free_bytes = 1002
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 0), BeginUpload(2, alice, False, alice, 3, 1))
        worker.free_bytes = 999
        worker.now_ms += 1000
        for operation in (
            Register("bob", KEY),
            StoreMessage(alice, False, alice, 3, b"x"),
            BeginUpload(3, alice, False, alice, 3, 0),
            Chunk(2, b"x"),
        ):
            assert gateway.refused(operation) is Reason.STORAGE_FULL
        assert isinstance(gateway.one(CommitUpload(1)), Stored)
        assert isinstance(gateway.one(Register("alice", KEY, greeted=True)), Registered)
        outcome = gateway.one(Pull(1, alice, False, 1000, 25, 1000))
        assert isinstance(outcome, Pulled)
        gateway.ask(Settle(1, alice, False, outcome.first, outcome.last))
        worker.free_bytes = 1002
        worker.now_ms += 1000
        gateway.store(alice, alice, b"x")
        assert [record.levelname for record in caplog.records if "full" in record.msg or "room" in record.msg] == [
            "WARNING",
            "INFO",
        ]
