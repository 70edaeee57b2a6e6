"""Redis' plans and the reading of its answers, against a scripted Redis; a real one where
there is one.
"""

import dataclasses
from pathlib import Path

import pytest

from bench.generator import Generator, run_plan
from bench.plan import Mode, Plan, Report
from bench.programs import Programs
from bench.rivals.redis import Redis, RunningRedis, command
from bench.subject import Sending, Shape, SubjectFailed, usage_of_roles
from tests.bench.rivals.scripted_redis import ScriptedRedis
from tests.bench.scripted_peer import CLOSE

SENDING = Sending(300, messages=200)


def running(server: ScriptedRedis, folder: Path) -> RunningRedis:
    return RunningRedis(server.port, Programs(folder), 7)


def test_a_command_is_an_array_of_strings() -> None:
    assert command(b"DEL", b"a list") == b"*2\r\n$3\r\nDEL\r\n$6\r\na list\r\n"


@pytest.mark.parametrize("piece", [0, 1])
def test_every_push_is_acknowledged(c_generator: Generator, tmp_path: Path, piece: int) -> None:
    with ScriptedRedis(piece=piece) as server:
        report = run_plan(c_generator, running(server, tmp_path).send_plan(Shape(5, 4), SENDING))
    assert (report.opened, report.sent, report.acknowledged, report.errors) == (5, 200, 200, 0)
    assert report.per_target == [len(server.lists[b"mailbox:%08d" % number]) for number in range(7)]
    assert {len(content) for contents in server.lists.values() for content in contents} == {300}
    assert sum(report.latencies.values()) == 200


