"""Both load generators against a scripted server: every count is exact."""

import dataclasses
import json
import os
import resource
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.generator import Generator, GeneratorFailed, Run, run_plan
from bench.plan import Mode, Plan, Report
from common.client_protocol.requests import FETCH, SEND_HEAD, SEND_ONCE_HEAD
from common.client_protocol.responses import ERROR, ResponseCode, encode_head, encode_stored
from tests.bench.scripted_peer import CLOSE
from tests.bench.scripted_server import ScriptedServer
from torture.patience import HANG_SECONDS

PROJECT = Path(__file__).parent.parent.parent
BODY = b"what is sent, again and again"
RECIPIENTS = [bytes([number]) * 16 for number in range(1, 8)]
SENDERS = [bytes([200 + number]) * 16 for number in range(5)]


def send_plan(port: int, messages: int = 200, connections: int = 5, window: int = 4, limit: float = 20.0) -> Plan:
    return Plan(
        mode=Mode.SEND,
        port=port,
        connections=connections,
        window=window,
        messages=messages,
        limit_time=limit,
        keys=RECIPIENTS,
        prefixes=SENDERS[:connections],
        heads=[struct.pack("<BHI16sBI", 2, 603, 21 + len(BODY), one, 3, len(BODY)) for one in RECIPIENTS],
        body=BODY,
    )


def drain_plan(port: int, connections: int = 3, *, close_each: bool = False, size: int = len(BODY)) -> Plan:
    return Plan(
        mode=Mode.DRAIN,
        port=port,
        connections=connections,
        limit_time=20.0,
        close_each=close_each,
        content_size=size,
        keys=RECIPIENTS,
        heads=[struct.pack("<16sBHI", one, 2, 604, 0) for one in RECIPIENTS],
    )


def accounted(report: Report) -> int:
    return report.acknowledged + report.refused + report.wrong + report.unexpected + report.unanswered


# --- sending
# --------------------------------------------------------------------------------------------------


def test_every_message_is_acknowledged_and_was_what_it_should_be(generator: Generator) -> None:
    with ScriptedServer() as server:
        report = run_plan(generator, send_plan(server.port))
    assert (report.opened, report.sent, report.acknowledged, report.errors) == (5, 200, 200, 0)
    assert report.per_target == [len(server.mail[one]) for one in RECIPIENTS]
    assert sum(report.per_target) == 200
    assert all(content == BODY for mail in server.mail.values() for _, content in mail)
    assert sum(report.latencies.values()) == 200
    assert 0 < report.latency(50) <= report.latency(99) <= report.slowest <= report.seconds * 1e9
    assert report.cpu_seconds > 0
    # At random, but over all of them.
    assert all(count > 0 for count in report.per_target)


def test_answers_may_come_byte_by_byte(generator: Generator) -> None:
    with ScriptedServer(piece=1) as server:
        report = run_plan(generator, send_plan(server.port, messages=60))
    assert (report.acknowledged, report.errors) == (60, 0)


def test_an_answer_for_somebody_else_is_wrong(generator: Generator) -> None:
    def for_another(number: int, answer: bytes) -> bytes:
        return encode_stored(bytes(16), number) if number % 10 == 0 else answer

    with ScriptedServer(for_another) as server:
        report = run_plan(generator, send_plan(server.port))
    assert (report.sent, report.acknowledged, report.wrong, report.errors) == (200, 180, 20, 20)


def test_9000_is_counted_and_the_load_goes_on(generator: Generator) -> None:
    def refusing(number: int, answer: bytes) -> bytes:
        return ERROR if number % 5 == 0 else answer

    with ScriptedServer(refusing) as server:
        report = run_plan(generator, send_plan(server.port))
    assert (report.sent, report.acknowledged, report.refused, report.errors) == (200, 160, 40, 40)
    assert sum(report.latencies.values()) == 160


@pytest.mark.parametrize("piece", [0, 7])
def test_an_unexpected_answer_is_stepped_over(generator: Generator, piece: int) -> None:
    def strange(number: int, answer: bytes) -> bytes:
        return encode_head(ResponseCode.USERS, 271) + bytes(271) if number % 20 == 0 else answer

    with ScriptedServer(strange, piece=piece) as server:
        report = run_plan(generator, send_plan(server.port))
    assert (report.acknowledged, report.unexpected, report.errors) == (190, 10, 10)


