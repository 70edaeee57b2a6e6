"""A user whose registered "public key" is not a key: every command about such a user reports it in
a sentence.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from client.__main__ import main
from client.cli import exit_codes
from common.values import MessageKind
from tests.test_hostile_keys import PRIVATE, ZERO_PRIME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway

KEYS = {"a prime of 0": ZERO_PRIME, "zeros": bytes(160), "half a private key": PRIVATE[:160], "text": b"ssh-rsa " * 20}


@pytest.fixture(params=list(KEYS))
def mallory(
    request: pytest.FixtureRequest,
    make: Callable[..., Messenger],
    gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> bytes:
    """Registered with such a key, and asks alice for a symmetric key."""
    monkeypatch.setenv("MESSAGEU_CONFIG", "/nonexistent/config.toml")
    make("alice").register("alice")
    mallory = gateway.mailroom.register("mallory", KEYS[request.param])
    gateway.mailroom.put(mallory, gateway.mailroom.id_of("alice"), MessageKind.KEY_REQUEST, b"")
    return mallory


def run(tmp_path: Path, gateway: FakeGateway, *words: str) -> int:
    return main(["--home", str(tmp_path / "alice"), "--server", str(gateway.address), *words])


@pytest.mark.usefixtures("mallory")
@pytest.mark.parametrize("words", [["send", "mallory", "hello"], ["key", "mallory"], ["verify", "mallory"]])
def test_a_command_says_what_is_wrong(
    tmp_path: Path, gateway: FakeGateway, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, gateway, *words) == exit_codes.UNTRUSTED
    assert "The public key that mallory registered can't be used" in capsys.readouterr().err


@pytest.mark.usefixtures("mallory")
def test_a_request_for_a_key_is_not_answered_and_recv_goes_on(
    tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGEU_ANSWER_KEY_REQUESTS", "always")
    assert run(tmp_path, gateway, "recv") == exit_codes.DONE
    said = capsys.readouterr()
    assert "The key for mallory [unproven] was not sent: The public key that mallory registered" in said.out + said.err


@pytest.mark.usefixtures("mallory")
def test_the_console_says_it_and_goes_on(
    tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("120\n130\nmallory\n152\nmallory\n120\n0\n"))
    assert run(tmp_path, gateway) == exit_codes.DONE
    shown = capsys.readouterr().out
    assert "can't be used" in shown
    assert shown.count("mallory") >= 3
