"""What is printed about messages that are possibly lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from client.cli.output import Output
from client.cli.resend_lines import resend, summary
from client.messages import Resent
from tests.client.fake_gateway import ExtendedMailroom, SuiteMailroom

if TYPE_CHECKING:
    from pathlib import Path

    from client.messenger import Messenger


@pytest.fixture(params=[ExtendedMailroom, SuiteMailroom])
def mailroom(request: pytest.FixtureRequest) -> ExtendedMailroom:
    made: ExtendedMailroom = request.param()
    return made


def test_what_is_said_of_it() -> None:
    assert list(summary(Resent([], 0, 0, 0, []))) == ["Nothing is possibly lost."]
    assert list(summary(Resent([], 1, 0, 2, ["A file is gone."]))) == [
        "A file is gone.",
        "One message is sent again.",
        "2 messages are still marked as possibly lost; `messageu resend --forget` takes the marks away.",
    ]
    assert list(summary(Resent([], 0, 3, 0, []))) == [
        "3 messages are kept, and sent again as soon as the server takes them."
    ]


def test_each_text_and_file_is_an_object_with_its_suite(
    alice: Messenger,
    bob: Messenger,
    mailroom: ExtendedMailroom,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "plan").write_bytes(b"the plan")
    alice.send("bob", "hello")
    alice.send("bob", tmp_path / "plan")
    # A backup was put back at the server.
    mailroom.generation += 1
    alice.home.link.close()
    alice.home.link.connect()
    capsys.readouterr()
    suite = int(isinstance(mailroom, SuiteMailroom))
    assert resend(alice.home, Output(as_json=True, quiet=False), None, forget=False) == 0
    text, file = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    to_bob = {"v": 1, "type": "sent", "to": "bob", "id": bob.identity().client_id.hex(), "recipient_verified": False}
    text_id, file_id = text.pop("message_id"), file.pop("message_id")
    assert text == {**to_bob, "kind": "text", "suite": suite}
    assert file == {**to_bob, "kind": "file", "path": str(tmp_path / "plan"), "suite": suite}
    assert 0 < text_id < file_id
