"""Messages to be sent, until the server has answered.

Owns: the outbox rows; `client.mail.outbox` decides when they are sent.
Promises: a message that is kept stays until `stored`, `set_aside` or `returned`; the oldest is
returned first.
Exposure: as `client.store.home_store`.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from client import paths
from client.errors import CipherError
from client.store.acknowledged import AcknowledgedRow, AcknowledgedTable
from client.store.database import Database
from client.store.sealing import OUTBOX_CONTENT, OUTBOX_PROBLEM, Sealing
from client.store.sent import MOST_REPEATS, Outgoing, SentRow, SentTable
from client.store.spool import Spools
from common.values import ClientId, MessageKind, Token

_COLUMNS: Final = (
    "number, token, recipient, kind, size, content, spool, queued_at, shared_key, under, tried_at, again, "
    "unsealed, digest"
)


class OutboxRow(NamedTuple):
    """An outgoing message as it is kept."""

    number: int
    token: Token
    recipient: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    queued_at: int
    carries: int | None = None
    """The number of the shared key in it."""
    under: int | None = None
    """The number of the shared key that it is encrypted under; also None in a store of an earlier
    version.
    """
    tried_at: int | None = None
    """Unix ms of its first attempt without an answer. None: the server definitely does
    not have it.
    """
    again: bool = False
    """The server had acknowledged it, and was restored to an earlier state since."""
    damaged: bool = False
    """Sealed, and altered or moved since: the content is missing."""
    unsealed: bool = False
    """Of suite 1: `content` is the payload, which is sealed when it is sent first; `spool` is the
    file's part behind it.
    """
    digest: bytes | None = None
    """Of a file of suite 1: SHA-256 of the file. Of one that is sent again: as when it was sent."""


class OutboxTable:
    """The outgoing messages of one home."""

    def __init__(
        self, database: Database, sealing: Sealing, spools: Spools, sent: SentTable, acknowledged: AcknowledgedTable
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._spools = spools
        self._sent = sent
        self._acknowledged = acknowledged

    def add(
        self,
        recipient: ClientId,
        kind: MessageKind,
        size: int,
        body: bytes | str,
        token: Token,
        carries: int | None,
        now: int,
        outgoing: Outgoing | None = None,
        under: int | None = None,
    ) -> int:
        """Keep a message to be sent: its content, or the name of the spool file with it. Gives its
        number.

        `carries` is the number of the key in it, `under` of the one it is encrypted under,
        `outgoing` what the history keeps of it.
        """
        content, spool = (body, None) if isinstance(body, bytes) else (None, body)
        row = OutboxRow(0, token, recipient, kind, size, content, spool, now, carries, under)
        with self._spools.brought_in([spool]), self._database.transaction():
            return self._insert(row, outgoing)

    def add_payload(
        self,
        recipient: ClientId,
        payload: bytes,
        spool: str | None,
        token: Token,
        now: int,
        outgoing: Outgoing | None = None,
        digest: bytes | None = None,
    ) -> int:
        """Keep a payload of suite 1, to be sealed when it is sent; `spool` is the file with what
        follows it, `digest` the SHA-256 of what was encrypted into that. Gives its number.
        """
        row = OutboxRow(
            0, token, recipient, MessageKind.SEALED, len(payload), payload, spool, now, unsealed=True, digest=digest
        )
        with self._spools.brought_in([spool]), self._database.transaction():
            return self._insert(row, outgoing)

    def insert_payload(self, recipient: ClientId, payload: bytes, token: Token, now: int) -> int:
        """Within a transaction: keep a payload that the history does not show. Gives its number."""
        row = OutboxRow(0, token, recipient, MessageKind.SEALED, len(payload), payload, None, now, unsealed=True)
        return self._insert(row, None)

    def _insert(self, row: OutboxRow, outgoing: Outgoing | None) -> int:
        number = self._database.next_number("outbox")
        self._database.run(
            "INSERT INTO outbox (number, token, recipient, kind, size, content, spool, shared_key, queued_at, "
            "under, unsealed, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            number,
            row.token,
            row.recipient,
            row.kind,
            row.size,
            self._sealing.seal(OUTBOX_CONTENT, row.content, number, row.token, row.recipient, row.kind),
            row.spool,
            row.carries,
            row.queued_at,
            row.under,
            int(row.unsealed),
            row.digest,
        )
        if outgoing is not None:
            self._sent.insert(row.recipient, MessageKind(row.kind), outgoing, row.queued_at, number)
        return number

    def sealed(self, row: OutboxRow, content: bytes, size: int, now: int) -> OutboxRow:
        """Within a transaction: keep a payload as it is sealed, in which form it is sent, however
        often. `size` with what follows it. Return the new row.
        """
        self._database.run(
            "UPDATE outbox SET content = ?, size = ?, unsealed = 0, tried_at = ? WHERE number = ?",
            self._sealing.seal(OUTBOX_CONTENT, content, row.number, row.token, row.recipient, row.kind),
            size,
            now,
            row.number,
        )
        return row._replace(content=content, size=size, unsealed=False, tried_at=now)

    def to_suite_1(self, row: OutboxRow, payload: bytes, spool: str | None, digest: bytes | None) -> OutboxRow:
        """Put a message that waits under the published suite under suite 1: its payload, and the
        spool file with what follows it. Return the new row.
        """
        kind = MessageKind.SEALED
        with self._spools.brought_in([spool]), self._database.transaction():
            self._database.run(
                "UPDATE outbox SET kind = ?, size = ?, content = ?, spool = ?, under = NULL, digest = ?, unsealed = 1 "
                "WHERE number = ?",
                kind,
                len(payload),
                self._sealing.seal(OUTBOX_CONTENT, payload, row.number, row.token, row.recipient, kind),
                spool,
                digest,
                row.number,
            )
            self._sent.to_suite_1(row.number, row.token)
        self._spools.forget(row.spool)
        return row._replace(
            kind=kind, size=len(payload), content=payload, spool=spool, under=None, digest=digest, unsealed=True
        )

    def add_payload_again(
        self, row: AcknowledgedRow, recipient: ClientId, payload: bytes, spool: str | None, now: int
    ) -> None:
        """As `add_again`, of a message of suite 1: sealed anew when it is sent."""
        with self._spools.brought_in([spool]), self._database.transaction():
            self._acknowledged.forget(row.number)
            if self._database.changed():
                kind = MessageKind.SEALED
                self._database.run(
                    "INSERT INTO outbox (number, token, recipient, kind, size, content, spool, digest, again, "
                    "unsealed, queued_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 1, "
                    "coalesce((SELECT queued_at FROM sent WHERE outbox = ?1), ?9))",
                    row.number,
                    row.token,
                    recipient,
                    kind,
                    len(payload),
                    self._sealing.seal(OUTBOX_CONTENT, payload, row.number, row.token, recipient, kind),
                    spool,
                    row.digest,
                    now,
                )
                return
        self._spools.forget(spool)

    def repeat(
        self, sent: SentRow, payload: bytes, spool: str | None, token: Token, now: int, digest: bytes | None = None
    ) -> int | None:
        """Keep a message of suite 1 to be sent once more under another token, because its recipient
        could not open it; gives its number. `digest` as in `add_payload`. None: that was done
        already, or is not to be done.
        """
        with self._spools.brought_in([spool]), self._database.transaction():
            present = self._sent.numbered(sent.number)
            if present is not None and present.repeats == sent.repeats < MOST_REPEATS and not present.withheld:
                row = OutboxRow(
                    0, token, sent.recipient, MessageKind.SEALED, len(payload), payload, spool, now, unsealed=True,
                    digest=digest,
                )  # fmt: skip
                number = self._insert(row, None)
                # If the server loses it, this one is sent again and not the one before.
                self._acknowledged.supersede(present.outbox)
                self._sent.sent_again(sent.number, number)
                return number
        self._spools.forget(spool)
        return None

    def drop(self, number: int) -> None:
        """Remove a message that nobody needs any more: a symmetric key for somebody who uses suite
        1 now.
        """
        spool = self._database.value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._database.transaction():
            self._database.run("DELETE FROM outbox WHERE number = ?", number)
        self._spools.forget(spool)

    def add_again(self, row: AcknowledgedRow, recipient: ClientId, body: bytes | str, now: int) -> None:
        """Keep a possibly lost message to be sent again, under its number and token: the content,
        or the spool file.

        Nothing happens if it is not marked any more.
        """
        content, spool = (body, None) if isinstance(body, bytes) else (None, body)
        with self._spools.brought_in([spool]), self._database.transaction():
            self._acknowledged.forget(row.number)
            if self._database.changed():
                self._database.run(
                    "INSERT INTO outbox (number, token, recipient, kind, size, content, spool, shared_key, under, "
                    "digest, again, queued_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, "
                    "coalesce((SELECT queued_at FROM sent WHERE outbox = ?1), ?11))",
                    row.number,
                    row.token,
                    recipient,
                    row.kind,
                    row.size,
                    self._sealing.seal(OUTBOX_CONTENT, content, row.number, row.token, recipient, row.kind),
                    spool,
                    row.carries,
                    row.under,
                    row.digest,
                    now,
                )
                return
        # Another process of this home has done it.
        self._spools.forget(spool)

    def waiting_count(self) -> int:
        """Return how many outgoing messages have no answer."""
        return int(self._database.value("SELECT count(*) FROM outbox WHERE problem IS NULL") or 0)

    def is_waiting(self, number: int) -> bool:
        """Whether the outgoing message with this number has no answer yet."""
        return bool(self._database.rows("SELECT 1 FROM outbox WHERE number = ? AND problem IS NULL", number))

    def may_be_there(self, number: int) -> bool:
        """Whether a message of suite 1 waits in the form in which it leaves: the server may have
        it.
        """
        return bool(
            self._database.rows(
                "SELECT 1 FROM outbox WHERE number = ? AND problem IS NULL AND kind = ? AND NOT unsealed",
                number,
                MessageKind.SEALED,
            )
        )

    def waiting(self) -> Iterator[OutboxRow]:
        """Yield the messages to be sent, oldest first."""
        number = 0
        while rows := self._database.rows(
            # The columns are our own text, here and below.
            f"SELECT {_COLUMNS} FROM outbox WHERE problem IS NULL AND number > ? ORDER BY number LIMIT 1",  # noqa: S608
            number,
        ):
            row = self._outbox_row(rows[0])
            number = row.number
            yield row

    def _outbox_row(self, row: tuple[Any, ...]) -> OutboxRow:
        number, token, recipient, kind, size, content, spool, queued_at, carries, under, tried_at, again, *more = row
        unsealed, digest = more
        damaged = False
        try:
            content = self._sealing.open(OUTBOX_CONTENT, content, number, token, recipient, kind)
        except CipherError:
            content, damaged = None, True
        return OutboxRow(
            number, token, recipient, kind, size, content, spool, queued_at, carries, under, tried_at, bool(again),
            damaged, bool(unsealed), digest,
        )  # fmt: skip

    def failed(self) -> list[tuple[OutboxRow, str]]:
        """Return what was refused for good, and why, oldest first."""
        query = f"SELECT {_COLUMNS}, problem FROM outbox WHERE problem IS NOT NULL ORDER BY number"  # noqa: S608
        rows = self._database.rows(query)
        failed = []
        for *row, sealed in rows:
            made = self._outbox_row(tuple(row))
            try:
                problem = self._sealing.open(OUTBOX_PROBLEM, sealed, made.number, made.recipient)
            except CipherError as error:
                problem = f"why, can't be read: {error}"
            failed.append((made, problem))
        return failed

    def carrying(self, key: int) -> OutboxRow | None:
        """Return the message that carries a key, if it waits."""
        query = f"SELECT {_COLUMNS} FROM outbox WHERE problem IS NULL AND shared_key = ?"  # noqa: S608
        rows = self._database.rows(query, key)
        return self._outbox_row(rows[0]) if rows else None

    def encrypted_anew(self, row: OutboxRow, body: bytes | str, under: int) -> OutboxRow:
        """Replace the content of a waiting message by another one of the same size, or its spool
        file; return the new row.
        """
        content, spool = (body, None) if isinstance(body, bytes) else (None, body)
        with self._spools.brought_in([spool]), self._database.transaction():
            self._database.run(
                "UPDATE outbox SET content = ?, spool = ?, under = ?, digest = NULL WHERE number = ?",
                self._sealing.seal(OUTBOX_CONTENT, content, row.number, row.token, row.recipient, row.kind),
                spool,
                under,
                row.number,
            )
        self._spools.forget(row.spool)
        return row._replace(content=content, spool=spool, under=under)

    def trying(self, number: int, now: int) -> None:
        """Note that it is being sent, for the first time since the server definitely did not have
        it.
        """
        with self._database.transaction():
            self._database.run("UPDATE outbox SET tried_at = ? WHERE number = ?", now, number)

    def surely_not_there(self, number: int) -> None:
        """Note that the server refused it."""
        with self._database.transaction():
            self._database.run("UPDATE outbox SET tried_at = NULL WHERE number = ?", number)

    def stored(self, number: int, message_id: int | None, now: int, digest: bytes | None = None) -> None:
        """Note that the server has it: it counts as acknowledged, and the key that it carried is
        used. `message_id` None: the earlier one is still valid. `digest`: of a file, the SHA-256 of
        its content as it was sent.
        """
        spool = self._database.value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._database.transaction():
            self._database.run(
                "UPDATE shared_key SET usable = 1 WHERE number = (SELECT shared_key FROM outbox WHERE number = ?)",
                number,
            )
            self._acknowledged.keep(number, digest, now)
            self._database.run("DELETE FROM outbox WHERE number = ?", number)
            self._database.run(
                "UPDATE sent SET stored_at = ?, message_id = coalesce(?, message_id) WHERE outbox = ?",
                now,
                message_id,
                number,
            )
        self._spools.forget(spool)

    def returned(self, number: int, now: int) -> None:
        """Note that it can't be sent again now: it is marked as possibly lost, as before."""
        spool = self._database.value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._database.transaction():
            self._acknowledged.keep(number, None, now, lost=True)
            self._database.run("DELETE FROM outbox WHERE number = ?", number)
        self._spools.forget(spool)

    def is_there(self, number: int) -> bool:
        """Whether a message is in the outbox, to be sent or set aside."""
        return bool(self._database.rows("SELECT 1 FROM outbox WHERE number = ?", number))

    def set_aside(self, number: int, problem: str) -> None:
        """Note that the server refused it for good: set it aside, and stop using the key that it
        carried.
        """
        spool = self._database.value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._database.transaction():
            self._database.run(
                "UPDATE shared_key SET usable = 0 WHERE number = (SELECT shared_key FROM outbox WHERE number = ?)",
                number,
            )
            # The user still has the file from which spooled content was made.
            recipient = self._database.value("SELECT recipient FROM outbox WHERE number = ?", number)
            sealed = self._sealing.seal(OUTBOX_PROBLEM, paths.plain(problem), number, recipient)
            self._database.run("UPDATE outbox SET problem = ?, spool = NULL WHERE number = ?", sealed, number)
            self._sent.set_problem(self._database.value("SELECT number FROM sent WHERE outbox = ?", number), problem)
        self._spools.forget(spool)

    def spooled(self) -> list[str]:
        """Return the names of the large contents that are still needed."""
        return [row[0] for row in self._database.rows("SELECT spool FROM outbox WHERE spool IS NOT NULL")]
