"""Altered data is refused and named, and everything else continues."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.storage_protocol.message_format import SEND_FRAME, pack_frame_once
from common.storage_protocol.operations import (
    NO_MAIL,
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    GetProofKey,
    GetPublicKey,
    ListUsers,
    MarkAuthenticated,
    MessagesStored,
    Operation,
    Outcome,
    Pull,
    Pulled,
    Refused,
    Register,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from common.values import RefusalReason
from storage_worker import admin
from storage_worker.engine.errors import StoreDamaged, StoreUnusable
from storage_worker.engine.sqlite.database import PAGE_SIZE
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker, pieces


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[SqliteWorker]:
    worker = SqliteWorker(tmp_path)
    yield worker
    worker.kill()


class Lives:
    """Two mailboxes with mail in the database: `bad`, whose page is altered by a test,
    and `good`.
    """

    def __init__(self, worker: SqliteWorker) -> None:
        self.worker = worker
        self.gateway = Gateway(worker)
        self.sender, self.bad, self.good = self.gateway.register("sender", "bad box", "good box")
        self.sequences = self.gateway.store(self.sender, self.bad, b"first" * 9, b"second" * 9)
        self.gateway.store(self.sender, self.good, b"fine")
        worker.flush()
        self.row: int = worker.database.row("SELECT row FROM mail_page WHERE first = ?", (self.sequences[0],))[0]

    def alter(self, column: str, value: str) -> None:
        list(self.worker.database.execute(f"UPDATE mail_page SET {column} = {value} WHERE row = {self.row}"))

    def fetch(self, who: bytes) -> Outcome:
        return self.gateway.one(Pull(next(self.gateway.leases), who, False, 10**6, 0, 10**6))


def reason(outcome: Outcome) -> RefusalReason:
    assert isinstance(outcome, Refused), outcome
    return RefusalReason(outcome.reason)


FLIPPED = "CAST(substr(entries, 1, 60) || x'00' || substr(entries, 62) AS BLOB)"


@pytest.mark.parametrize(
    ("column", "value"),
    [("entries", FLIPPED), ("entries", "substr(entries, 1, 20)"), ("checksum", "checksum + 1"), ("messages", "3")],
)
def test_an_altered_page_is_refused_and_named_and_the_rest_goes_on(
    worker: SqliteWorker, tmp_path: Path, column: str, value: str, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lives = Lives(worker)
    lives.alter(column, value)
    for _ in range(2):
        assert reason(lives.fetch(lives.bad)) is RefusalReason.DAMAGED
        fetch = Fetch(lives.bad, True, 0, 10**6, 0, 10**6, False)
        assert reason(lives.gateway.one(fetch)) is RefusalReason.DAMAGED
    assert f"page {lives.row} of the mailbox of 'bad box' ({lives.bad.hex().upper()}) is altered" in caplog.text
    leased = lives.fetch(lives.good)
    assert isinstance(leased, Pulled)
    assert [piece.content for piece in pieces(leased.page)] == [b"fine"]
    # New mail comes in, also for that mailbox, and goes to the database.
    lives.gateway.store(lives.sender, lives.bad, b"behind it")
    worker.flush()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    said = capsys.readouterr().out
    assert f"page {lives.row} of the mailbox of 'bad box'" in said
    assert "good box" not in said


def test_a_part_of_an_altered_page_can_be_deleted_and_taken_in(worker: SqliteWorker, tmp_path: Path) -> None:
    lives = Lives(worker)
    lives.alter("entries", FLIPPED)
    lives.gateway.ask(Settle(1, lives.bad, False, lives.sequences[0], lives.sequences[0]))
    worker.flush()
    worker.kill()
    again = SqliteWorker(tmp_path)
    gateway = Gateway(again, incarnation=b"i" * 16)
    assert isinstance(gateway.one(Pull(1, lives.bad, False, 10**6, 0, 10**6)), Refused)
    assert isinstance(gateway.one(Pull(2, lives.good, False, 10**6, 0, 10**6)), Pulled)
    again.kill()


def test_what_lies_before_an_altered_page_is_handed_out(worker: SqliteWorker) -> None:
    lives = Lives(worker)
    lives.gateway.store(lives.sender, lives.bad, b"behind")
    worker.flush()
    lives.row += 2
    lives.alter("checksum", "1")
    assert isinstance(lives.fetch(lives.bad), Refused), "it is not known yet"
    leased = lives.fetch(lives.bad)
    assert isinstance(leased, Pulled)
    assert [piece.content for piece in pieces(leased.page)] == [b"first" * 9, b"second" * 9]


def test_altered_pages_are_dropped_on_request(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = Lives(worker)
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 0
    lives.alter("entries", FLIPPED)
    worker.close()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    assert admin.main(["--data-folder", str(tmp_path), "check", "--drop"]) == 0
    assert "Nothing is altered." in capsys.readouterr().out
    again = SqliteWorker(tmp_path)
    gateway = Gateway(again, incarnation=b"i" * 16)
    assert gateway.one(Pull(1, lives.bad, False, 10**6, 0, 10**6)) == Pulled(0, 0, 0, 0, NO_MAIL)
    again.kill()


@pytest.mark.parametrize(
    ("entries", "is_whole"),
    [
        ("entries", True),
        ("substr(entries, 1, 30)", False),
        ("substr(entries, 1, length(entries) - 1)", False),
        ("x''", False),
        ("entries || entries", False),
    ],
)
def test_a_page_without_a_checksum_is_handed_out_where_it_makes_sense(
    worker: SqliteWorker, entries: str, is_whole: bool
) -> None:
    """An earlier version wrote it, so nothing but its form vouches for it."""
    lives = Lives(worker)
    lives.alter("checksum", "NULL")
    lives.alter("entries", f"CAST({entries} AS BLOB)")
    assert isinstance(lives.fetch(lives.bad), Pulled) == is_whole


@pytest.mark.parametrize("flushed", [False, True])
def test_what_lies_before_an_altered_content_is_handed_out(worker: SqliteWorker, tmp_path: Path, flushed: bool) -> None:
    lives = Lives(worker)
    content = b"large " * 20_000
    lives.gateway.ask(BeginUpload(1, lives.sender, False, lives.good, 3, len(content)), Chunk(1, content))
    lives.gateway.ask(CommitUpload(1))
    if flushed:
        worker.flush()
    [path] = (tmp_path / "bodies").iterdir()
    whole = path.read_bytes()
    path.write_bytes(b"L" + whole[1:])
    assert isinstance(lives.fetch(lives.good), Refused), "it is not known yet"
    leased = lives.fetch(lives.good)
    assert isinstance(leased, Pulled)
    assert [piece.content for piece in pieces(leased.page)] == [b"fine"]
    assert isinstance(lives.fetch(lives.good), Refused)
    path.write_bytes(whole)
    leased = lives.fetch(lives.good)
    assert isinstance(leased, Pulled), "the disk had a bad moment"
    assert [piece.content for piece in pieces(leased.page)] == [content]


def test_an_altered_content_is_refused_and_named(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = Lives(worker)
    content = b"large " * 50_000
    lives.gateway.ask(BeginUpload(1, lives.sender, False, lives.good, 3, len(content)), Chunk(1, content))
    lives.gateway.ask(CommitUpload(1))
    stored = lives.gateway.one(CommitUpload(1))
    assert not isinstance(stored, Stored), "it was stored by the first"
    worker.flush()
    [path] = (tmp_path / "bodies").iterdir()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 0
    damaged = bytearray(path.read_bytes())
    damaged[200_000] ^= 1
    path.write_bytes(damaged)
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    said = capsys.readouterr().out
    assert f"bodies/{path.name} is altered" in said
    assert "in the mailbox of 'good box'" in said
    assert reason(lives.fetch(lives.good)) is RefusalReason.DAMAGED
    assert isinstance(lives.fetch(lives.bad), Pulled)
    worker.close()
    assert admin.main(["--data-folder", str(tmp_path), "check", "--drop"]) == 0
    again = SqliteWorker(tmp_path, seed=10**6)
    leased = Gateway(again, incarnation=b"i" * 16).one(Pull(1, lives.good, False, 10**6, 0, 10**6))
    assert isinstance(leased, Pulled)
    assert [piece.content for piece in pieces(leased.page)] == [b"fine"]
    again.kill()


def flip_pages(path: Path, pages: list[int]) -> None:
    """A bit in the middle of what each of these pages holds."""
    content = bytearray(path.read_bytes())
    for page in pages:
        end = page * PAGE_SIZE
        used = len(bytes(content[end - PAGE_SIZE : end - 8]).rstrip(b"\0")) or 1
        content[end - PAGE_SIZE + used - 1] ^= 1
    path.write_bytes(content)


def pages_of(worker: SqliteWorker, name: str) -> list[int]:
    return [page for (page,) in worker.database.execute("SELECT pageno FROM dbstat WHERE name = ?", (name,))]


TABLES = (
    "user", "sqlite_autoindex_user_1", "sqlite_autoindex_user_2", "mail_page", "page_of_mailbox", "page_of_body",
    "token_page", "token_page_of_sender", "slot", "store", "ballast",
)  # fmt: skip


@pytest.mark.parametrize("of", TABLES)
def test_whatever_table_or_index_is_damaged_nothing_wrong_is_answered(
    tmp_path: Path, of: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SqliteWorker(tmp_path)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    tokens = [b"t" * 15 + bytes([n]) for n in range(3)]
    for token in tokens:
        gateway.one(StoreMessage(alice, True, bob, 3, b"small", token))
    gateway.ask(BeginUpload(1, alice, False, bob, 3, 5), Chunk(1, b"large"))
    gateway.ask(CommitUpload(1))
    worker.flush()
    pages = pages_of(worker, of)
    assert pages
    worker.close()
    flip_pages(tmp_path / "mail.db", pages)
    try:
        worker = SqliteWorker(tmp_path, seed=10**6)
    except (StoreDamaged, StoreUnusable) as error:
        # The worker ends with 78.
        assert "mail.db is damaged" in str(error)
        return
    # Greeting needs the slot's row, which was read at the start.
    gateway = Gateway(worker, incarnation=b"i" * 16)
    frame = SEND_FRAME.pack(alice, bob, 3, 1) + b"x"
    fetch = Fetch(bob, True, 0, 10**6, 0, 10**6, False)
    operations: list[Operation] = [
        ListUsers(alice, True),
        GetPublicKey(alice, True, bob),
        GetProofKey(alice),
        Register("alice", KEY),
        Register("carol", KEY),
        StoreMessage(alice, True, bob, 3, b"small", tokens[1]),
        StoreMessage(alice, True, bob, 3, b"new", b"n" * 16),
        StoreMessages(True, frame),
        StoreMessagesOnce(True, pack_frame_once(alice, tokens[2], bob, 3, b"small")),
        StoreMessagesOnce(True, pack_frame_once(alice, b"o" * 16, bob, 3, b"new")),
        BeginUpload(7, alice, True, bob, 3, 5),
        Chunk(7, b"large"),
        CommitUpload(7),
        fetch,
        Pull(9, bob, False, 10**6, 0, 10**6),
        Settle(9, bob, False, 1, 2),
        MarkAuthenticated(alice),
    ]
    for batch in ([operation] for operation in operations):
        for outcome in gateway.ask(*batch):
            refusals = [outcome] if isinstance(outcome, Refused) else []
            refusals += [Refused(one.reason) for one in outcome.refused] if isinstance(outcome, MessagesStored) else []
            for refusal in refusals:
                assert refusal.reason in {RefusalReason.DAMAGED, RefusalReason.NAME_TAKEN}, (batch, refusal)
                assert refusal.reason == RefusalReason.DAMAGED or batch == [Register("alice", KEY)]
            if batch[0] == fetch and isinstance(outcome, Fetched) and outcome.count:
                assert [piece.content for piece in pieces(outcome.page)][:3] == [b"small"] * 3
            if isinstance(outcome, Stored) and batch == [StoreMessage(alice, True, bob, 3, b"small", tokens[1])]:
                assert outcome.sequence == 2
            if isinstance(outcome, MessagesStored):
                assert [one.sequence for one in outcome.repeated] in ([], [3])
    # All in one turn, with what writes to tables, and once more.
    for _ in range(2):
        gateway.ask(*operations)
        worker.now_ms += 10_000
        worker.handle()
    worker.close()
    assert "mail.db is damaged" in caplog.text or "is altered" in caplog.text


def test_tokens_that_are_damaged_are_not_joined_and_hold_nothing_up(tmp_path: Path) -> None:
    worker = SqliteWorker(tmp_path)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")

    def sent(*numbers: int) -> MessagesStored:
        frames = [pack_frame_once(alice, n.to_bytes(16, "big"), bob, 3, b"x") for n in numbers]
        [outcome] = gateway.ask(StoreMessagesOnce(True, b"".join(frames)))
        assert isinstance(outcome, MessagesStored)
        return outcome

    sent(0)
    worker.flush()
    sent(*range(1, 800))
    worker.flush()
    # The uses of the large page are in pages of their own.
    overflow = "SELECT pageno FROM dbstat WHERE name = 'token_page' AND pagetype = 'overflow'"
    pages = [page for (page,) in worker.database.execute(overflow)]
    assert len(pages) > 1
    worker.close()
    flip_pages(tmp_path / "mail.db", pages[-1:])
    worker = SqliteWorker(tmp_path, seed=10**6)
    gateway = Gateway(worker, incarnation=b"i" * 16)
    for number in range(900, 940):
        assert sent(number).refused == []
        worker.flush()
    [refused] = sent(500).refused
    assert refused.reason == RefusalReason.DAMAGED
    assert sent(900).repeated
    assert worker.database.row("SELECT count(*), sum(tokens) FROM token_page") == (42, 840)
    worker.close()


def test_pages_of_mail_beside_a_damaged_one_are_saved(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = Lives(worker)
    pages = pages_of(worker, "mail_page")
    worker.close()
    # Rows of both mailboxes lie in one page of the file; the bit is in the last one that was
    # written there.
    [page] = pages
    flip_pages(tmp_path / "mail.db", [page])
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    assert "'good box'" in capsys.readouterr().out
    assert admin.main(["--data-folder", str(tmp_path), "check", "--drop"]) == 0
    said = capsys.readouterr().out
    assert said.count("rewritten: page ") + said.count("dropped: page ") == 2
    assert "rewritten: page " in said
    again = SqliteWorker(tmp_path, seed=10**6)
    gateway = Gateway(again, incarnation=b"i" * 16)
    found = []
    for number, who in enumerate((lives.bad, lives.good), start=1):
        leased = gateway.one(Pull(number, who, False, 10**6, 0, 10**6))
        assert isinstance(leased, Pulled)
        found += [piece.content for piece in pieces(leased.page)]
    assert found in ([b"first" * 9, b"second" * 9], [b"fine"], [b"first" * 9, b"second" * 9, b"fine"])
    again.kill()


def test_a_check_beside_a_running_worker_finds_nothing_and_holds_nothing_up(
    worker: SqliteWorker, tmp_path: Path
) -> None:
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    codes: list[int] = []
    said: list[str] = []
    ended = threading.Event()

    def check() -> None:
        try:
            codes.extend(admin.check(tmp_path, said.append) for _ in range(5))
        finally:
            ended.set()

    thread = threading.Thread(target=check)
    thread.start()
    sent = received = 0
    ack = 0
    while not ended.is_set() or sent < 50:
        sent += len(gateway.store(alice, bob, *[b"letter %d" % number * 50 for number in range(sent, sent + 5)]))
        gateway.ask(BeginUpload(sent, alice, False, alice, 3, 5), Chunk(sent, b"large"), CommitUpload(sent))
        gateway.ask(CommitUpload(sent))
        worker.flush()
        fetched = gateway.one(Fetch(bob, True, ack, 10**6, 0, 10**6, False))
        assert isinstance(fetched, Fetched)
        contents = [piece.content for piece in pieces(fetched.page)]
        assert contents == [b"letter %d" % number * 50 for number in range(received, received + len(contents))]
        received, ack = received + len(contents), fetched.last
        gateway.ask(Settle(1, alice, False, 0, worker.rules.highest))
    thread.join()
    assert received == sent
    assert codes == [0] * 5, said