def test_an_unexpected_answer_too_large_to_step_over_ends_the_connection(generator: Generator) -> None:
    def huge(_number: int, _answer: bytes) -> bytes:
        return encode_head(ResponseCode.USERS, 1 << 24)

    with ScriptedServer(huge) as server:
        report = run_plan(generator, send_plan(server.port, connections=1, window=1))
    assert (report.sent, report.unexpected, report.closed_early) == (1, 1, 1)


def test_an_answer_nobody_asked_for_ends_the_connection(generator: Generator) -> None:
    def twice(number: int, answer: bytes) -> bytes:
        return answer * 2 if number == 10 else answer

    with ScriptedServer(twice) as server:
        report = run_plan(generator, send_plan(server.port, messages=10, connections=1, window=1))
    assert (report.sent, report.acknowledged, report.unexpected, report.closed_early) == (10, 10, 1, 1)


def test_what_was_in_flight_on_a_closed_connection_is_unanswered(generator: Generator) -> None:
    def closing(number: int, answer: bytes) -> bytes | None:
        return CLOSE if number == 50 else answer

    with ScriptedServer(closing) as server:
        report = run_plan(generator, send_plan(server.port))
    assert report.closed_early == 1
    assert 1 <= report.unanswered <= 4
    assert accounted(report) == report.sent == 200
    assert report.errors == 1 + report.unanswered


def test_all_connections_closed_end_the_run(generator: Generator) -> None:
    with ScriptedServer(lambda _number, _answer: CLOSE) as server:
        report = run_plan(generator, send_plan(server.port))
    assert (report.sent, report.unanswered, report.closed_early, report.acknowledged) == (20, 20, 5, 0)
    assert not report.cut_short


def test_a_silent_server_is_left_at_the_limit(generator: Generator) -> None:
    with ScriptedServer(lambda _number, _answer: b"") as server:
        report = run_plan(generator, send_plan(server.port, limit=0.3))
    assert (report.sent, report.unanswered, report.cut_short) == (20, 20, True)


def test_a_load_may_be_bounded_by_time(generator: Generator) -> None:
    with ScriptedServer() as server:
        plan = dataclasses.replace(send_plan(server.port), messages=0, run_time=0.2)
        report = run_plan(generator, plan)
    assert report.seconds > 0.19
    assert report.acknowledged == report.sent > 20
    assert report.errors == 0


def test_a_load_may_be_ended_by_its_starter(generator: Generator) -> None:
    with ScriptedServer() as server:
        plan = dataclasses.replace(send_plan(server.port), messages=0, run_time=60.0)
        with Run(generator, plan) as run:

            def stop_soon() -> None:
                wait_for(lambda: server.requests > 50)
                run.stop()

            stopper = threading.Thread(target=stop_soon)
            stopper.start()
            report = run.go()
            stopper.join()
    assert report.acknowledged == report.sent > 50
    assert report.seconds < 30
    assert report.errors == 0


def test_a_large_content_is_sent_whole(generator: Generator) -> None:
    body = bytes(range(256)) * 4096
    with ScriptedServer() as server:
        plan = Plan(
            mode=Mode.SEND,
            port=server.port,
            connections=2,
            window=3,
            messages=12,
            limit_time=20,
            keys=RECIPIENTS[:1],
            prefixes=SENDERS[:2],
            heads=[struct.pack("<BHI16sBI", 2, 603, 21 + len(body), RECIPIENTS[0], 4, len(body))],
            body=body,
        )
        report = run_plan(generator, plan)
    assert (report.acknowledged, report.errors) == (12, 0)
    assert [content == body for _, content in server.mail[RECIPIENTS[0]]] == [True] * 12


