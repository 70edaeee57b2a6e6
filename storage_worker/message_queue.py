"""The mailboxes: put, hand out, delete.

Owns: the tables `message` and `content_chunk`, and the store's two high-water marks. Which message is in which mailbox
is the index's.
Promises: sequences grow and are never used twice; messages are handed out in their order; deleting takes exactly
the interval that was named.
Exposure: contents are opaque bytes of strangers, never looked into.

New messages are collected and inserted together: by `flush`, at the latest, or before anything is read.
All methods but `roll_back` run inside a transaction.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from common.entries import ENTRY_HEAD, FLAG_PROVEN
from common.operations import Mail, Part
from storage_worker.database import Database
from storage_worker.mailbox_index import MailboxIndex

INLINE_BYTES: Final = 64 * 1024
"""Content up to this size is kept in the message's own row; larger content in chunks."""

CHUNK_BYTES: Final = 256 * 1024
"""How large content that came in one piece is cut."""

PIECE_BYTES: Final = 64
"""What a piece costs in a page besides its content, so that a page of empty messages ends too."""

_MOST_ROWS: Final = 2**62
_LOADS_KEPT: Final = 100_000

_MessageRow = tuple[int, int, int, int, bool, int, bytes, int, bytes | None, int | None]


class Span(NamedTuple):
    """Messages `first` to `last` of a mailbox: how many, and the bytes of their contents."""

    first: int
    last: int
    messages: int
    content_bytes: int


class _Load:
    """What a mailbox holds."""

    __slots__ = ("content_bytes", "messages")

    def __init__(self, messages: int, content_bytes: int) -> None:
        self.messages = messages
        self.content_bytes = content_bytes


