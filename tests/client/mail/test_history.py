from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import (
    ServerUnreachable,
)
from client.messages import Received, SentMessage, Text
from client.messenger import Messenger
from common.server_address import ServerAddress
from tests.client.conftest import NOW
from tests.client.exchange import receive
from tests.client.fake_gateway import (
    ExtendedMailroom,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def words(messages: Sequence[Received | SentMessage]) -> list[str | None]:
    found = [message if isinstance(message, SentMessage) else message.content for message in messages]
    return [one.text for one in found if isinstance(one, SentMessage | Text)]


def test_the_newest_of_one_user_without_what_waits(
    make: Callable[..., Messenger], alice: Messenger, bob: Messenger
) -> None:
    carol = make("carol")
    carol.register("carol")
    for one, name in ((bob, "alice"), (carol, "alice"), (alice, "bob"), (alice, "carol")):
        one.agree_on_key(name)
        for number in range(3):
            one.home.sending.send_text(name, f"{number} to {name} of {one.identity().name}")
        list(alice.receive())
    alice.close()
    offline = make("alice", server=ServerAddress("127.0.0.1", 1))
    with pytest.raises(ServerUnreachable):
        offline.home.sending.send_text("bob", "waits")
    contact = offline.contact("bob")
    asked: list[object] = []
    read = offline.home.store.database.rows

    def watched(query: str, *values: object) -> object:
        rows = read(query, *values)  # type: ignore[arg-type]
        if " FROM inbox " in query or " FROM sent " in query:
            asked.extend(rows)
        return rows

    offline.home.store.database.rows = watched  # type: ignore[method-assign, assignment]
    assert words(offline.recent(contact, 3)) == ["0 to bob of alice", "1 to bob of alice", "2 to bob of alice"]
    # No more was read than can be shown of each side.
    assert len(asked) <= 6
    assert len(offline.recent(contact, 100)) == 7
    assert words(offline.home.history.waiting(contact.client_id)) == ["waits"]
    assert {message.sender_name for message in offline.recent(contact, 100) if isinstance(message, Received)} == {"bob"}


def test_history_is_in_the_order_in_which_it_happened_here(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger]
) -> None:
    alice, bob = pair
    alice.close()
    said = ["one", "two", "three", "four"]
    # Alice's clock is set back, and goes wrong by years.
    clocks = [NOW + 9_000_000, NOW - 9_000_000]
    for text, clock in zip(said[::2], clocks, strict=True):
        here = make("alice", clock=lambda now=clock: now)
        here.home.sending.send_text("bob", text)
        here.close()
        receive(bob)
        bob.home.sending.send_text("alice", said[said.index(text) + 1])
        here = make("alice", clock=lambda now=clock: now)
        receive(here)
        here.close()
    texts: list[str | None] = []
    for entry in make("alice").history():
        if isinstance(entry, SentMessage):
            texts.append(entry.text)
        elif isinstance(entry.content, Text):
            texts.append(entry.content.text)
    assert texts == said
