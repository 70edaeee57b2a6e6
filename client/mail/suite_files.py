"""Files under cipher suite 1: sealed into the spool, opened on their way to the user's folder.

Owns: the payload of a file, and the stream behind it.
Promises: memory does not grow with the file. A received file appears only if all of it is what its
payload says; its name is the sender's, made safe.
Exposure: opens what an authenticated peer sent, whose name for the file may be anything.

Source: docs/suite-1.md, "Files"; docs/decisions/0005-names-of-received-files.md.
"""

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from client.connection.server_link import Progress
from client.crypto.ciphers import RandomBytes
from client.errors import CipherError, FileUnreadable
from client.mail.outgoing_file import CHUNK, ToSend, read_part
from client.mail.received_files import base_name
from client.store.spool import SpoolFile, Spools
from client.suite1 import file_stream
from client.suite1.payloads import MAX_NAME, File, decoded, encoded
from client.suite1.values import Pair

_ALLOWED: Final = frozenset(" ._-+,()[]@=#~'")
_LONGEST: Final = 120
"""Bytes of a received file's name."""


class SealedFile(NamedTuple):
    """A file in the spool, and what its payload says of it."""

    spool: str
    size: int
    """Of the file, in bytes."""
    digest: bytes
    key: bytes


def seal_parts(
    spools: Spools, parts: Iterator[bytes], pair: Pair, random_bytes: RandomBytes, check: Callable[[int], None]
) -> SealedFile:
    """Seal what `parts` gives into a new spool file. `check` is called with the sealed size so far,
    and raises if that is too large. Raises `StoreUnusable` (no room).
    """
    key = random_bytes(file_stream.KEY_SIZE)
    sealer = file_stream.FileSealer(key, pair)
    spool: SpoolFile = spools.new()
    try:
        for part in parts:
            spool.write(sealer.update(part))
            check(file_stream.sealed_size(sealer.size))
        for part in sealer.finish():
            spool.write(part)
        return SealedFile(spool.keep(), sealer.size, sealer.digest, key)
    except BaseException:
        spool.discard()
        raise


def read_parts(file: ToSend, path: Path, progress: Progress | None) -> Iterator[bytes]:
    """Yield the content of an open file. Raises `FileUnreadable`, also if its size changes
    meanwhile.
    """
    passed = 0
    while file.size is None or passed < file.size:
        part = read_part(file.descriptor, CHUNK if file.size is None else min(CHUNK, file.size - passed))
        if not part:
            break
        yield part
        passed += len(part)
        if progress is not None and file.size is not None:
            progress(passed, file.size)
    if file.size is not None and passed < file.size:
        raise FileUnreadable(f"{path} became shorter while it was sent; nothing was sent.", "Send it again.")


def name_of(path: str | None) -> str:
    """Return the name under which a file is sent: the last part of its path, or nothing for what
    has no path.
    """
    name = unicodedata.normalize("NFC", os.path.basename(path or ""))  # noqa: PTH119 - may be any text
    while len(name.encode("utf-8", "replace")) > MAX_NAME:
        name = name[:-1]
    return name.encode("utf-8", "replace").decode("utf-8")


def safe_name(file: File, sender: str, number: int) -> tuple[str, str | None]:
    """Return the name for a received file, and its ending with the dot: as its sender calls it, if
    anything safe is left of that. Otherwise as files of the published suite are called; their
    ending, None, follows from the content.
    """
    kept = "".join(
        letter if letter.isalnum() or letter in _ALLOWED else "_"
        for letter in unicodedata.normalize("NFC", file.name.replace("\\", "/").rpartition("/")[2])
    ).strip(" .-~")
    stem, dot, end = kept.rpartition(".")
    if not dot or not end.isalnum() or not stem.strip(" ._-") or len(end.encode()) > _LONGEST // 4:
        stem, dot, end = kept, "", ""
    while len((stem + dot + end).encode()) > _LONGEST:
        stem = stem[:-1]
    if not any(letter.isalnum() for letter in stem):
        return base_name(sender, number), None
    return stem.rstrip(), f"{dot}{end}"


def without_key(payload: bytes) -> bytes:
    """Return what the history keeps of a file that was saved: its payload without the key, so that
    a copy of the home opens no recording of it. Raises `PayloadMalformed`.
    """
    file = decoded(payload)
    return encoded(file._replace(key=bytes(file_stream.KEY_SIZE))) if isinstance(file, File) else payload


def stream_size(file: File) -> int:
    """Return the size of the stream behind a file's payload. Raises `CipherError` beyond all
    bounds.
    """
    if file.size > 1 << 40:
        raise CipherError("its size is beyond all bounds")
    return file_stream.sealed_size(file.size)
