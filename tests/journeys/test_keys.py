"""Published keys and messages of type 5 with the real programs: a published client beside them sees
neither, a backup that is put back gives no one-time key a second time, and an operator's commands
take keys away.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import ClaimKeyRequest, PullRequest, SendRequest
from common.client_protocol.responses import ErrorResponse, KeyClaimedResponse
from common.client_protocol.versions import SERVER_FEATURES
from common.values import RefusalReason, Token
from tests.journeys.operators import said_by_admin
from torture.caller import Account, Caller, Refused, new_account, new_key, public_half
from torture.programs import Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import MakeServer

pytestmark = pytest.mark.slow

BUNDLE = b"\x01" + bytes(1388)


def keys(*numbers: int) -> bytes:
    return b"".join(bytes([number]) * 96 for number in numbers)


def signed_in(server: Server, account: Account) -> Caller:
    caller = Caller(server.port)
    caller.prove(account)
    return caller


def claimed(server: Server, account: Account, subject: Account) -> bytes:
    """The one-time key that a claim is answered with."""
    with signed_in(server, account) as caller:
        answer = caller.claim(account.client_id, subject.client_id)
    assert answer.bundle == BUNDLE
    return answer.one_time_key


def why(answer: object) -> int | None:
    assert isinstance(answer, ErrorResponse), answer
    return answer.reason


def test_what_is_published_is_claimed_once_whatever_is_killed(server: Server) -> None:
    alice, bob = (new_account(server.port, name) for name in ("alice", "bob"))
    with signed_in(server, bob) as caller:
        assert caller.hello().features == SERVER_FEATURES
        assert why(caller.ask(ClaimKeyRequest(bob.client_id, alice.client_id))) == RefusalReason.NO_KEYS
    with signed_in(server, alice) as caller:
        assert caller.publish(alice.client_id, BUNDLE, keys(1, 2, 3)) == 3
    assert claimed(server, bob, alice) == keys(1)
    server.worker.kill()
    server.start()
    assert claimed(server, bob, alice) == keys(2)
    with signed_in(server, alice) as caller:
        # As if the answer had been lost.
        assert caller.publish(alice.client_id, BUNDLE, keys(1, 2, 3)) == 1
    for program in server.programs:
        program.stop()
    server.start()
    assert [claimed(server, bob, alice) for _ in range(2)] == [keys(3), b""]
    with signed_in(server, alice) as caller:
        assert caller.publish(alice.client_id, BUNDLE) == 0


def test_a_published_client_never_sees_type_5(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = (new_account(server.port, name) for name in ("alice", "bob"))
    me, other = bob.client_id, alice.client_id
    with signed_in(server, bob) as caller:
        sealed = SendRequest(me, other, 5, b"sealed", Token(b"t" * 16))
        assert why(caller.ask(sealed)) == RefusalReason.NO_KEYS
    with signed_in(server, alice) as caller:
        caller.publish(other, BUNDLE)
    with Caller(server.port) as caller:
        answer = caller.ask(SendRequest(me, other, 5, b"by 603"))
        assert isinstance(answer, ErrorResponse)
    with signed_in(server, bob) as caller:
        assert caller.send(me, other, b"sealed", 5, Token(b"t" * 16)) == 1
        for kind, content in ((3, b"plain"), (5, bytes(100_000)), (3, b"behind it")):
            caller.send(me, other, content, kind, Token(bytes([kind]) + content[:15].ljust(15)))
    # She goes back to a program of the published protocol.
    said_by_admin(server, capsys, "unprove", "alice")
    with Caller(server.port) as caller:
        assert [one.content for one in caller.pull(other)] == [b"plain"]
        assert [(one.kind, one.content) for one in caller.pull(other)] == [(3, b"behind it")]
        assert caller.pull(other) == []
    with signed_in(server, bob) as caller:
        assert why(caller.ask(SendRequest(me, other, 5, b"more", Token(b"m" * 16)))) == RefusalReason.NO_KEYS
        assert caller.send(me, other, b"sealed", 5, Token(b"t" * 16)) == 1, "a resend is answered as before"
    with signed_in(server, alice) as caller:
        found = caller.fetch(other, 0)
        # What 604 handed out may come once more: the proof takes back what had not settled.
        assert [one.content for one in found if one.kind == 5] == [b"sealed", bytes(100_000)]
        assert isinstance(caller.claim(other, other), KeyClaimedResponse)
        assert caller.fetch(other, found[-1].number) == []
        caller.post(PullRequest(other))
        assert caller.mail(caller.event()) == []


def test_a_backup_that_is_put_back_gives_none_a_second_time(
    server: Server, make_server: MakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = (new_account(server.port, name) for name in ("alice", "bob"))
    with signed_in(server, alice) as caller:
        generation = caller.hello().generation
        caller.publish(alice.client_id, BUNDLE, keys(1, 2))
    again = make_server()
    said_by_admin(server, capsys, "backup", str(again.data))
    assert claimed(server, bob, alice) == keys(1)
    server.end()
    again.start()
    assert claimed(again, bob, alice) == b""
    with signed_in(again, alice) as caller:
        assert caller.hello().generation > generation
        assert caller.publish(alice.client_id, BUNDLE) == 0
        assert caller.publish(alice.client_id, BUNDLE, keys(3), forget=True) == 1
    assert [claimed(again, bob, alice) for _ in range(2)] == [keys(3), b""]


def test_what_an_operator_sees_and_takes_away(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob, carol = (new_account(server.port, name) for name in ("alice", "bob", "carol"))
    for account in (alice, bob):
        with signed_in(server, account) as caller:
            caller.publish(account.client_id, BUNDLE, keys(1, 2))
    assert claimed(server, carol, alice) == keys(1)
    listed = [json.loads(line) for line in said_by_admin(server, capsys, "users", "--json").splitlines()]
    assert [one["one_time_keys"] for one in listed] == [1, 2, None]
    totals = json.loads(said_by_admin(server, capsys, "stats", "--json"))
    assert (totals["with_keys"], totals["one_time_keys"]) == (2, 3)
    key = new_key("a new home")
    (tmp_path / "key").write_bytes(public_half(key))
    said_by_admin(server, capsys, "re-key", "alice", str(tmp_path / "key"))
    said_by_admin(server, capsys, "delete", "bob")
    with signed_in(server, carol) as caller:
        assert why(caller.ask(ClaimKeyRequest(carol.client_id, alice.client_id))) == RefusalReason.NO_KEYS
        with pytest.raises(Refused, match="reason 3"):
            caller.claim(carol.client_id, bob.client_id)
    with signed_in(server, alice._replace(key_der=key.export_key("DER"))) as caller:
        assert caller.publish(alice.client_id, BUNDLE, keys(1, 2)) == 2
    assert claimed(server, carol, alice) == keys(1)
