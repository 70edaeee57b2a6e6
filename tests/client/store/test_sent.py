"""The history's sent half: what became of each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.sent import Outgoing
from common.values import ClientId, MessageKind, Token
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


def test_what_somebody_got_is_withheld_and_what_waits_is_not(store: Store) -> None:
    def keep(recipient: ClientId, number: int, *, is_sealed: bool) -> int:
        name = Token(bytes([number]) * 16)
        outgoing = Outgoing(str(number), None, MessageKind.TEXT, name)
        kept = store.outbox.add_payload(recipient, b"payload", None, name, NOW, outgoing)
        if is_sealed:
            with store.database.transaction():
                (row,) = [one for one in store.outbox.waiting() if one.number == kept]
                store.outbox.sealed(row, b"sealed", 6, NOW)
        return kept

    stored, others = keep(A, 1, is_sealed=True), keep(B, 2, is_sealed=True)
    for number in (stored, others):
        store.outbox.stored(number, 1, NOW)
    keep(A, 3, is_sealed=True)
    keep(A, 4, is_sealed=False)
    asked = store.sent.by_outbox(stored)
    assert asked is not None
    assert store.outbox.repeat(asked, b"payload", None, Token(bytes(16)), NOW) is not None
    with store.database.transaction():
        store.sent.withhold(A)
    rows = store.sent.all()
    assert [(row.text, row.withheld) for row in rows] == [("1", True), ("2", False), ("3", True), ("4", False)]
    assert not any(row.repeats for row in rows)
    assert store.outbox.repeat(rows[2], b"payload", None, Token(bytes(16)), NOW) is None


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
