"""What lets somebody register where that is not open to everybody.

Owns: the table `invitation`. Promises: the invitation itself is kept nowhere, only its SHA-256; one
whose last use was used is gone.
Exposure: digests of what strangers send are looked up; 16 random bytes are not guessed.

The worker and `scripts/admin`, which works beside it, use the same table; nothing of it is
remembered.
"""

from storage_worker.engine.records import InvitationChange, InvitationMade, InvitationUsed
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import Invitation


class Invitations:
    """All of them. `apply` runs inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, digest: bytes) -> Invitation | None:
        """The invitation with this SHA-256, whose time may be over; None where it was used up."""
        found = self._database.find("SELECT digest, uses, expires_at FROM invitation WHERE digest = ?", (digest,))
        return None if found is None else Invitation(*found)

    def all(self) -> list[Invitation]:
        """Every one, those that end first first."""
        rows = self._database.execute("SELECT digest, uses, expires_at FROM invitation ORDER BY expires_at, digest")
        return [Invitation(*row) for row in rows]

    def apply(self, change: InvitationChange) -> None:
        """Make, use or revoke one. Raises `TablesDamaged`."""
        digest = (change.digest,)
        with self._database.writing():
            if isinstance(change, InvitationMade):
                self._database.execute(
                    "INSERT OR REPLACE INTO invitation VALUES (?, ?, ?)",
                    (change.digest, change.uses, change.expires_at),
                )
            elif isinstance(change, InvitationUsed):
                self._database.execute("UPDATE invitation SET uses = uses - 1 WHERE digest = ?", digest)
                self._database.execute("DELETE FROM invitation WHERE digest = ? AND uses <= 0", digest)
            else:
                self._database.execute("DELETE FROM invitation WHERE digest = ?", digest)

    def forget_over(self, now_ms: int) -> None:
        """Inside a transaction: those whose time is over are no more."""
        self._database.execute("DELETE FROM invitation WHERE expires_at <= ?", (now_ms,))
