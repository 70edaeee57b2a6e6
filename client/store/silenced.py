"""Senders whom this home has blocked or muted, and what the server knows of it.

Owns: the table `silenced`.
Promises: it is in effect whatever the server knows; what the server does not know yet, it is told
at the next sign-in.
Exposure: holds only ids; names are the contacts'.

    blocked  told            means
    ───────  ──────────────  ─────────────────────────────────────────────────────────────────
    1        a generation    the server's store of this generation refuses the sender
    1        anything else   the server is to be told
    0        0               nothing is to be told: muted alone
    0        anything else   the server may refuse the sender still, and is to be told

Source: docs/client.md, "Blocking and muting".
"""

from typing import Final, NamedTuple

from client.store.database import Database
from common.values import ClientId

_NOTHING_TOLD: Final = 0
_PERHAPS_TOLD: Final = -1


class SilencedRow(NamedTuple):
    """Somebody who is blocked or muted, or was blocked and the server is not told yet."""

    client_id: ClientId
    blocked: bool
    muted: bool
    told: int


class SilencedTable:
    """The blocked and muted senders of one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[SilencedRow]:
        """Those who are blocked or muted."""
        return self._rows("blocked OR muted")

    def owed(self, generation: int) -> list[SilencedRow]:
        """Those about whom a server's store of this generation is to be told."""
        return [row for row in self._rows("blocked OR told <> 0") if not (row.blocked and row.told == generation)]

    def _rows(self, condition: str) -> list[SilencedRow]:
        # The condition is our own text.
        query = f"SELECT client_id, blocked, muted, told FROM silenced WHERE {condition} ORDER BY client_id"  # noqa: S608
        rows = self._database.rows(query)
        return [SilencedRow(one, bool(blocked), bool(muted), told) for one, blocked, muted, told in rows]

    def of_id(self, client_id: ClientId) -> SilencedRow:
        """Return a sender's row."""
        rows = self._database.rows("SELECT blocked, muted, told FROM silenced WHERE client_id = ?", client_id)
        blocked, muted, told = rows[0] if rows else (0, 0, _NOTHING_TOLD)
        return SilencedRow(client_id, bool(blocked), bool(muted), told)

    def is_silent(self, client_id: ClientId) -> bool:
        """Whether a sender's messages are not announced."""
        row = self.of_id(client_id)
        return row.blocked or row.muted

    def block(self, client_id: ClientId, *, blocked: bool) -> bool:
        """Block or unblock a sender; return whether that changed anything."""
        with self._database.transaction():
            before = self.of_id(client_id)
            if before.blocked == blocked:
                return False
            # An answer may have been lost: the server is told in any case.
            told = _NOTHING_TOLD if blocked else _PERHAPS_TOLD
            self._put(before._replace(blocked=blocked, told=told))
        return True

    def mute(self, client_id: ClientId, *, muted: bool) -> bool:
        """Mute or unmute a sender; return whether that changed anything."""
        with self._database.transaction():
            before = self.of_id(client_id)
            if before.muted == muted:
                return False
            self._put(before._replace(muted=muted))
        return True

    def move(self, old: ClientId, client_id: ClientId) -> None:
        """Apply the state of a sender's old id to the new one."""
        with self._database.transaction():
            before = self.of_id(old)
            if before.blocked or before.muted:
                told = _NOTHING_TOLD
                self._put(before._replace(client_id=client_id, told=told))
                self._database.run("DELETE FROM silenced WHERE client_id = ?", old)

    def was_told(self, row: SilencedRow, generation: int) -> None:
        """Note that the server's store of this generation knows what the row says."""
        with self._database.transaction():
            now = self.of_id(row.client_id)
            if now.blocked == row.blocked:
                self._put(now._replace(told=generation if row.blocked else _NOTHING_TOLD))

    def _put(self, row: SilencedRow) -> None:
        if row.blocked or row.muted or row.told:
            self._database.run(
                "INSERT OR REPLACE INTO silenced VALUES (?, ?, ?, ?)",
                row.client_id, int(row.blocked), int(row.muted), row.told,
            )  # fmt: skip
        else:
            self._database.run("DELETE FROM silenced WHERE client_id = ?", row.client_id)
