"""A home that can't be written, because its disk is full or read-only, or is somebody else's: what
only reads, reads.

The double of such a disk fails whatever would make or write a file under the home, through Python
or through SQLite, with the error of such a disk; the tests may run as root, whom no mode of a
folder keeps out. What a real one does is tried as well, where a file system may be mounted.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from client import paths
from client.__main__ import main
from client.cli import exit_codes
from client.errors import StoreUnusable, StoreUnwritable
from client.identity import archive
from client.identity.passphrase import set_passphrase
from client.messenger import Messenger
from client.store.database import Database
from client.store.home_store import Store
from client.store.memory_copy import memory_copy
from client.store.schema import APPLICATION_ID, FIRST, VERSION
from tests.client.exchange import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.fake_gateway import FakeGateway

pytestmark = pytest.mark.usefixtures("cheap")


NUMBERS = [errno.EROFS, errno.ENOSPC, errno.EACCES]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk(apsw.VFS):
    """SQLite's files; under one folder there is no new one, and nothing is written, while
    `folder` is set.
    """

    folder: str | None = None

    def __init__(self) -> None:
        super().__init__("unwritable", base="unix", makedefault=True)

    def forbids(self, name: object) -> bool:
        return self.folder is not None and str(name).startswith(self.folder)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if hasattr(name, "filename") else name
        if self.forbids(path) and flags[0] & apsw.SQLITE_OPEN_READWRITE:
            raise apsw.CantOpenError(str(path))
        return apsw.VFSFile("unix", name, flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    double = Disk()
    yield double
    double.unregister()


@pytest.fixture
def forbid(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Have nothing under a folder be made or written any more."""

    def begin(folder: Path, number: int) -> None:
        real_open = os.open

        def fake_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & WRITING and not isinstance(path, int) and os.fsdecode(path).startswith(str(folder)):
                raise OSError(number, os.strerror(number), path)
            return real_open(path, flags, *rest, **more)

        disk.folder = str(folder)
        monkeypatch.setattr(os, "open", fake_open)

    return begin


