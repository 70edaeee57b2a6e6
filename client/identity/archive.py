"""Export of a whole home into one encrypted file, and import of such a file.

Owns: what belongs to a home, and the file's contents: a tar archive, sealed by
`client.crypto.sealed_storage`.
Promises: an export is consistent, has mode 0600, overwrites nothing, and is written whole or not at
all. An import writes into a home that has neither identity nor store, all or nothing whenever the
machine dies, and takes only known members out of the file. Both hold only some chunks in memory; an
export of a store that can't be written holds that store.
Exposure: imports a file that somebody may have altered; every chunk is authenticated before a byte
of it is looked at.

    step                                          died here, the next start
    ───────────────────────────────────────────   ───────────────────────────────────────────
    decrypted into .importing, synced             nothing was imported; removed by the next import
    .importing renamed to .imported, synced       moves what is left in it to its place (client.identity.home)

Source: docs/client.md, "Export and import".
"""

import contextlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from client.crypto.ciphers import RandomBytes
from client.crypto.sealed_storage import CHUNK, ArchiveOpener, ArchiveSealer, LaterExport
from client.errors import CipherError, StoreOfLaterVersion, StoreUnusable, StoreUnwritable
from client.identity.home import ARRIVED, ARRIVING, moving_in, open_store, refuse_a_home_in_use, settle_held
from client.identity.identity_files import holds_key
from client.store.foreign import check_foreign_store, settle_foreign_store
from client.store.home_store import SPOOL_FOLDER, STORE_FILE
from common.errors import FileUnwritten, InfoFileError, SettingRejected
from common.filesystem import sync_folder, writing
from common.info_files import SERVER_INFO

_LATER: Final = "was made by a later version of MessageU"
_UPGRADE: Final = "Upgrade this one, and import it again."
_TAKEN: Final = "exists, and it is not overwritten"
_NO_FOLDER: Final = "can't be made: there is no such folder"
_RENAME: Final = "Name another file."
_SPOOLED: Final = re.compile(r"[0-9a-f]{32}")


def export_home(home: Path, target: Path, passphrase: str, random_bytes: RandomBytes = os.urandom) -> None:
    """Write a whole home into one new file.

    Raises `StoreUnusable`, `HomeInUse`, `FileUnwritten`, `InfoFileError`; then there is none.
    """
    store = open_store(home, to_read=True)
    try:
        # No other process may receive, send or write meanwhile: files and database belong together.
        with store.receiver(), store.sender(wait=True), store.snapshot() as database, new_file(target) as file:
            sealer = ArchiveSealer(file, passphrase, random_bytes)
            with tarfile.open(fileobj=piped(sealer), mode="w|", bufsize=CHUNK, format=tarfile.GNU_FORMAT) as tar:
                add_file(tar, STORE_FILE, HomeFile(home / STORE_FILE, database))
                for path in _files_of(home):
                    with _opened(path) as member:
                        add_file(tar, str(path.relative_to(home)), member)
            sealer.finish()
    finally:
        store.close()


def refuse_export(target: Path) -> None:
    """Raise what prevents a file from being made here, before its passphrase is asked for.

    Raises `InfoFileError`.
    """
    if os.path.lexists(target):
        raise InfoFileError(target, None, _TAKEN, _RENAME)
    if not target.parent.is_dir():
        raise InfoFileError(target, None, _NO_FOLDER, _RENAME)


def refuse_import(home: Path, source: Path) -> None:
    """Raise what prevents a file from being imported, before its passphrase is asked for.

    Raises `AlreadyRegistered` and `InfoFileError`.
    """
    refuse_a_home_in_use(home)
    with reading(source):
        is_folder = stat.S_ISDIR(source.stat().st_mode)
    if is_folder:
        raise InfoFileError(source, None, "is a folder, and no exported file", _RENAME)


def import_home(home: Path, source: Path, passphrase: str) -> None:
    """Make a home out of an exported file.

    Raises `AlreadyRegistered` if the home is in use, `HomeInUse` while another import goes on,
    `SettingRejected` for a wrong passphrase, `InfoFileError` for a file that can't be used,
    `FileUnwritten` if there is no room; then nothing was imported.
    """
    refuse_a_home_in_use(home)
    with _opened(source) as file:
        # Before anything is written, so that a wrong passphrase leaves no trace.
        opener, first = begin(piped(file), source, passphrase)
        with moving_in(home):
            _bring(Rest(first, opener), source, home)


def _bring(stream: "Rest", source: Path, home: Path) -> None:
    arriving = home / ARRIVING
    try:
        with writing(home):
            shutil.rmtree(arriving, ignore_errors=True)
            arriving.mkdir(mode=0o700)
        unpack(stream, source, arriving)
        _check_store(source, arriving)
        with writing(home):
            if (home / SERVER_INFO).exists():
                (arriving / SERVER_INFO).unlink(missing_ok=True)
            for folder in (*(path for path in arriving.iterdir() if path.is_dir()), arriving):
                sync_folder(folder)
            arriving.rename(home / ARRIVED)
            sync_folder(home)
    except CipherError as error:
        shutil.rmtree(arriving, ignore_errors=True)
        raise InfoFileError(source, None, f"{error}; nothing was imported") from error
    except BaseException:
        shutil.rmtree(arriving, ignore_errors=True)
        raise
    settle_held(home)


