"""Messages that the server has acknowledged, for as long as a backup that is put back may lose
them.

Owns: the rows of acknowledged messages, and which of them are possibly lost.
Promises: the newest 1,024 are kept, and what is marked stays until it was sent again or is
forgotten; a row holds no copy of a text or file: the history has the text, and the path of the
file. What a message costs does not grow with their number.
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
"""As many tokens of a sender the server keeps."""
LONGEST_KEPT: Final = 7 * 24 * 3600 * 1000
"""Milliseconds. So long the server keeps a token."""
_COLUMNS: Final = "number, token, recipient, kind, size, content, shared_key, under, digest"


class AcknowledgedRow(NamedTuple):
    """A message that the server has acknowledged. `number`: the one that it had in the outbox."""

    number: int
    token: Token
    recipient: ClientId
    kind: int
    size: int
    content: bytes | None
    """As it was sent, if it can't be made again from the history."""
    carries: int | None
    under: int | None
    digest: bytes | None
    """Of a file: SHA-256 of its content as it was sent."""


class AcknowledgedTable:
    """The acknowledged messages of one home."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def keep(self, number: int, digest: bytes | None, now: int, *, lost: bool = False) -> None:
        """Within a transaction: take over a message that is in the outbox. `lost`: it is
        marked, as it was before.
        """
        for token, recipient, kind, size, content, carries, under, of_before in self._database.rows(
            "SELECT token, recipient, kind, size, content, shared_key, under, digest FROM outbox WHERE number = ?",
            number,
        ):
            place = (number, token, recipient, kind)
            kept = None
            if kind not in {MessageKind.TEXT, MessageKind.FILE} or under is None:
                # A damaged one is kept without content: it can't be sent again, and that is said
                # then.
                with contextlib.suppress(CipherError):
                    plain = self._sealing.open(OUTBOX_CONTENT, content, *place)
                    kept = self._sealing.seal(ACKNOWLEDGED_CONTENT, plain, *place)
            self._database.run(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *place, size, kept, carries, under, digest or of_before, now, int(lost),
            )  # fmt: skip
        # By the index of those alone: however many are marked.
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
        """Return those to whom something is possibly lost."""
        return {one for (one,) in self._database.rows("SELECT recipient FROM acknowledged WHERE lost")}

    def forget_lost(self, recipient: ClientId) -> int:
        """Take the mark from what is possibly lost to one recipient; return from how many."""
        with self._database.transaction():
            self._database.run("DELETE FROM acknowledged WHERE lost AND recipient = ?", recipient)
            return self._database.changed()

    def forget(self, number: int) -> None:
        """Within a transaction: keep a message no longer that is possibly lost."""
        self._database.run("DELETE FROM acknowledged WHERE number = ? AND lost", number)

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
    """Within a transaction: the server is another generation; return how many messages are marked
    by that.
    """
    database.run("DELETE FROM acknowledged WHERE NOT lost AND acknowledged_at < ?", now - LONGEST_KEPT)
    database.run("UPDATE acknowledged SET lost = 1 WHERE NOT lost")
    return database.changed()
