"""Paths that are not UTF-8: a file system takes any bytes, the store and SQLite take UTF-8.

Owns: how a path is stored, how SQLite gets the name of its file, and which folder is the temporary
one.
Promises: whatever path a user names comes back byte for byte. A path in UTF-8 is stored as it is;
any other as a `file://` URI, which no absolute path looks like. How a path is shown:
`client.terminal.sanitize`.
Exposure: reads paths from a store that somebody else may have written; they are only shown.

Source: docs/client.md, "Paths".
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_URI: Final = "file://"


def kept(path: Path) -> str:
    """Return an absolute path as it is stored."""
    raw = os.fsencode(path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"{_URI}{quote(raw)}"


def from_kept(text: str) -> Path:
    """Return the path that is stored as `text`."""
    if text.startswith(f"{_URI}/"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_URI))))
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def is_utf8(text: str) -> bool:
    """Whether a text of the command line is UTF-8: Python keeps other bytes as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def plain(text: str) -> str:
    """Return a sentence that may name such a path in a form that the store accepts."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def temporary_folder() -> Path:
    """Return the folder for temporary files.

    Python looks for one by writing to it. If it finds none, because the disk is full or read-only,
    whoever writes there reports it, not whoever only reads.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - it is only named


@contextlib.contextmanager
def for_sqlite(path: Path) -> Iterator[str]:
    """Return a name under which SQLite can open a file. Raises `OSError`.

    SQLite accepts only names in UTF-8. A folder with another name is reached through its
    descriptor: SQLite follows that link to the real name, so that the files beside the database are
    named correctly too.
    """
    if is_utf8(str(path)) and os.fsencode(path) == str(path).encode("utf-8"):
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
