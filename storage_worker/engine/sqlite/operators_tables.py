"""What an operator's commands change in the embedded store, beside the worker.

Owns: these transactions. Promises: as storage_worker.engine.interface says. A worker that runs
notices that the database has changed with its next turn.
Exposure: whoever may write to the data folder.
"""

from collections.abc import Sequence
from typing import Final

from storage_worker.engine.records import InvitationMade, InvitationRevoked
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.invitations import Invitations
from storage_worker.engine.sqlite.published_keys import REMOVE_KEYS, Keys
from storage_worker.engine.sqlite.store_identity import stored_identity
from storage_worker.engine.sqlite.users import UserRegistry
from storage_worker.engine.values import Invitation, KeptName

_UNPROVE: Final = "UPDATE user SET proven = 0 WHERE name = ? AND NOT deleted"
_UNPROVE_OLD: Final = "UPDATE user SET proven = 0 WHERE name = ?"
"""The same of a store that an earlier version made, and no worker of this one has opened: it may
have no mark of a deletion.
"""


class SqliteTables:
    """An `OperatorsTables`. All but `unprove` need a store of this version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _registry(self) -> UserRegistry:
        facts = stored_identity(self._database)
        keys = Keys(self._database, 0 if facts is None else facts.generation)
        return UserRegistry(self._database, BlockLists(self._database), keys)

    def make_invitation(self, made: InvitationMade, now_ms: int) -> None:
        """Make one, and drop those whose time is over."""
        kept = Invitations(self._database)
        with self._database.transaction():
            kept.forget_over(now_ms)
            kept.apply(made)

    def invitations(self) -> list[Invitation]:
        """All of them, by the time when they expire."""
        return Invitations(self._database).all()

    def revoke(self, digests: Sequence[bytes]) -> None:
        """Drop these."""
        kept = Invitations(self._database)
        with self._database.transaction():
            for digest in digests:
                kept.apply(InvitationRevoked(digest))

    def delete(self, name: str) -> bool:
        """Mark a user as deleted; whether there was one."""
        with self._database.transaction():
            self._database.execute("UPDATE user SET deleted = 1 WHERE name = ? AND NOT deleted", (name,))
            return bool(self._database.changes())

    def kept_names(self) -> list[KeptName]:
        """The names of deleted users that were not freed, in the order of registration."""
        return self._registry().kept_names()

    def free(self, name: str) -> bool:
        """Let others register a deleted user's name; whether there was one."""
        with self._database.transaction():
            return self._registry().free_name(name)

    def is_leaving(self, name: str) -> bool | None:
        """Whether what the user of this name had is being deleted; None for no user."""
        found = self._database.find("SELECT deleted FROM user WHERE name = ?", (name,))
        return None if found is None else bool(found[0])

    def re_key(self, name: str, key: bytes, day: int) -> bool:
        """Give a user another public key; whether there is one."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE user SET public_key = ?, seen = max(coalesce(seen, 0), ?) WHERE name = ? AND NOT deleted",
                (key, day, name),
            )
            known = self._database.changes()
            if known:
                # With these others would write to the home that is lost.
                [(row,)] = self._database.execute("SELECT row FROM user WHERE name = ?", (name,))
                for statement in REMOVE_KEYS:
                    self._database.execute(statement, (row,))
        return bool(known)

    def unprove(self, name: str) -> bool:
        """Clear the mark that a user has authenticated; whether there is one."""
        with self._database.transaction():
            self._database.execute(_UNPROVE if self._database.is_current else _UNPROVE_OLD, (name,))
            return bool(self._database.changes())
