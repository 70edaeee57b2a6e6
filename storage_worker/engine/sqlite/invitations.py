"""Invitations to register, for servers where registration is not open.

Owns: the table `invitation`. Promises: an invitation itself is never stored, only its SHA-256; it
is deleted after its last use.
Exposure: digests of what strangers send are looked up; 16 random bytes are not guessed.

The worker and `scripts/admin` use the same table at the same time, so nothing is cached.
"""

from storage_worker.engine.records import InvitationChange, InvitationMade, InvitationUsed
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import Invitation


class Invitations:
    """All of them. `apply` runs inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, digest: bytes) -> Invitation | None:
        """The invitation with this SHA-256, which may have expired; None if it was used up."""
        found = self._database.find("SELECT digest, uses, expires_at FROM invitation WHERE digest = ?", (digest,))
        return None if found is None else Invitation(*found)

    def all(self) -> list[Invitation]:
        """All invitations, by the time when they expire."""
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
        """Inside a transaction: delete expired invitations."""
        self._database.execute("DELETE FROM invitation WHERE expires_at <= ?", (now_ms,))