# --- draining
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close_each", [False, True])
@pytest.mark.parametrize("page", [3, 1_000])
def test_mailboxes_are_emptied_whatever_one_answer_brings(generator: Generator, close_each: bool, page: int) -> None:
    with ScriptedServer(page=page) as server:
        for number, recipient in enumerate(RECIPIENTS):
            server.put(recipient, *[BODY] * number * 2)
        report = run_plan(generator, drain_plan(server.port, close_each=close_each))
        accepted = server.accepted
    total = sum(number * 2 for number in range(7))
    assert report.per_target == [number * 2 for number in range(7)]
    assert (report.messages, report.content_bytes) == (total, total * len(BODY))
    assert (report.finished_targets, report.errors) == (7, 0)
    # One answer for every page that has something, and an empty one.
    assert report.responses == sum(-(-number * 2 // page) + 1 for number in range(7)) == report.sent
    assert sum(report.latencies.values()) == report.responses
    assert accepted == (report.responses if close_each else 3)


def test_a_drain_may_come_in_small_pieces(generator: Generator) -> None:
    with ScriptedServer(piece=5) as server:
        server.put(RECIPIENTS[0], b"", BODY, b"")
        server.put(RECIPIENTS[6], BODY)
        report = run_plan(generator, drain_plan(server.port, size=0))
    assert (report.messages, report.content_bytes, report.finished_targets) == (4, 2 * len(BODY), 7)
    assert report.errors == 0


def test_contents_of_another_size_and_repeated_messages_are_counted(generator: Generator) -> None:
    with ScriptedServer(page=2) as server:
        server.put(RECIPIENTS[0], BODY, BODY + b"!", BODY)
        server.mail[RECIPIENTS[0]].append(server.mail[RECIPIENTS[0]][-1])
        report = run_plan(generator, drain_plan(server.port))
    assert (report.messages, report.wrong_size, report.disordered, report.errors) == (4, 1, 1, 2)


def contradiction_in_content_size(number: int, answer: bytes) -> bytes:
    return encode_head(ResponseCode.WAITING, 30) + struct.pack("<16sIBI", bytes(16), 1, 3, 6) + bytes(5)


def contradiction_in_payload_size(number: int, answer: bytes) -> bytes:
    return encode_head(ResponseCode.WAITING, 10) + bytes(10)


@pytest.mark.parametrize("twist", [contradiction_in_content_size, contradiction_in_payload_size])
def test_a_2104_that_contradicts_itself_ends_the_connection(
    generator: Generator, twist: Callable[[int, bytes], bytes]
) -> None:
    with ScriptedServer(twist) as server:
        report = run_plan(generator, drain_plan(server.port, connections=1))
    assert (report.unexpected, report.closed_early, report.unanswered, report.messages) == (1, 1, 1, 0)


def test_a_refused_pull_leaves_its_mailbox_unfinished(generator: Generator) -> None:
    def refusing(number: int, answer: bytes) -> bytes:
        return ERROR if number == 4 else answer

    with ScriptedServer(refusing) as server:
        report = run_plan(generator, drain_plan(server.port))
    assert (report.sent, report.responses, report.refused, report.finished_targets) == (7, 6, 1, 6)


# --- the extension
# --------------------------------------------------------------------------------------------------


def once_plan(port: int, messages: int = 200) -> Plan:
    return dataclasses.replace(
        send_plan(port, messages),
        extension=True,
        prefixes=[struct.pack("<16sBHI", one, 2, 642, SEND_ONCE_HEAD.size + len(BODY)) for one in SENDERS],
        heads=[SEND_HEAD.pack(one, 3, len(BODY)) for one in RECIPIENTS],
    )


def fetch_plan(port: int, mode: Mode = Mode.DRAIN, window: int = 2) -> Plan:
    return Plan(
        mode=mode,
        port=port,
        extension=True,
        connections=len(RECIPIENTS),
        window=window,
        limit_time=20.0,
        content_size=len(BODY),
        keys=RECIPIENTS,
        prefixes=[struct.pack("<16sBHI", one, 2, 643, FETCH.size) for one in RECIPIENTS],
        heads=[b""] * len(RECIPIENTS),
        body=FETCH.pack(0, 1 << 20, 0)[8:],
    )


def test_every_642_has_a_token_of_its_own_in_every_run(generator: Generator) -> None:
    with ScriptedServer() as server:
        for _ in range(2):
            report = run_plan(generator, once_plan(server.port))
            assert (report.opened, report.sent, report.acknowledged, report.errors) == (5, 200, 200, 0)
        assert len(server.tokens) == len(set(server.tokens)) == 400
        assert set(server.proofs) == set(SENDERS)
        assert all(content == BODY for mail in server.mail.values() for _, content in mail)


@pytest.mark.parametrize(("page", "piece"), [(3, 0), (1_000, 0), (1_000, 5)])
def test_a_643_acknowledges_what_the_last_one_brought(generator: Generator, page: int, piece: int) -> None:
    with ScriptedServer(page=page, piece=piece) as server:
        for number, recipient in enumerate(RECIPIENTS):
            server.put(recipient, *[BODY] * number * 2)
        last = {recipient: mail[-1][0] for recipient, mail in server.mail.items() if mail}
        report = run_plan(generator, fetch_plan(server.port))
        acks = list(server.acks)
        left = sum(map(len, server.mail.values()))
    assert report.per_target == [number * 2 for number in range(7)]
    assert (report.opened, report.finished_targets, report.errors, left) == (7, 7, 0, 0)
    assert report.responses == sum(-(-number * 2 // page) + 1 for number in range(7)) == report.sent
    for recipient in RECIPIENTS:
        own = [ack for requester, ack in acks if requester == recipient]
        assert own == sorted(set(own))
        assert (own[0], own[-1]) == (0, last.get(recipient, 0))


def test_no_more_mailboxes_than_the_window_are_emptied_at_a_time(generator: Generator) -> None:
    with ScriptedServer(page=1) as server:
        for recipient in RECIPIENTS:
            server.put(recipient, BODY, BODY)
        assert run_plan(generator, fetch_plan(server.port, window=1)).errors == 0
        asked = [requester for requester, _ in server.acks]
    assert asked == [recipient for recipient in RECIPIENTS for _ in range(3)]


def test_idle_connections_that_signed_in_ask_once_with_no_ack(generator: Generator) -> None:
    with ScriptedServer() as server:
        report = run_plan(generator, fetch_plan(server.port, Mode.IDLE))
        assert sorted(server.acks) == [(recipient, 0) for recipient in RECIPIENTS]
    assert (report.opened, report.responses, report.errors) == (7, 7, 0)


def test_a_604_answer_to_a_643_is_unexpected(generator: Generator) -> None:
    def published(_number: int, _answer: bytes) -> bytes:
        return encode_head(ResponseCode.WAITING, 0)

    with ScriptedServer(published) as server:
        report = run_plan(generator, fetch_plan(server.port))
    assert (report.unexpected, report.finished_targets) == (7, 0)


# --- idle connections
# -----------------------------------------------------------------------------------------


def test_idle_connections_ask_once_and_are_held(generator: Generator) -> None:
    with ScriptedServer() as server:
        plan = Plan(
            mode=Mode.IDLE,
            port=server.port,
            connections=30,
            window=4,
            limit_time=20,
            sources=3,
            heads=drain_plan(server.port).heads,
        )
        with Run(generator, plan) as run:
            wait_for(lambda: server.open == 30)
            assert server.requests == 0
            report = run.go()
            assert server.open == 30
            assert server.requests == 30
        wait_for(lambda: server.open == 0)
    assert (report.opened, report.responses, report.errors) == (30, 30, 0)


def test_idle_connections_need_not_ask(generator: Generator) -> None:
    with ScriptedServer() as server:
        report = run_plan(generator, Plan(mode=Mode.IDLE, port=server.port, connections=3, limit_time=5))
        assert server.requests == 0
    assert (report.opened, report.sent, report.errors, report.cut_short) == (3, 0, 0, False)


# --- the process
# ----------------------------------------------------------------------------------------------


def test_without_a_server_there_is_no_run(generator: Generator) -> None:
    with ScriptedServer() as server:
        port = server.port
    with pytest.raises(GeneratorFailed, match=r"did not open its connections: .*refused"):
        Run(generator, send_plan(port))


def test_a_starter_with_many_open_files_hears_its_generator(generator: Generator) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard == resource.RLIM_INFINITY else min(4096, hard), hard))
    opened = []
    try:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        with ScriptedServer() as server:
            report = run_plan(generator, send_plan(server.port))
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (report.acknowledged, report.errors) == (200, 0)


def test_a_generator_that_is_not_started_ends_with_its_run(generator: Generator) -> None:
    with ScriptedServer() as server:
        with Run(generator, send_plan(server.port)):
            wait_for(lambda: server.open == 5)
        wait_for(lambda: server.open == 0)
        assert server.requests == 0


def test_a_generator_ends_in_the_middle_when_its_starter_is_gone(generator: Generator, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        plan = dataclasses.replace(send_plan(server.port), messages=0, run_time=30.0)
        with subprocess.Popen(
            [sys.executable, "-c", STARTER, json.dumps(generator.command), plan.encode().hex()],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        ) as starter:
            wait_for(lambda: server.requests > 100)
            starter.kill()
        wait_for(lambda: server.open == 0)


STARTER = """
import json, sys
from bench.generator import Generator, run_plan
from bench.plan import Plan
run_plan(Generator(tuple(json.loads(sys.argv[1]))), Plan.decode(bytes.fromhex(sys.argv[2])))
"""


def test_connections_are_given_up_after_the_hold_time(generator: Generator) -> None:
    with ScriptedServer() as server:
        plan = Plan(mode=Mode.IDLE, port=server.port, connections=3, limit_time=5, hold_time=0.2)
        with Run(generator, plan) as run:
            run.go()
            wait_for(lambda: server.open == 0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