@pytest.fixture
def home(tmp_path: Path, alice: Messenger, bob: Messenger, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose newest messages stand in the WAL alone, as a kill leaves them, and
    whose index of it is gone.
    """
    monkeypatch.setenv("MESSAGEU_CONFIG", "none")
    alice.agree_on_key("bob")
    for number in range(40):
        alice.home.sending.send_text("bob", f"text {number}")
    list(bob.receive())
    bob.agree_on_key("alice")
    bob.home.sending.send_text("alice", "an answer")
    list(alice.receive())
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "alice", left, ignore=shutil.ignore_patterns("*-shm"))
    assert (left / "store.db-wal").stat().st_size > 40_000
    return left


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(home: Path, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([words[0], *words[1:], "--home", str(home), "--server", "127.0.0.1:1"])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", NUMBERS)
def test_what_only_reads_reads(
    tmp_path: Path, home: Path, run: Callable[..., Any], forbid: Callable[..., None], number: int
) -> None:
    writable = tmp_path / "writable"
    shutil.copytree(home, writable)
    commands = (["history"], ["history", "bob", "--search", "text 39"], ["history", "--json"], ["whoami"])
    expected = [run(writable, *words) for words in commands]
    assert expected[0][1].count("\n") >= 41
    before = contents(home)
    forbid(home, number)
    assert [run(home, *words) for words in commands] == expected
    assert run(home, "config", "show")[0] == exit_codes.DONE
    assert contents(home) == before


@pytest.mark.parametrize("number", NUMBERS)
def test_all_of_it_is_exported_to_another_disk(
    tmp_path: Path, home: Path, forbid: Callable[..., None], run: Callable[..., Any], number: int
) -> None:
    (home / "store.spool").mkdir(exist_ok=True)
    (home / "store.spool" / ("0" * 32)).write_bytes(b"a large content")
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery")
    expected = run(home, "history")[1]
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "alice", home, ignore=shutil.ignore_patterns("*-shm", "*.lock", "*.use"))
    before = contents(home)
    forbid(home, number)
    assert run(home, "export", str(tmp_path / "backup"), "--passphrase-file", str(secret))[0] == exit_codes.DONE
    assert contents(home) == before
    archive.import_home(tmp_path / "again", tmp_path / "backup", "correct horse battery")
    assert run(tmp_path / "again", "history")[1] == expected


def test_with_a_passphrase_too(
    home: Path, tmp_path: Path, forbid: Callable[..., None], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(home, "history")[1]
    set_passphrase(home, "correct horse battery")
    monkeypatch.setenv("MESSAGEU_PASSPHRASE", "correct horse battery")
    forbid(home, errno.EROFS)
    assert run(home, "history")[1] == expected
    # The first command has taken it out of the environment.
    monkeypatch.setenv("MESSAGEU_PASSPHRASE", "correct horse battery")
    assert run(home, "whoami")[0] == exit_codes.DONE


@pytest.mark.parametrize(
    "words", [["recv"], ["send", "bob", "text"], ["users"], ["key", "bob"], ["verify", "bob"], ["watch"]]
)
@pytest.mark.parametrize("number", NUMBERS)
def test_what_has_to_write_says_why_it_can_not(
    home: Path, run: Callable[..., Any], forbid: Callable[..., None], number: int, words: list[str]
) -> None:
    forbid(home, number)
    code, out, err = run(home, *words)
    assert (code, out) == (exit_codes.UNEXPECTED, "")
    sentence = " ".join(err.split())
    assert str(home / "store.db") in sentence
    assert f"({os.strerror(number)})." in sentence


def test_doctor_says_so_and_goes_on(
    home: Path, gateway: FakeGateway, run: Callable[..., Any], forbid: Callable[..., None], capsys: Any
) -> None:
    forbid(home, errno.EROFS)
    server = f"{gateway.address.host}:{gateway.address.port}"
    assert main(["doctor", "--home", str(home), "--server", server, "--json"]) == exit_codes.UNEXPECTED
    lines = capsys.readouterr().out
    assert f"{home / 'store.db'} can't be used (Read-only file system). What is in it can be read." in lines
    for name in ("identity", "server", "keys", "outbox"):
        assert f'"name": "{name}", "ok": true' in lines


def test_nothing_is_believed_to_be_written(home: Path, forbid: Callable[..., None]) -> None:
    forbid(home, errno.ENOSPC)
    with Messenger.open(home, NOWHERE, to_read=True) as messenger:
        assert messenger.home.diagnosis.unwritable is not None
        for change in (lambda: messenger.home.watch_cursor.move(3), lambda: messenger.mark_verified("bob")):
            with pytest.raises(StoreUnwritable) as caught:
                change()
            assert (str(caught.value), caught.value.advice) == (
                str(messenger.home.diagnosis.unwritable),
                "Free some space and try again.",
            )
        # Nor where a change comes in through no transaction.
        with pytest.raises(apsw.ReadOnlyError):
            messenger.home.store.database.run("DELETE FROM sent")
    with pytest.raises(StoreUnwritable):
        Messenger.open(home, NOWHERE)


def test_a_home_without_a_store_on_a_read_only_disk(
    home: Path, run: Callable[..., Any], forbid: Callable[..., None]
) -> None:
    """The identity of another program, say."""
    for path in home.glob("store.*"):
        path.unlink()
    (home / "my.info.pending").write_text("alice\n")
    forbid(home, errno.EROFS)
    code, out, _ = run(home, "whoami")
    assert (code, out.splitlines()[0]) == (exit_codes.DONE, "alice")
    assert run(home, "history")[:2] == (exit_codes.DONE, "")


def test_no_room_for_what_sqlite_makes_beside_the_store(home: Path, disk: Disk, run: Callable[..., Any]) -> None:
    """The store itself can be opened, and its locks; the folder takes no file more."""
    expected = run(home, "history")
    disk.folder = f"{home / 'store.db'}-"
    assert run(home, "history") == expected


class TestACopy:
    def test_it_has_what_the_wal_alone_holds(self, home: Path) -> None:
        copy = memory_copy(home / "store.db")
        assert next(copy.execute("SELECT count(*) FROM sent"))[0] == 40
        copy.close()
        without = apsw.Connection(
            f"file:{home / 'store.db'}?mode=ro&immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        with pytest.raises(apsw.SQLError, match="no such table"):
            without.execute("SELECT count(*) FROM sent")
        without.close()

    def test_a_torn_end_of_the_wal_counts_as_never_committed(self, home: Path) -> None:
        wal = home / "store.db-wal"
        wal.write_bytes(wal.read_bytes()[:-100])
        copy = memory_copy(home / "store.db")
        assert next(copy.execute("PRAGMA integrity_check"))[0] == "ok"
        assert next(copy.execute("SELECT count(*) FROM sent"))[0] == 40
        copy.close()

    def test_of_an_earlier_schema(self, tmp_path: Path) -> None:
        old = apsw.Connection(str(tmp_path / "store.db"))
        old.execute(FIRST)
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.close()
        content = (tmp_path / "store.db").read_bytes()
        copy = Database.open_copy(tmp_path / "store.db", StoreUnwritable("It is full."))
        assert copy.value("PRAGMA user_version") == VERSION
        copy.close()
        assert (tmp_path / "store.db").read_bytes() == content

    def test_of_what_is_damaged(self, home: Path) -> None:
        (home / "store.db").write_bytes(b"no database" * 1000)
        (home / "store.db-wal").unlink()
        with pytest.raises(StoreUnusable, match="is damaged"):
            Database.open_copy(home / "store.db", StoreUnwritable("It is full."))

    def test_it_is_taken_again_where_somebody_wrote_meanwhile(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wal = home / "store.db-wal"
        whole = wal.read_bytes()
        wal.write_bytes(whole[: len(whole) // 2])
        real = Path.read_bytes

        def write_behind(path: Path) -> bytes:
            content = real(path)
            if path.name == "store.db":
                wal.write_bytes(whole)
            return content

        monkeypatch.setattr(Path, "read_bytes", write_behind)
        copy = memory_copy(home / "store.db")
        assert next(copy.execute("SELECT count(*) FROM sent"))[0] == 40
        copy.close()

    def test_of_one_that_is_written_all_the_time(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real, grown = Path.read_bytes, bytearray()

        def write_always(path: Path) -> bytes:
            grown.append(0)
            return real(path) + bytes(grown)

        monkeypatch.setattr(Path, "read_bytes", write_always)
        with pytest.raises(StoreUnusable, match="is busy"):
            Database.open_copy(home / "store.db", StoreUnwritable("It is full."))


def test_what_can_not_be_brought_out_of_the_wal_is_exported_from_memory(
    home: Path, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store can be opened, but there is no room to bring what the WAL holds into it."""
    expected = run(home, "history")[1]
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "alice", home, ignore=shutil.ignore_patterns("*-shm"))

    def full(_: Database) -> None:
        raise StoreUnwritable("There is no room.")

    monkeypatch.setattr(Database, "gather", full)
    archive.export_home(home, tmp_path / "backup", "correct horse battery")
    archive.import_home(tmp_path / "again", tmp_path / "backup", "correct horse battery")
    assert run(tmp_path / "again", "history")[1] == expected


