"""Paths that are no UTF-8: a file system takes any bytes, the store and SQLite take UTF-8.

Owns: how a path stands in the store, how SQLite gets the name of its file; which folder is the
temporary one.
Promises: whatever path a user names comes back byte for byte. One that is UTF-8 stands in the store
as it is; another one as a `file://` URI, which no absolute path looks like. How a path is shown:
`client.terminal.sanitize`.
Exposure: reads from a store what somebody else may have written; what comes of it is shown, and
nothing else.

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
    """Give an absolute path as it is written in the store."""
    raw = os.fsencode(path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"{_URI}{quote(raw)}"


def from_kept(text: str) -> Path:
    """Give the path that is written in the store as `text`."""
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
    """Give a sentence of ours, which may name such a path, as the store takes it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def temporary_folder() -> Path:
    """Give the folder for temporary files.

    Python looks for one by writing to it. Where it finds none, because the disk is full or
    read-only, that is told by who wants to write there, and not by who only reads.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - it is but named


@contextlib.contextmanager
def for_sqlite(path: Path) -> Iterator[str]:
    """Give a name under which SQLite can open a file. Raises `OSError`.

    It takes names in UTF-8 alone. Where the folder's is none, it gets there by the folder's
    descriptor: it follows that link to the true name by itself, so that the files beside the
    database have theirs too.
    """
    if is_utf8(str(path)) and os.fsencode(path) == str(path).encode("utf-8"):
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
