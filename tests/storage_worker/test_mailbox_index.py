"""What the index puts off, does later, and finds again after a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_worker import mailbox_index
from storage_worker.database import Database
from storage_worker.mailbox_index import Load, MailboxIndex


@pytest.fixture(autouse=True)
def few_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_index, "_FILE_FROM", 12)
    monkeypatch.setattr(mailbox_index, "_FILE_AT_ONCE", 3)
    monkeypatch.setattr(mailbox_index, "_PURGE_FROM", 5)


def open_database(folder: Path) -> Database:
    database = Database(folder / "store.db")
    if database.find("SELECT 1 FROM store") is None:
        with database.transaction():
            database.execute("INSERT INTO store VALUES (1, x'00', 1, 1, 0, 0, 0)")
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path)
    yield database
    database.close()


class Mail:
    """The index beside a plain model of what must be in the mailboxes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.index = MailboxIndex(database)
        self.model: dict[int, dict[int, int]] = {}
        self.sequence = 0

    def put(self, *users: int) -> None:
        with self.database.transaction():
            for user in users:
                self.sequence += 1
                size = self.sequence * 10
                self.database.execute(
                    "INSERT INTO message VALUES (?, ?, 1, 3, 0, 0, x'00', ?, x'', NULL)", (self.sequence, user, size)
                )
                self.index.add(user, self.sequence, size)
                self.model.setdefault(user, {})[self.sequence] = size
            self.index.work(at_once=False)

    def remove(self, user: int, first: int, last: int) -> None:
        with self.database.transaction():
            self.index.remove(user, first, last)
            self.index.work(at_once=False)
        mailbox = self.model.get(user, {})
        for sequence in [sequence for sequence in mailbox if first <= sequence <= last]:
            del mailbox[sequence]

    def check(self) -> None:
        expected = {user: Load(len(box), sum(box.values())) for user, box in self.model.items() if box}
        assert self.index.loads() == expected
        assert MailboxIndex(self.database).loads() == expected, "as found on disk"

    def rows(self, table: str) -> int:
        count: int = self.database.row(f"SELECT count(*) FROM {table}")[0]
        return count


def test_entries_are_filed_when_there_are_many_a_few_at_a_time(database: Database) -> None:
    mail = Mail(database)
    mail.put(*[1, 2, 3, 4] * 2)
    assert mail.rows("mailbox") == 0
    mail.put(1, 2, 3, 4)
    assert 0 < mail.rows("mailbox") < 12
    while mail.rows("mailbox") < 12:
        mail.put()
    assert database.row("SELECT filed FROM store") == (12,)
    mail.check()


def test_a_mailbox_that_is_asked_for_is_filed_at_once(database: Database) -> None:
    mail = Mail(database)
    mail.put(1, 2, 1)
    with database.transaction():
        assert mail.index.weigh(1) == Load(2, 40)
    assert mail.rows("mailbox") == 2
    mail.check()


def test_rows_of_deleted_messages_go_when_there_are_many(database: Database) -> None:
    mail = Mail(database)
    mail.put(*[1] * 8)
    mail.remove(1, 2, 4)
    assert (mail.rows("message"), mail.rows("dead")) == (8, 1)
    mail.check()
    mail.remove(1, 7, 99)
    assert (mail.rows("message"), mail.rows("dead")) == (3, 0)
    mail.check()


def test_short_of_room_they_go_at_once(database: Database) -> None:
    mail = Mail(database)
    mail.put(1, 1)
    mail.remove(1, 1, 1)
    with database.transaction():
        mail.index.work(at_once=True)
    assert mail.rows("message") == 1
    with database.transaction():
        assert not mail.index.purge()
    mail.check()


def test_a_transaction_that_is_undone_leaves_no_trace(database: Database) -> None:
    mail = Mail(database)
    mail.put(1, 2, 3)
    before = mail.index.loads()
    with pytest.raises(ZeroDivisionError), database.transaction():
        mail.index.add(1, 4, 40)
        mail.index.remove(2, 0, 9)
        raise ZeroDivisionError
    mail.index.reload()
    assert mail.index.loads() == before
    mail.check()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.lists(st.integers(1, 4), min_size=1, max_size=8)),
            st.tuples(st.just("remove"), st.tuples(st.integers(1, 4), st.integers(0, 60), st.integers(0, 60))),
            st.tuples(st.just("ask"), st.integers(1, 4)),
            st.tuples(st.just("restart"), st.none()),
        ),
        max_size=25,
    )
)
def test_whatever_is_done_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    database = open_database(tmp_path_factory.mktemp("index"))
    mail = Mail(database)
    for what, argument in steps:
        match what, argument:
            case "put", list(users):
                mail.put(*users)
            case "remove", (int(user), int(first), int(last)):
                mail.remove(user, first, last)
            case "ask", int(user):
                with database.transaction():
                    box = mail.model.get(user, {})
                    assert mail.index.weigh(user) == Load(len(box), sum(box.values()))
            case _:
                mail.index = MailboxIndex(database)
        mail.check()
    database.close()
