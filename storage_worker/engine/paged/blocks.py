"""Whom each user has blocked.

Owns: what of it the table does not have, and a bounded cache of look-ups.
Promises: answers do not depend on the cache. `take` gives what the table lacks; until `written`
says that it has it, a later `take` gives it again.
Exposure: users choose whom they block; how many of them is bounded by the rules.
"""

from typing import Final, NamedTuple, Protocol

from storage_worker.engine.paged.unwritten import drop_written
from storage_worker.engine.records import Record, SenderBlocked

REMEMBERED: Final = 50_000
"""Pairs that were looked up."""

Pair = tuple[int, int]
"""Rows of users: who blocks, then who is blocked."""


class BlockTable(Protocol):
    """The table `block`."""

    def holds(self, pair: Pair) -> bool:
        """Whether it has this pair."""

    def count(self, user: int) -> int:
        """How many senders it has for this user."""

    def any_of(self, user: int) -> bool:
        """Whether it has one."""


class ChangedBlocks(NamedTuple):
    """Pairs that the table is to get, and to lose."""

    blocked: list[Pair]
    unblocked: list[Pair]


class BlockLists:
    """The blocked senders of all users, by rows: who blocks, then who is blocked."""

    def __init__(self, table: BlockTable) -> None:
        self._table = table
        self._changed: dict[Pair, bool] = {}
        """What the table does not have."""
        self._taken: dict[Pair, bool] = {}
        self._remembered: dict[Pair, bool] = {}

    def holds(self, user: int, sender: int) -> bool:
        """Whether this user has blocked this sender."""
        pair = user, sender
        found = self._changed.get(pair)
        if found is None:
            found = self._remembered.get(pair)
        if found is None:
            found = self._table.holds(pair)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[pair] = found
        return found

    def count(self, user: int) -> int:
        """How many senders this user has blocked."""
        found = self._table.count(user)
        for pair, blocked in self._changed.items():
            if pair[0] == user:
                found += blocked - self._table.holds(pair)
        return found

    def any_unwritten(self, user: int) -> bool:
        """Whether the table lacks something of this user's."""
        return any(pair[0] == user for pair in self._changed)

    def any_of(self, user: int) -> bool:
        """Whether this user blocks anybody, or did when the table was last brought up to date."""
        return self.any_unwritten(user) or self._table.any_of(user)

    def replay(self, record: Record) -> None:
        """Apply a turn's record, at its time or again."""
        if isinstance(record, SenderBlocked):
            self._changed[record.user, record.sender] = record.blocked

    def forget(self) -> None:
        """Return to the state of the table."""
        self._changed.clear()
        self._taken.clear()
        self._remembered.clear()

    @property
    def is_written(self) -> bool:
        """Whether the table has it all."""
        return not self._changed

    def take(self) -> ChangedBlocks:
        """What the table does not have."""
        self._taken = dict(self._changed)
        return ChangedBlocks(
            [pair for pair, there in self._taken.items() if there],
            [pair for pair, there in self._taken.items() if not there],
        )

    def written(self) -> None:
        """The table has what was taken last."""
        for pair in self._taken:
            self._remembered.pop(pair, None)
        drop_written(self._changed, self._taken)
        self._taken = {}