def test_only_some_recipients_get_the_messages_where_that_is_asked(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis() as server:
        sending = dataclasses.replace(SENDING, among=(2, 4))
        report = run_plan(c_generator, running(server, tmp_path).send_plan(Shape(1, 4), sending))
    assert sorted(server.lists) == [b"mailbox:00000002", b"mailbox:00000003"]
    assert len(report.per_target) == 2


def test_lists_are_fetched_whole_and_then_deleted(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis() as server:
        for number in range(7):
            if number:
                server.lists[b"mailbox:%08d" % number] = [bytes(300)] * number * 20
        waiting = [number * 20 for number in range(7)]
        plan = running(server, tmp_path).drain_plan(3, 300, close_each=False, waiting=waiting)
        report = run_plan(c_generator, plan)
    assert (report.per_target, report.messages, report.finished_targets, report.errors) == (waiting, 420, 7, 0)
    assert not server.lists
    assert (server.commands.count(b"LRANGE"), server.commands.count(b"DEL")) == (7, 6)


@pytest.mark.parametrize("close_each", [False, True])
def test_a_fetch_may_come_in_small_pieces(c_generator: Generator, tmp_path: Path, close_each: bool) -> None:
    with ScriptedRedis(piece=3) as server:
        server.lists[b"mailbox:00000000"] = [b"", b"12", b"\r\n", b"*1\r\n$1\r\n-"]
        plan = running(server, tmp_path).drain_plan(1, 0, close_each=close_each, waiting=[4, 0])
        report = run_plan(c_generator, plan)
        assert server.accepted == (3 if close_each else 1)
    assert (report.per_target, report.content_bytes, report.finished_targets) == ([4, 0], 13, 2)
    assert report.errors == 0


def test_a_content_of_another_size_is_counted(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis() as server:
        server.lists[b"mailbox:00000000"] = [b"12", b"123", b"12"]
        report = run_plan(c_generator, running(server, tmp_path).drain_plan(1, 2, close_each=False, waiting=[3]))
    assert (report.messages, report.wrong_size, report.errors) == (3, 1, 1)


def one_by_one(server: ScriptedRedis, folder: Path, messages: int = 10) -> Plan:
    return running(server, folder).send_plan(Shape(1, 1), dataclasses.replace(SENDING, messages=messages))


def test_an_error_is_a_refusal_however_long_it_is(c_generator: Generator, tmp_path: Path) -> None:
    def full(number: int, answer: bytes) -> bytes:
        return b"-OOM " + b"command not allowed " * number + b"\r\n" if number % 5 == 0 else answer

    with ScriptedRedis(full, piece=9) as server:
        report = run_plan(c_generator, one_by_one(server, tmp_path))
    assert (report.acknowledged, report.refused, report.errors) == (8, 2, 2)


@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b":0\r\n", b":-3\r\n", b":1x\r\n", b"*0\r\n", b"$1\r\nx\r\n", b":" * 80]
)
def test_any_other_answer_to_a_push_ends_the_connection(c_generator: Generator, tmp_path: Path, answer: bytes) -> None:
    with ScriptedRedis(lambda number, right: answer if number == 4 else right) as server:
        report = run_plan(c_generator, one_by_one(server, tmp_path))
    assert (report.acknowledged, report.unexpected, report.closed_early, report.unanswered) == (3, 1, 1, 1)


def test_an_answer_nobody_asked_for_ends_the_connection(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis(lambda number, answer: answer * 2 if number == 10 else answer) as server:
        report = run_plan(c_generator, one_by_one(server, tmp_path))
    assert (report.acknowledged, report.unexpected, report.closed_early) == (10, 1, 1)


@pytest.mark.parametrize("answer", [b":1\r\n", b"*2\r\n$1\r\nx\r\n:1\r\n", b"*-2\r\n", b"$3\r\nabc\r\n"])
def test_an_answer_that_is_no_list_ends_a_drain(c_generator: Generator, tmp_path: Path, answer: bytes) -> None:
    with ScriptedRedis(lambda _number, _right: answer) as server:
        report = run_plan(c_generator, running(server, tmp_path).drain_plan(1, 0, close_each=False, waiting=[1]))
    assert (report.unexpected, report.closed_early, report.finished_targets) == (1, 1, 0)


def test_a_closed_connection_leaves_its_messages_unanswered(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis(lambda number, answer: CLOSE if number == 5 else answer) as server:
        report = run_plan(c_generator, one_by_one(server, tmp_path))
    assert (report.acknowledged, report.unanswered, report.closed_early) == (4, 1, 1)


def test_idle_connections_ask_once(c_generator: Generator, tmp_path: Path) -> None:
    with ScriptedRedis() as server:
        report = run_plan(c_generator, running(server, tmp_path).idle_plan(20))
    assert (report.opened, report.responses, report.errors) == (20, 20, 0)


def test_only_the_generator_in_c_speaks_resp(tmp_path: Path) -> None:
    from bench.generator import find_generator

    with ScriptedRedis() as server:
        assert running(server, tmp_path).idle_plan(1).dialect not in find_generator(allow_compiler=False).dialects


@pytest.mark.skipif(bool(Redis("", "always").missing), reason=Redis("", "always").missing)
def test_the_real_one_keeps_what_it_acknowledged(c_generator: Generator, tmp_path: Path) -> None:
    redis = Redis("Redis", "always")
    assert redis.version
    with redis.start(tmp_path / "redis", recipients=7, senders=0) as server:
        sent: Report = run_plan(c_generator, server.send_plan(Shape(3, 8), SENDING))
        assert (sent.acknowledged, sent.errors) == (200, 0)
        server.await_accepted()
        process_id = server.process_ids["server"]
        assert usage_of_roles(server)["server"].resident_bytes > 1_000_000
        server.restart()
        assert server.process_ids["server"] != process_id
        plan = server.drain_plan(2, 300, close_each=False, waiting=sent.per_target)
        fetched = run_plan(c_generator, plan)
        assert plan.mode is Mode.DRAIN
        assert (fetched.per_target, fetched.finished_targets, fetched.errors) == (sent.per_target, 7, 0)
    assert (tmp_path / "redis" / "appendonlydir").is_dir()
    with pytest.raises(OSError, match="refused"):
        server.await_accepted()


def test_a_server_that_still_loads_is_waited_for(tmp_path: Path) -> None:
    with ScriptedRedis(lambda _number, _answer: b"-LOADING\r\n") as server, pytest.raises(SubjectFailed, match="LOAD"):
        running(server, tmp_path).await_accepted()