def _check_store(source: Path, arriving: Path) -> None:
    """Check the store: whoever made the file chose its content. Raises `InfoFileError`,
    `FileUnwritten`.
    """
    if not (arriving / STORE_FILE).exists():
        return
    try:
        check_foreign_store(arriving / STORE_FILE, arriving / SPOOL_FOLDER)
        settle_foreign_store(arriving / STORE_FILE)
    except StoreOfLaterVersion as error:
        raise InfoFileError(source, None, f"{_LATER}; nothing was imported", _UPGRADE) from error
    except StoreUnwritable as error:
        raise FileUnwritten(arriving / STORE_FILE, str(error).rstrip("."), error.advice) from error
    except StoreUnusable as error:
        problem = str(error).rstrip(".")
        raise InfoFileError(
            source, None, f"holds a store that can't be used: {problem}; nothing was imported", error.advice
        ) from error


def begin(file: BinaryIO, source: Path, passphrase: str) -> tuple[ArchiveOpener, bytes]:
    """Open an archive and read its first byte."""
    try:
        opener = ArchiveOpener(file, passphrase)
        return opener, opener.read(1)
    except LaterExport as error:
        raise InfoFileError(source, None, f"{_LATER}; nothing was imported", _UPGRADE) from error
    except CipherError as error:
        raise SettingRejected(f"{source} can't be opened: another passphrase, a damaged file, or no export.") from error


class Rest:
    """A stream whose first byte was read already."""

    def __init__(self, first: bytes, stream: ArchiveOpener) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes."""
        first, self._first = self._first[:size], self._first[size:]
        return first + self._stream.read(size - len(first))


class HomeFile:
    """A file that is read; a failure names this file, not the one that is being written."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def size(self) -> int:
        """Return how many bytes it has."""
        with reading(self._path):
            size = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
            return size

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes. Raises `InfoFileError` with the name of the file."""
        with reading(self._path):
            return self._file.read(size)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["HomeFile"]:
    """Open a file to be read. Raises `InfoFileError`, also while it is read."""
    with reading(path):
        file = path.open("rb")
    with file:
        yield HomeFile(path, file)


def piped(stream: ArchiveSealer | Rest | HomeFile) -> BinaryIO:
    """Only `read` or `write` of the stream is used, as for a pipe."""
    return cast("BinaryIO", stream)


def unpack(stream: Rest, source: Path, into: Path) -> None:
    """Write the files of an export into a folder."""
    try:
        with tarfile.open(fileobj=piped(stream), mode="r|", bufsize=CHUNK, tarinfo=_PlainMember) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if _belongs(entry.name) else None
                if content is None:
                    raise InfoFileError(source, None, f"holds {entry.name!r}, which belongs to no home")
                path = into / entry.name
                with writing(path):
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                with new_file(path) as file:
                    shutil.copyfileobj(content, file, CHUNK)
            # Read to the end, so that a truncated file is found.
            while stream.read(CHUNK):
                pass
    except (tarfile.TarError, _NotPlain) as error:
        raise InfoFileError(source, None, f"holds no home ({error})") from error


class _NotPlain(Exception):
    """A member of the archive is not a plain file."""


class _PlainMember(tarfile.TarInfo):
    """A member that takes as much space as it says: sparse files, links and long headers are
    refused unread.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises `_NotPlain`, and what `tarfile` raises."""
        member = super().frombuf(buf, encoding, errors)
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise _NotPlain(f"a member of type {member.type!r}")
        return member


def _belongs(name: str) -> bool:
    folder, slash, spooled = name.rpartition("/")
    if slash:
        return folder == SPOOL_FOLDER and _SPOOLED.fullmatch(spooled) is not None
    return name in {STORE_FILE, SERVER_INFO} or holds_key(name)


def _files_of(home: Path) -> list[Path]:
    with reading(home):
        named = [path for path in home.iterdir() if path.name != STORE_FILE and _belongs(path.name)]
        spool = home / SPOOL_FOLDER
        spooled = list(spool.iterdir()) if spool.is_dir() else []
        return sorted(path for path in (*named, *spooled) if path.is_file())


def add_file(tar: tarfile.TarFile, name: str, file: HomeFile) -> None:
    """Add a file to an export."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = file.size(), 0o600
    tar.addfile(entry, piped(file))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file (0600), synced at the end, and removed if anything failed.

    Raises `FileUnwritten`, also for an `OSError` that comes from within, and `InfoFileError` for an
    unusable name.
    """
    with writing(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError as error:
            raise InfoFileError(path, None, _TAKEN, _RENAME) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InfoFileError(path, None, _NO_FOLDER, _RENAME) from error
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                yield file
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into an `InfoFileError`."""
    try:
        yield
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
