"""When a new symmetric key is made, and when an old one stays in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.messenger import Messenger, Text
from tests.client.exchange import NOWHERE, receive
from tests.client.fake_gateway import (
    ExtendedMailroom,
    FakeGateway,
)

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def test_where_a_waiting_key_was_set_aside_a_new_one_goes_first(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice, bob = pair
    receive(bob)
    alice.close()
    offline = make("alice", server=NOWHERE)
    offline.home.store.database.run("DELETE FROM shared_key")
    offline.home.key_exchange.keep_key("bob")
    offline.keep_text("bob", "first")
    # Both left, and no answer came.
    offline.home.store.database.run("UPDATE outbox SET tried_at = 0")
    offline.close()
    later = make("alice")
    later.home.sending.send_text("bob", "second")
    assert receive(bob)[-1] == Text("second")
    assert [failed.text for failed in later.failed()] == [None, "first"]


def test_who_asks_for_a_key_again_gets_a_new_one_before_the_next_text(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway
) -> None:
    alice, bob = pair
    alice.home.sending.send_text("bob", "under the first key")
    receive(bob)
    assert not alice.agree_on_key("bob")
    # Bob has lost his store, say.
    bob.home.store.database.run("DELETE FROM shared_key")
    bob.request_key("alice")
    receive(alice)
    assert alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "under a new one")
    assert receive(bob)[-1] == Text("under a new one")
    assert not alice.agree_on_key("bob"), "it was answered"
