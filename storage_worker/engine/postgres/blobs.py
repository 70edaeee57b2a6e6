"""Large contents, in pieces of a table.

Owns: the table `blob_piece`. Promises: a piece is committed when it is written; what is not a whole
piece yet is in memory, and not durable. A piece that is not as it was written is never handed out.
Exposure: contents are opaque bytes of strangers.

Pieces are written on a connection of their own: a turn that is undone does not take them back.
"""

from struct import Struct
from typing import Final

from zlib_ng.zlib_ng import crc32

from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database

PIECE_BYTES: Final = 1024 * 1024
_NUMBERS: Final = Struct("<qq")


def checksum_of(blob_id: int, piece: int, data: bytes) -> int:
    """CRC-32 of a piece's numbers and its data, so that it is not taken for another one."""
    return crc32(data, crc32(_NUMBERS.pack(blob_id, piece)))


class _Growing:
    """A content that comes in: how many pieces are written, and what comes after them."""

    __slots__ = ("pieces", "rest")

    def __init__(self) -> None:
        self.pieces = 0
        self.rest = bytearray()


class Blobs:
    """The pieces. `database` is for them alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._growing: dict[int, _Growing] = {}
        self._last: tuple[int, int, bytes] = (0, 0, b"")
        self.unread: set[int] = set()

    def append(self, blob_id: int, data: bytes) -> None:
        """The next bytes. Raises `StoreFull`, after which the blob is to be removed."""
        growing = self._growing.setdefault(blob_id, _Growing())
        growing.rest += data
        while len(growing.rest) >= PIECE_BYTES:
            self._write(blob_id, growing)

    def _write(self, blob_id: int, growing: _Growing) -> None:
        data = bytes(growing.rest[:PIECE_BYTES])
        checksum = checksum_of(blob_id, growing.pieces, data)
        self._database.write_fenced(statements.WRITE_PIECE, blob_id, growing.pieces, data, checksum)
        growing.pieces += 1
        del growing.rest[:PIECE_BYTES]

    def unsynced(self, blob_id: int) -> int:
        """Bytes of a growing blob that are in memory alone."""
        growing = self._growing.get(blob_id)
        return 0 if growing is None else len(growing.rest)

    def finish(self, blob_id: int) -> int:
        """All of it came: write the rest. 0, for it is durable then."""
        growing = self._growing.get(blob_id)
        if growing is not None:
            if growing.rest:
                self._write(blob_id, growing)
            del self._growing[blob_id]
        return 0

    def read(self, blob_id: int, at: int, length: int, size: int) -> bytes:
        """Bytes of a content of `size` bytes. Raises `StoreDamaged`."""
        if not length:
            return b""
        first, last = at // PIECE_BYTES, (at + length - 1) // PIECE_BYTES
        data = b"".join([self._piece(blob_id, piece, size) for piece in range(first, last + 1)])
        self.unread.discard(blob_id)
        skipped = at - first * PIECE_BYTES
        return data[skipped : skipped + length]

    def _piece(self, blob_id: int, piece: int, size: int) -> bytes:
        if self._last[:2] == (blob_id, piece):
            # Who fetches one has parts of a piece, one after the other.
            return self._last[2]
        found = self._database.find(statements.PIECE, blob_id, piece)
        wanted = min(PIECE_BYTES, size - piece * PIECE_BYTES)
        if found is None or len(found[0]) < wanted or found[1] != checksum_of(blob_id, piece, found[0]):
            self.unread.add(blob_id)
            state = "is missing" if found is None else "is altered"
            raise StoreDamaged(f"piece {piece} of content {blob_id} {state}: its message is not handed out")
        self._last = (blob_id, piece, found[0])
        return self._last[2]

    def altered(self, blob_id: int, size: int) -> str | None:
        """Read a content of `size` bytes through: what is not as it was written, or None."""
        try:
            for at in range(0, size, PIECE_BYTES):
                self.read(blob_id, at, min(PIECE_BYTES, size - at), size)
        except StoreDamaged as error:
            return str(error)
        return None

    def remove(self, blob_id: int) -> None:
        """Delete it; one that is not there is none."""
        self._growing.pop(blob_id, None)
        self.unread.discard(blob_id)
        if self._last[0] == blob_id:
            self._last = (0, 0, b"")
        with self._database.transaction():
            self._database.change(statements.DELETE_BLOBS, [blob_id])

    def set_aside(self, blob_id: int) -> str:
        """Nothing is kept of what is not whole."""
        self.remove(blob_id)
        return ""

    def sweep(self, needed: dict[int, int]) -> set[int]:
        """Delete those that no message needs: what a crash left of uploads, and of messages that
        were fetched. `needed`: number -> bytes. Gives those that are not there, or shorter.
        """
        found: dict[int, int] = dict(self._database.rows(statements.BLOB_SIZES))
        needless = sorted(found.keys() - needed.keys())
        if needless:
            with self._database.transaction():
                self._database.change(statements.DELETE_BLOBS, needless)
        return {blob_id for blob_id, size in needed.items() if found.get(blob_id, 0) < size}
