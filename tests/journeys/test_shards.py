"""Several storage workers over PostgreSQL, and two gateways: people whose mail lies with all of
them, while programs are killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import ClaimKeyRequest, DeleteAccountRequest
from common.client_protocol.responses import DeletedResponse, KeyClaimedResponse
from common.shards import shard_of
from common.values import RefusalReason
from storage_worker import admin
from tests.journeys.consoles import share_a_key
from torture.caller import Account, Caller, Refused, new_account, persistently, token_of
from torture.patience import HANG_SECONDS
from torture.programs import wait_until
from torture.sharded_server import ShardedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.journeys.conftest import OpenConsole
    from tests.postgres import PostgresServer

pytestmark = pytest.mark.slow
pytest.importorskip("psycopg", reason="an extra")


@pytest.fixture
def make(tmp_path: Path, postgres: PostgresServer) -> Iterator[Callable[[int], ShardedServer]]:
    servers: list[ShardedServer] = []

    def make_(shards: int) -> ShardedServer:
        url = postgres.empty_database()
        for number in range(shards):
            assert admin.main(["store", "create", "--store", url, "--shard", f"{number}/{shards}"]) == 0
        servers.append(ShardedServer(tmp_path / "server", url, shards, gateways=2))
        return servers[-1]

    yield make_
    for server in servers:
        server.end()


def people(server: ShardedServer, each: int = 1) -> list[Account]:
    """As many users of each shard, registered at both gateways in turn."""
    found: list[Account] = []
    counts: Counter[int] = Counter()
    number = 0
    while len(found) < each * server.shards:
        account = new_account(server.ports[number % 2], f"user {number}")
        number += 1
        shard = shard_of(account.client_id, server.shards)
        if counts[shard] < each:
            counts[shard] += 1
            found.append(account)
    return sorted(found, key=lambda account: account.client_id)


def waiting(server: ShardedServer, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """How many messages are kept for each user, by name, leased or not."""
    first, *others = map(str, server.data_folders())
    capsys.readouterr()
    words = [word for other in others for word in ("--worker", other)]
    assert admin.main(["--data-folder", first, "users", *words, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["name"]: line["waiting"] for line in lines}


@pytest.mark.parametrize("shards", [2, 4])
def test_everybody_writes_to_everybody_while_programs_are_killed(
    make: Callable[[int], ShardedServer], shards: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make(shards)
    server.start()
    users = people(server)
    for sender in users:
        with Caller(server.ports[0]) as caller:
            for recipient in users:
                caller.send(sender.client_id, recipient.client_id, b"published " + sender.name.encode())
    for user in users:
        with Caller(server.ports[1]) as caller:
            assert sorted(mail.sender for mail in caller.pull(user.client_id)) == [one.client_id for one in users]
            assert caller.pull(user.client_id) == []
    # A request that comes before the gateway has looked is no evidence; the connection's end is,
    # after 2 s. If the server dies or the user proves their key before that, the mail comes again.
    wait_until(lambda: not any(waiting(server, capsys).values()), "published mail that is deleted")
    victims = [*server.workers, *server.gateways]
    for round_, victim in enumerate(victims):
        for number, sender in enumerate(users):

            def write(sender: Account = sender, number: int = number, round_: int = round_) -> None:
                with Caller(server.ports[number % 2]) as caller:
                    caller.prove(sender)
                    for recipient in users:
                        label = f"{round_} {sender.name} {recipient.name}"
                        content = label.encode() * (10_000 if round_ == number else 1)
                        caller.send(sender.client_id, recipient.client_id, content, token=token_of(label))

            if number == len(users) // 2:
                victim.kill()
                victim.start()

            def written(write: Callable[[], None] = write) -> bool:
                try:
                    persistently(write)
                except Refused as refused:
                    assert refused.reason == RefusalReason.UNAVAILABLE
                    return False
                return True

            wait_until(written, "messages that are accepted")
    for number, user in enumerate(users):
        found: list[tuple[bytes, bytes]] = []
        with Caller(server.ports[(number + 1) % 2]) as caller:
            caller.prove(user)
            ack = 0
            while mails := caller.fetch(user.client_id, ack, max_bytes=200_000):
                ack = mails[-1].number
                found += [(mail.sender, bytes(mail.content[:200])) for mail in mails]
        expected = [
            (sender.client_id, f"{round_} {sender.name} {user.name}".encode())
            for round_ in range(len(victims))
            for sender in users
        ]
        assert len(found) == len(expected), found
        for sender in users:
            mine = [content for who, content in found if who == sender.client_id]
            theirs = [content for who, content in expected if who == sender.client_id]
            assert all(content.startswith(label) for content, label in zip(mine, theirs, strict=True))


def test_a_worker_that_is_away_is_missed_by_its_own_users_alone(make: Callable[[int], ShardedServer]) -> None:
    server = make(2)
    server.start()
    zero, one = people(server)
    server.workers[1].kill()
    with Caller(server.ports[0]) as caller:
        caller.hello()
        with pytest.raises(Refused) as refused:
            caller.send(zero.client_id, one.client_id, b"to one who is away")
        assert refused.value.reason == RefusalReason.UNAVAILABLE
        caller.send(one.client_id, zero.client_id, b"to one who is there")
        with pytest.raises(Refused) as refused:
            # The first time, everybody has to know.
            caller.prove(zero)
        assert refused.value.reason == RefusalReason.UNAVAILABLE
        server.workers[1].start()

        def accepted() -> bool:
            try:
                caller.send(one.client_id, one.client_id, b"by itself")
            except Refused:
                return False
            return True

        wait_until(accepted, "the worker that is back")
        # The worker of zero has noted the proof: the id is not enough any more.
        with pytest.raises(Refused) as refused:
            caller.pull(zero.client_id)
        assert refused.value.reason == RefusalReason.PROOF_NEEDED
        caller.prove(zero)


def test_who_waits_at_one_gateway_hears_of_what_came_to_another(make: Callable[[int], ShardedServer]) -> None:
    server = make(2)
    server.start()
    for user in people(server):
        with Caller(server.ports[0]) as waiting, Caller(server.ports[1]) as writing:
            waiting.prove(user)
            writing.prove(user)
            got: list[bytes] = []

            def wait(caller: Caller = waiting, user: Account = user, got: list[bytes] = got) -> None:
                got += [mail.content for mail in caller.fetch(user.client_id, 0, wait=120)]

            thread = threading.Thread(target=wait)
            thread.start()
            writing.send(user.client_id, user.client_id, b"hello", token=token_of(user.name))
            thread.join(HANG_SECONDS)
            assert got == [b"hello"]


def test_who_deletes_the_account_is_gone_from_all(make: Callable[[int], ShardedServer]) -> None:
    server = make(4)
    server.start()
    users = people(server)
    leaving = users[2]
    for user in users:
        with Caller(server.ports[0]) as caller:
            caller.prove(user)
            for other in users:
                caller.send(user.client_id, other.client_id, b"hi", token=token_of(user.name + other.name))
    with Caller(server.ports[1]) as caller:
        caller.prove(leaving)
        answer = caller.ask(DeleteAccountRequest(leaving.client_id, leaving.client_id))
        assert isinstance(answer, DeletedResponse)
    with Caller(server.ports[0]) as caller:
        caller.prove(users[0])
        with pytest.raises(Refused) as refused:
            caller.send(users[0].client_id, leaving.client_id, b"late", token=token_of("late"))
        assert refused.value.reason == RefusalReason.RECIPIENT_UNKNOWN
        # What was received stays.
        assert len(caller.fetch(users[0].client_id, 0)) == len(users)
        names = {user.name for user in caller.users(users[0].client_id)}
        assert leaving.name not in names


def test_people_talk_by_the_console(make: Callable[[int], ShardedServer], open_console: OpenConsole) -> None:
    server = make(4)
    server.start()
    consoles = [open_console(server, name) for name in ("alice", "bob")]
    for console, name in zip(consoles, ("alice", "bob"), strict=True):
        assert f"Registered as {name}." in console.choose("110", name)
    alice, bob = consoles
    share_a_key(alice, bob)
    for worker in server.workers:
        worker.kill()
        worker.start()
    server.await_ready()
    assert alice.choose("150", "bob", "after a kill").endswith("Sent to bob.\n")
    assert "after a kill" in bob.choose("140")


def test_what_an_operator_sees_of_all_shards(
    make: Callable[[int], ShardedServer], capsys: pytest.CaptureFixture[str]
) -> None:
    server = make(2)
    server.start()
    zero, one = people(server)
    with Caller(server.ports[0]) as caller:
        for recipient, count in ((zero, 1), (one, 2)):
            for _ in range(count):
                caller.send(zero.client_id, recipient.client_id, b"12345")
    first, second = map(str, server.data_folders())

    def asked(*words: str) -> tuple[int, list[dict[str, object]], str]:
        capsys.readouterr()
        code = admin.main([*words, "--json"])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    code, lines, _ = asked("--data-folder", first, "users", "--worker", second)
    assert code == 0
    found = {line["name"]: (line["waiting"], line["bytes"]) for line in lines}
    assert (found[zero.name], found[one.name]) == ((1, 5), (2, 10))
    code, [stats], _ = asked("--data-folder", first, "stats", "--worker", second)
    assert (code, stats["users"], stats["waiting"], stats["bytes"]) == (0, len(lines), 3, 15)
    for words, sentence in (
        (("--data-folder", second, "users", "--worker", first), "users are with the worker of shard 0"),
        (("--data-folder", second, "stats", "--worker", first), "named for shard 0 of 2 has shard 1 of 2"),
        (("--data-folder", second, "disable", zero.name), "users are with the worker of shard 0"),
    ):
        code, _, error = asked(*words)
        assert code == 1
        assert sentence in error
    assert asked("--data-folder", first, "disable", zero.name)[0] == 0

    def refused() -> bool:
        with Caller(server.ports[0]) as caller:
            caller.hello()
            try:
                caller.send(zero.client_id, one.client_id, b"disabled")
            except Refused as answer:
                return answer.reason == RefusalReason.DISABLED
            return False

    wait_until(refused, "what the operator did, at another shard")


def test_workers_in_another_order_are_refused(make: Callable[[int], ShardedServer]) -> None:
    server = make(2)
    server.start()
    zero, one = [str(folder) for folder in server.data_folders()]
    for workers, said in (([one, zero], "has shard"), ([zero], "has shard 0 of 2")):
        arguments = [word for worker in workers for word in ("--worker", worker)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gateway", *arguments, "--slot", "9", "--port", str(server.ports[0] + 1)],
            cwd=server.folder,
            env=server.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == 78, done.stderr
        assert said in done.stderr


def test_keys_lie_with_their_user(make: Callable[[int], ShardedServer]) -> None:
    server = make(2)
    server.start()
    users = people(server)
    bundle = bytes(1389)
    for number, user in enumerate(users):
        with Caller(server.ports[number]) as caller:
            caller.prove(user)
            assert caller.publish(user.client_id, bundle, bytes([number]) * 96) == 1
    # Both ask for the keys of both, each at the other gateway, over one connection.
    for number, user in enumerate(users):
        with Caller(server.ports[1 - number]) as caller:
            caller.prove(user)
            for other in users:
                caller.post(ClaimKeyRequest(user.client_id, other.client_id))
            claimed = [caller.event() for _ in users]
            expected = [bytes([at]) * 96 if not number else b"" for at in range(len(users))]
            assert claimed == [KeyClaimedResponse(bundle, key) for key in expected]
            for other in users:
                caller.send(user.client_id, other.client_id, b"sealed", 5, token_of(f"{number} {other.name}"))
    for program in (*server.workers, *server.gateways):
        program.kill()
        program.start()
    server.await_ready()
    for user in users:
        with Caller(server.ports[0]) as caller:
            caller.prove(user)
            assert caller.publish(user.client_id, bundle) == 0
            assert {(mail.sender, mail.kind) for mail in caller.fetch(user.client_id, 0)} == {
                (sender.client_id, 5) for sender in users
            }
