"""Exported homes: complete, private, authenticated, all or nothing, and without anything that does
not belong there.
"""

from __future__ import annotations

import base64
import errno
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import apsw
import pytest

from client.crypto.sealed_storage import CHUNK, ArchiveOpener, ArchiveSealer
from client.errors import AlreadyRegistered, CipherError, HomeInUse, StoreUnusable
from client.identity import archive, identity_files
from client.identity.archive import export_home, import_home
from client.identity.home import open_store
from client.identity.identity_files import nobody_asked
from client.identity.import_identity import import_identity
from client.messenger import Messenger
from client.store.home_store import Store
from client.store.inbox import NewMessage
from client.store.schema import VERSION
from common.errors import FileUnwritten, InfoFileError, SettingRejected
from common.values import ClientId, MessageKind, Token

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from client.crypto.ciphers import PrivateKey
    from tests.client.fake_gateway import FakeGateway

ROOT = Path(__file__).parent.parent.parent.parent

pytestmark = pytest.mark.usefixtures("cheap")


def sealed(plain: bytes, passphrase: str = "secret") -> bytes:
    sink = io.BytesIO()
    sealer = ArchiveSealer(sink, passphrase, os.urandom)
    for at in range(0, len(plain), 10_000):
        sealer.write(plain[at : at + 10_000])
    sealer.finish()
    return sink.getvalue()


def opened(data: bytes, passphrase: str = "secret") -> bytes:
    opener = ArchiveOpener(io.BytesIO(data), passphrase)
    return b"".join(iter(lambda: opener.read(7000), b""))


