"""Whom each user has blocked.

Owns: the table `block`, what of it is only in the journal, and a bounded cache of look-ups.
Promises: answers do not depend on the cache.
Exposure: users choose whom they block; how many of them is bounded by the rules.
"""

from typing import Final

from storage_worker.engine.records import Record, SenderBlocked
from storage_worker.engine.sqlite.database import Database

REMEMBERED: Final = 50_000
"""Pairs that were looked up."""


class BlockLists:
    """The blocked senders of all users, by rows: who blocks, then who is blocked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed: dict[tuple[int, int], bool] = {}
        """What the database does not have."""
        self._remembered: dict[tuple[int, int], bool] = {}

    def holds(self, user: int, sender: int) -> bool:
        """Whether this user has blocked this sender."""
        pair = user, sender
        found = self._changed.get(pair)
        if found is None:
            found = self._remembered.get(pair)
        if found is None:
            found = self._is_in_table(pair)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[pair] = found
        return found

    def _is_in_table(self, pair: tuple[int, int]) -> bool:
        return self._database.find("SELECT 1 FROM block WHERE user = ? AND sender = ?", pair) is not None

    def count(self, user: int) -> int:
        """How many senders this user has blocked."""
        found: int = self._database.row("SELECT count(*) FROM block WHERE user = ?", (user,))[0]
        for pair, blocked in self._changed.items():
            if pair[0] == user:
                found += blocked - self._is_in_table(pair)
        return found

    def any_of(self, user: int) -> bool:
        """Whether this user blocks anybody, or did when the database was last brought up
        to date.
        """
        return any(pair[0] == user for pair in self._changed) or (
            self._database.find("SELECT 1 FROM block WHERE user = ? LIMIT 1", (user,)) is not None
        )

    def set(self, record: SenderBlocked) -> None:
        """Apply the record."""
        self._changed[record.user, record.sender] = record.blocked

    def forget_user(self, user: int) -> None:
        """Inside a transaction: this user is gone, as one who blocks and as one who is blocked."""
        self._database.execute("DELETE FROM block WHERE user = ?1 OR sender = ?1", (user,))

    def replay(self, record: Record) -> None:
        """Apply a turn's record again."""
        if isinstance(record, SenderBlocked):
            self.set(record)

    def forget(self) -> None:
        """Return to the state of the database."""
        self._changed.clear()
        self._remembered.clear()

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        blocked = [pair for pair, there in self._changed.items() if there]
        others = [pair for pair, there in self._changed.items() if not there]
        self._database.execute_many("INSERT OR IGNORE INTO block (user, sender) VALUES (?, ?)", blocked)
        self._database.execute_many("DELETE FROM block WHERE user = ? AND sender = ?", others)

    def written(self) -> None:
        """That transaction is on disk."""
        for pair in self._changed:
            self._remembered.pop(pair, None)
        self._changed.clear()
