"""The gateway as a program with limits, and our own client beside it."""

from pathlib import Path

import pytest

from client.errors import ServerAnsweredError
from client.messenger import Messenger, Text
from common.values import RefusalReason
from torture.caller import Caller, Refused, new_account, new_key, public_half
from torture.programs import Server

pytestmark = pytest.mark.slow

NEVER = 999_999
"""Seconds: no test waits for them."""


def test_what_is_refused_as_too_fast_is_kept_and_sent_when_it_passes(tmp_path: Path) -> None:
    limits = ("--limits=on", f"--limit-messages=2+1/{NEVER}s")
    with Server(tmp_path / "server", gateway_arguments=limits).start() as server:
        place = f"127.0.0.1:{server.port}"
        with Messenger.open(tmp_path / "alice", place) as alice, Messenger.open(tmp_path / "bob", place) as bob:
            alice.register("alice")
            bob.register("bob")
            alice.send("bob", "one")
            alice.send("bob", "two")
            with pytest.raises(ServerAnsweredError) as refused:
                alice.send("bob", "three")
            assert refused.value.reason == RefusalReason.TOO_FAST
            assert 0 < refused.value.retry_after <= NEVER
            assert "kept" in refused.value.advice
            # A gateway that has just started remembers nobody.
            server.gateway.stop()
            server.start()
            alice.send("bob", "four")
            texts = [message.content for message in bob.receive() if isinstance(message.content, Text)]
            assert texts == [Text(word) for word in ("one", "two", "three", "four")]


def test_an_address_registers_so_many_users(tmp_path: Path) -> None:
    limits = ("--limits=on", f"--limit-registrations=2+1/{NEVER}s")
    with Server(tmp_path, gateway_arguments=limits).start() as server:
        new_account(server.port, "one")
        new_account(server.port, "two")
        with Caller(server.port) as caller:
            caller.hello()
            with pytest.raises(Refused) as refused:
                caller.register("three", public_half(new_key("three")))
            assert refused.value.reason == RefusalReason.TOO_FAST
