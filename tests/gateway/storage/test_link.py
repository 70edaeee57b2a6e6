"""The link: what leaves together, and what becomes of requests when the storage worker is gone,
silent, another one, or confused.
"""

import os
import tempfile
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.client_protocol.requests import PullRequest, SendRequest, encode
from common.storage_protocol.batch_sender import LATE_GREETINGS
from common.storage_protocol.frames import BatchRefused, GreetAgain, StoreFacts, Superseded
from common.storage_protocol.message_format import walk_frames
from common.storage_protocol.operations import (
    Done,
    GetProofKey,
    Operation,
    Outcome,
    Pull,
    Pulled,
    Refused,
    Release,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from common.values import ClientId, Token
from gateway.errors import GatewaySuperseded
from tests.gateway.authenticated import ALICE, BOB
from tests.gateway.every_kind import EVERY_KIND
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Gate
from tests.gateway.mailbox import page


class Waiting:
    """A waiter that keeps what it is told. `fails`: how often it is a bug."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[tuple[Operation, Outcome | None]] = []
        self.fails = fails

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        if self.fails:
            self.fails -= 1
            raise ZeroDivisionError
        self.told.append((operation, outcome))

    def unknown(self, operation: Operation) -> None:
        self.told.append((operation, None))


def ask(gate: Gate, *operations: Operation, waiter: Waiting | None = None) -> Waiting:
    waiter = waiter or Waiting()
    for operation in operations:
        gate.link.submit(operation, waiter, 10)
    return waiter


def test_each_operation_has_its_own_outcome_in_the_order_of_submitting(gate: Gate) -> None:
    gate.storage.decide = lambda operation: Refused(operation.lease) if isinstance(operation, Release) else Done()
    asked: list[Operation] = [Release(3), GetProofKey(ALICE), Release(1)]
    waiter = ask(gate, *asked)
    assert gate.link.bytes_in_flight >= 30
    gate.turn_until(lambda: gate.link.idle)
    assert waiter.told == [(asked[0], Refused(3)), (asked[1], Done()), (asked[2], Refused(1))]
    assert not gate.link.collects
    assert gate.link.bytes_in_flight == 0
    assert len(gate.storage.batches) == 1


def test_a_silent_worker_is_told_once_as_unknown_and_its_late_answer_is_nobodys(gate: Gate) -> None:
    gate.storage.answering = False
    waiter = ask(gate, Release(1), Release(2))
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.pass_time(16)
    assert waiter.told == [(Release(1), None), (Release(2), None)]
    assert gate.link.bytes_in_flight == 0
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    gate.turns()
    assert len(waiter.told) == 2


def test_what_a_waiter_fails_at_is_unknown_to_it_and_no_others_matter(gate: Gate) -> None:
    before, unlucky, behind = Waiting(), Waiting(fails=1), Waiting()
    for number, waiter in enumerate((before, unlucky, behind)):
        ask(gate, Release(number), waiter=waiter)
    gate.turn_until(lambda: gate.link.idle)
    assert before.told == [(Release(0), Done())]
    assert unlucky.told == [(Release(1), None)]
    assert behind.told == [(Release(2), Done())]


@pytest.mark.parametrize("frame", [b"", b"garbage", bytes(100)])
def test_what_is_no_message_is_dropped_with_a_line(gate: Gate, caplog: pytest.LogCaptureFixture, frame: bytes) -> None:
    gate.storage.answering = False
    waiter = ask(gate, Release(1))
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.storage.say_raw(frame)
    gate.turns()
    assert waiter.told == []
    assert "dropped a message from the storage worker" in caplog.text
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    gate.turn_until(lambda: gate.link.idle)
    assert waiter.told == [(Release(1), Done())]


def test_what_was_asked_without_a_worker_is_done_by_the_next_one(gate: Gate) -> None:
    gate.storage.die()
    gate.turns()
    waiter = ask(gate, Release(1))
    gate.turns()
    assert waiter.told == []
    gate.storage.bind()
    gate.turn_until(lambda: gate.link.idle)
    assert waiter.told == [(Release(1), Done())]
    assert [Release(1)] == gate.storage.asked(Release)


def test_sends_of_all_connections_are_one_operation(gate: Gate) -> None:
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(3)]
    # So large that what comes behind it grows until it is answered.
    peers[0].send(encode(SendRequest(ALICE, BOB, 3, bytes(10_000))))
    gate.turn_until(lambda: bool(gate.storage.held))
    for peer in peers:
        peer.send(encode(SendRequest(ALICE, BOB, 3, b"x")) * 2)
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer, sent in zip(peers, (3, 2, 2), strict=True):
        assert [peer.response()[0] for _ in range(sent)] == [2103] * sent
    assert [len(batch.operations) for batch in gate.storage.batches] == [1, 1]
    assert all(isinstance(batch.operations[0], StoreMessages) for batch in gate.storage.batches)


def test_642s_travel_in_runs_of_their_own(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(encode(SendRequest(ALICE, BOB, 3, bytes(10_000))))
    gate.turn_until(lambda: bool(gate.storage.held))
    tokens = [Token(bytes([number]) * 16) for number in range(6)]
    once = [encode(SendRequest(ALICE, BOB, 3, b"x", token)) for token in tokens]
    peer.send(b"".join(once[:3]) + encode(SendRequest(ALICE, BOB, 3, b"y")) + b"".join(once[3:]))
    gate.turns()
    gate.storage.answering = True
    gate.storage.known = {tokens[1]: 70, tokens[4]: 71}
    gate.storage.answer(gate.storage.held[0])
    answers = [peer.response() for _ in range(8)]
    assert [code for code, _payload in answers] == [2103] * 8
    numbers = [int.from_bytes(payload[16:], "little") for _code, payload in answers]
    assert (numbers[2], numbers[6]) == (70, 71)
    kinds = [type(operation) for batch in gate.storage.batches for operation in batch.operations]
    assert kinds == [StoreMessages, StoreMessagesOnce, StoreMessages, StoreMessagesOnce]
    sent = [operation.token for operation in gate.storage.asked(StoreMessage) if isinstance(operation, StoreMessage)]
    assert sent == [None, *tokens[:3], None, *tokens[3:]]
    assert (gate.link.sends_answered, gate.link.sends_once_answered) == (2, 6)


def frames(contents: list[tuple[int, bytes]]) -> list[bytes]:
    return [encode(SendRequest(ClientId(bytes([who]) * 16), BOB, 3, content)) for who, content in contents]


def refuses_the_odd() -> Callable[[Operation], Outcome]:
    """A worker that refuses what begins with an odd byte and numbers the rest."""
    numbers = count(1)

    def decide(operation: Operation) -> Outcome:
        assert isinstance(operation, StoreMessage)
        return Refused(3) if operation.content[0] % 2 else Stored(next(numbers))

    return decide


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 2), st.binary(min_size=1, max_size=3)), min_size=1, max_size=8), st.data())
def test_a_run_is_answered_as_the_same_sends_one_by_one(contents: list[tuple[int, bytes]], data: st.DataObject) -> None:
    sends = frames(contents)
    data_whole = b"".join(sends)
    cut = data.draw(st.integers(0, len(data_whole)))
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(Path(folder))
        try:
            answers = []
            for pieces in (sends, [data_whole[:cut], data_whole[cut:]]):
                gate.storage.decide = refuses_the_odd()
                peer = gate.peer()
                for piece in pieces:
                    if piece:
                        peer.send(piece)
                        gate.turns(2)
                answers.append([peer.response() for _ in sends])
            assert answers[0] == answers[1]
        finally:
            gate.close()


def test_a_batch_the_worker_can_not_decode_was_not_done(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] * 2)
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(BatchRefused(batch.slot, batch.epoch, batch.number))
    [run] = batch.operations
    assert isinstance(run, StoreMessages)
    sends = len(list(walk_frames(run.frames)))
    assert [peer.response()[0] for _ in range(2)] == [9000] * sends + [2103] * (2 - sends)
    peer.send(EVERY_KIND["send"])
    assert peer.response()[0] == 2103


def test_a_worker_that_does_not_know_us_is_greeted_again(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(GreetAgain(batch.slot, batch.epoch, batch.number))
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103
    assert len(gate.storage.greetings) == 2


def test_a_late_greeting_of_a_dead_gateway_does_not_end_the_living(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(Superseded(batch.slot, batch.epoch))
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103


def test_a_gateway_whose_slot_another_one_keeps_taking_ends(gate: Gate) -> None:
    for _ in range(LATE_GREETINGS):
        gate.storage.say(Superseded(3, gate.storage.epoch))
        greetings = len(gate.storage.greetings)
        gate.turn_until(lambda greetings=greetings: len(gate.storage.greetings) > greetings)  # type: ignore[misc]
        gate.turns()
    gate.storage.say(Superseded(3, gate.storage.epoch))
    with pytest.raises(GatewaySuperseded, match="slot 3"):
        gate.turns()


def test_sends_are_counted_once_answered(gate: Gate) -> None:
    gate.storage.decide = lambda operation: Stored(7) if isinstance(operation, StoreMessage) else Done()
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] * 3000)
    for _ in range(3000):
        assert peer.response()[0] == 2103
    assert gate.link.bytes_in_flight == 0


def test_another_store_ends_every_connection_and_settles_nothing(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, 2, page((4, b"hi"))) if isinstance(operation, Pull) else default_decision(operation)
    )
    reader, sender = gate.peer(), gate.peer()
    reader.send(PullRequest(ALICE))
    assert reader.response()[0] == 2104
    gate.turn_until(gate.all_acknowledged)
    gate.storage.facts = StoreFacts(SERVER_ID, 8, 2)
    gate.storage.answering = False
    sender.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    reader.send(EVERY_KIND["send"])
    gate.turns()
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(GreetAgain(batch.slot, batch.epoch, batch.number))
    for peer in (reader, sender):
        gate.turn_until(peer.is_ended)
        assert peer.received == b""
    gate.turns()
    assert not gate.storage.asked(Settle)
    assert not gate.storage.asked(StoreMessage)


class Following(Waiting):
    """A waiter that asks for the next thing with each answer, `left` times."""

    def __init__(self, gate: Gate, left: int) -> None:
        super().__init__()
        self.gate = gate
        self.left = left

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        super().answered(operation, outcome)
        if self.left:
            self.left -= 1
            ask(self.gate, operation, waiter=self)


def test_one_turn_takes_in_a_bounded_number_of_answers(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.turn_until(lambda: gate.link.facts is not None)
    give_way = os.sched_yield

    def answer_first() -> None:
        """The worker is so fast that its answer is most often there before the gateway goes on."""
        before = len(gate.storage.batches)
        while len(gate.storage.batches) == before:
            gate.storage.serve()
        for _ in range(1_000):
            give_way()

    monkeypatch.setattr("gateway.storage.link.os.sched_yield", answer_first)
    waiter = Following(gate, 9)
    ask(gate, GetProofKey(ALICE), waiter=waiter)
    answered = [0]
    while len(waiter.told) < 10:
        # It would sleep for an hour where nothing was due.
        gate.loop.turn(0 if not waiter.told else 3600)
        answered.append(len(waiter.told))
    assert all(0 <= after - before <= 2 for before, after in pairwise(answered)), answered
