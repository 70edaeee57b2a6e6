"""A file on its way out: opened, looked at, encrypted piece by piece.

Owns: reading what the user sends.
Promises: what is sent has the size that was said at the beginning, or is not sent.
Exposure: reads the path that the user named.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from client import ciphers
from client.ciphers import SymmetricKey
from client.server_link import Progress
from common.errors import FileUnreadable

CHUNK: Final = 256 * 1024


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