def test_no_folder_for_temporary_files_is_told_by_who_wants_to_write_there(
    monkeypatch: pytest.MonkeyPatch, home: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert paths.temporary_folder() == tmp_path
    assert run(home, "history")[0] == exit_codes.DONE
    assert run(home, "whoami")[0] == exit_codes.DONE


@pytest.fixture
def real(tmp_path: Path, home: Path) -> Iterator[Path]:
    """The home on a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("takes a file system of its own, which may not be mounted here")
    try:
        shutil.copytree(home, folder / "home")
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_on_a_real_disk(real: Path, home: Path, run: Callable[..., Any], how: str, tmp_path: Path) -> None:
    expected = run(home, "history")
    if how == "full":
        with (real / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
            while True:
                ballast.write(bytes(4096))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(real)], check=True)
    on_it = real / "home"
    before = contents(on_it)
    assert run(on_it, "history") == expected
    assert run(on_it, "whoami")[0] == exit_codes.DONE
    archive.export_home(on_it, tmp_path / "backup", "correct horse battery")
    archive.import_home(tmp_path / "again", tmp_path / "backup", "correct horse battery")
    assert run(tmp_path / "again", "history")[1] == expected[1]
    code, _, err = run(on_it, "recv")
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[how]
    assert (code, reason in " ".join(err.split())) == (exit_codes.UNEXPECTED, True)
    after = contents(on_it)
    assert after | before == after
    with pytest.raises(StoreUnwritable):
        Store.open(on_it)
