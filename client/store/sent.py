"""What was sent, or was to be sent, for the user to look up.

Owns: the rows of the history's sent half.
Promises: what became of a message is noted with it; nothing is removed.
Exposure: as `client.store.home_store`.
"""

from typing import Any, Final, NamedTuple

from client import paths
from client.errors import CipherError
from client.store.database import Database, SqlValue
from client.store.sealing import SENT_PATH, SENT_PROBLEM, SENT_TEXT, Sealing
from common.values import ClientId, MessageKind

_REPEATED: Final = 1
"""A value of `asked_again`: it was sent again because it was not opened."""
WITHHELD: Final = 2
"""Another one: it is never sent again. 0: it may be."""
_REPEATED_TWICE: Final = 3
"""Another one: what was sent again was not opened either, and it was sent once more."""
_REPEATS: Final = {_REPEATED: 1, _REPEATED_TWICE: 2}
MOST_REPEATS: Final = 2
_LOST: Final = "EXISTS (SELECT 1 FROM acknowledged a WHERE a.number = sent.outbox AND a.lost)"
_WAITS: Final = "EXISTS (SELECT 1 FROM outbox o WHERE o.number = sent.outbox AND o.problem IS NULL)"


class Outgoing(NamedTuple):
    """What the history keeps of a message that is sent: its text, or the path of the file."""

    text: str | None
    path: str | None
    sealed: MessageKind | None = None
    """What it is, if it goes under cipher suite 1."""
    payload_id: bytes | None = None
    """Then: the id of its payload."""


class SentRow(NamedTuple):
    """An outgoing text or file in the history. With neither `stored_at` nor `problem` it waits if
    `waiting`; otherwise it is unknown whether the server has it.
    """

    number: int
    recipient: ClientId
    kind: int
    text: str | None
    path: str | None
    queued_at: int
    stored_at: int | None
    message_id: int | None
    problem: str | None
    waiting: bool
    outbox: int | None
    after: int
    """The number of the newest message that had been received when it was queued."""
    lost: bool = False
    """The server had it, and was restored to an earlier state since: it is possibly lost."""
    damaged: bool = False
    """Sealed, and altered or moved since."""
    payload_id: bytes | None = None
    """The id of its payload, of suite 1; None: it is under the published suite."""
    repeats: int = 0
    """How often it was sent once more, because its recipient could not open it: at most
    `MOST_REPEATS`.
    """
    withheld: bool = False
    """It is never sent once more: its recipient has other keys since, or it is a file of an import.
    """


