"""A journal that is lost, cut or zeros is refused, and a database that is older than its
journal is named.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.values import RefusalReason
from storage_worker import admin
from storage_worker.engine.errors import JournalDamaged
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from storage_worker.engine.sqlite.log_epochs import (
    LOG_EPOCH_SIZE,
    is_later,
    mark,
    mark_at,
    marked_log_epochs,
    next_log_epoch,
)
from storage_worker.engine.sqlite.store_identity import parse_identity
from tests.storage_worker.worker_process import WorkerProcess
from torture.caller import Account, Caller, Refused, new_account
from torture.programs import Server, wait_until

LENGTH = 64 * 1024


def zeros(size: int) -> bytes:
    return bytes(size)


def test_of_two_eras_the_later_one_is_known() -> None:
    first = next_log_epoch(b"", zeros)
    second = next_log_epoch(first, zeros)
    assert len(first) == len(second) == LOG_EPOCH_SIZE
    assert is_later(second, first)
    assert not is_later(first, second)
    assert not is_later(first, first)


def test_eras_of_earlier_versions_have_no_order() -> None:
    random_one = bytes(range(LOG_EPOCH_SIZE))
    assert not is_later(next_log_epoch(b"", zeros), random_one)
    assert not is_later(random_one, next_log_epoch(b"", zeros))
    assert next_log_epoch(random_one, zeros) == next_log_epoch(b"", zeros)


@pytest.mark.parametrize("length", [LENGTH, LENGTH + 1, 16 * 1024**2 - 7])
def test_a_mark_lies_inside_the_file_and_one_sector(length: int) -> None:
    at = mark_at(length)
    size = len(mark(next_log_epoch(b"", zeros)))
    assert length - 1024 < at
    assert at + size <= length
    assert at // 512 == (at + size - 1) // 512


class Marked:
    """Two files of a journal with their marks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_epochs = [next_log_epoch(b"", zeros)]
        self.log_epochs.append(next_log_epoch(self.log_epochs[0], zeros))
        for name, log_epoch in zip(JOURNAL_NAMES, self.log_epochs, strict=True):
            content = bytearray(LENGTH)
            content[mark_at(LENGTH) : mark_at(LENGTH) + len(mark(log_epoch))] = mark(log_epoch)
            (folder / name).write_bytes(content)


def test_marks_are_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marked = Marked(tmp_path)
    assert marked_log_epochs(tmp_path, LENGTH) == marked.log_epochs
    path = tmp_path / JOURNAL_NAMES[1]
    content = bytearray(path.read_bytes())
    content[mark_at(LENGTH) + 20] ^= 1
    path.write_bytes(content)
    assert marked_log_epochs(tmp_path, LENGTH) == marked.log_epochs[:1]
    assert f"{path} is damaged at byte {mark_at(LENGTH)}: its mark is altered" in caplog.text


@pytest.mark.parametrize("name", JOURNAL_NAMES)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "is missing or empty"),
        (lambda path: path.write_bytes(b""), "is missing or empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), f"has {LENGTH - 1} bytes and had {LENGTH}"),
        (lambda path: path.write_bytes(bytes(LENGTH)), f"is damaged at byte {mark_at(LENGTH)}: there are zeros"),
    ],
)
def test_a_file_that_lost_its_mark_is_named(
    tmp_path: Path, name: str, damage: Callable[[Path], object], told: str
) -> None:
    Marked(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(JournalDamaged, match=f"{name} {told}.*recover-journal"):
        marked_log_epochs(tmp_path, LENGTH)


# --- with the real programs
# ------------------------------------------------------------------------------------------


class Killed:
    """A server that was killed with mail in the journal alone; `copy` is its folder then."""

    def __init__(self, folder: Path) -> None:
        with Server(folder / "server", worker_arguments=("--journal", "65536")).start() as server:
            self.alice = new_account(server.port, "alice")
            with Caller(server.port) as caller:
                caller.prove(self.alice)
                caller.send(self.alice.client_id, self.alice.client_id, b"mail")
            for program in server.programs:
                program.kill()
        self.server = server
        self.copy = folder / "copy"
        shutil.copytree(server.data, self.copy, ignore=shutil.ignore_patterns("link"))

    def put(self) -> Path:
        shutil.rmtree(self.server.data)
        shutil.copytree(self.copy, self.server.data)
        self.server.data.chmod(0o700)
        return self.server.data


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("name", JOURNAL_NAMES)
@pytest.mark.parametrize("damage", ["missing", "cut", "zeros"])
def test_the_start_refuses_and_the_recovery_goes_on(killed: Killed, name: str, damage: str) -> None:
    data = killed.put()
    path = data / name
    content = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(content[:-4096] if damage == "cut" else bytes(65536))
    for _ in range(2):
        worker = WorkerProcess(data)
        assert worker.wait() == 78
        assert f"{path} " in worker.log
        assert "recover-journal" in worker.log
    assert admin.main(["--data-folder", str(data), "check"]) == 1
    assert admin.main(["--data-folder", str(data), "recover-journal"]) == 0
    assert admin.main(["--data-folder", str(data), "check"]) == 0
    with killed.server.start() as server, Caller(server.port) as caller:
        caller.prove(killed.alice)
        mail = [one.content for one in caller.fetch(killed.alice.client_id, 0)]
        # What was in a file that is gone nobody has.
        assert mail == ([b"mail"] if name == JOURNAL_NAMES[1] or damage == "cut" else [])


def test_after_an_orderly_end_nothing_of_the_journal_is_needed(killed: Killed) -> None:
    data = killed.put()
    with killed.server.start() as server:
        for program in reversed(server.programs):
            program.stop()
    for name in JOURNAL_NAMES:
        (data / name).write_bytes(b"")
    with killed.server.start() as server, Caller(server.port) as caller:
        caller.prove(killed.alice)
        assert [one.content for one in caller.fetch(killed.alice.client_id, 0)] == [b"mail"]


def test_a_lost_log_of_the_database_is_named_and_begins_a_new_generation(tmp_path: Path) -> None:
    with Server(tmp_path / "server").start() as server:
        before = parse_identity((server.data / "store.generation").read_text()).generation
        alice = new_account(server.port, "alice")
        for program in server.programs:
            program.kill()
        # The registration is there alone.
        (server.data / "mail.db-wal").unlink()
        server.start()
        assert "mail.db is not as new as the files beside it" in server.worker.said()
        assert parse_identity((server.data / "store.generation").read_text()).generation > before
        assert unknown(server, alice)
        for program in server.programs:
            program.kill()
        said = server.worker.said()
        server.start()
        assert "not as new" not in server.worker.said()[len(said) :], "it is said once"


def unknown(server: Server, account: Account) -> bool:
    """Whether the server does not know this account."""
    with Caller(server.port) as caller:
        caller.hello()
        try:
            caller.public_key(account.client_id, account.client_id)
        except Refused as error:
            return error.reason == RefusalReason.REQUESTER_UNKNOWN
    return False


def test_an_altered_store_generation_is_named(killed: Killed) -> None:
    path = killed.put() / "store.generation"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    worker = WorkerProcess(killed.server.data)
    wait_until(lambda: path.read_bytes() != bytes(content), "the file to be written anew")
    worker.end()
    assert "store.generation was damaged and is rewritten" in worker.log
