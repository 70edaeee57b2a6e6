"""The reading of PostgreSQL's, MQTT's and AMQP's answers, from scripted peers; and the frames that
are sent, compared with the protocols' published layouts.
"""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.generator import Generator, run_plan
from bench.plan import Plan, Report
from bench.rivals import mosquitto, postgres, rabbitmq
from bench.rivals.mosquitto import Mosquitto, RunningMosquitto
from bench.rivals.postgres import Postgres, RunningPostgres
from bench.rivals.rabbitmq import RabbitMQ, RunningRabbit
from bench.subject import Sending, Shape
from tests.bench.scripted_peer import Read, ScriptedPeer, Send

SENDING = Sending(300, messages=20)
Answer = Callable[[int, bytes], bytes]
"""Gets the number of the request (from 1) and the request; gives what is sent."""


class FramedPeer(ScriptedPeer):
    """Greets, then answers requests of a known size."""

    def __init__(self, plan: Plan, answer: Answer, *, piece: int = 0) -> None:
        self.requests: list[bytes] = []
        self._plan = plan
        self._answer = answer
        super().__init__(piece=piece)

    def converse(self, read: Read, send: Send) -> None:
        plan = self._plan
        assert read(len(plan.greeting)) == plan.greeting
        send(plan.greeted)
        sizes = [len(plan.heads[0]) + len(plan.tags[0] if plan.tags else b"") + len(plan.body)]
        sizes += [len(plan.closers[0])] if plan.closers else []
        number = 0
        # In a drain of one mailbox its request and its closer take turns.
        while request := read(sizes[number % len(sizes)]):
            number += 1
            self.requests.append(request)
            send(self._answer(number, request))


def run(
    generator: Generator, make: Callable[[int], Plan], answer: Answer, piece: int = 0
) -> tuple[Report, list[bytes]]:
    with FramedPeer(make(1), answer, piece=piece) as peer:
        report = run_plan(generator, make(peer.port))
    return report, peer.requests


# --- PostgreSQL
# -----------------------------------------------------------------------------------------------

READY = b"Z\0\0\0\x05I"
INSERTED = b"2\0\0\0\x04" + b"C\0\0\0\x0fINSERT 0 1\0" + READY
FAILED = b"E\0\0\0\x0bSERROR\0" + READY


def row(content: bytes) -> bytes:
    return b"D" + struct.pack("!IHI", 10 + len(content), 1, len(content)) + content


def inserts(port: int) -> Plan:
    return RunningPostgres(port, {}, 3).send_plan(Shape(1, 4), SENDING)


@pytest.mark.parametrize("piece", [0, 1, 4])
def test_an_insert_is_acknowledged_after_its_commit(c_generator: Generator, piece: int) -> None:
    report, requests = run(c_generator, inserts, lambda _number, _request: INSERTED, piece)
    assert (report.acknowledged, report.errors) == (20, 0)
    for request in requests:
        size = int.from_bytes(request[1:5], "big")
        assert request[:1] == b"B"
        assert request[1 + size :] == b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"


def test_an_insert_that_fails_is_a_refusal(c_generator: Generator) -> None:
    report, _ = run(c_generator, inserts, lambda number, _request: FAILED if number == 3 else INSERTED)
    assert (report.acknowledged, report.refused) == (19, 1)


@pytest.mark.parametrize("answer", [b"X\0\0\0\x04", b"C\0\0\0\x03", READY + READY, b"\0" * 11])
def test_what_postgres_never_says_ends_the_connection(c_generator: Generator, answer: bytes) -> None:
    def at_the_end(number: int, _request: bytes) -> bytes:
        return answer if number == 20 else INSERTED

    report, _ = run(c_generator, inserts, at_the_end)
    assert (report.unexpected, report.closed_early) == (1, 1)


