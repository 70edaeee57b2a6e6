"""The content of a file behind its envelope: Cobblestone-256 of C2SP, by `cryptography`.

Owns: sealing and opening a file as a stream, its padding and its digest.
Promises: constant memory. What comes out of an opener is authentic and in order; that it is whole,
only `finish` says. The randomness of a sealed stream's salt is the library's.
Exposure: opens what strangers sent, under a key that an authenticated peer chose.

Source: docs/suite-1.md, "Files"; c2sp.org/chunked-encryption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from client.errors import CipherError
from client.suite1.padding import padme
from client.suite1.values import Pair

KEY_SIZE: Final = 32
CHUNK: Final = 16 * 1024
_HEADER: Final = 56
_TAG: Final = 16
_CONTEXT: Final = b"MessageU 5/1 file\0"
_ZEROS: Final = 1024 * 1024


class FileDamaged(CipherError):
    """A file's content was altered, cut or belongs to another message. What was written of it has
    to be dropped.
    """


def sealed_size(size: int) -> int:
    """Return how many bytes the stream of a file of `size` bytes takes."""
    padded = padme(size)
    return _HEADER + padded + _TAG * (padded // CHUNK + 1)


class FileSealer:
    """Seals one file. `size` and `digest` (SHA-256) are of what went in so far; both go into the
    payload after `finish`. `key`: 32 random bytes, for this file alone.
    """

    def __init__(self, key: bytes, pair: Pair) -> None:
        from cryptography.cobblestone import Cobblestone256Encryptor  # noqa: PLC0415

        self._cipher = Cobblestone256Encryptor(key, _context(pair))
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content so far."""
        return self._hash.digest()

    def update(self, data: bytes) -> bytes:
        """Return the bytes that come next."""
        self._hash.update(data)
        self.size += len(data)
        return self._cipher.update(data)

    def finish(self) -> Iterator[bytes]:
        """Return the last bytes, in pieces, with the padding."""
        left = padme(self.size) - self.size
        while left:
            count = min(left, _ZEROS)
            left -= count
            yield self._cipher.update(bytes(count))
        yield self._cipher.finalize()


class FileOpener:
    """Opens one file of that `size` and `digest`, as its payload says. Raises `FileDamaged`."""

    def __init__(self, key: bytes, pair: Pair, size: int, digest: bytes) -> None:
        from cryptography.cobblestone import Cobblestone256Decryptor  # noqa: PLC0415

        self._cipher = Cobblestone256Decryptor(key, _context(pair))
        self._hash = hashlib.sha256()
        self._digest = digest
        self._left = size
        self._padding = padme(size) - size

    def update(self, data: bytes) -> bytes:
        """Return the content's next bytes."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            return self._content(self._cipher.update(data))
        except (InvalidTag, ValueError) as error:
            raise _damaged() from error

    def finish(self) -> bytes:
        """Return the content's last bytes. Only now it is whole."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            last = self._content(self._cipher.finalize())
        except (InvalidTag, ValueError) as error:
            raise _damaged() from error
        if self._left or self._padding or self._hash.digest() != self._digest:
            raise _damaged()
        return last

    def _content(self, plain: bytes) -> bytes:
        content, padding = plain[: self._left], plain[self._left :]
        if len(padding) > self._padding or any(padding):
            raise _damaged()
        self._left -= len(content)
        self._padding -= len(padding)
        self._hash.update(content)
        return content


def _damaged() -> FileDamaged:
    return FileDamaged("the file was altered on its way, or is not whole", "Ask the sender to send it again.")


def _context(pair: Pair) -> bytes:
    return _CONTEXT + pair.sender + pair.recipient
