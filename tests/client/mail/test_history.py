from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import ServerUnreachable
from client.messages import Received, SentMessage, Text
from client.messenger import Messenger
from common.info_files import ServerAddress
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway(ExtendedMailroom()) as fake:
        yield fake


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