@pytest.mark.parametrize("piece", [0, 3])
def test_rows_are_fetched_and_deleted(c_generator: Generator, piece: int) -> None:
    def answer(number: int, _request: bytes) -> bytes:
        rows = b"2\0\0\0\x04" + row(b"12") + row(b"Z\0\0\0\x05I") + b"C\0\0\0\x0dSELECT 2\0" + READY
        return rows if number % 2 else b"2\0\0\0\x04" + b"C\0\0\0\x0dDELETE 2\0" + READY

    report, requests = run(
        c_generator,
        lambda port: RunningPostgres(port, {}, 3).drain_plan(1, 0, close_each=False, waiting=[2, 2]),
        answer,
        piece,
    )
    assert (report.per_target, report.content_bytes, report.finished_targets, report.errors) == ([2, 2], 16, 2, 0)
    assert [b"\0s\0" in request for request in requests] == [True, False, True, False]


# --- MQTT
# --------------------------------------------------------------------------------------------------


def publishes(port: int) -> Plan:
    return RunningMosquitto(port, {}, 3).send_plan(Shape(1, 4), SENDING)


def packet_id(request: bytes) -> bytes:
    return request[-302:-300]


@pytest.mark.parametrize("piece", [0, 1, 3])
def test_a_publish_is_acknowledged_by_its_id(c_generator: Generator, piece: int) -> None:
    report, requests = run(
        c_generator, publishes, lambda _number, request: b"\x40\x02" + packet_id(request), piece=piece
    )
    assert (report.acknowledged, report.errors) == (20, 0)
    assert {packet_id(request) for request in requests} == {bytes([0, number]) for number in range(1, 5)}
    assert requests[0][:3] == b"\x32" + bytes([(300 + 2 + 18) % 128 | 128, (300 + 2 + 18) // 128])
    assert requests[0][3:21].startswith(b"\0\x10mailbox/")


def test_acknowledgements_in_another_order_are_taken(c_generator: Generator) -> None:
    held: list[bytes] = []

    def in_pairs(_number: int, request: bytes) -> bytes:
        held.append(b"\x40\x02" + packet_id(request))
        return held.pop() + held.pop() if len(held) == 2 else b""

    report, _ = run(c_generator, publishes, in_pairs)
    assert (report.acknowledged, report.errors) == (20, 0)
    assert sum(report.per_target) == 20


@pytest.mark.parametrize("answer", [b"\x40\x02\0\0", b"\x40\x02\0\x09", b"\xd0\0", b"\x20\x02\0\0"])
def test_an_acknowledgement_of_nothing_ends_the_connection(c_generator: Generator, answer: bytes) -> None:
    report, _ = run(c_generator, publishes, lambda _number, _request: answer)
    assert (report.acknowledged, report.unexpected, report.closed_early) == (0, 1, 1)


def test_idle_connections_ping(c_generator: Generator) -> None:
    def pings(port: int) -> Plan:
        return RunningMosquitto(port, {}, 3).idle_plan(5)

    report, _ = run(c_generator, pings, lambda _number, _request: b"\xd0\0")
    assert (report.responses, report.errors) == (5, 0)


# --- AMQP
# --------------------------------------------------------------------------------------------------


def confirm(tag: int, *, multiple: bool = False, number: int = 80) -> bytes:
    return rabbitmq.method(1, 60, number, struct.pack("!QB", tag, multiple))


def amqp_publishes(port: int) -> Plan:
    return RunningRabbit(port, {}, 3).send_plan(Shape(1, 4), SENDING)


@pytest.mark.parametrize("piece", [0, 1, 5])
def test_confirms_may_stand_for_many(c_generator: Generator, piece: int) -> None:
    def every_fourth(number: int, _request: bytes) -> bytes:
        return confirm(number, multiple=True) if number % 4 == 0 else b""

    report, _ = run(c_generator, amqp_publishes, every_fourth, piece)
    assert (report.acknowledged, report.errors) == (20, 0)


def test_confirms_may_come_in_any_order_and_be_refusals(c_generator: Generator) -> None:
    def backwards(number: int, _request: bytes) -> bytes:
        if number % 4:
            return b""
        late = [confirm(number - 1), confirm(number), confirm(number - 3, number=120)]
        return b"".join(late) + confirm(number, multiple=True)[:0] + confirm(number - 2)

    report, _ = run(c_generator, amqp_publishes, backwards)
    assert (report.acknowledged, report.refused, report.errors) == (15, 5, 5)


@pytest.mark.parametrize(
    "answer", [confirm(0), confirm(99), rabbitmq.method(1, 20, 40, bytes(20)), rabbitmq.frame(3, 1, b"x")]
)
def test_a_confirm_of_nothing_ends_the_connection(c_generator: Generator, answer: bytes) -> None:
    report, _ = run(c_generator, amqp_publishes, lambda _number, _request: answer)
    assert (report.acknowledged, report.unexpected, report.closed_early) == (0, 1, 1)


@pytest.mark.parametrize("piece", [0, 2])
def test_deliveries_are_counted_then_acknowledged_in_one(c_generator: Generator, piece: int) -> None:
    def deliver(content: bytes) -> bytes:
        halves = [content[: len(content) // 2], content[len(content) // 2 :]]
        header = rabbitmq.frame(2, 1, struct.pack("!HHQH", 60, 0, len(content), 0))
        body = b"".join(rabbitmq.frame(3, 1, half) for half in halves) if content else b""
        return rabbitmq.method(1, 60, 60, b"\x01c" + bytes(12)) + header + body

    def answer(number: int, _request: bytes) -> bytes:
        if number % 2 == 0:
            return rabbitmq.method(1, 60, 31, b"\x01c")
        mail = deliver(b"one") + deliver(b"") + deliver(b"three") if number == 1 else b""
        return rabbitmq.method(1, 60, 21, b"\x01c") + mail

    report, requests = run(
        c_generator,
        lambda port: RunningRabbit(port, {}, 3).drain_plan(1, 0, close_each=False, waiting=[3, 0]),
        answer,
        piece,
    )
    assert (report.per_target, report.content_bytes, report.finished_targets, report.errors) == ([3, 0], 8, 2, 0)
    assert len(requests) == 4


def test_a_large_content_travels_in_frames() -> None:
    content = bytes(300_000)
    frames = rabbitmq.bodies(content)
    sizes = []
    at = 0
    while at < len(frames):
        kind, channel, size = struct.unpack_from("!BHI", frames, at)
        assert (kind, channel, frames[at + 7 + size]) == (3, 1, 0xCE)
        sizes.append(size)
        at += size + 8
    assert sum(sizes) == 300_000
    assert max(sizes) + 8 == 131_072


def test_a_packets_length_is_told_in_sevens() -> None:
    assert mosquitto.packet(0x32, b"", 127) == b"\x32\x7f"
    assert mosquitto.packet(0x32, b"", 128) == b"\x32\x80\x01"
    assert mosquitto.packet(0x32, b"", 1 << 21) == b"\x32\x80\x80\x80\x01"


def test_an_inserts_length_counts_the_content_behind_it() -> None:
    head = postgres.insert_head(7, 5)
    whole = head + b"12345" + b"\0\1\0\1"
    assert int.from_bytes(whole[1:5], "big") == len(whole) - 1
    assert head.endswith(struct.pack("!IiI", 4, 7, 5))


# --- the real ones, where they are
# ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rival", [Postgres(), Mosquitto()], ids=lambda rival: str(rival.name))
def test_a_real_one_takes_what_is_sent(c_generator: Generator, rival: Postgres | Mosquitto) -> None:
    if rival.missing:
        pytest.skip(rival.missing)
    assert rival.version
    # Not pytest's folder: PostgreSQL has a user of its own, who has to get there.
    with (
        tempfile.TemporaryDirectory() as name,
        rival.start(Path(name), recipients=3, senders=0) as server,
    ):
        report = run_plan(c_generator, server.send_plan(Shape(3, 8), SENDING))
        assert (report.acknowledged, report.errors) == (20, 0)
        server.await_accepted()
        if isinstance(rival, Postgres):
            plan = server.drain_plan(2, 300, close_each=False, waiting=report.per_target)
            fetched = run_plan(c_generator, plan)
            assert (fetched.per_target, fetched.finished_targets, fetched.errors) == (report.per_target, 3, 0)


def test_rabbitmq_says_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert RabbitMQ().missing == "RabbitMQ is not installed"
