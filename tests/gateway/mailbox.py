"""Pages of mail for a scripted worker to return."""

from common.storage_protocol.message_format import ENTRY_HEAD, Entry, pack_entry
from common.storage_protocol.operations import Mail, Part

BOB = b"b" * 16
TOKEN = b"t" * 16


def page(*messages: tuple[int, bytes], part: Part | None = None) -> Mail:
    """Whole messages of Bob's, by sequence and content, then perhaps a part."""
    entries = b"".join([pack_entry(entry(sequence, content)) for sequence, content in messages])
    return Mail(entries, messages[-1][0] if messages else 0, part)


def entry(sequence: int, content: bytes) -> Entry:
    """A message of Bob's."""
    return Entry(BOB, TOKEN, sequence, 5, 0, 3, len(content), content)


def part(sequence: int, content: bytes, offset: int, size: int) -> Part:
    """A part of a large message of Bob's."""
    return Part(ENTRY_HEAD.pack(BOB, TOKEN, sequence, 5, 0, 3, size), sequence, size, offset, content)
