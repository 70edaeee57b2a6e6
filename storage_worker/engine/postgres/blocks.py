"""The table `block`.

Owns: its statements. Promises: as storage_worker.engine.paged.blocks says.
Exposure: none.
"""

from collections.abc import Callable

from storage_worker.engine.paged import blocks
from storage_worker.engine.paged.blocks import Pair
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def holds(self, pair: Pair) -> bool:
        """Whether it has this pair."""
        return self._database.find(statements.HAS_BLOCK, *pair) is not None

    def count(self, user: int) -> int:
        """How many senders it has for this user."""
        found: int = self._database.row(statements.COUNT_BLOCKS, user)[0]
        return found

    def any_of(self, user: int) -> bool:
        """Whether it has one."""
        return self._database.find(statements.ANY_BLOCK, user) is not None


class BlockLists(blocks.BlockLists):
    """The blocked senders of all users."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))
        self._database = database

    def forget_user(self, user: int) -> None:
        """Inside a transaction: this user is gone, as one who blocks and as one who is blocked."""
        self._database.change(statements.FORGET_BLOCKS, user)

    def taken(self, _now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        changed = self.take()

        def write(database: Database) -> None:
            for statement, pairs in (
                (statements.ADD_BLOCKS, changed.blocked),
                (statements.DROP_BLOCKS, changed.unblocked),
            ):
                if pairs:
                    database.change(statement, *map(list, zip(*pairs, strict=True)))

        return write
