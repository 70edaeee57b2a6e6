"""Pages of mail: neighbouring messages of one mailbox, one behind the other.

Owns: how messages are put into pages, and a page's checksum.
Promises: a page is never empty, and has one mailbox's messages in their order. A message whose
content is a blob has a page for itself.
Exposure: entries are opaque bytes of strangers behind heads that this program made.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

from zlib_ng.zlib_ng import crc32

from common.storage_protocol.message_format import ENTRY_HEAD


class PageRow(NamedTuple):
    """A page without its entries. `blob_id`: the number of the blob that has its one
    message's content, or None.

    Sequences are never used twice, so that no later page is equal to it.
    """

    row: int
    first: int
    last: int
    messages: int
    content_bytes: int
    blob_id: int | None


class InBlob(NamedTuple):
    """A message of user row `recipient` whose content of `size` bytes is the blob `blob_id`."""

    recipient: int
    sequence: int
    size: int
    blob_id: int


class NewPage(NamedTuple):
    """A page that is to be written."""

    recipient: int
    first: int
    last: int
    messages: int
    content_bytes: int
    blob_id: int | None
    entries: bytes


_COLUMNS: Final = Struct("<qqqqqq")


def checksum_of(page: NewPage) -> int:
    """CRC-32 of a page's columns and its entries, so that neither is taken for another
    mailbox's.
    """
    columns = _COLUMNS.pack(*page[:5], page.blob_id or 0)
    return crc32(page.entries, crc32(columns))


def make_pages(
    recipient: int, sequences: Sequence[int], entries: Sequence[bytes], blobs: dict[int, int], page_bytes: int
) -> Iterator[NewPage]:
    """Messages of one mailbox, in order, as pages. `blobs`: sequence -> blob, of those whose entry
    is a head alone. `page_bytes`: of entries, after which a page is full; one message may exceed it
    by itself.
    """
    if not blobs and entries:
        page = _page(recipient, sequences, entries, 0, len(entries))
        if len(page.entries) <= page_bytes:
            # Nearly always. To look at the sizes before would take as long as to put them together.
            yield page
            return
    start = 0
    size = 0
    for index, entry in enumerate(entries):
        alone = bool(blobs) and sequences[index] in blobs
        if index > start and (alone or size + len(entry) > page_bytes):
            yield _page(recipient, sequences, entries, start, index)
            start, size = index, 0
        size += len(entry)
        if alone:
            content_bytes = ENTRY_HEAD.unpack_from(entry)[6]
            sequence = sequences[index]
            yield NewPage(recipient, sequence, sequence, 1, content_bytes, blobs[sequence], entry)
            start, size = index + 1, 0
    if start < len(entries):
        yield _page(recipient, sequences, entries, start, len(entries))


def _page(recipient: int, sequences: Sequence[int], entries: Sequence[bytes], start: int, end: int) -> NewPage:
    together = b"".join(entries[start:end])
    messages = end - start
    content_bytes = len(together) - messages * ENTRY_HEAD.size
    return NewPage(recipient, sequences[start], sequences[end - 1], messages, content_bytes, None, together)
