"""Each message's own outcome: sent, kept or neither, to one user or several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from client.__main__ import main
from client.errors import CipherError, InvalidServerResponse, ServerAnsweredError, ServerUnreachable
from client.mail.outbox import Outbox
from client.messenger import Messenger
from client.trust.key_exchange import KeyExchange
from common.client_protocol.responses import ErrorResponse
from common.server_address import ServerAddress
from common.values import RefusalReason
from tests.client.exchange import NOWHERE
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Send = Callable[..., tuple[int, list[dict[str, Any]]]]

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


@pytest.fixture
def send(
    alice: Messenger, bob: Messenger, tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> Send:
    """Alice sends with `--json`; the exit code, and all objects but notes."""
    assert bob.is_registered()
    alice.agree_on_key("bob")
    alice.close()

    def run(*words: str, server: ServerAddress | None = None) -> tuple[int, list[dict[str, Any]]]:
        code = main(
            ["--json", "--home", str(tmp_path / "alice"), "--server", str(server or gateway.address), "send", *words]
        )
        out, err = capsys.readouterr()
        objects = [json.loads(line) for line in (*out.splitlines(), *err.splitlines())]
        return code, [found for found in objects if found["type"] != "note"]

    return run


def outcomes(objects: list[dict[str, Any]]) -> list[tuple[str | None, str | None, bool | None]]:
    return [(found.get("to"), found.get("error"), found.get("kept")) for found in objects]


def test_a_failure_says_whether_its_message_is_kept(send: Send, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    code, objects = send("bob", "hello", "--file", str(tmp_path / "file"), server=NOWHERE)
    assert code == 3
    assert outcomes(objects) == [("bob", "no-server", True), ("bob", "no-server", True)]
    assert [(found["kind"], found.get("path")) for found in objects] == [
        ("text", None), ("file", str(tmp_path / "file")),
    ]  # fmt: skip
    # Kept, and sent once: the server has both when the next one is sent.
    code, objects = send("bob", "later")
    assert (code, outcomes(objects)) == (0, [("bob", None, None)])


def test_what_is_not_kept_says_so(send: Send, tmp_path: Path) -> None:
    code, objects = send("nobody", "hello")
    assert (code, outcomes(objects)) == (7, [("nobody", "no-such-user", False)])
    # Never met: nobody knows the key, so nothing can be kept.
    code, objects = send("nobody", "hello", server=NOWHERE)
    assert (code, outcomes(objects)) == (3, [("nobody", "no-server", False)])
    code, objects = send("bob", "--file", str(tmp_path / "missing"))
    assert (code, outcomes(objects)) == (2, [(None, "file-unreadable", False)])
    code, objects = send("bob", "")
    assert (code, outcomes(objects)) == (2, [(None, "usage", False)])


@pytest.mark.parametrize(
    ("error", "code", "kept"),
    [
        (InvalidServerResponse("The server gave the answer to another request."), 6, True),
        (CipherError("no usable key"), 4, True),
        (ServerUnreachable("There is no server."), 3, True),
    ],
)
def test_what_waits_in_the_outbox_is_kept_whatever_went_wrong(
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    kept: bool,
) -> None:
    real = Outbox.flush

    def fail(outbox: Outbox, me: Any, watched: int | None = None, *more: Any, **named: Any) -> int:
        if watched is not None:
            raise error
        return real(outbox, me, watched, *more, **named)

    monkeypatch.setattr(Outbox, "flush", fail)
    found, objects = send("bob", "hello")
    assert (found, objects[0]["code"], objects[0]["kept"]) == (code, code, kept)


@pytest.mark.parametrize(
    ("reason", "code", "kept"),
    [(RefusalReason.MAILBOX_FULL, 5, True), (RefusalReason.TOO_FAST, 5, True), (RefusalReason.TOO_LARGE, 5, False)],
)
def test_a_refusal_that_time_may_heal_is_kept(
    send: Send,
    gateway: FakeGateway,
    reason: RefusalReason,
    code: int,
    kept: bool,
) -> None:
    assert isinstance(gateway.mailroom, ExtendedMailroom)
    gateway.mailroom.reasons[gateway.mailroom.id_of("bob")] = ErrorResponse(reason, 0)
    assert [(found, objects[0]["kept"]) for found, objects in [send("bob", "hello")]] == [(code, kept)]


def test_each_recipient_has_an_outcome_of_its_own(send: Send) -> None:
    code, objects = send("--to", "bob", "--to", "nobody", "--to", "bob", "two", "words")
    assert (code, outcomes(objects)) == (7, [("bob", None, None), ("nobody", "no-such-user", False)])
    # What needs doing counts more than what is kept.
    code, objects = send("--to", "bob", "--to", "nobody", "hello", server=NOWHERE)
    assert (code, outcomes(objects)) == (3, [("bob", "no-server", True), ("nobody", "no-server", False)])


def test_the_exit_code_is_that_of_the_first_that_is_not_kept(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def agree(_: KeyExchange, name: str) -> bool:
        if name == "carol":
            raise ServerAnsweredError("no")
        return False

    monkeypatch.setattr(KeyExchange, "agree_on_key", agree)
    code, objects = send("--to", "bob", "--to", "carol", "hello", server=NOWHERE)
    assert (code, outcomes(objects)) == (6, [("bob", "no-server", True), ("carol", "refused", False)])
