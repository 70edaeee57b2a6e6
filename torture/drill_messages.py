"""Messages whose content says who sent what to whom, so that a receiver can identify it.

Owns: the content of every message that drills send.
Promises: a content that was damaged, cut or mixed up does not parse.
Exposure: parses what the server under test delivers.
"""

import hashlib
from typing import NamedTuple

_SEPARATOR = b"|"


class DrillMessage(NamedTuple):
    """One message. `number` counts the messages of this sender to this recipient, from 1."""

    sender: str
    recipient: str
    number: int

    def __str__(self) -> str:
        return f"{self.sender} {self.recipient} {self.number}"

    def content(self, size: int) -> bytes:
        """Bytes that name the message and are told apart from any others: at least `size`."""
        head = f"{self}{_SEPARATOR.decode()}".encode()
        return head + _filler(head, max(0, size - len(head)))


def parse_line(text: str) -> DrillMessage:
    """The pair of `str(message)`. Raises `ValueError`."""
    sender, recipient, number = text.split(" ")
    return DrillMessage(sender, recipient, int(number))


def parse_content(content: bytes) -> DrillMessage | None:
    """The message that a content is, whole and unchanged; None for anything else."""
    head, separator, filler = content.partition(_SEPARATOR)
    try:
        message = parse_line(head.decode())
    except ValueError:
        return None
    return message if separator and filler == _filler(head + separator, len(filler)) else None


def _filler(head: bytes, size: int) -> bytes:
    return hashlib.shake_128(head + size.to_bytes(8, "little")).digest(size) if size else b""
