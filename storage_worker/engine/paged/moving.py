"""A store that moves from one engine to another: what is copied, and in which order.

Owns: the ports to both stores, and the way between them.
Promises: the source is read, and not changed but for what shows that nobody else has it. What is
altered in it is an error, and nothing of the target can be served then: it is there as a whole when
`finish` returns. Rows of users, sequences, the server's id and the generation are the same
afterwards, so that clients go on as if nothing was, and gateways too, where the source has one
part.
Exposure: what both stores hold, of which nothing is looked into.

Unfinished uploads are in no store: they are a worker's, and end with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from common.storage_protocol.message_format import Head, heads
from storage_worker.engine.paged.page import NewPage, make_pages

Row = tuple[Any, ...]

TABLES: Final = (
    "account",
    "deleted_account",
    "name_look",
    "block",
    "published_key",
    "invitation",
    "sent_token",
    "slot",
    "day",
    "running_time",
)
"""In the columns and the order of `TABLES` in storage_worker.engine.postgres.schema: users come
before what is theirs.
"""
_ROWS_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 256 * 1024
"""Of entries of one mailbox, which are put into pages together."""


class StoreFacts(NamedTuple):
    """What a store is besides its tables. `sequence` and `blob_id`: the highest ever given;
    `accepted`: messages so far, at most so many where it is not `accepted_exactly`.
    """

    server_id: bytes
    generation: int
    starts: int
    sequence: int
    blob_id: int
    accepted: int
    accepted_exactly: bool


class Moved(NamedTuple):
    """What was copied."""

    users: int
    messages: int
    content_bytes: int
    large: int
    """Large contents, which are in `messages` and `content_bytes`, too."""


class Source(Protocol):
    """A store that no worker has open."""

    def facts(self) -> StoreFacts:
        """What it is."""

    def rows(self, table: str) -> Iterator[Row]:
        """A table, in the order of its key; tokens by sender, in the order of their use. Of these
        sequences may repeat, and they are not more than the highest sequence.
        """

    def pages(self) -> Iterator[NewPage]:
        """All mail, by mailbox and in its order. Raises `StoreDamaged`."""

    def content(self, blob_id: int, size: int) -> Iterator[bytes]:
        """A large content of `size` bytes. Raises `StoreDamaged`."""


class Target(Protocol):
    """A store that is being made."""

    page_bytes: int
    """See `make_pages`."""

    def begin(self, facts: StoreFacts) -> None:
        """Make it, empty."""

    def write_rows(self, table: str, rows: Sequence[Row]) -> None:
        """Some rows of a table."""

    def write_pages(self, pages: Sequence[NewPage]) -> None:
        """Some mail."""

    def write_content(self, recipient: int, blob_id: int, parts: Iterable[bytes]) -> None:
        """A large content, and in whose mailbox its message is."""

    def finish(self, facts: StoreFacts) -> None:
        """All of it came: from now on it can be served."""


def move(source: Source, target: Target) -> Moved:
    """Copy everything. Raises `StorageError`."""
    facts = source.facts()
    target.begin(facts)
    users = 0
    for table in TABLES:
        rows = source.rows(table)
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            target.write_rows(table, some)
            users += len(some) if table == "account" else 0
    messages = content_bytes = large = 0
    for together in _runs(source.pages()):
        messages += sum([page.messages for page in together])
        content_bytes += sum([page.content_bytes for page in together])
        blob_id = together[0].blob_id
        if blob_id is not None:
            parts = source.content(blob_id, together[0].content_bytes)
            target.write_content(together[0].recipient, blob_id, parts)
            large += 1
            target.write_pages(together)
        else:
            target.write_pages(_as_pages(together, target.page_bytes))
    target.finish(facts)
    return Moved(users, messages, content_bytes, large)


def _runs(pages: Iterator[NewPage]) -> Iterator[list[NewPage]]:
    """Neighbouring pages of one mailbox, a bounded number; one whose content is a blob alone."""
    together: list[NewPage] = []
    size = 0
    for page in pages:
        if together and (
            page.recipient != together[0].recipient
            or page.blob_id is not None
            or together[0].blob_id is not None
            or size >= _BYTES_AT_ONCE
        ):
            yield together
            together, size = [], 0
        together.append(page)
        size += len(page.entries)
    if together:
        yield together


def _as_pages(together: Sequence[NewPage], page_bytes: int) -> list[NewPage]:
    entries = b"".join([page.entries for page in together])
    found: list[Head] = heads(entries)
    sequences = [head.sequence for head in found]
    parts = [entries[head.start : head.end] for head in found]
    return list(make_pages(together[0].recipient, sequences, parts, {}, page_bytes))


def in_parts(read: Callable[[int, int], bytes], size: int, part: int) -> Iterator[bytes]:
    """A content of `size` bytes, by `read(at, length)`."""
    for at in range(0, size, part):
        yield read(at, min(part, size - at))