def tar_of(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other_identity(tmp_path: Path, private_key: PrivateKey) -> Path:
    """What another client wrote."""
    path = tmp_path / "other" / "me.info"
    path.parent.mkdir()
    path.write_text(f"olga\n{bytes(16).hex()}\n{base64.encodebytes(private_key.der()).decode()}")
    return path


@pytest.fixture
def home(tmp_path: Path, alice: Messenger) -> Path:
    """Alice's home, with a large content beside the store."""
    spool = alice.home.store.spools.new()
    spool.write(os.urandom(3 * CHUNK + 5))
    spool.keep()
    alice.close()
    return tmp_path / "alice"


def test_there_and_back(tmp_path: Path, home: Path) -> None:
    again, file = tmp_path / "again", tmp_path / "file"
    (home / "my.info.unfinished-1").write_bytes((home / "my.info").read_bytes())
    export_home(home, file, "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"alice" not in file.read_bytes()
    import_home(again, file, "secret")
    assert {path.name for path in again.iterdir()} == {
        "my.info", "me.info", "my.info.unfinished-1", "store.db", "store.spool",
    }  # fmt: skip
    for name, content in everything(again).items():
        assert name == "store.db" or content == (home / name).read_bytes()
        assert stat.S_IMODE((again / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((again / "store.spool").stat().st_mode) == 0o700
    Store.open(again).close()


def test_what_stands_in_the_wal_is_exported(tmp_path: Path, home: Path) -> None:
    other = Store.open(home)
    other.settings.put("just", "now")
    export_home(home, tmp_path / "file", "secret")
    # The other one goes on writing.
    other.settings.put("just", "later")
    other.close()
    import_home(tmp_path / "again", tmp_path / "file", "secret")
    store = Store.open(tmp_path / "again")
    assert store.settings.get("just") == "now"
    store.close()


def test_an_address_that_is_there_stays(tmp_path: Path, home: Path) -> None:
    (home / "server.info").write_text("old:1")
    export_home(home, tmp_path / "file", "secret")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "server.info").write_text("new:1")
    import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert (tmp_path / "again" / "server.info").read_text() == "new:1"
    import_home(tmp_path / "third", tmp_path / "file", "secret")
    assert (tmp_path / "third" / "server.info").read_text() == "old:1"


@pytest.mark.parametrize("name", ["my.info", "me.info", "my.info.pending", "store.db"])
def test_nothing_is_overwritten(tmp_path: Path, home: Path, name: str) -> None:
    export_home(home, tmp_path / "file", "secret")
    with pytest.raises(InfoFileError, match="not overwritten"):
        export_home(home, tmp_path / "file", "secret")
    again = tmp_path / "again"
    again.mkdir()
    (again / name).write_text("mine")
    with pytest.raises(AlreadyRegistered):
        import_home(again, tmp_path / "file", "secret")
    assert everything(again) == {name: b"mine"}


def test_a_home_that_receives_is_not_exported(tmp_path: Path, home: Path) -> None:
    other = Store.open(home)
    with other.receiver(), pytest.raises(HomeInUse):
        export_home(home, tmp_path / "file", "secret")
    assert not (tmp_path / "file").exists()
    other.close()


# --- files that were altered, cut, or are something else
# ------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_an_archive_of_any_size(size: int) -> None:
    plain = os.urandom(size)
    assert opened(sealed(plain)) == plain


def test_chunks_can_not_be_altered_moved_or_left_out() -> None:
    data = sealed(os.urandom(3 * CHUNK))
    head, one = 18 + 16, CHUNK + 16
    first, second, third = (data[head + at * one : head + (at + 1) * one] for at in range(3))
    start = data[:head]
    for altered in (
        start + second + first + third, start + first + third, start + first + second, start + second + third,
        start + first + second + third + third, start + first + second + third[:-1], start, data + b"x",
        start[:-1] + b"x" + data[head:], data[: head + 5], b"MessageU export 1\n" + data[18:],
    ):  # fmt: skip
        if altered != data:
            with pytest.raises(CipherError):
                opened(altered)
    with pytest.raises(CipherError):
        opened(data, "Secret")


@pytest.mark.parametrize("place", [0, 20, 40, CHUNK + 100, -1])
def test_an_altered_file_leaves_nothing(tmp_path: Path, home: Path, place: int) -> None:
    export_home(home, tmp_path / "file", "secret")
    data = bytearray((tmp_path / "file").read_bytes())
    data[place] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises((SettingRejected, InfoFileError)):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("left", [0, 10, 30, 100, CHUNK, CHUNK + 50, 2 * CHUNK + 66])
def test_a_file_that_was_cut_off_leaves_nothing(tmp_path: Path, home: Path, left: int) -> None:
    export_home(home, tmp_path / "file", "secret")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:left])
    (tmp_path / "again").mkdir()
    with pytest.raises((SettingRejected, InfoFileError)):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert list((tmp_path / "again").iterdir()) == []


def test_a_wrong_passphrase_is_told_from_damage_behind_the_beginning(tmp_path: Path, home: Path) -> None:
    export_home(home, tmp_path / "file", "secret")
    with pytest.raises(SettingRejected, match="another passphrase"):
        import_home(tmp_path / "again", tmp_path / "file", "Secret")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    with pytest.raises(InfoFileError, match="damaged or cut off"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/outside", "store.spool/../../outside", "other", "store.spool/x", ".imported", "store.use"],
)
def test_what_belongs_to_no_home_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(sealed(tar_of(("me.info", b"x"), (name, b"x"))))
    with pytest.raises(InfoFileError, match="belongs to no home"):
        import_home(tmp_path / "home", tmp_path / "file", "secret")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("plain", [b"no tar at all", tar_of(("me.info", b"x"), ("me.info", b"y"))])
def test_an_archive_that_holds_no_home_is_refused(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / "file").write_bytes(sealed(plain))
    with pytest.raises(InfoFileError):
        import_home(tmp_path / "home", tmp_path / "file", "secret")
    assert not (tmp_path / "home").exists()


# --- no room, deaths, memory
# ----------------------------------------------------------------------------------


class Full:
    """Takes so many bytes, then the disk is full."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


@pytest.mark.parametrize("room", [0, 10, CHUNK, 3 * CHUNK])
def test_no_room(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    export_home(home, tmp_path / "file", "secret")
    new_file = archive.new_file

    import contextlib
    from collections.abc import Iterator

    @contextlib.contextmanager
    def small(path: Path) -> Iterator[BinaryIO]:
        with new_file(path) as file:
            yield cast("BinaryIO", Full(file, room))

    monkeypatch.setattr("client.identity.archive.new_file", small)
    before = everything(home)
    with pytest.raises(FileUnwritten, match=r"no room to write .*/second \(No space left on device\)\.$"):
        export_home(home, tmp_path / "second", "secret")
    assert not (tmp_path / "second").exists()
    assert everything(home) == before | {"outbox.lock": b""}
    with pytest.raises(FileUnwritten, match=r"no room to write .*/again/.*; nothing was imported\.$"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


def test_while_a_home_arrives_nobody_else_enters(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, other_identity: Path
) -> None:
    again, file = tmp_path / "again", tmp_path / "file"
    export_home(home, file, "secret")
    real, refused = archive.unpack, []

    def meanwhile(stream: archive.Rest, source: Path, into: Path) -> None:
        for enter in (
            lambda: open_store(again),
            lambda: import_home(again, file, "secret"),
            lambda: import_identity(again, other_identity, nobody_asked),
        ):
            with pytest.raises(HomeInUse, match="Another process imports into"):
                enter()
            refused.append(enter)
        real(stream, source, into)

    monkeypatch.setattr(archive, "unpack", meanwhile)
    import_home(again, file, "secret")
    assert len(refused) == 3
    assert identity_files.load(again).name == "alice"
    open_store(again).close()


def test_who_moved_in_meanwhile_is_not_replaced(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again, file = tmp_path / "again", tmp_path / "file"
    export_home(home, file, "secret")
    begin = archive.begin

    def meanwhile(*given: Any) -> Any:
        again.mkdir()
        open_store(again).close()
        return begin(*given)

    monkeypatch.setattr(archive, "begin", meanwhile)
    with pytest.raises(AlreadyRegistered, match=r"store\.db exists, and it is not replaced"):
        import_home(again, file, "secret")
    assert not identity_files.exists(again)


def test_a_failure_names_the_file_that_failed(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: archive.HomeFile, size: int) -> bytes:
        with archive.reading(self._path):
            raise OSError(errno.EIO, "Input/output error")

    export_home(home, tmp_path / "file", "secret")
    for target, problem in (("nowhere/file", "no such folder"), ("file/x", "no such folder"), ("file", "overwritten")):
        with pytest.raises(InfoFileError, match=problem) as caught:
            export_home(home, tmp_path / target, "secret")
        assert not isinstance(caught.value, FileUnwritten)
    with pytest.raises(FileUnwritten, match=r"file/home can't be written \(Not a directory\); nothing was imported\."):
        import_home(tmp_path / "file" / "home", tmp_path / "file", "secret")
    monkeypatch.setattr(archive.HomeFile, "read", torn)
    with pytest.raises(InfoFileError, match=r"store\.db: can't be read \(Input/output error\)$"):
        export_home(home, tmp_path / "second", "secret")
    assert not (tmp_path / "second").exists()
    with pytest.raises(InfoFileError, match=r"/file: can't be read \(Input/output error\)$"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


DYING = """
import os, pathlib, signal, sys
from client.crypto import sealed_storage
sealed_storage.SCRYPT_COST = 16
from client.identity.archive import import_home
left = int(sys.argv[3])

def step(name):
    global left
    function = getattr(os, name)
    def wrapped(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    setattr(os, name, wrapped)

for name in ("open", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink"):
    step(name)
import_home(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), "secret")
print(left)
"""


@pytest.mark.slow
def test_a_death_at_any_step_imports_all_or_nothing(tmp_path: Path, home: Path) -> None:
    export_home(home, tmp_path / "file", "secret")
    found = []
    for step in range(1, 200, 3):
        again = tmp_path / f"again-{step}"
        again.mkdir()
        command = [sys.executable, "-c", DYING, str(again), str(tmp_path / "file"), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        if not (again / ".imported").exists() and not identity_files.exists(again):
            found.append(False)
            # It can be done again.
            import_home(again, tmp_path / "file", "secret")
        else:
            found.append(True)
        open_store(again).close()
        assert {path.name for path in again.iterdir()} == {
            "my.info", "me.info", "store.db", "store.spool", "store.use",
        }  # fmt: skip
        assert identity_files.load(again).name == "alice"
    else:
        pytest.fail("it never came to its end")
    assert found == sorted(found)
    assert {found[0], found[-1]} == {False, True}


def test_a_large_content_does_not_pass_through_memory(tmp_path: Path, home: Path) -> None:
    script = (
        "import pathlib, resource, sys\n"
        "from client.identity.archive import export_home, import_home\n"
        "home, file, again = map(pathlib.Path, sys.argv[1:])\n"
        "export_home(home, file, 'secret'); import_home(again, file, 'secret')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(name: str) -> int:
        command = [sys.executable, "-c", script, str(home), str(tmp_path / name), str(tmp_path / f"{name}-again")]
        return int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)

    small = peak("small")
    with (home / "store.spool" / ("0" * 32)).open("wb") as file:
        file.truncate(50_000_000)
    assert peak("large") < small + 10_000
    assert (tmp_path / "large-again" / "store.spool" / ("0" * 32)).stat().st_size == 50_000_000


def test_an_imported_home_goes_on(tmp_path: Path, home: Path, gateway: FakeGateway, bob: Messenger) -> None:
    export_home(home, tmp_path / "file", "secret")
    import_home(tmp_path / "laptop", tmp_path / "file", "secret")
    with Messenger.open(tmp_path / "laptop", gateway.address) as again:
        assert again.identity().name == "alice"
        again.agree_on_key("bob")
        again.home.sending.send_text("bob", "from the laptop")
    assert len(list(bob.receive())) == 2


def sparse() -> bytes:
    """An old GNU sparse member: 1.5 kB that unpack to 300 MB of zeros."""
    entry = tarfile.TarInfo("store.spool/" + "0" * 32)
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[124:136] = b"%011o\0" % 512
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 512
    header[483:495] = b"%011o\0" % 300_000_000
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x" * 512 + bytes(1024)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_LONGNAME,
     tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.CONTTYPE],
)  # fmt: skip
def test_a_member_that_is_no_plain_file(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("store.db")
    entry.type, entry.linkname = kind, "/etc/passwd"
    (tmp_path / "file").write_bytes(sealed(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(InfoFileError, match="holds no home"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


def test_a_sparse_member_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(sparse())) as tar:
        assert tar.getmembers()[0].size == 300_000_000
    (tmp_path / "file").write_bytes(sealed(sparse()))
    with pytest.raises(InfoFileError, match="holds no home"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


def test_the_same_member_twice(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(sealed(tar_of(("server.info", b"a:1\n"), ("server.info", b"b:2\n"))))
    with pytest.raises(InfoFileError):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE outbox SET spool = '{bait}'", "UPDATE inbox SET spool = '{bait}'", "CREATE VIEW v AS SELECT 1"],
)
def test_a_store_that_wants_more_than_its_home(tmp_path: Path, home: Path, statement: str) -> None:
    """A malicious export: its rows name a file of the one who imports it."""
    bait = tmp_path / "bait"
    bait.write_bytes(b"a secret of the one who imports")
    store = Store.open(home)
    store.outbox.add(ClientId(b"b" * 16), MessageKind.FILE, 1, b"x", Token(b"t" * 16), None, 1)
    message = NewMessage(ClientId(b"b" * 16), 3, 1, b"x", None, bytes(32), 7, b"t" * 16, 1, False)
    store.server.remember(b"s" * 16, 5, 0)
    store.inbox.add_fetched([message], 1, 5)
    store.close()
    connection = apsw.Connection(str(home / "store.db"))
    connection.execute(statement.format(bait=bait))
    connection.close()
    export_home(home, tmp_path / "file", "secret")
    with pytest.raises(InfoFileError, match="nothing was imported"):
        import_home(tmp_path / "again", tmp_path / "file", "secret")
    assert not (tmp_path / "again").exists()
    assert bait.read_bytes() == b"a secret of the one who imports"
    # Where it got into a home by another way, it is not followed either.
    if "spool" in statement:
        opened = Store.open(home)
        (row,) = [one.spool for one in (*opened.outbox.waiting(), opened.inbox.next_unread(0)) if one and one.spool]
        for use in (lambda: list(opened.spools.read(str(row), 10)), lambda: opened.spools.forget(row)):
            with pytest.raises(StoreUnusable, match="no name of this program"):
                use()
        opened.close()
        assert bait.read_bytes() == b"a secret of the one who imports"


def test_an_export_of_a_later_version_is_named_as_such(tmp_path: Path, home: Path) -> None:
    """Its form may be another, or its store."""
    export_home(home, tmp_path / "file", "secret")
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "later").write_bytes(content.replace(b"MessageU export 2\n", b"MessageU export 3\n", 1))
    store = Store.open(home)
    store.database.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with store.snapshot():
        pass
    store.close()
    content = (home / "store.db").read_bytes()
    with archive.new_file(tmp_path / "newer") as file:
        sealer = ArchiveSealer(file, "secret", os.urandom)
        with tarfile.open(fileobj=archive.piped(sealer), mode="w|", format=tarfile.GNU_FORMAT) as tar:
            archive.add_file(tar, "store.db", archive.HomeFile(home / "store.db", io.BytesIO(content)))
        sealer.finish()
    for name in ("later", "newer"):
        with pytest.raises(
            InfoFileError, match="was made by a later version of MessageU; nothing was imported"
        ) as caught:
            import_home(tmp_path / "again", tmp_path / name, "secret")
        assert caught.value.advice == "Upgrade this one, and import it again."
        assert not (tmp_path / "again").exists()
