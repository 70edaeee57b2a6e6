"""The loop around the socket, with real ZeroMQ over ipc and no thread: turns are taken by hand."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import zmq

from common.data_folder import link_endpoint
from common.errors import SettingRejected
from common.storage_protocol.administration import (
    Accounts,
    AdminAnswer,
    DrainServer,
    GetTotals,
    ListAccounts,
    NotDone,
    Obeyed,
    SetLogLevel,
    Totals,
    decode_answer,
    encode_answer,
    encode_request,
    number_of,
)
from common.storage_protocol.frames import (
    Batch,
    Drain,
    Hello,
    LogLevel,
    MailArrived,
    Reply,
    ToGateway,
    Welcome,
    decode_to_gateway,
    encode_batch,
    encode_hello,
    encode_to_gateway,
)
from common.storage_protocol.operations import Fetch, Register, Registered, StoreMessage
from storage_worker.server import zmq_server as service_module
from storage_worker.server.admin_link import AdminLink, WorkerSilent, is_served
from storage_worker.server.batch_processor import BatchProcessor, Inbound, Outbound
from storage_worker.server.zmq_server import ZmqServer
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.worker_under_test import KEY, SqliteWorker
from torture.patience import HANG_SECONDS

ME = b"i" * 16


class Station:
    """A service and its gateway in one process.

    `turn` waits until something came and serves it: right where one frame was sent. How many turns
    several frames take is ZeroMQ's affair; `answer` takes as many as they need.
    """

    def __init__(self, worker: SqliteWorker, folder: Path) -> None:
        self.turns = 0
        self.upkeep = worker.upkeep
        self.upkeep.after_turn = self._count
        self.clock: Callable[[], int] = lambda: worker.now_ms
        self.service = ZmqServer(worker.processor, worker.administration, link_endpoint(folder), self.now)
        self.gateway = FakeGateway(folder)

    def now(self) -> int:
        return self.clock()

    def _count(self) -> None:
        self.turns += 1

    def turn(self) -> None:
        assert self.service.socket.poll(20_000), "nothing came"
        self.service.turn()

    def answer(self) -> ToGateway:
        """The next message to the gateway, with all the turns that it takes."""
        return decode_to_gateway(self.answer_frame())

    def answer_frame(self) -> bytes:
        """The same, as it comes."""
        poller = zmq.Poller()
        poller.register(self.service.socket, zmq.POLLIN)
        poller.register(self.gateway.socket, zmq.POLLIN)
        while not self.gateway.socket.poll(0):
            ready = dict(poller.poll(20_000))
            assert ready, "nothing came"
            if self.service.socket in ready:
                self.service.turn()
        [frame] = self.gateway.socket.recv_multipart()
        return frame


@pytest.fixture
def station(worker: SqliteWorker, tmp_path: Path) -> Iterator[Station]:
    station = Station(worker, tmp_path)
    with station.gateway:
        yield station
        station.service.close()


def greet(station: Station) -> Welcome:
    station.gateway.send(encode_hello(Hello(0, ME)))
    welcome = station.answer()
    assert isinstance(welcome, Welcome)
    station.gateway.epoch = welcome.epoch
    return welcome


def test_turns_though_nothing_comes_while_something_waits(
    worker: SqliteWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "TIDY_EVERY_MS", 1)
    inside, outside = socket.socketpair()
    left = [1, 2, 3]

    def after_turn() -> None:
        left.pop()
        if not left:
            worker.upkeep.has_waiting = False
            outside.send(b"x")

    worker.upkeep.has_waiting = True
    worker.upkeep.after_turn = after_turn
    served = ZmqServer(worker.processor, worker.administration, link_endpoint(tmp_path), lambda: worker.now_ms)
    served.serve(inside.fileno())
    assert not left
    served.close()
    inside.close()
    outside.close()


def test_greeting_and_batches(station: Station) -> None:
    assert greet(station).incarnation == ME
    station.gateway.send(station.gateway.batch(Register("alice", KEY)))
    station.turn()
    [outcome] = station.gateway.reply().outcomes
    assert isinstance(outcome, Registered)
    assert station.turns == 2


def test_the_hint_follows_the_reply(station: Station) -> None:
    greet(station)
    station.gateway.send(station.gateway.batch(Register("alice", KEY)))
    station.turn()
    [outcome] = station.gateway.reply().outcomes
    assert isinstance(outcome, Registered)
    alice = outcome.client_id
    frame = station.gateway.batch(Fetch(alice, True, 0, 100, 54, 100, True), StoreMessage(alice, True, alice, 3, b"x"))
    station.gateway.send(frame)
    station.turn()
    assert isinstance(station.gateway.receive(), Reply)
    assert station.gateway.receive() == MailArrived(0, 1, 1, [alice])


def test_a_drain_takes_what_is_there_within_bounds(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    greet(station)
    drains: list[int] = []
    handle = BatchProcessor.handle

    def counted(processor: BatchProcessor, messages: list[Inbound], now_ms: int) -> list[Outbound]:
        drains.append(len(messages))
        return handle(processor, messages, now_ms)

    monkeypatch.setattr(BatchProcessor, "handle", counted)
    monkeypatch.setattr(service_module, "MESSAGES_PER_DRAIN", 3)
    for number in range(5):
        station.gateway.send(station.gateway.batch(Register(f"user{number}", KEY)))
    while sum(drains) < 5:
        station.turn()
    assert max(drains) <= 3
    monkeypatch.setattr(service_module, "BYTES_PER_DRAIN", 1)
    drains.clear()
    for number in range(2):
        station.gateway.send(station.gateway.batch(Register(f"other{number}", KEY)))
    while sum(drains) < 2:
        station.turn()
    assert drains == [1, 1]


def test_frames_that_make_no_sense_are_dropped(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    nonsense = [
        [b""],
        [b"x"],
        [b"\x02\x02" + bytes(18)],
        [encode_hello(Hello(0, ME)), b"second part"],
        [bytes(range(99))],
    ]
    for frames in nonsense:
        station.gateway.send(*frames)
    greet(station)
    assert len([record for record in caplog.records if "dropped an invalid frame" in record.getMessage()]) == len(
        nonsense
    )


def answer_of(station: Station) -> tuple[int, AdminAnswer]:
    """The next answer to an operator, with all the turns that it takes."""
    deadline = time.monotonic() + HANG_SECONDS
    while not station.gateway.socket.poll(1):
        assert time.monotonic() < deadline, "no answer came"
        station.service.turn()
    [frame] = station.gateway.socket.recv_multipart()
    return number_of(frame), decode_answer(frame)


def test_an_operator_needs_no_slot_and_takes_none(station: Station) -> None:
    station.gateway.send(encode_request(7, GetTotals()))
    number, answer = answer_of(station)
    assert number == 7
    assert isinstance(answer, Totals)
    assert greet(station).epoch == 1
    station.gateway.send(encode_request(8, ListAccounts())[:-1])
    number, answer = answer_of(station)
    assert number == 8
    assert isinstance(answer, NotDone)
    station.gateway.send(station.gateway.batch(Register("alice", KEY)))
    assert isinstance(station.answer(), Reply)


def test_operators_wait_for_each_other_and_not_without_end(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "ADMIN_WAITING", 2)
    for number in range(1, 6):
        station.gateway.send(encode_request(number, GetTotals()))
    answers = dict(answer_of(station) for _ in range(5))
    assert sorted(answers) == [1, 2, 3, 4, 5]
    assert isinstance(answers[1], Totals)
    refused = [one for one in answers.values() if isinstance(one, NotDone)]
    assert all("too many requests" in one.problem for one in refused)


def test_what_waits_is_done_though_nothing_comes(station: Station) -> None:
    for number in range(1, 4):
        station.gateway.send(encode_request(number, GetTotals()))
    answered = 0
    reader, writer = socket.socketpair()

    def look() -> None:
        nonlocal answered
        while station.gateway.socket.poll(0):
            station.gateway.socket.recv()
            answered += 1
            if answered == 3:
                writer.send(b"x")

    with reader, writer:
        station.upkeep.after_turn = look
        station.upkeep.has_waiting = True
        station.service.serve(reader.fileno())
    assert answered == 3


def test_the_operators_end(station: Station, tmp_path: Path) -> None:
    endpoint = link_endpoint(tmp_path)
    assert is_served(endpoint)
    with closing(AdminLink(endpoint, patience=0.01)) as link, pytest.raises(WorkerSilent, match="did not answer"):
        link.ask(GetTotals())
    answers: list[AdminAnswer] = []
    with closing(AdminLink(endpoint)) as link:
        asking = threading.Thread(target=lambda: answers.append(link.ask(ListAccounts())))
        asking.start()
        while asking.is_alive():
            station.service.turn()
        asking.join()
    assert answers == [Accounts(0, [])]
    station.service.close()
    assert not is_served(endpoint)


def test_a_level_of_the_log_is_passed_on(station: Station) -> None:
    greet(station)
    before = logging.getLogger().level
    try:
        station.gateway.send(encode_request(1, SetLogLevel("warning")))
        heard = [station.answer_frame(), station.answer_frame()]
        assert logging.getLogger().level == logging.WARNING
    finally:
        logging.getLogger().setLevel(before)
    assert encode_to_gateway(LogLevel("warning")) in heard
    assert encode_answer(1, Obeyed()) in heard


def drained(station: Station, clock: Callable[[], int] | None = None) -> threading.Thread:
    """Serves in a thread, until the server is drained. Time passes there."""
    station.clock = clock or (lambda: time.monotonic_ns() // 1_000_000)
    reader, writer = socket.socketpair()

    def serve() -> None:
        with reader, writer:
            station.service.serve(reader.fileno())

    serving = threading.Thread(target=serve)
    serving.start()
    return serving


def test_a_drain_waits_for_the_gateways(station: Station, tmp_path: Path) -> None:
    greet(station)
    serving = drained(station)
    with closing(AdminLink(link_endpoint(tmp_path))) as link:
        assert link.ask(DrainServer()) == Obeyed()
    assert isinstance(station.gateway.receive(), Drain)
    # What is in flight is done still, and nobody is greeted any more.
    station.gateway.send(encode_hello(Hello(1, b"j" * 16)))
    station.gateway.send(station.gateway.batch(Register("alice", KEY)))
    while isinstance(answer := station.gateway.receive(), Drain):
        pass
    assert isinstance(answer, Reply)
    assert serving.is_alive()
    station.gateway.socket.close()
    serving.join(HANG_SECONDS)
    assert not serving.is_alive()


def test_a_drain_without_gateways_ends_at_once_and_one_with_a_deaf_gateway_in_time(
    worker: SqliteWorker, station: Station, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = drained(station)
    with closing(AdminLink(link_endpoint(tmp_path))) as link:
        link.ask(DrainServer())
    serving.join(HANG_SECONDS)
    assert not serving.is_alive()
    station.service.close()
    other = Station(worker, tmp_path)
    steps = count(10**6, service_module.DRAIN_WITHIN_MS // 2)
    with other.gateway:
        greet(other)
        serving = drained(other, lambda: next(steps))
        with closing(AdminLink(link_endpoint(tmp_path))) as link:
            link.ask(DrainServer())
        serving.join(HANG_SECONDS)
        assert not serving.is_alive()
        other.service.close()
    assert "gateways that did not end in time: 1" in caplog.text


def test_an_answer_to_nobody_is_dropped(
    worker: SqliteWorker, station: Station, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    greet(station)
    frame = station.gateway.batch(Register("alice", KEY))
    station.gateway.send(frame)
    handle = worker.processor.handle
    with monkeypatch.context() as patched:

        def to_nobody(messages: list[Inbound], now_ms: int) -> list[Outbound]:
            return [answer._replace(peer=b"nobody") for answer in handle(messages, now_ms)]

        patched.setattr(worker.processor, "handle", to_nobody)
        station.turn()
    assert any("could not be delivered" in record.getMessage() for record in caplog.records)
    station.gateway.send(frame)
    station.turn()
    assert isinstance(station.gateway.reply(), Reply)


def test_serves_until_it_is_woken(station: Station) -> None:
    greet(station)
    reader, writer = socket.socketpair()
    with reader, writer:
        # What is there with the request to end is left to the next worker; the gateway sends it
        # again.
        station.gateway.send(encode_batch(Batch(0, 1, 1, [])))
        monitor = station.upkeep.after_turn

        def wake() -> None:
            monitor()
            writer.send(b"\0")

        station.upkeep.after_turn = wake
        station.service.serve(reader.fileno())
    assert isinstance(station.gateway.receive(), Reply)


def test_an_endpoint_that_cannot_be_bound(worker: SqliteWorker, tmp_path: Path) -> None:
    with pytest.raises(SettingRejected, match="can't be bound"):
        ZmqServer(
            worker.processor,
            worker.administration,
            f"ipc://{tmp_path}/missing/folder/sock",
            lambda: 0,
        )


def test_the_gateway_side_is_silent_without_a_worker(tmp_path: Path) -> None:
    with FakeGateway(tmp_path) as gateway:
        gateway.send(encode_hello(Hello(0, ME)))
        assert gateway.is_silent(10)
    assert zmq.zmq_version_info() >= (4, 3)
