"""No statement of the store reads a growing table from end to end, except those that return all of
it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from client.store import database
from client.store.inbox import NewMessage
from client.store.sent import Outgoing
from common.values import MessageKind, PublicKey, Token
from tests.client.store.mail import K1, MUCH_LATER, NOW, A, B, message, pull, unread

if TYPE_CHECKING:
    from client.store.home_store import Store

GROWING: Final = (
    "inbox", "outbox", "sent", "pull", "contact", "shared_key", "pin", "acknowledged", "setting", "i", "s", "o", "a",
)  # fmt: skip
"""The tables, and the names that statements give them."""
WHOLE: Final = {
    ("pin_offered", "pin"), ("outbox_waiting", "outbox"), ("outbox_failed", "outbox"), ("contact_listed", "contact"),
    ("acknowledged_lost", "acknowledged"), ("acknowledged_kept", "acknowledged"),
}  # fmt: skip
"""Partial indexes that are read whole because all of what is in them is asked for."""
ROWS: Final = 2_000


class Recorder:
    """Remembers the text of every statement that the store runs, and how many steps
    SQLite took over it.
    """

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: set[str] = set()
        self.steps = 0
        self._connection = store.database.connection
        for name in ("rows", "run"):
            monkeypatch.setattr(database.Database, name, self._recording(getattr(database.Database, name)))
        self._connection.set_progress_handler(self._step, 1)

    def _recording(self, method: Any) -> Any:
        def recorded(one: database.Database, statement: str, *values: Any) -> Any:
            self.statements.add(statement)
            return method(one, statement, *values)

        return recorded

    def _step(self) -> bool:
        self.steps += 1
        return False

    def scans(self) -> list[str]:
        """Name the statements that read a growing table whole."""
        found = []
        for statement in sorted(self.statements):
            if re.match(r"PRAGMA|VACUUM|BEGIN|COMMIT", statement):
                continue
            numbered = [int(digit) for digit in re.findall(r"\?(\d+)", statement)]
            unbound = (None,) * (max(numbered) if numbered else statement.count("?"))
            for *_, detail in self._connection.execute(f"EXPLAIN QUERY PLAN {statement}", unbound):
                scanned = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
                whole = scanned and scanned[1] in GROWING and (scanned[2], scanned[1]) not in WHOLE
                first = scanned and scanned[2] == "inbox_seen" and statement.endswith("ORDER BY number DESC LIMIT 1")
                if "USE TEMP B-TREE" in detail or (whole and not first):
                    found.append(f"{statement}: {detail}")
        return found


def everything(store: Store) -> None:
    """Every use of the tables that happens per message, per command or per answer."""
    pull(store, message(1), message(2, sender=B), complete=False)
    pull(store, message(1), message(2, sender=B))
    store.inbox.add_fetched([fetched(7)], NOW, 1)
    unread(store)
    list(store.inbox.seen(0))
    store.inbox.recent(A, 10)
    store.inbox.by_sender()
    store.inbox.last_seen()
    store.inbox.newest_accepted_at()
    key = store.keys.add_made(A, K1, NOW)
    store.keys.confirm(key)
    store.keys.add_received(A, K1, NOW, message=1)
    store.keys.came_unasked(1)
    store.keys.ask(A)
    store.keys.of(A)
    store.keys.near(A, 1)
    store.keys.numbered(A, key)
    store.keys.newest_usable(A, PublicKey(bytes(160)))
    store.keys.asked_since(A, key)
    for number in range(2):
        store.outbox.add(A, MessageKind.TEXT, 1, b"x", Token(bytes([number]) * 16), key, NOW, Outgoing("x", None))
    store.outbox.waiting_count()
    store.outbox.carrying(key)
    first, second = store.outbox.waiting()
    store.outbox.is_waiting(first.number)
    store.outbox.trying(first.number, NOW)
    store.outbox.surely_not_there(first.number)
    store.sent.waiting(A)
    store.sent.recent(A, 10)
    store.outbox.stored(first.number, 1, NOW)
    store.outbox.set_aside(second.number, "no")
    store.outbox.failed()
    lost_and_again(store, first.number)
    store.sent.by_recipient()
    store.sent.by_outbox(second.number)
    store.contacts.replace_list([(A, "alice"), (B, "bob")])
    store.contacts.of_id(A)
    store.contacts.listed_as("alice")
    store.contacts.names_near("alic", 5)
    store.pins.changed()
    store.pins.of_name("alice")
    store.pins.of_id(A)
    store.keys.copy(A, B, NOW)
    store.pins.move(A, B)
    store.settings.names("watch_aside:")
    store.sweep(MUCH_LATER)


def lost_and_again(store: Store, number: int) -> None:
    store.server.remember(b"s" * 16, 2, NOW)
    store.acknowledged.lost_count()
    store.acknowledged.lost_carrying(7)
    store.acknowledged.lost_recipients()
    store.acknowledged.is_lost(number)
    row = store.acknowledged.lost(0)
    assert row is not None
    store.outbox.add_again(row, A, b"x", NOW)
    store.outbox.is_there(number)
    store.outbox.returned(number, NOW)
    store.acknowledged.forget_lost(A)


def fetched(number: int) -> NewMessage:
    return message(number)._replace(token=number.to_bytes(16, "big"), accepted_at=NOW, sender_proven=True)


def test_no_statement_scans_what_grows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.server.remember(b"s" * 16, 1, 0)
    recorder = Recorder(store, monkeypatch)
    everything(store)
    assert len(recorder.statements) > 40
    assert recorder.scans() == []


def test_the_recorder_finds_a_scan(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(store, monkeypatch)
    store.database.rows("SELECT size FROM inbox WHERE kind = 3")
    store.database.rows("SELECT size FROM inbox ORDER BY received_at DESC LIMIT 5")
    assert len(recorder.scans()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["pulled", "fetched"])
def test_a_message_costs_the_same_behind_a_long_history(
    store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    store.server.remember(b"s" * 16, 1, 0)
    recorder = Recorder(store, monkeypatch)

    def one(number: int) -> int:
        before = recorder.steps
        if way == "pulled":
            pull(store, message(number, b""))
        else:
            store.inbox.add_fetched([fetched(number)], NOW, 1)
        unread(store)
        return recorder.steps - before

    one(1)
    early = one(2)
    # The same sender, empty, and in one 604: what made an attacker's mail the dearest.
    pull(store, *(message(number, b"") for number in range(3, ROWS)), complete=False)
    store.inbox.add_fetched([fetched(number)._replace(content=b"", size=0) for number in range(ROWS, 2 * ROWS)], NOW, 1)
    unread(store)
    late = one(2 * ROWS)
    assert late <= early + early // 2
