"""An outgoing file: opened, checked, and encrypted piece by piece.

Owns: reading what the user sends, and what a typed path means.
Promises: a file whose size changes while it is read is not sent. If no size is known before (a
pipe, a terminal, a file of /proc), it is sent to its end.
Exposure: reads the path that the user named.
"""

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from client.connection.server_link import Progress
from client.crypto import ciphers
from client.crypto.ciphers import SymmetricKey
from client.errors import FileUnreadable
from client.paths import from_kept
from client.store.spool import SpoolFile, Spools

CHUNK: Final = 256 * 1024
STANDARD_INPUT: Final = Path("/dev/stdin")
_PSEUDO_SIZE: Final = 64 * 1024
"""Bytes; the largest page of Linux. A file of a larger size without blocks is a sparse file."""
_INHERITED: Final = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/([0-9]{1,9})")
"""Names of files that this process has open already."""
SPOOL_FROM: Final = 64 * 1024
"""Bytes. Larger outgoing content waits in a file beside the store."""


class ToSend(NamedTuple):
    """An open file: its descriptor, and its size in bytes; None if only reading to the end shows
    the size.
    """

    descriptor: int
    size: int | None


def meant(typed: str) -> Path:
    """Return the path that a user means, who typed it or dragged a file to the terminal. An
    existing file of exactly the typed name comes first. Otherwise `~` is the home folder, quotes
    and backslashes are read as in a shell, and `file://` begins a URI, if that leads to a file. If
    nothing does, it is what was typed, with `~` expanded. Raises `FileUnreadable` for nobody's home
    folder, and for standard input, from which the path itself was read.
    """
    if inherited(Path(typed)) == 0:
        raise FileUnreadable(
            "file not found", f"{typed}: it is where this was typed. `messageu send --file -` reads it."
        )
    literal = Path(typed)
    read = [literal, *([from_kept(typed)] if typed.startswith("file:///") else [])]
    with suppress(ValueError):
        # A quote that is never closed is not a shell's.
        words = shlex.split(typed)
        read += [Path(word) for word in words if len(words) == 1]
    if _is_there(literal):
        return literal
    try:
        others = [path.expanduser() for path in read]
    except RuntimeError as error:
        raise FileUnreadable("file not found", f"{typed}: {error} Check the path.") from error
    return next(filter(_is_there, others), others[0])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # Too long, out of range, or with a zero byte in it.
        return False


def inherited(path: Path) -> int | None:
    """Return the descriptor that a path names, such as /dev/stdin: what is read from it is gone.
    None for other paths.
    """
    found = _INHERITED.fullmatch(str(path))
    return None if found is None else int(found[1] or 0)


def can_be_read_again(path: Path) -> bool:
    """Whether it is a file, not a pipe: it can be read a second time."""
    return inherited(path) is None and path.is_file()


def can_be_sent(path: Path) -> bool:
    """Whether it can be read to its end: it is neither a folder nor a disk. Opens nothing."""
    try:
        return _has_an_end(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def check_file(path: Path) -> None:
    """Raise `FileUnreadable` if a path surely can't be sent. Opens nothing: a pipe would notice."""
    if not can_be_sent(path):
        if not _is_there(path):
            raise FileUnreadable(f"There is no file {path}; nothing was sent.", "Check the path.")
        raise FileUnreadable(f"{path} is no regular file; nothing was sent.", "Name a file; pack a folder first.")


def _has_an_end(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _tells_its_size(status: os.stat_result) -> bool:
    """Whether the size can't be trusted: files of /proc and /sys have content, but claim 0 bytes,
    or a page, and no blocks.
    """
    told = status.st_blocks > 0 or status.st_size > _PSEUDO_SIZE
    return stat.S_ISREG(status.st_mode) and status.st_size > 0 and told


@contextmanager
def file_to_send(path: Path) -> Iterator[ToSend]:
    """Open the file to be sent. With a named pipe it waits, as every reader does, until somebody
    writes.

    Raises `FileUnreadable`.
    """
    number = inherited(path)
    try:
        if number is None:
            if not _has_an_end(path.stat().st_mode):
                raise FileUnreadable("file not found", f"{path} is no regular file.")
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            # Opening it again would begin at another position of a file, and a socket can't be
            # opened so.
            descriptor = os.dup(number)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise FileUnreadable("file not found", f"{path}: {problem}. Check the path.") from error
    try:
        status = os.fstat(descriptor)
        if not _has_an_end(status.st_mode):
            raise FileUnreadable("file not found", f"{path} is no regular file.")
        yield ToSend(descriptor, status.st_size if number is None and _tells_its_size(status) else None)
    finally:
        os.close(descriptor)


@contextmanager
def bytes_to_send(data: bytes) -> Iterator[ToSend]:
    """Write bytes to a file in memory; return its descriptor and its size in bytes."""
    with os.fdopen(os.memfd_create("messageu"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield ToSend(file.fileno(), len(data))


def encrypted_file(
    descriptor: int, path: Path, size: int, key: SymmetricKey, progress: Progress | None
) -> Iterator[bytes]:
    """Yield the first `size` bytes of an open file, encrypted. Raises `FileUnreadable` if it is
    shorter.
    """
    cipher = ciphers.Encryptor(key)
    passed = 0
    while passed < size:
        data = read_part(descriptor, min(CHUNK, size - passed))
        if not data:
            raise FileUnreadable(f"{path} became shorter while it was sent; nothing was sent.", "Send it again.")
        passed += len(data)
        part = cipher.update(data)
        if part:
            yield part
        if progress is not None:
            progress(passed, size)
    yield cipher.finish()


def encrypted_stream(descriptor: int, key: SymmetricKey) -> Iterator[bytes]:
    """Yield all that can be read from a descriptor, encrypted. Raises `FileUnreadable`."""
    cipher = ciphers.Encryptor(key)
    while data := read_part(descriptor, CHUNK):
        part = cipher.update(data)
        if part:
            yield part
    yield cipher.finish()


def read_part(descriptor: int, most: int) -> bytes:
    """Read up to `most` bytes; none at the end. Raises `FileUnreadable`."""
    try:
        return os.read(descriptor, most)
    except OSError as error:
        raise FileUnreadable("The file can't be read to its end; nothing was sent.", str(error.strerror)) from error


def spooled(spools: Spools, parts: Iterator[bytes], check: Callable[[int], None]) -> tuple[bytes | str, int]:
    """Return outgoing content, in memory or, if it is large, as the name of a file on disk; and its
    size in bytes.

    `check` is called with the number of bytes so far, and raises if they are too many. Raises
    `StoreUnusable` (no room).
    """
    first, size = bytearray(), 0
    spool: SpoolFile | None = None
    try:
        for part in parts:
            size += len(part)
            check(size)
            if spool is None and size > SPOOL_FROM:
                spool = spools.new()
                spool.write(first)
            if spool is None:
                first += part
            else:
                spool.write(part)
        return bytes(first) if spool is None else spool.keep(), size
    except BaseException:
        if spool is not None:
            spool.discard()
        raise
