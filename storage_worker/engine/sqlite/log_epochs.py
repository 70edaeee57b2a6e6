"""Log epochs and marks: how the journal's files and the database tell whether they belong together.

Owns: the form of a log epoch, and of the mark at the end of each of the journal's files.
Promises: of two log epochs of one store it is known which is the later one. A file of the
journal that is missing, cut or zeros is known as such, unless the last end was an orderly one: then
nothing of it is needed.
Exposure: the data folder.

    log epoch   `MsgU`, number u48 (big-endian), 6 random bytes. Those of versions before 5 are random, of no order.
    mark        `MsgUmark`, log epoch [16], CRC-32 u32 of both: the last one that began in this file, written after
                the database has it, within one sector
"""

import logging
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final

from zlib_ng.zlib_ng import crc32

from storage_worker.engine.errors import JournalDamaged
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES, failed

log = logging.getLogger("storage_worker")

LOG_EPOCH_SIZE: Final = 16
_MAGIC: Final = b"MsgU"
_NUMBER_SIZE: Final = 6
_RANDOM_SIZE: Final = LOG_EPOCH_SIZE - len(_MAGIC) - _NUMBER_SIZE
_MARK_MAGIC: Final = b"MsgUmark"
_MARK: Final = Struct("<8s16sI")
MARK_SIZE: Final = _MARK.size
SECTOR: Final = 512
"""Bytes that a disk writes as a whole, or not at all."""

STEP: Final = (
    "Nothing was changed. Put the whole data folder back from a backup; or let `scripts/admin recover-journal` "
    "recover all intact records"
)


def next_log_epoch(before: bytes, random_bytes: Callable[[int], bytes]) -> bytes:
    """The log epoch behind `before`; the first one where that is of no order."""
    number = (_number(before) or 0) + 1
    return _MAGIC + number.to_bytes(_NUMBER_SIZE, "big") + random_bytes(_RANDOM_SIZE)


def _number(log_epoch: bytes) -> int | None:
    ordered = log_epoch.startswith(_MAGIC)
    return int.from_bytes(log_epoch[len(_MAGIC) : len(_MAGIC) + _NUMBER_SIZE], "big") if ordered else None


def is_later(log_epoch: bytes, other: bytes) -> bool:
    """Whether `log_epoch` came after `other`, as far as their form shows."""
    one, two = _number(log_epoch), _number(other)
    return one is not None and two is not None and one > two


def mark_at(length: int) -> int:
    """The offset of the mark in a file of `length` bytes."""
    return (length - _MARK.size) // SECTOR * SECTOR


def mark(log_epoch: bytes) -> bytes:
    """The mark of a log epoch."""
    return _MARK.pack(_MARK_MAGIC, log_epoch, crc32(_MARK_MAGIC + log_epoch))


def marked_log_epochs(folder: Path, length: int) -> list[bytes]:
    """The log epochs that the journal's files, of at least `length` bytes, are marked with.

    Raises `JournalDamaged` where a file is missing, shorter or has lost its mark, and
    `StoreFailed`.
    """
    log_epochs: list[bytes] = []
    for name in JOURNAL_NAMES:
        path = folder / name
        try:
            size = path.stat().st_size if path.exists() else 0
            if size < length:
                state = f"has {size} bytes and had {length}" if size else "is missing or empty"
                raise JournalDamaged(
                    f"{path} {state}, and the server did not end in an orderly way: what it acknowledged last may have "
                    f"been in there. {STEP}"
                )
            with path.open("rb") as file:
                file.seek(mark_at(length))
                found = file.read(_MARK.size)
        except OSError as error:
            raise failed(error, f"{path} can't be read") from error
        magic, log_epoch, checksum = _MARK.unpack(found)
        if magic == _MARK_MAGIC and checksum == crc32(magic + log_epoch):
            log_epochs.append(log_epoch)
        elif not any(found):
            raise JournalDamaged(
                f"{path} is damaged at byte {mark_at(length)}: there are zeros in the place of its mark. {STEP}"
            )
        else:
            log.error("%s is damaged at byte %d: its mark is altered. Its records are not", path, mark_at(length))
    return log_epochs
