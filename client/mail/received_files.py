"""Received files on their way to the user's folder.

Owns: their names, and writing them whole or not at all.
Promises: a file appears under its name only when all of it is on disk, mode 0600; it overwrites
nothing and never leaves its folder. Until then it has a hidden name, locked by the process that
writes it; `sweep` removes what a killed process left. The name of a file of the published suite
consists of the letters and digits of the sender's name, the message's number, and an extension that
follows from the first bytes; `client.mail.suite_files` names those of suite 1.
Exposure: decrypts what strangers sent, and examines only its first bytes.

Source: docs/client.md; docs/decisions/0005-names-of-received-files.md.
"""

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from client.connection.server_link import Progress
from client.errors import FileUnsaved

_PREFIX: Final = ".messageu-"
_HALF_WRITTEN: Final = re.compile(r"\.messageu-[a-z0-9_]{8}")
"""The names that `mkstemp` makes from the prefix."""
_LOOK_AT: Final = 8192
"""Bytes at the beginning that show the type of content."""
_TEXT_CONTROLS: Final = frozenset("\t\n\r\f\x1b")


class Opener(Protocol):
    """Decrypts a file piece by piece. Raises `CipherError`."""

    def update(self, data: bytes) -> bytes:
        """Return the next bytes."""

    def finish(self) -> bytes:
        """Return the last bytes, if it is whole."""


class Sealed(NamedTuple):
    """A received file: its encrypted content in parts, their total size, and what decrypts it."""

    content: Iterator[bytes]
    size: int
    cipher: Opener


def save(sealed: Sealed, folder: Path, name: str, progress: Progress | None = None, end: str | None = None) -> Path:
    """Decrypt into a new file and return its path. `end` is the name's extension, with its dot;
    None: it follows from the first bytes. Raises `CipherError`, `FileUnsaved`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = _half_written(folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                beginning = b""
                for part in _decrypted(sealed, progress):
                    file.write(part)
                    beginning = beginning or part[:_LOOK_AT]
                file.flush()
                os.fsync(descriptor)
                # Before the file is closed, which gives up its lock.
                final = _moved(Path(temporary), folder, name, ending(beginning) if end is None else end)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileUnsaved(
            f"A received file can't be saved in {folder} ({error.strerror}); it is kept.",
            "Make room, or choose another folder with --save-dir, then receive again.",
        ) from error
    return final


def sweep(folder: Path) -> None:
    """Remove the half-written files that processes which were killed left in a folder.

    Only files of our own form, owned by this user, that no process holds. A folder that can't be
    read is ignored: saving a file there reports the failure.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _HALF_WRITTEN.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_left(entry.path)


def _remove_if_left(path: str) -> None:
    """Raises `OSError` if it is in use, or no longer there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o600:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()
    finally:
        os.close(descriptor)


def _half_written(folder: Path) -> tuple[int, str]:
    """Make a file that no sweep of another process takes for a leftover. Raises `OSError`."""
    while True:
        descriptor, path = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        try:
            with contextlib.suppress(OSError):
                # If the file system has no locks, a sweep gets none either.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, path
        except BaseException:
            os.close(descriptor)
            Path(path).unlink(missing_ok=True)
            raise
        # Swept away in the moment before it was locked.
        os.close(descriptor)


def _decrypted(sealed: Sealed, progress: Progress | None) -> Iterator[bytes]:
    passed = 0
    for part in sealed.content:
        yield sealed.cipher.update(part)
        passed += len(part)
        if progress is not None:
            progress(passed, sealed.size)
    yield sealed.cipher.finish()


def base_name(sender: str, number: int) -> str:
    """Return the name of a message's file, without its extension."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in sender)[:40]
    return f"messageu-{safe or '_'}-{number}"


def ending(beginning: bytes) -> str:
    """Return the extension that follows from the first bytes, with its dot; empty if they do not
    show one.
    """
    import filetype  # type: ignore[import-untyped]  # noqa: PLC0415 - only receiving a file needs it

    known: str | None = filetype.guess_extension(beginning)
    if known is not None:
        return f".{known}"
    return ".txt" if _is_text(beginning) else ""


def _is_text(beginning: bytes) -> bool:
    try:
        # Text that was cut off in the middle of a character is still text.
        text = beginning.decode("utf-8", errors="strict" if len(beginning) < _LOOK_AT else "ignore")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter >= " " or letter in _TEXT_CONTROLS for letter in text)


def _moved(temporary: Path, folder: Path, name: str, end: str) -> Path:
    """Give the file an unused name, reserved by an empty file that it then replaces."""
    final = _reserve(folder, name, end)
    try:
        temporary.replace(final)
    except BaseException:
        final.unlink(missing_ok=True)
        raise
    return final


def _reserve(folder: Path, name: str, end: str) -> Path:
    """Reserve an unused name."""
    for attempt in range(1_000_000):
        # The folder may be reached over links, but the file of this name must not be one.
        path = folder.resolve() / f"{name}{f'-{attempt}' if attempt else ''}{end}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        return path
    raise FileExistsError(17, "every name is taken")