class SentTable:
    """The sent messages of one home."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def add(self, recipient: ClientId, kind: int, outgoing: Outgoing, now: int) -> int:
        """Add a message that is sent without the outbox. Returns its number in the history."""
        with self._database.transaction():
            return self.insert(recipient, kind, outgoing, now, None)

    def insert(self, recipient: ClientId, kind: int, outgoing: Outgoing, now: int, outbox: int | None) -> int:
        """Add a message, within a transaction, with its outbox number if it has one. Returns its
        number in the history.
        """
        number = self._database.next_number("sent")
        self._database.run(
            "INSERT INTO sent (number, recipient, kind, text, path, queued_at, outbox, payload_id, after) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(number), 0) FROM inbox))",
            number,
            recipient,
            kind if outgoing.sealed is None else outgoing.sealed,
            self._sealing.seal(SENT_TEXT, outgoing.text, number, recipient, now),
            self._sealing.seal(SENT_PATH, outgoing.path, number, recipient, now),
            now,
            outbox,
            outgoing.payload_id,
        )
        return number

    def to_suite_1(self, outbox: int, payload_id: bytes) -> None:
        """Within a transaction: note that a message goes under suite 1, with this id."""
        self._database.run("UPDATE sent SET payload_id = ? WHERE outbox = ?", payload_id, outbox)

    def numbered(self, number: int) -> SentRow | None:
        """Return the message with a number of the history."""
        found = self._sent_rows("number = ?", number)
        return found[0] if found else None

    def by_payload(self, recipient: ClientId, payload_id: bytes) -> SentRow | None:
        """Return the message to somebody whose payload has this id."""
        found = self._sent_rows("recipient = ? AND payload_id = ? LIMIT 1", recipient, payload_id)
        return found[0] if found else None

    def by_repeat(self, recipient: ClientId, token: bytes) -> SentRow | None:
        """Return the message to somebody that was sent again under this token, as long as that is
        known.
        """
        found = self._sent_rows(
            "outbox IN (SELECT number FROM acknowledged WHERE recipient = ?1 AND token = ?2 UNION ALL "
            "SELECT number FROM outbox WHERE recipient = ?1 AND token = ?2) AND payload_id <> ?2 "
            # Whoever has another id since may have got it under that one. The plus keeps the index
            # of recipients out.
            "AND +recipient = ?1",
            recipient,
            token,
        )
        return found[0] if found else None

    def sent_again(self, number: int, outbox: int) -> None:
        """Within a transaction: note that a message is sent once more, because its recipient could
        not open it, under another outbox number.
        """
        self._database.run(
            "UPDATE sent SET outbox = ?, stored_at = NULL, asked_again = CASE asked_again WHEN 0 THEN ? ELSE ? END "
            "WHERE number = ?",
            outbox,
            _REPEATED,
            _REPEATED_TWICE,
            number,
        )

    def withhold(self, recipient: ClientId) -> None:
        """Within a transaction: note that what was sealed for somebody is not for whoever has the
        name now. What waits for its first sealing is.
        """
        self._database.run(
            "UPDATE sent SET asked_again = ?1 WHERE recipient = ?2 AND NOT (asked_again = 0 AND EXISTS (SELECT 1 FROM "
            "outbox o WHERE o.number = sent.outbox AND o.problem IS NULL AND NOT o.again AND (o.unsealed OR "
            "o.kind <> ?3)))",
            WITHHELD,
            recipient,
            MessageKind.SEALED,
        )

    def stored(self, number: int, message_id: int, now: int) -> None:
        """The server has it."""
        with self._database.transaction():
            self._database.run(
                "UPDATE sent SET stored_at = ?, message_id = ? WHERE number = ?", now, message_id, number
            )

    def failed(self, number: int, problem: str) -> None:
        """Note that the server definitely does not have it."""
        with self._database.transaction():
            self.set_problem(number, problem)

    def set_problem(self, number: SqlValue, problem: str) -> None:
        """Note, within a transaction, that a message was refused for good."""
        for known in self._database.rows("SELECT number, recipient, queued_at FROM sent WHERE number = ?", number):
            self._database.run(
                "UPDATE sent SET problem = ? WHERE number = ?",
                self._sealing.seal(SENT_PROBLEM, paths.plain(problem), *known),
                number,
            )

    def all(self) -> list[SentRow]:
        """What was sent or was to be sent, oldest first."""
        return self._sent_rows("1 ORDER BY number")

    def recent(self, recipient: ClientId, most: int) -> list[SentRow]:
        """The newest messages to one recipient that do not wait in the outbox, oldest first."""
        return self._sent_rows(f"recipient = ? AND NOT {_WAITS} ORDER BY number DESC LIMIT ?", recipient, most)[::-1]

    def waiting(self, recipient: ClientId) -> list[SentRow]:
        """The messages to one recipient that wait in the outbox, oldest first."""
        return self._sent_rows(
            "recipient = ?1 AND outbox IN (SELECT number FROM outbox WHERE recipient = ?1 AND problem IS NULL) "
            "ORDER BY number",
            recipient,
        )

    def by_recipient(self) -> list[tuple[ClientId, int]]:
        """For each recipient: when the newest message was queued."""
        return self._database.rows(
            "WITH RECURSIVE one (recipient) AS ("
            "SELECT min(recipient) FROM sent UNION ALL "
            "SELECT (SELECT min(recipient) FROM sent WHERE recipient > one.recipient) FROM one "
            "WHERE one.recipient IS NOT NULL) "
            "SELECT recipient, "
            "(SELECT queued_at FROM sent s WHERE s.recipient = one.recipient ORDER BY number DESC LIMIT 1) "
            "FROM one WHERE recipient IS NOT NULL"
        )

    def by_outbox(self, number: int) -> SentRow | None:
        """What the history has of the message with an outbox number, whatever has become of it."""
        rows = self._sent_rows("outbox = ?", number)
        return rows[0] if rows else None

    def _sent_rows(self, condition: str, *values: SqlValue) -> list[SentRow]:
        rows = self._database.rows(
            # The condition is our own text.
            "SELECT number, recipient, kind, text, path, queued_at, stored_at, message_id, problem, "  # noqa: S608
            f"{_WAITS}, outbox, after, {_LOST}, payload_id, asked_again FROM sent WHERE {condition}",
            *values,
        )
        return [self._sent_row(row) for row in rows]

    def _sent_row(self, row: tuple[Any, ...]) -> SentRow:
        number, recipient, kind, text, path, queued_at, stored_at, message_id, problem, *states = row
        waiting, outbox, after, lost, payload_id, asked = states
        known, damaged = (number, recipient, queued_at), False
        try:
            text = self._sealing.open(SENT_TEXT, text, *known)
            path = self._sealing.open(SENT_PATH, path, *known)
            problem = self._sealing.open(SENT_PROBLEM, problem, *known)
        except CipherError:
            text, path, problem, damaged = None, None, None, True
        return SentRow(
            number,
            recipient,
            kind,
            text,
            path,
            queued_at,
            stored_at,
            message_id,
            problem,
            bool(waiting),
            outbox,
            after,
            bool(lost),
            damaged,
            payload_id,
            _REPEATS.get(asked, 0),
            asked == WITHHELD,
        )  # fmt: skip
