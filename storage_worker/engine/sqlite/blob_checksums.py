"""Checksums of a large content, one for each 64 KiB, which follow the content in its file.

Owns: the layout of that table. Promises: an altered piece is always detected.
Exposure: none; contents are opaque.

    content ─┬─ CRC-32 of piece 1, of piece 2, … [4 each] ─┬─ CRC-32 of the table and the file's number [4]
"""

from struct import Struct
from typing import Final

from zlib_ng.zlib_ng import crc32

PIECE_BYTES: Final = 64 * 1024
_SUM: Final = Struct("<I")
_NUMBER: Final = Struct("<q")


class PieceSums:
    """Computes the checksums while a content arrives."""

    def __init__(self) -> None:
        self._sums = bytearray()
        self._sum = 0
        self._in_piece = 0

    def add(self, data: bytes) -> None:
        """Add bytes."""
        view = memoryview(data)
        while view:
            part = view[: PIECE_BYTES - self._in_piece]
            self._sum = crc32(part, self._sum)
            self._in_piece += len(part)
            view = view[len(part) :]
            if self._in_piece == PIECE_BYTES:
                self._end_piece()

    def _end_piece(self) -> None:
        self._sums += _SUM.pack(self._sum)
        self._sum = self._in_piece = 0

    def table(self, blob_id: int) -> bytes:
        """The content is complete: the table of file `blob_id`."""
        if self._in_piece:
            self._end_piece()
        return bytes(self._sums) + _check(blob_id, bytes(self._sums))


def _check(blob_id: int, sums: bytes) -> bytes:
    return _SUM.pack(crc32(sums, crc32(_NUMBER.pack(blob_id))))


def table_bytes(size: int) -> int:
    """Bytes of the table of a content of `size` bytes."""
    return -(-size // PIECE_BYTES) * _SUM.size + _SUM.size


def table_is_whole(blob_id: int, table: bytes) -> bool:
    """Whether a table is unaltered, and belongs to file `blob_id`."""
    sums = table[: -_SUM.size]
    return table[-_SUM.size :] == _check(blob_id, sums)


def pieces_are_whole(table: bytes, first: int, pieces: bytes) -> bool:
    """Whether the bytes of piece number `first` (from 0) and of the following ones are
    unaltered.
    """
    return all(
        _SUM.unpack_from(table, (first + index) * _SUM.size)[0] == crc32(pieces[at : at + PIECE_BYTES])
        for index, at in enumerate(range(0, len(pieces), PIECE_BYTES))
    )
