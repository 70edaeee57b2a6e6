"""Handing out messages: attempts, messages set aside, and that only one process does it."""

from __future__ import annotations

import fcntl
import json
from typing import TYPE_CHECKING

import pytest

from client.cli import watching
from client.cli.checks import Doctor
from client.cli.hook import Failure, Hook
from client.cli.output import Output
from client.settings import Flags, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway


class Refuses(Hook):
    """Fails as it is told; the words do not matter."""

    def __init__(self, *failures: Failure | None) -> None:
        super().__init__("true", None)
        self._failures = list(failures)

    def run(self, given: bytes) -> Failure | None:
        return self._failures.pop(0)


BAD = Failure("the command ended with code 1")
BUSY = Failure("the command can't be started now", its_own=False)


def test_tries_are_counted_over_restarts_and_for_each_message(
    alice: Messenger, bob: Messenger, capsys: pytest.CaptureFixture[str]
) -> None:
    bob.home.watch_cursor.position()
    alice.send("bob", "one")
    list(bob.receive())
    output = Output(as_json=False, quiet=False)

    def hand_out(*failures: Failure | None) -> None:
        watching.hand_out(bob.home, watching.Taker(bob.home, output, Refuses(*failures), tries=3))

    for failures in ([BAD], [BUSY], [None, BAD], [BUSY], [BAD]):
        with pytest.raises(watching.NotTaken):
            hand_out(*failures)
    assert bob.home.watch_cursor.messages_set_aside() == []
    hand_out(BAD)
    (aside,) = bob.home.watch_cursor.messages_set_aside()
    assert "Message 2 from alice was not taken: the command ended with code 1, 3 times" in capsys.readouterr().err
    assert bob.home.watch_cursor.position() == aside.number == 2
    # What is printed is taken too.
    assert watching.retry(bob.home, output, Refuses(BAD)) == 1
    assert watching.retry(bob.home, output, None) == 0
    assert ": one" in capsys.readouterr().out
    assert bob.home.watch_cursor.messages_set_aside() == []
    assert bob.home.store.settings.names("watch_tries:") == bob.home.store.settings.names("watch_aside:") == []


def test_a_message_that_can_be_read_late_is_set_aside_like_any_other(alice: Messenger, bob: Messenger) -> None:
    bob.home.watch_cursor.position()
    alice.send("bob", "one")
    list(bob.receive())
    output = Output(as_json=False, quiet=True)
    watching.hand_out(bob.home, watching.Taker(bob.home, output, Refuses(None, None)))
    message = list(bob.seen())[-1]._replace(late=True)
    taker = watching.Taker(bob.home, output, Refuses(BAD, BAD), tries=2)
    with pytest.raises(watching.NotTaken):
        taker.hand(message)
    taker.hand(message)
    assert [one.number for one in bob.home.watch_cursor.messages_set_aside()] == [message.number]


def test_who_hands_out_behind_the_cursor_is_alone(
    alice: Messenger,
    bob: Messenger,
    make: Callable[..., Messenger],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Of several watches of a home."""
    from client.cli import watching
    from client.cli.output import Output
    from client.store.home_store import WATCH_LOCK_FILE

    bob.home.watch_cursor.position()
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "once")
    list(bob.receive())
    beside = make("bob")
    alone = []

    def hand(*_: object) -> None:
        with (tmp_path / "bob" / WATCH_LOCK_FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone.append(True)

    monkeypatch.setattr(watching.Taker, "try_once", hand)
    output = Output(as_json=False, quiet=True)
    watching.hand_out(bob.home, watching.Taker(bob.home, output, None))
    assert alone == [True, True]
    watching.hand_out(beside.home, watching.Taker(beside.home, output, None))
    assert len(alone) == 2


def test_doctor_says_how_many_are_set_aside(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        Flags(home=tmp_path / "bob", server=str(gateway.address)), {"MESSAGEU_CONFIG": "none"}, tmp_path
    )

    def check() -> tuple[int, dict[str, object]]:
        code = Doctor(settings, Output(as_json=True, quiet=False), lambda: "").run()
        objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return code, next(one for one in objects if one["name"] == "watch")

    bob.home.watch_cursor.position()
    assert (check()[1]["ok"], check()[1]["text"]) == (True, "no message is set aside")
    output = Output(as_json=False, quiet=True)
    for count, said in enumerate(("1 message was set aside, ", "2 messages were set aside, "), start=1):
        alice.send("bob", "one more")
        list(bob.receive())
        refusing = Refuses(*[None] * (2 - count), BAD)
        watching.hand_out(bob.home, watching.Taker(bob.home, output, refusing, tries=1))
        code, found = check()
        assert (code, found["ok"], str(found["text"]).startswith(said)) == (1, False, True)
        assert "`messageu watch --set-aside` lists " in str(found["text"])
        assert "`messageu watch --retry --exec CMD` hands " in str(found["text"])
    assert watching.retry(bob.home, output, None) == 0
    capsys.readouterr()
    assert check()[1]["ok"]
