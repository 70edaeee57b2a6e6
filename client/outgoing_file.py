"""A file on its way out: opened, looked at, encrypted piece by piece.

Owns: reading what the user sends, and what a typed path means.
Promises: what is sent has the size that was said at the beginning, or is not sent.
Exposure: reads the path that the user named.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from client import ciphers
from client.ciphers import SymmetricKey
from client.paths import from_kept
from client.server_link import Progress
from client.tables.spool import Spools
from common.errors import FileUnreadable

CHUNK: Final = 256 * 1024
SPOOL_FROM: Final = 64 * 1024
"""Bytes. A larger outgoing content waits in a file beside the store."""


def meant(typed: str) -> Path:
    """Give the path that a person means, who typed it or dragged a file to the terminal.

    What is there by the very name that was typed is meant. Else `~` is the home folder, quotes and backslashes are a
    shell's, and `file://` begins a URI, where that leads to something; and if nothing does, it is what was typed, but
    for `~`. Raises `FileUnreadable` for nobody's home folder.
    """
    literal = Path(typed)
    read = [literal, *([from_kept(typed)] if typed.startswith("file:///") else [])]
    with suppress(ValueError):
        # Where a quote is never closed, it is no shell's.
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
        # Too long, out of bounds, or a zero byte in it.
        return False


@contextmanager
def file_to_send(path: Path) -> Iterator[tuple[int, int]]:
    """Open a regular file; its descriptor and its size in bytes. Raises `FileUnreadable`."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise FileUnreadable("file not found", f"{path}: {problem}. Check the path.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnreadable("file not found", f"{path} is no regular file.")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


@contextmanager
def bytes_to_send(data: bytes) -> Iterator[tuple[int, int]]:
    """Have bytes as an open file in memory; its descriptor and its size in bytes."""
    with os.fdopen(os.memfd_create("messageu"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file.fileno(), len(data)


def encrypted_file(
    descriptor: int, path: Path, size: int, key: SymmetricKey, progress: Progress | None
) -> Iterator[bytes]:
    """The first `size` bytes of an open file, encrypted. Raises `FileUnreadable` where it ends before."""
    cipher = ciphers.Encryptor(key)
    passed = 0
    while passed < size:
        try:
            data = os.read(descriptor, min(CHUNK, size - passed))
        except OSError as error:
            raise FileUnreadable("The file can't be read to its end; nothing was sent.", str(error.strerror)) from error
        if not data:
            raise FileUnreadable(f"{path} became shorter while it was sent; nothing was sent.", "Send it again.")
        passed += len(data)
        part = cipher.update(data)
        if part:
            yield part
        if progress is not None:
            progress(passed, size)
    yield cipher.finish()


def spooled(spools: Spools, parts: Iterator[bytes], size: int) -> bytes | str:
    """An outgoing content of `size` bytes, in memory or, if it is large, on disk under the name that is given."""
    if size <= SPOOL_FROM:
        return b"".join(parts)
    spool = spools.new()
    try:
        for part in parts:
            spool.write(part)
        return spool.keep()
    except BaseException:
        spool.discard()
        raise
