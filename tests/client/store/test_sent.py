"""The history's sent half: what became of each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.sent import Outgoing
from common.values import MessageKind, Token
from tests.client.store.mail import NOW, A, B, message, pull

if TYPE_CHECKING:
    from client.store.home_store import Store

TEXT = Outgoing("hi", None)


def test_a_message_without_the_outbox_and_what_became_of_it(store: Store) -> None:
    stored, failed, unknown = (store.sent.add(A, MessageKind.TEXT, TEXT, NOW + at) for at in range(3))
    store.sent.stored(stored, 9, NOW + 10)
    store.sent.failed(failed, "There is no server.")
    rows = store.sent.all()
    assert [row.number for row in rows] == [stored, failed, unknown]
    assert [(row.stored_at, row.message_id, row.problem) for row in rows] == [
        (NOW + 10, 9, None),
        (None, None, "There is no server."),
        (None, None, None),
    ]
    assert [row.queued_at for row in rows] == [NOW, NOW + 1, NOW + 2]
    assert not any(row.waiting or row.damaged or row.lost for row in rows)


def test_a_file_has_its_path(store: Store) -> None:
    store.sent.add(A, MessageKind.FILE, Outgoing(None, "/home/a/plan.pdf"), NOW)
    assert [(row.kind, row.text, row.path) for row in store.sent.all()] == [(4, None, "/home/a/plan.pdf")]


def test_it_is_behind_what_had_been_received(store: Store) -> None:
    store.sent.add(A, MessageKind.TEXT, TEXT, NOW)
    pull(store, message(1), message(2))
    store.sent.add(A, MessageKind.TEXT, TEXT, NOW)
    assert [row.after for row in store.sent.all()] == [0, 2]


def test_of_one_recipient(store: Store) -> None:
    for at, recipient in enumerate((A, B, A, A)):
        store.sent.add(recipient, MessageKind.TEXT, Outgoing(str(at), None), NOW + at)
    token = Token(bytes(16))
    number = store.outbox.add(A, MessageKind.TEXT, 1, b"x", token, None, NOW + 9, Outgoing("waits", None))
    assert [row.text for row in store.sent.recent(A, 2)] == ["2", "3"]
    assert [row.text for row in store.sent.recent(B, 2)] == ["1"]
    assert [row.text for row in store.sent.waiting(A)] == ["waits"]
    assert store.sent.waiting(B) == []
    assert sorted(store.sent.by_recipient()) == [(A, NOW + 9), (B, NOW + 1)]
    found = store.sent.by_outbox(number)
    assert found is not None
    assert (found.text, found.outbox) == ("waits", number)
    assert store.sent.by_outbox(number + 1) is None
