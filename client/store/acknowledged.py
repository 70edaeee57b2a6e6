"""Messages that the server has acknowledged, for as long as restoring a backup may lose them.

Owns: the rows of acknowledged messages, and which of them are possibly lost.
Promises: the newest 1,024 are kept, and marked ones stay until they are sent again or forgotten. A
row holds no copy of a text or file: the history has the text, and the path of the file. The cost of
a message does not grow with their number.
Exposure: as `client.store.home_store`.

    state          means                                         leaves when
    ────────────   ───────────────────────────────────────────   ───────────────────────────────────────────
    acknowledged   the server has it                             1,024 newer ones came → gone; another
                                                                 generation within 7 days → possibly lost,
                                                                 after that → gone
    possibly lost  the server was put back to an earlier state   sent again → in the outbox; forgotten → gone

Source: docs/guarantees.md, "After a backup was put back".
"""

import contextlib
from typing import Any, Final, NamedTuple

from client.errors import CipherError
from client.store.database import Database
from client.store.sealing import ACKNOWLEDGED_CONTENT, OUTBOX_CONTENT, Sealing
from common.values import ClientId, MessageKind, Token

MOST_KEPT: Final = 1024
"""The server keeps that many tokens of a sender."""
LONGEST_KEPT: Final = 7 * 24 * 3600 * 1000
"""Milliseconds for which the server keeps a token."""
_COLUMNS: Final = "number, token, recipient, kind, size, content, shared_key, under, digest"


class AcknowledgedRow(NamedTuple):
    """A message that the server has acknowledged. `number`: its number in the outbox."""

    number: int
    token: Token
    recipient: ClientId
    kind: int
    size: int
    content: bytes | None
    """The content as it was sent, if it can't be made again from the history."""
    carries: int | None
    under: int | None
    digest: bytes | None
    """For a file: SHA-256 of its content as it was sent."""


class AcknowledgedTable:
    """The acknowledged messages of one home."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def keep(self, number: int, digest: bytes | None, now: int, *, lost: bool = False) -> None:
        """Within a transaction: copy a message from the outbox. `lost`: it is marked again, as it
        was before.
        """
        for token, recipient, kind, size, content, carries, under, of_before in self._database.rows(
            "SELECT token, recipient, kind, size, content, shared_key, under, digest FROM outbox WHERE number = ?",
            number,
        ):
            place = (number, token, recipient, kind)
            kept = None
            if kind == MessageKind.SEALED:
                if not self._database.rows("SELECT 1 FROM sent WHERE outbox = ?", number):
                    # A request to send again: it is made anew where it is needed.
                    continue
            elif kind not in {MessageKind.TEXT, MessageKind.FILE} or under is None:
                # A damaged one is kept without content: it can't be sent again, which is reported
                # then.
                with contextlib.suppress(CipherError):
                    plain = self._sealing.open(OUTBOX_CONTENT, content, *place)
                    kept = self._sealing.seal(ACKNOWLEDGED_CONTENT, plain, *place)
            self._database.run(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *place, size, kept, carries, under, digest or of_before, now, int(lost),
            )  # fmt: skip
        # Uses the index of unmarked rows, however many are marked.
        self._database.run(
            "DELETE FROM acknowledged INDEXED BY acknowledged_kept WHERE NOT lost AND number <= ?", number - MOST_KEPT
        )

    def lost(self, after: int) -> AcknowledgedRow | None:
        """Return the oldest message after number `after` that is possibly lost."""
        return self._row("lost AND number > ? ORDER BY number LIMIT 1", after)

    def lost_carrying(self, key: int) -> AcknowledgedRow | None:
        """Return the message that carries a key, if it is possibly lost."""
        return self._row("lost AND shared_key = ?", key)

    def lost_count(self) -> int:
        """Return how many messages are possibly lost, keys and requests for keys among them."""
        return int(self._database.value("SELECT count(*) FROM acknowledged WHERE lost") or 0)

    def is_lost(self, number: int) -> bool:
        """Whether a message is possibly lost."""
        return bool(self._database.rows("SELECT 1 FROM acknowledged WHERE number = ? AND lost", number))

    def lost_recipients(self) -> set[ClientId]:
        """Return the recipients to whom something is possibly lost."""
        return {one for (one,) in self._database.rows("SELECT recipient FROM acknowledged WHERE lost")}

    def forget_lost(self, recipient: ClientId) -> int:
        """Remove the marks of possibly lost messages to one recipient; return how many
        there were.
        """
        with self._database.transaction():
            self._database.run("DELETE FROM acknowledged WHERE lost AND recipient = ?", recipient)
            return self._database.changed()

    def forget(self, number: int) -> None:
        """Within a transaction: remove a possibly lost message."""
        self._database.run("DELETE FROM acknowledged WHERE number = ? AND lost", number)

    def supersede(self, number: int | None) -> None:
        """Within a transaction: remove a message in whose place another one was sent."""
        self._database.run("DELETE FROM acknowledged WHERE number = ?", number)

    def _row(self, condition: str, value: int) -> AcknowledgedRow | None:
        # The condition is our own text.
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM acknowledged WHERE {condition}", value)  # noqa: S608
        return self._opened(rows[0]) if rows else None

    def _opened(self, row: tuple[Any, ...]) -> AcknowledgedRow:
        number, token, recipient, kind, size, content, carries, under, digest = row
        try:
            content = self._sealing.open(ACKNOWLEDGED_CONTENT, content, number, token, recipient, kind)
        except CipherError:
            content = None
        return AcknowledgedRow(number, token, recipient, kind, size, content, carries, under, digest)


def mark_lost(database: Database, now: int) -> int:
    """Within a transaction: the server has another generation; return how many messages
    that marks.
    """
    database.run("DELETE FROM acknowledged WHERE NOT lost AND acknowledged_at < ?", now - LONGEST_KEPT)
    database.run("UPDATE acknowledged SET lost = 1 WHERE NOT lost")
    return database.changed()
