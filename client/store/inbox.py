"""Received messages, from the moment they are on disk.

Owns: the inbox rows, and the pulls (604) that brought them.
Promises: a message that is kept is returned once, or once more and marked as repeated. Messages of
blocked senders are not kept.

    state       means                                     leaves when
    ─────────   ───────────────────────────────────────   ──────────────────────────────────────────────
    RECEIVED    on disk, nobody has seen it               it is about to be shown → SHOWING
    SHOWING     shown, or about to be when we died        it was shown → SHOWN or UNREADABLE;
                                                          found so at a start → shown once more, as repeated
    SHOWN       the user has it                           never
    UNREADABLE  the user was told that it can't be read   a key of its sender comes → RECEIVED, as late

Exposure: keeps what strangers sent, as it came.

Source: docs/guarantees.md, docs/journeys.md.
"""

from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from client import paths
from client.errors import CipherError
from client.store.database import Database, SqlValue
from client.store.sealing import INBOX_CONTENT, SAVED_PATH, Sealing
from client.store.silenced import SilencedTable
from client.store.spool import Spools
from common.client_protocol.fields import message_id
from common.values import ClientId, MessageKind

_PART: Final = 256
"""Rows that are read at a time."""


class MessageState(IntEnum):
    """The state of a received message; see the table in this module's docstring."""

    RECEIVED = 0
    SHOWING = 1
    SHOWN = 2
    UNREADABLE = 3


class NewMessage(NamedTuple):
    """A message as it came from the server. Large content is in the spool file `spool`."""

    sender: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    digest: bytes
    server_number: int
    token: bytes | None
    accepted_at: int | None
    sender_proven: bool


class InboxRow(NamedTuple):
    """A received message as it is kept."""

    number: int
    sender: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    received_at: int
    accepted_at: int | None
    sender_proven: bool
    repeated: bool
    late: bool
    saved_path: str | None
    damaged: bool = False
    """Sealed, and altered or moved since: content and path are missing."""
    message_id: int = 0
    """The message id that the server gave the sender."""
    opened: int | None = None
    """Of a message of suite 1 that was opened: how many bytes of `content` are its payload; a small
    file's encrypted bytes follow. None: it was not opened, or is none.
    """
    digest: bytes = b""
    """SHA-256 of the content as it came."""
    mark: str | None = None
    """Of a message of suite 1: see `client.mail.opening`."""
    token: bytes | None = None
    """That of the 642 that brought it to the server; None: it came by 604."""


