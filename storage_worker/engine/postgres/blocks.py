"""Whom each user has blocked.

Owns: the table `block`, what of it is in the journal alone, and a bounded memory of what was looked
up.
Promises: a pair is there or not, whatever is asked how often.
Exposure: users choose whom they block; how many of them is bounded by the rules.
"""

from typing import Final

from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import Record, SenderBlocked

REMEMBERED: Final = 50_000
"""Pairs that were looked up."""


class BlockLists:
    """The blocked senders of all users, by rows: who blocks, then who is blocked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed: dict[tuple[int, int], bool] = {}
        """What the table does not have."""
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
        return self._database.find(statements.HAS_BLOCK, *pair) is not None

    def count(self, user: int) -> int:
        """How many senders this user has blocked."""
        found: int = self._database.row(statements.COUNT_BLOCKS, user)[0]
        for pair, blocked in self._changed.items():
            if pair[0] == user:
                found += blocked - self._is_in_table(pair)
        return found

    def any_unwritten(self, user: int) -> bool:
        """Whether the table lacks something of this user's."""
        return any(pair[0] == user for pair in self._changed)

    def any_of(self, user: int) -> bool:
        """Whether this user has blocked anybody, or had since the table has all of it."""
        return self.any_unwritten(user) or self._database.find(statements.ANY_BLOCK, user) is not None

    def forget_user(self, user: int) -> None:
        """Inside a transaction: this user is gone, as one who blocks and as one who is blocked."""
        self._database.change(statements.FORGET_BLOCKS, user)

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        if isinstance(record, SenderBlocked):
            self._changed[record.user, record.sender] = record.blocked

    def forget(self) -> None:
        """Be as the table is."""
        self._changed.clear()
        self._remembered.clear()

    def write(self) -> None:
        """Inside a transaction: give the table what it does not have."""
        for statement, blocked in ((statements.ADD_BLOCKS, True), (statements.DROP_BLOCKS, False)):
            pairs = [pair for pair, now in self._changed.items() if now is blocked]
            if pairs:
                self._database.change(statement, *map(list, zip(*pairs, strict=True)))

    def written(self) -> None:
        """That transaction is committed."""
        for pair in self._changed:
            self._remembered.pop(pair, None)
        self._changed.clear()
