"""The table `block`.

Owns: its statements. Promises: as storage_worker.engine.paged.blocks says.
Exposure: users choose whom they block; how many of them is bounded by the rules.
"""

from storage_worker.engine.paged import blocks
from storage_worker.engine.paged.blocks import Pair
from storage_worker.engine.sqlite.database import Database


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def holds(self, pair: Pair) -> bool:
        """Whether it has this pair."""
        return self._database.find("SELECT 1 FROM block WHERE user = ? AND sender = ?", pair) is not None

    def count(self, user: int) -> int:
        """How many senders it has for this user."""
        found: int = self._database.row("SELECT count(*) FROM block WHERE user = ?", (user,))[0]
        return found

    def any_of(self, user: int) -> bool:
        """Whether it has one."""
        return self._database.find("SELECT 1 FROM block WHERE user = ? LIMIT 1", (user,)) is not None


class BlockLists(blocks.BlockLists):
    """The blocked senders of all users."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))
        self._database = database

    def forget_user(self, user: int) -> None:
        """Inside a transaction: this user is gone, as one who blocks and as one who is blocked."""
        self._database.execute("DELETE FROM block WHERE user = ?1 OR sender = ?1", (user,))

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        changed = self.take()
        self._database.execute_many("INSERT OR IGNORE INTO block (user, sender) VALUES (?, ?)", changed.blocked)
        self._database.execute_many("DELETE FROM block WHERE user = ? AND sender = ?", changed.unblocked)
