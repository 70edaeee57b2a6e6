"""Either program is stopped or killed in the middle of a talk, and started in either
order; nothing is lost.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import RegisterRequest, SendRequest
from common.client_protocol.responses import RegisteredResponse, StoredResponse
from common.data_folder import link_endpoint
from common.values import NO_CLIENT, Username
from tests.journeys.consoles import one_message, share_a_key
from torture.caller import Caller, Refused, new_account, new_key, persistently, public_half, token_of
from torture.programs import Program, Server, wait_until

if TYPE_CHECKING:
    from tests.journeys.conftest import MakeServer, OpenConsole

PROGRAMS = ["gateway", "storage_worker"]


def program_of(server: Server, module: str) -> Program:
    return next(program for program in server.programs if program.module == module)


def interrupt(server: Server, module: str, way: str) -> None:
    """End a program and have it back, as an operator, or the keeper, would."""
    program = program_of(server, module)
    if way == "killed":
        before = program.pid
        program.kill()
        wait_until(lambda: program.find_pid() not in (None, before), "the program")
    else:
        code, _seconds = program.stop()
        assert code == 0
        program.start()
    server.await_ready()


@pytest.mark.parametrize("module", PROGRAMS)
@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_two_people_talk_on_although_a_program_ends_in_between(
    make_server: MakeServer, open_console: OpenConsole, tmp_path: Path, module: str, way: str
) -> None:
    server = make_server(kept=True).start()
    alice, bob = open_console(server, "alice"), open_console(server, "bob")
    for console, name in ((alice, "alice"), (bob, "bob")):
        assert f"Registered as {name}." in console.choose("110", name)
    share_a_key(alice, bob)
    assert alice.choose("150", "bob", "before").endswith("Sent to bob.\n")
    interrupt(server, module, way)
    assert alice.choose("120").split("\n")[-2] == "bob"
    assert alice.choose("150", "bob", "after").endswith("Sent to bob.\n")
    assert bob.choose("140") == one_message("alice", "before") + one_message("alice", "after")
    assert bob.choose("150", "alice", "an answer").endswith("Sent to alice.\n")
    interrupt(server, module, way)
    assert alice.choose("140") == one_message("bob", "an answer")
    assert alice.choose("140") == bob.choose("140") == "No messages wait.\n"


def test_the_gateway_may_start_first_and_a_request_waits_for_the_worker(make_server: MakeServer) -> None:
    server = make_server()
    server.gateway.start()
    with persistently(lambda: Caller(server.port)) as caller:
        caller.post(RegisterRequest(NO_CLIENT, Username("early bird"), public_half(new_key("early bird"))))
        wait_until(lambda: "listening" in server.gateway.said(), "the gateway")
        server.worker.start()
        answer = caller.event()
    assert isinstance(answer, RegisteredResponse)


def test_the_worker_may_start_first(make_server: MakeServer) -> None:
    server = make_server()
    server.worker.start()
    wait_until(lambda: "started" in server.worker.said(), "the worker")
    server.start()
    with Caller(server.port) as caller:
        user = caller.register("patient", public_half(new_key("patient")))
        assert caller.users(user) == []


def test_a_send_survives_the_workers_death_and_is_stored_once(make_server: MakeServer) -> None:
    server = make_server().start()
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    with Caller(server.port) as caller:
        server.worker.kill()
        for number in range(3):
            caller.post(SendRequest(alice.client_id, bob.client_id, 3, bytes([number])))
        server.worker.start()
        answers = [caller.event() for _ in range(3)]
    assert all(isinstance(answer, StoredResponse) for answer in answers)
    with Caller(server.port) as caller:
        assert [mail.content for mail in caller.pull(bob.client_id)] == [b"\0", b"\1", b"\2"]


def test_users_mail_marks_and_numbers_outlive_restarts_of_both(make_server: MakeServer) -> None:
    server = make_server().start()
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    with Caller(server.port) as caller:
        caller.prove(alice)
        first = caller.send(alice.client_id, bob.client_id, b"one", token=token_of("one"))
    with Caller(server.port) as caller:
        caller.prove(bob)
        (mail,) = caller.fetch(bob.client_id, 0)
        assert caller.fetch(bob.client_id, mail.number) == []
    for program in server.programs:
        assert program.stop()[0] == 0
    server.start()
    with Caller(server.port) as caller:
        # Without proof nobody speaks for alice any more; her token is remembered though its message
        # was fetched.
        with pytest.raises(Refused):
            caller.send(alice.client_id, bob.client_id, b"forged")
        caller.prove(alice)
        assert caller.send(alice.client_id, bob.client_id, b"one", token=token_of("one")) == first
        assert caller.send(alice.client_id, bob.client_id, b"two", token=token_of("two")) > first
        assert [user.name for user in caller.users(alice.client_id)] == ["bob"]
        with pytest.raises(Refused):
            caller.register("bob", public_half(new_key("somebody else")))
    with Caller(server.port) as caller:
        caller.prove(bob)
        assert [mail.content for mail in caller.fetch(bob.client_id, mail.number)] == [b"two"]


@pytest.mark.parametrize(
    ("module", "words"),
    [("storage_worker", "can't start: another storage worker holds "), ("gateway", "ends: another gateway runs on ")],
)
def test_a_second_program_on_the_same_folder_is_refused_while_the_first_goes_on(
    make_server: MakeServer, module: str, words: str
) -> None:
    server = make_server().start()
    with Server(server.folder / "second", data=server.data) as second:
        program = program_of(second, module)
        program.start()
        wait_until(lambda: not program.running, "the second program's end")
        assert program.process.returncode == 78
        assert f"{words}{server.data}" in program.last_words().split("\n")[-1]
    assert all(program.running for program in server.programs)
    assert server.answers()


def socket_of(data: Path) -> Path:
    return Path(link_endpoint(data).removeprefix("ipc://"))


def test_of_two_gateways_on_one_slot_one_gives_up_and_nothing_is_doubled(make_server: MakeServer) -> None:
    server = make_server().start()
    rival = Server(server.folder / "rival")
    # The lock is in the data folder, so what it does not see is a gateway that comes to the same
    # worker from another.
    rival.data.mkdir(mode=0o700)
    socket_of(rival.data).symlink_to(socket_of(server.data))
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    rival.gateway.start()
    numbers = count(1)
    sent: list[bytes] = []

    def send(content: bytes, through: Server) -> bool:
        try:
            with Caller(through.port, patience=2.0) as caller:
                caller.prove(alice)
                caller.send(alice.client_id, bob.client_id, content, token=token_of(content.decode()))
        except OSError:
            return False
        return True

    def one_is_left() -> bool:
        content = b"%d" % next(numbers)
        # Through one until it works or that one has ended, then, the same once more, through the
        # other.
        worked = False
        for one in (server, rival):
            while one.gateway.running and not (done := send(content, one)):
                continue
            worked = worked or done
        sent.extend([content] * worked)
        return server.gateway.running != rival.gateway.running

    try:
        wait_until(one_is_left, "the end of one of them")
        left, gone = (server, rival) if server.gateway.running else (rival, server)
        assert gone.gateway.process.returncode == 78
        assert "another gateway has taken slot 0" in gone.gateway.last_words()
        with Caller(left.port) as caller:
            caller.prove(bob)
            assert [mail.content for mail in caller.fetch(bob.client_id, 0)] == sent
    finally:
        rival.end()