class MessageQueue:
    """All mailboxes. `client_id` gives the id of a user row, for the sender in what is handed out."""

    def __init__(
        self, database: Database, client_id: Callable[[int], bytes], mailbox_messages: int, mailbox_bytes: int
    ) -> None:
        self._database = database
        self._client_id = client_id
        self._mailbox_messages = mailbox_messages
        self._mailbox_bytes = mailbox_bytes
        self._index = MailboxIndex(database)
        self._loads: dict[int, _Load] = {}
        self._new: list[_MessageRow] = []
        self._recipients: set[int] = set()
        # What is on disk, what this transaction has written, and what it will write.
        self._committed: tuple[int, int] = database.row("SELECT sequence, body FROM store")
        self._written = self._committed
        self._sequence, self._body = self._committed

    def roll_back(self) -> None:
        """The transaction was undone: go back to what is on disk."""
        self._new.clear()
        self._recipients.clear()
        self._loads.clear()
        self._written = self._committed
        self._sequence, self._body = self._committed
        self._index.reload()

    def commit(self) -> set[int]:
        """The transaction is on disk: the user rows that mail came for."""
        self._committed = self._written
        recipients, self._recipients = self._recipients, set()
        return recipients

    @property
    def highest(self) -> int:
        """The highest sequence ever given, 0 for none."""
        return self._sequence

    # --- put ---------------------------------------------------------------------------------------------------

    def has_room(self, recipient: int, size: int) -> bool:
        """Whether a message of `size` bytes fits into the mailbox."""
        load = self._loads.get(recipient) or self._weigh(recipient)
        return load.messages < self._mailbox_messages and load.content_bytes + size <= self._mailbox_bytes

    def _weigh(self, recipient: int) -> _Load:
        self.flush()
        if len(self._loads) >= _LOADS_KEPT:
            self._loads.clear()
        load = self._loads[recipient] = _Load(*self._index.weigh(recipient))
        return load

    def put(
        self, recipient: int, sender: int, kind: int, proven: bool, accepted_at: int, token: bytes, content: bytes
    ) -> int:
        """Add a message at the end of the mailbox, which `has_room` for it; its sequence."""
        size = len(content)
        load = self._loads.get(recipient) or self._weigh(recipient)
        load.messages += 1
        load.content_bytes += size
        body = None
        kept: bytes | None = content
        if size > INLINE_BYTES:
            body, kept = self.new_body(), None
            for start in range(0, size, CHUNK_BYTES):
                self.add_chunk(body, start, content[start : start + CHUNK_BYTES])
        self._sequence = sequence = self._sequence + 1
        self._new.append((sequence, recipient, sender, kind, proven, accepted_at, token, size, kept, body))
        return sequence

    def put_body(
        self,
        recipient: int,
        sender: int,
        kind: int,
        proven: bool,
        accepted_at: int,
        token: bytes,
        size: int,
        body: int,
    ) -> int:
        """The same for content of `size` bytes that is there in chunks; they are not written again."""
        if size <= INLINE_BYTES:
            content = b"".join(self.chunks(body))
            self.delete_body(body)
            return self.put(recipient, sender, kind, proven, accepted_at, token, content)
        load = self._loads.get(recipient) or self._weigh(recipient)
        load.messages += 1
        load.content_bytes += size
        self._sequence = sequence = self._sequence + 1
        self._new.append((sequence, recipient, sender, kind, proven, accepted_at, token, size, None, body))
        return sequence

    def new_body(self) -> int:
        """A number for content in chunks."""
        self._body = body = self._body + 1
        return body

    def add_chunk(self, body: int, start: int, content: bytes) -> None:
        """Keep the bytes of a content from `start` on."""
        self._database.execute(
            "INSERT INTO content_chunk (body, start, content) VALUES (?, ?, ?)", (body, start, content)
        )

    def chunks(self, body: int, start: int = 0) -> Iterator[bytes]:
        """The bytes of a content from `start` on, chunk by chunk."""
        rows = self._database.execute(
            "SELECT start, content FROM content_chunk WHERE body = ? AND start >= coalesce("
            "(SELECT max(start) FROM content_chunk WHERE body = ? AND start <= ?), 0) ORDER BY start",
            (body, body, start),
        )
        for chunk_start, content in rows:
            yield content[start - chunk_start :] if chunk_start < start else content

    def delete_body(self, body: int) -> None:
        """Forget content in chunks."""
        self._database.execute("DELETE FROM content_chunk WHERE body = ?", (body,))

    def flush(self) -> None:
        """Write what was collected, and the high-water marks."""
        if self._new:
            self._database.execute_many("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._new)
            for sequence, recipient, *_others, size, _content, _body in self._new:
                self._index.add(recipient, sequence, size)
                self._recipients.add(recipient)
            self._new.clear()
        if self._written != (self._sequence, self._body):
            self._written = (self._sequence, self._body)
            self._database.execute("UPDATE store SET sequence = ?, body = ?", self._written)

    def settle_down(self, *, short_of_room: bool) -> None:
        """The changes of a transaction are complete: write them, and do a share of what was put off."""
        self.flush()
        self._index.work(at_once=short_of_room)

    def reclaim(self) -> bool:
        """Delete what is put off to be deleted; whether there was anything."""
        return self._index.purge()

    # --- hand out ----------------------------------------------------------------------------------------------

    def _gather(self, user: int) -> None:
        """See to it that the tables have all of the user's mailbox."""
        self.flush()
        self._index.file(user)

    def oldest(self, user: int, after: int, before: int) -> int | None:
        """The lowest sequence between `after` and `before`, both excluded, of the user's mailbox."""
        self._gather(user)
        found = self._database.find(
            "SELECT sequence FROM mailbox WHERE recipient = ? AND sequence > ? AND sequence < ? "
            "ORDER BY sequence LIMIT 1",
            (user, after, before),
        )
        return None if found is None else found[0]

    def span(self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int) -> Span | None:
        """What waits from `first` to `last`, up to `max_bytes`, at least one message; None where nothing waits.

        A message counts as its content and `envelope_bytes`.
        """
        self._gather(user)
        where = "FROM mailbox WHERE recipient = ? AND sequence BETWEEN ? AND ?"
        # No more messages than these can fit, so a small fetch costs little however much waits.
        most = max_bytes // max(envelope_bytes, 1) + 1
        low, high, count, content_bytes = self._database.row(
            "SELECT min(sequence), max(sequence), count(*), sum(size) FROM "  # noqa: S608
            f"(SELECT sequence, size {where} ORDER BY sequence LIMIT ?)",
            (user, first, last, min(most, _MOST_ROWS)),
        )
        if not count:
            return None
        if content_bytes + count * envelope_bytes <= max_bytes:
            return Span(low, high, count, content_bytes)
        high = count = content_bytes = 0
        rows = self._database.execute(f"SELECT sequence, size {where} ORDER BY sequence", (user, first, last))
        for sequence, size in rows:
            if count and content_bytes + size + (count + 1) * envelope_bytes > max_bytes:
                break
            high = sequence
            count += 1
            content_bytes += size
        return Span(low, high, count, content_bytes)

    def read(self, user: int, first: int, offset: int, last: int, page_bytes: int) -> Mail:
        """A page of the messages `first` to `last`, beginning `offset` bytes into message `first`.

        At most `page_bytes` of content, but something where a message is there. Messages of up to `page_bytes` come
        whole, larger ones in parts, one part a page.
        """
        self._gather(user)
        budget = page_bytes = max(page_bytes, 1)
        entries: list[bytes] = []
        last_whole = 0
        rows = self._database.execute(
            "SELECT sequence, sender, kind, proven, accepted_at, token, message.size, content, body "
            "FROM mailbox CROSS JOIN message USING (sequence) "
            "WHERE mailbox.recipient = ? AND sequence BETWEEN ? AND ? ORDER BY sequence",
            (user, first, last),
        )
        for sequence, sender, kind, proven, accepted_at, token, size, content, body in rows:
            start = offset if sequence == first else 0
            if start and start >= size:
                continue
            head = ENTRY_HEAD.pack(
                self._client_id(sender), token, sequence, accepted_at, FLAG_PROVEN if proven else 0, kind, size
            )
            if start or size > page_bytes:
                if entries:
                    break
                part = self._part(content, body, start, min(size - start, page_bytes))
                return Mail(b"", 0, Part(head, sequence, size, start, part))
            if size > budget and entries:
                break
            entries += (head, content if body is None else self._part(content, body, 0, size))
            last_whole = sequence
            budget -= size + PIECE_BYTES
            if budget <= 0:
                break
        return Mail(b"".join(entries), last_whole)

    def _part(self, content: bytes | None, body: int | None, start: int, length: int) -> bytes:
        if body is None:
            assert content is not None, "content is in the row or in chunks"
            return content[start : start + length]
        parts = []
        for chunk in self.chunks(body, start):
            parts.append(chunk[:length])
            length -= len(parts[-1])
            if not length:
                break
        return b"".join(parts)

    # --- delete ------------------------------------------------------------------------------------------------

    def delete(self, user: int, first: int, last: int) -> None:
        """Delete the messages `first` to `last` of the user's mailbox, and nothing else."""
        self._gather(user)
        where = "FROM mailbox WHERE recipient = ? AND sequence BETWEEN ? AND ?"
        interval = (user, first, last)
        count, content_bytes, largest = self._database.row(
            f"SELECT count(*), sum(size), max(size) {where}",
            interval,
        )
        if not count:
            return
        if largest > INLINE_BYTES:
            self._database.execute(
                "DELETE FROM content_chunk WHERE body IN (SELECT body FROM message WHERE sequence IN "  # noqa: S608
                f"(SELECT sequence {where} AND size > ?))",
                (*interval, INLINE_BYTES),
            )
        self._index.remove(user, first, last)
        load = self._loads.get(user)
        if load is not None:
            load.messages -= count
            load.content_bytes -= content_bytes
