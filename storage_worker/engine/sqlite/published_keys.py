"""What users have published for others: a bundle, and one-time keys.

Owns: the table `published_key`, and the column `keys` of `user`. Promises: as
storage_worker.engine.paged.unwritten_keys says.
Exposure: what is published is opaque; its size was checked.
"""

from typing import Final

from storage_worker.engine.paged.unwritten_keys import UnwrittenKeys
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import PublishedKeys

REMOVE_KEYS: Final = (
    "INSERT OR REPLACE INTO published_key (user, generation, digest, bundle, one_time) "
    "VALUES (?, 0, randomblob(32), NULL, zeroblob(0))",
    "UPDATE user SET keys = -1 WHERE row = ?",
)
"""What an operator's command does beside the worker, in one transaction."""
TOTALS: Final = "SELECT count(*), coalesce(sum(keys), 0) FROM user WHERE keys >= 0 AND NOT deleted"


class Keys(UnwrittenKeys):
    """The published keys of all users."""

    def __init__(self, database: Database, generation: int) -> None:
        super().__init__(generation)
        self._database = database

    def _in_table(self, user: int) -> PublishedKeys | None:
        row = self._database.find(
            "SELECT coalesce(bundle, x''), digest, generation, one_time FROM published_key WHERE user = ?", (user,)
        )
        return None if row is None else PublishedKeys(*row)

    def look_again(self) -> None:
        """Another process may have changed the table: what it has removed is not written any
        more.
        """
        find, query = self._database.find, "SELECT digest FROM published_key WHERE user = ?"
        rows = {user: find(query, (user,)) for user in self.unwritten}
        self._drop_removed({user: row[0] for user, row in rows.items() if row is not None})

    def totals(self) -> tuple[int, int]:
        """How many users have a bundle, and how many one-time keys are kept in all."""
        users, one_time = self._database.row(TOTALS)
        for user, count in self.counts().items():
            row = self._database.find("SELECT keys, deleted FROM user WHERE row = ?", (user,))
            before, deleted = (-1, 1) if row is None else row
            if not deleted:
                users += before is None or before < 0
                one_time += count - max(before or 0, 0)
        return users, one_time

    def forget_user(self, user: int) -> bytes:
        """Inside a transaction: this user is gone. The bundle, empty for none."""
        found = self.find(user)
        self.unwritten.pop(user, None)
        self._database.execute("DELETE FROM published_key WHERE user = ?", (user,))
        return b"" if found is None else found.bundle

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        self.look_again()
        if not self.unwritten:
            return
        self._database.execute_many(
            "INSERT OR REPLACE INTO published_key (user, generation, digest, bundle, one_time) VALUES (?, ?, ?, ?, ?)",
            [
                (user, keys.generation, keys.digest, keys.bundle, keys.one_time_keys)
                for user, (keys, _row) in sorted(self.unwritten.items())
            ],
        )
        self._database.execute_many(
            "UPDATE user SET keys = ? WHERE row = ?",
            [(count, user) for user, count in sorted(self.counts().items())],
        )

    def written(self) -> None:
        """That transaction is on disk."""
        self.forget()
