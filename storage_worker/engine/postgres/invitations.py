"""What lets somebody register where that is not open to everybody.

Owns: the table `invitation`. Promises: the invitation itself is kept nowhere, only its SHA-256; one
whose last use was used is gone.
Exposure: digests of what strangers send are looked up; 16 random bytes are not guessed.
"""

from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import InvitationChange, InvitationMade, InvitationUsed
from storage_worker.engine.values import Invitation


class Invitations:
    """All of them. `apply` runs inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, digest: bytes) -> Invitation | None:
        """The invitation with this SHA-256, whose time may be over; None where it was used up."""
        found = self._database.find(statements.FIND_INVITATION, digest)
        return None if found is None else Invitation(*found)

    def all(self) -> list[Invitation]:
        """Every one, those that end first first."""
        return [Invitation(*row) for row in self._database.rows(statements.INVITATIONS)]

    def apply(self, change: InvitationChange) -> None:
        """Make, use or revoke one."""
        if isinstance(change, InvitationMade):
            self._database.change(statements.MAKE_INVITATION, change.digest, change.uses, change.expires_at)
        elif isinstance(change, InvitationUsed):
            self._database.change(statements.USE_INVITATION, change.digest)
            self._database.change(statements.DROP_USED_INVITATION, change.digest)
        else:
            self._database.change(statements.DROP_INVITATION, change.digest)