class InboxTable:
    """The received messages of one home."""

    def __init__(self, database: Database, sealing: Sealing, spools: Spools, silenced: SilencedTable) -> None:
        self._silenced = silenced
        self._database = database
        self._sealing = sealing
        self._spools = spools

    def begin_pull(self) -> int:
        """Number a 604: its rows and those of earlier ones are distinguished by it."""
        with self._database.transaction():
            self._database.run("INSERT INTO pull (complete) VALUES (0)")
            return self._database.last_row()

    def end_pull(self, pull: int) -> None:
        """Note that a 604's reply was complete; one that brought nothing new is forgotten."""
        with self._database.transaction():
            self._database.run("UPDATE pull SET complete = 1 WHERE number = ?", pull)
            # If nothing new came, the messages of the previous pull may still come again.
            self._database.run(
                "DELETE FROM pull WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM inbox WHERE pull = ?1)", pull
            )

    def add_pulled(self, messages: Collection[NewMessage], now: int, pull: int) -> int:
        """Keep messages of a 604, in one transaction, and return how many were new.

        A server sends the same messages again, with the same ids, when it has no evidence that we
        got them. After an incomplete reply that is certain, and known messages are skipped. After a
        complete reply it may also be another message with the same id and bytes (some servers
        restart their numbers), so it is kept and marked as possibly repeated.
        """
        kept = 0
        with self._spools.brought_in(message.spool for message in messages), self._database.transaction():
            whole = self._last_whole_pull(pull)
            for message in messages:
                if self._is_unwanted(message):
                    continue
                # All pulls since the last complete one were incomplete.
                if self._came_by(message, message.server_number, whole + 1, pull - 1):
                    self._spools.forget(message.spool)
                    continue
                again = self._came_by(message, message.server_number, whole, whole)
                self._insert(message, now, pull, repeated=again)
                kept += 1
        return kept

    def _last_whole_pull(self, before: int) -> int:
        return int(
            self._database.value(
                "SELECT number FROM pull WHERE complete AND number < ? ORDER BY number DESC LIMIT 1", before
            )
            or 0
        )

    def _came_by(self, message: NewMessage, server_number: int, first: int, last: int) -> bool:
        """Whether the same bytes of the same sender came under this number by one of these 604s."""
        return bool(
            self._database.rows(
                "SELECT 1 FROM inbox WHERE sender = ? AND server_number = ? AND kind = ? AND digest = ? "
                "AND pull BETWEEN ? AND ? LIMIT 1",
                message.sender,
                server_number,
                message.kind,
                message.digest,
                first,
                last,
            )
        )

    def add_fetched(self, messages: Collection[NewMessage], now: int, generation: int) -> None:
        """Keep messages of a 643, and the new acknowledgement, in one transaction. `generation` is
        that of the server that sent them. If another process of this home has met a later one
        meanwhile, their numbers do not apply to it.

        A token that its sender used before is the same message, but see `_is_known`. One that came
        by 604 before, without its token, is marked as possibly repeated.
        """
        with self._spools.brought_in(message.spool for message in messages), self._database.transaction():
            pull = int(self._database.value("SELECT max(number) FROM pull") or 0)
            for message in messages:
                if self._is_unwanted(message):
                    continue
                if self._is_known(message):
                    self._spools.forget(message.spool)
                else:
                    again = self._came_by(message, message_id(message.server_number), pull, pull)
                    self._insert(message, now, None, repeated=again)
            for message in [*messages][-1:]:
                self._database.run("UPDATE server SET ack = ? WHERE generation = ?", message.server_number, generation)

    def _is_known(self, message: NewMessage) -> bool:
        """Whether it came before: under the same token, or, sealed under suite 1, with the same
        bytes, which nobody seals twice. Of this suite other bytes under a known token are another
        message: the token is the server's word, and what came first may have been altered.
        """
        if message.kind != MessageKind.SEALED:
            return self._is_taken(message)
        return bool(
            self._database.rows(
                "SELECT 1 FROM inbox WHERE kind = 5 AND sender = ? AND digest = ?", message.sender, message.digest
            )
        )

    def _is_taken(self, message: NewMessage) -> bool:
        """Whether a message of this sender is here under the same token."""
        return bool(
            self._database.rows("SELECT 1 FROM inbox WHERE sender = ? AND token = ?", message.sender, message.token)
        )

    def _is_unwanted(self, message: NewMessage) -> bool:
        """Whether a message is from a blocked sender, and dropped unread. Only within a
        transaction.
        """
        if not self._silenced.of_id(message.sender).blocked:
            return False
        self._spools.forget(message.spool)
        return True

    def numbered(self, number: int) -> InboxRow | None:
        """Return the message with a number."""
        rows = self._inbox_rows("number = ?", number)
        return rows[0] if rows else None

    def next_unread(self, after: int) -> InboxRow | None:
        """The oldest message after number `after` that nobody has seen.

        One that was being shown when we died counts as repeated.
        """
        rows = self._inbox_rows("state < 2 AND number > ? ORDER BY number LIMIT 1", after)
        return rows[0] if rows else None

    def seen(self, after: int) -> Iterator[InboxRow]:
        """The messages after number `after` that the user has seen, or was told that they can't be
        read.

        Read in parts, each when it is needed.
        """
        while rows := self._inbox_rows("state >= 2 AND number > ? ORDER BY number LIMIT ?", after, _PART):
            yield from rows
            after = rows[-1].number

    def recent(self, sender: ClientId, most: int) -> list[InboxRow]:
        """The newest of `seen` that are of one sender, oldest first."""
        return self._inbox_rows("state >= 2 AND sender = ? ORDER BY number DESC LIMIT ?", sender, most)[::-1]

    def by_sender(self) -> list[tuple[ClientId, int, int]]:
        """Return for each sender how many messages are unread, and when the newest one was
        received.
        """
        return self._database.rows(
            "WITH RECURSIVE one (sender) AS ("
            "SELECT min(sender) FROM inbox UNION ALL "
            "SELECT (SELECT min(sender) FROM inbox WHERE sender > one.sender) FROM one WHERE one.sender IS NOT NULL) "
            "SELECT sender, (SELECT count(*) FROM inbox i WHERE i.sender = one.sender AND state < 2), "
            "(SELECT received_at FROM inbox i WHERE i.sender = one.sender ORDER BY number DESC LIMIT 1) "
            "FROM one WHERE sender IS NOT NULL"
        )

    def last_seen(self) -> int:
        """The number of the newest message that the user has seen; 0 if there is none."""
        return int(self._database.value("SELECT number FROM inbox WHERE state >= 2 ORDER BY number DESC LIMIT 1") or 0)

    def newest_accepted_at(self) -> int | None:
        """When the server accepted the newest message, in Unix milliseconds by its clock;
        None: it is not known.
        """
        accepted_at = self._database.value(
            "SELECT accepted_at FROM inbox WHERE number = (SELECT max(number) FROM inbox)"
        )
        return accepted_at if isinstance(accepted_at, int) else None

    def _inbox_rows(self, condition: str, *values: SqlValue) -> list[InboxRow]:
        rows = self._database.rows(
            # The condition is our own text.
            "SELECT number, sender, kind, size, content, spool, received_at, accepted_at, sender_proven, "  # noqa: S608
            "repeated OR state = 1, late, saved_path, digest, server_number, token, opened, mark "
            f"FROM inbox WHERE {condition}",
            *values,
        )
        return [self._inbox_row(row) for row in rows]

    def _inbox_row(self, row: tuple[Any, ...]) -> InboxRow:
        number, sender, kind, size, content, spool, received_at, accepted_at, proven, *rest = row
        repeated, late, path, digest, server_number, token, opened, mark = rest
        damaged = False
        try:
            content = self._sealing.open(INBOX_CONTENT, content, number, sender, kind, digest)
            path = self._sealing.open(SAVED_PATH, path, number, sender)
        except CipherError:
            content, path, damaged = None, None, True
        return InboxRow(
            number, sender, kind, size, content, spool, received_at, accepted_at, bool(proven), bool(repeated),
            bool(late), path, damaged, message_id(server_number) if token is not None else server_number,
            opened, digest, mark, token,
        )  # fmt: skip

    def has_payload(self, sender: ClientId, payload_id: bytes, but: int) -> bool:
        """Whether a payload of this id of a sender is here, in another message than number
        `but`.
        """
        return bool(
            self._database.rows(
                "SELECT 1 FROM inbox WHERE sender = ? AND payload_id = ? AND number <> ?", sender, payload_id, but
            )
        )

    def was_opened(self, row: InboxRow, payload: bytes, rest: bytes, payload_id: bytes | None, mark: str) -> InboxRow:
        """Within a transaction: keep what a message of suite 1 was opened to, instead of what came:
        its payload, and a small file's bytes behind it. Return the new row.
        """
        content = payload + rest
        self._database.run(
            "UPDATE inbox SET content = ?, opened = ?, payload_id = ?, mark = ? WHERE number = ?",
            self._sealing.seal(INBOX_CONTENT, content, row.number, row.sender, row.kind, row.digest),
            len(payload),
            payload_id,
            mark,
            row.number,
        )
        return row._replace(content=content, opened=len(payload), mark=mark)

    def was_refused(self, row: InboxRow, mark: str, *, ask: bool) -> InboxRow:
        """Within a transaction: note why a message of suite 1 could not be opened, and whether its
        sender is to be asked to send it again. Return the new row.
        """
        self._database.run(
            "UPDATE inbox SET mark = ?, ask = ? WHERE number = ?", mark, int(ask and row.token is not None), row.number
        )
        return row._replace(mark=mark)

    def was_damaged(self, number: int) -> None:
        """Note that the file behind a message of suite 1 is damaged: its sender is to be asked to
        send it again, and it is no repeat then.
        """
        self._database.run("UPDATE inbox SET payload_id = NULL, ask = token IS NOT NULL WHERE number = ?", number)

    def to_ask(self) -> dict[ClientId, list[bytes]]:
        """Return the tokens of messages that could not be opened, by sender: whom nobody has asked
        to send them again yet.
        """
        found: dict[ClientId, list[bytes]] = {}
        for sender, token in self._database.rows("SELECT sender, token FROM inbox WHERE ask ORDER BY sender, number"):
            found.setdefault(sender, []).append(token)
        return found

    def was_asked(self, sender: ClientId, token: bytes) -> None:
        """Within a transaction: note that a sender is asked to send a message again."""
        self._database.run("UPDATE inbox SET ask = 0 WHERE sender = ? AND token = ?", sender, token)

    def ask_once_more(self, sender: ClientId, tokens: Iterable[bytes]) -> None:
        """Within a transaction: a sender could not open what asked them for these. What has not
        come since is asked for again.
        """
        for token in tokens:
            self._database.run(
                "UPDATE inbox SET ask = 1 WHERE sender = ? AND token = ? AND NOT EXISTS "
                "(SELECT 1 FROM inbox came WHERE came.sender = inbox.sender AND came.payload_id = inbox.token)",
                sender,
                token,
            )

    def unopened(self) -> list[int]:
        """Return the numbers of what came under suite 1, that nobody has tried to open, oldest
        first.
        """
        rows = self._database.rows(
            "SELECT number FROM inbox WHERE state < 2 AND kind = 5 AND opened IS NULL AND mark IS NULL ORDER BY number"
        )
        return [number for (number,) in rows]

    def sealed_by_strangers(self) -> list[ClientId]:
        """Return those who have sent something under suite 1 that waits, and have shown no keys."""
        rows = self._database.rows(
            "SELECT DISTINCT sender FROM inbox WHERE state < 2 AND kind = 5 AND NOT EXISTS "
            "(SELECT 1 FROM peer WHERE client_id = inbox.sender AND state IS NOT NULL)"
        )
        return [sender for (sender,) in rows]

    def begin_showing(self, number: int, saved_path: Path | None) -> None:
        """Note that a message is about to be shown; for a file, where it was saved."""
        path = None if saved_path is None else paths.kept(saved_path)
        with self._database.transaction():
            sender = self._database.value("SELECT sender FROM inbox WHERE number = ?", number)
            self._database.run(
                "UPDATE inbox SET state = ?, saved_path = ? WHERE number = ?",
                MessageState.SHOWING,
                self._sealing.seal(SAVED_PATH, path, number, sender),
                number,
            )

    def was_shown(self, number: int, *, readable: bool, payload: bytes | None = None) -> None:
        """Note that the user has seen a message. One that could not be read is kept until
        its key comes. `payload`: what is kept of a file of suite 1 from now on, instead of all that
        opens it.
        """
        state = MessageState.SHOWN if readable else MessageState.UNREADABLE
        # A saved file is on disk. A large text stays: other processes may still show it, and so
        # does the history.
        saved = readable and self._database.value("SELECT saved_path FROM inbox WHERE number = ?", number) is not None
        spool = self._database.value("SELECT spool FROM inbox WHERE number = ?", number) if saved else None
        with self._database.transaction():
            self._database.run("UPDATE inbox SET state = ? WHERE number = ?", state, number)
            if payload is not None:
                self._keep_only(number, payload)
            if saved:
                self._database.run("UPDATE inbox SET spool = NULL WHERE number = ?", number)
        self._spools.forget(spool)

    def _keep_only(self, number: int, payload: bytes) -> None:
        self._database.overwrite_freed()
        for sender, kind, digest in self._database.rows(
            "SELECT sender, kind, digest FROM inbox WHERE number = ?", number
        ):
            self._database.run(
                "UPDATE inbox SET content = ?, opened = ? WHERE number = ?",
                self._sealing.seal(INBOX_CONTENT, payload, number, sender, kind, digest),
                len(payload),
                number,
            )

    def call_back(self, sender: ClientId, behind: int = 0) -> None:
        """Return unreadable messages once more, because a key has arrived. Only within a
        transaction. `behind`: only those with a higher number.
        """
        self._database.run(
            # The state is a literal: with a parameter the index could not be used.
            "UPDATE inbox SET state = ?, late = 1, repeated = 0 WHERE sender = ? AND state = 3 AND number > ?",
            MessageState.RECEIVED,
            sender,
            behind,
        )

    def spooled(self) -> list[str]:
        """Return the names of the large contents that are still needed."""
        return [row[0] for row in self._database.rows("SELECT spool FROM inbox WHERE spool IS NOT NULL")]

    def _insert(self, message: NewMessage, now: int, pull: int | None, *, repeated: bool) -> None:
        number = self._database.next_number("inbox")
        self._database.run(
            "INSERT INTO inbox (number, sender, kind, size, content, spool, digest, server_number, token, pull, "
            "received_at, accepted_at, sender_proven, state, repeated, late) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            number,
            message.sender,
            message.kind,
            message.size,
            self._sealing.seal(INBOX_CONTENT, message.content, number, message.sender, message.kind, message.digest),
            message.spool,
            message.digest,
            message.server_number,
            # Each token of a sender is here once.
            None if self._is_taken(message) else message.token,
            pull,
            now,
            message.accepted_at,
            int(message.sender_proven),
            MessageState.RECEIVED,
            int(repeated),
        )
