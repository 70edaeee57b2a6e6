"""Ends and failures between the steps by which the database takes mail in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.storage_protocol.operations import Page, PullPage
from storage_worker import admin
from storage_worker.engine.errors import StoreFull, StoreUnusable
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.moving import SqliteSource
from tests.storage_worker.engine.sqlite.test_commit_log import (
    ALL,
    Busy,
    database_files,
    in_database,
    moved,
    open_slow,
)
from tests.storage_worker.worker_under_test import SqliteWorker, pieces

__all__ = ["open_slow"]

Open = Callable[..., SqliteWorker]


def full(*_: object) -> None:
    raise StoreFull("no room")


def with_failed_step(open_slow: Open) -> tuple[SqliteWorker, Busy]:
    """A worker that has taken in some of the mail, and found no room at the next step."""
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    busy.step()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker.engine.mailboxes.pages, "insert", full)
        busy.step()
    return worker, busy


def test_a_step_that_fails_is_tried_again_though_nothing_comes(open_slow: Open) -> None:
    worker, busy = with_failed_step(open_slow)
    stuck = [worker.engine.log.is_stuck]
    assert worker.engine.log.waits, "the journal has what the database does not"
    worker.now_ms += 10_000
    busy.step()
    stuck.append(worker.engine.log.is_stuck)
    assert stuck == [True, False]
    assert in_database(worker) == sum(len(mail) for mail in busy.expected.values())


def test_a_backup_behind_a_step_that_failed_has_everything(
    open_slow: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    worker, busy = with_failed_step(open_slow)
    assert worker.engine.begin_backup(tmp_path_factory.mktemp("copy"), worker.now_ms) is None
    assert in_database(worker) == sum(len(mail) for mail in busy.expected.values())
    assert moved(worker) == []


def test_an_orderly_end_behind_a_step_that_failed_has_everything(open_slow: Open) -> None:
    worker, _busy = with_failed_step(open_slow)
    before = worker.engine.log.flushes
    worker.close()
    assert worker.engine.log.flushes > before


@pytest.mark.parametrize("sends", [False, True])
def test_what_is_acknowledged_after_a_power_cut_that_took_the_link_and_without_room_stays(
    open_slow: Open, tmp_path: Path, sends: bool
) -> None:
    """The first step is on disk, for a checkpoint was made; the next log epoch's link is not."""
    worker = open_slow()
    busy = Busy(worker)
    before = [(tmp_path / name).read_bytes() for name in JOURNAL_NAMES]
    busy.begin()
    busy.step()
    worker.database.make_lasting()
    row = moved(worker)
    assert row
    worker.kill()
    for name, content in zip(JOURNAL_NAMES, before, strict=True):
        (tmp_path / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MailPages, "insert", full)
        worker = open_slow()
        assert moved(worker) == row
        busy.reopen(worker)
        if sends:
            busy.send(b"acknowledged")
        else:
            busy.fetch(0)
        worker.kill()
    worker = open_slow()
    busy.reopen(worker)
    busy.check()


def test_mail_behind_a_database_that_is_older_than_the_journal_is_not_lost(open_slow: Open, tmp_path: Path) -> None:
    """SQLite's log was cut behind a step: what the journal had of it was written over long ago."""
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    busy.step()
    old = database_files(tmp_path)
    while worker.engine.log.in_steps:
        busy.step()
    for number in range(6):
        busy.send(b"later %d" % number * 1000)
        worker.database.make_lasting()
        worker.flush()
    worker.kill()
    for path, content in old.items():
        path.write_bytes(content)
    (tmp_path / "mail.db-shm").unlink(missing_ok=True)
    worker = open_slow()
    busy.reopen(worker)
    [sequence] = busy.gateway.store(busy.users[1], busy.users[0], b"acknowledged")
    worker.kill()
    worker = open_slow()
    busy.reopen(worker)
    page = busy.gateway.one(PullPage(busy.users[0], True, sequence, 0, ALL, 2**30))
    assert isinstance(page, Page)
    assert [piece.sequence for piece in pieces(page.page)] == [sequence]


@pytest.mark.parametrize("steps", range(7))
def test_recover_journal_in_the_middle_of_steps(open_slow: Open, tmp_path: Path, steps: int) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    for number in range(steps):
        busy.send(b"between %d" % number)
        busy.fetch(number % 5)
        busy.step()
    busy.send(b"last")
    worker.kill()
    assert admin.main(["--data-folder", str(tmp_path), "recover-journal"]) == 0
    worker = open_slow()
    assert moved(worker) == []
    busy.reopen(worker)
    # The command's clock is the real one, by which the tokens' time is over.
    busy.sent.clear()
    busy.check()


@pytest.mark.parametrize("steps", range(7))
def test_check_and_move_in_the_middle_of_steps(
    open_slow: Open, tmp_path: Path, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    for number in range(steps):
        busy.send(b"between %d" % number)
        busy.fetch(number % 5)
        busy.step()
    worker.kill()
    code = admin.main(["--data-folder", str(tmp_path), "check"])
    assert code == 0, capsys.readouterr()
    with pytest.raises(StoreUnusable, match="did not end in order"), SqliteSource(tmp_path):
        pass
    busy.reopen(open_slow())
    busy.check()
