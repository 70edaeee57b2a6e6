"""What is altered is refused and named, and everything else goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.operations import (
    NO_MAIL,
    BeginUpload,
    Chunk,
    CommitUpload,
    FetchAfter,
    FetchWaiting,
    Leased,
    Outcome,
    Refused,
    Settle,
    Stored,
)
from storage_worker import admin
from tests.storage_worker.office import Gateway, Office, pieces


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.kill()


class Lives:
    """Two mailboxes with mail in the database: `bad`, whose page is altered by a test, and `good`."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.gateway = Gateway(office)
        self.sender, self.bad, self.good = self.gateway.register("sender", "bad box", "good box")
        self.sequences = self.gateway.store(self.sender, self.bad, b"first" * 9, b"second" * 9)
        self.gateway.store(self.sender, self.good, b"fine")
        office.absorb()
        self.row: int = office.database.row("SELECT row FROM mail_page WHERE first = ?", (self.sequences[0],))[0]

    def alter(self, column: str, value: str) -> None:
        list(self.office.database.execute(f"UPDATE mail_page SET {column} = {value} WHERE row = {self.row}"))

    def fetch(self, who: bytes) -> Outcome:
        return self.gateway.one(FetchWaiting(next(self.gateway.leases), who, False, 10**6, 0, 10**6))


FLIPPED = "CAST(substr(entries, 1, 60) || x'00' || substr(entries, 62) AS BLOB)"


@pytest.mark.parametrize(
    ("column", "value"),
    [("entries", FLIPPED), ("entries", "substr(entries, 1, 20)"), ("checksum", "checksum + 1"), ("messages", "3")],
)
def test_an_altered_page_is_refused_and_named_and_the_rest_goes_on(
    office: Office, tmp_path: Path, column: str, value: str, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lives = Lives(office)
    lives.alter(column, value)
    for _ in range(2):
        assert isinstance(lives.fetch(lives.bad), Refused)
        assert isinstance(lives.gateway.one(FetchAfter(lives.bad, True, 0, 10**6, 0, 10**6, False)), Refused)
    assert f"page {lives.row} of the mailbox of 'bad box' ({lives.bad.hex().upper()}) is altered" in caplog.text
    leased = lives.fetch(lives.good)
    assert isinstance(leased, Leased)
    assert [piece.content for piece in pieces(leased.page)] == [b"fine"]
    # New mail comes in, also for that mailbox, and goes to the database.
    lives.gateway.store(lives.sender, lives.bad, b"behind it")
    office.absorb()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    said = capsys.readouterr().out
    assert f"page {lives.row} of the mailbox of 'bad box'" in said
    assert "good box" not in said


def test_a_part_of_an_altered_page_can_be_deleted_and_taken_in(office: Office, tmp_path: Path) -> None:
    lives = Lives(office)
    lives.alter("entries", FLIPPED)
    lives.gateway.ask(Settle(1, lives.bad, False, lives.sequences[0], lives.sequences[0]))
    office.absorb()
    office.kill()
    again = Office(tmp_path)
    gateway = Gateway(again, incarnation=b"i" * 16)
    assert isinstance(gateway.one(FetchWaiting(1, lives.bad, False, 10**6, 0, 10**6)), Refused)
    assert isinstance(gateway.one(FetchWaiting(2, lives.good, False, 10**6, 0, 10**6)), Leased)
    again.kill()


def test_what_lies_before_an_altered_page_is_handed_out(office: Office) -> None:
    lives = Lives(office)
    lives.gateway.store(lives.sender, lives.bad, b"behind")
    office.absorb()
    lives.row += 2
    lives.alter("checksum", "1")
    assert isinstance(lives.fetch(lives.bad), Refused), "it is not known yet"
    leased = lives.fetch(lives.bad)
    assert isinstance(leased, Leased)
    assert [piece.content for piece in pieces(leased.page)] == [b"first" * 9, b"second" * 9]


def test_altered_pages_are_dropped_on_request(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = Lives(office)
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 0
    lives.alter("entries", FLIPPED)
    office.close()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    assert admin.main(["--data-folder", str(tmp_path), "check", "--drop"]) == 0
    assert "Nothing is altered." in capsys.readouterr().out
    again = Office(tmp_path)
    gateway = Gateway(again, incarnation=b"i" * 16)
    assert gateway.one(FetchWaiting(1, lives.bad, False, 10**6, 0, 10**6)) == Leased(0, 0, 0, 0, NO_MAIL)
    again.kill()


def test_an_altered_content_is_refused_and_named(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = Lives(office)
    content = b"large " * 50_000
    lives.gateway.ask(BeginUpload(1, lives.sender, False, lives.good, 3, len(content)), Chunk(1, content))
    lives.gateway.ask(CommitUpload(1))
    stored = lives.gateway.one(CommitUpload(1))
    assert not isinstance(stored, Stored), "it was stored by the first"
    office.absorb()
    [path] = (tmp_path / "bodies").iterdir()
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 0
    damaged = bytearray(path.read_bytes())
    damaged[200_000] ^= 1
    path.write_bytes(damaged)
    assert admin.main(["--data-folder", str(tmp_path), "check"]) == 1
    said = capsys.readouterr().out
    assert f"bodies/{path.name} is altered" in said
    assert "in the mailbox of 'good box'" in said
    assert isinstance(lives.fetch(lives.good), Refused)
    assert isinstance(lives.fetch(lives.bad), Leased)
