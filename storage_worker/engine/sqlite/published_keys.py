"""What users have published for others: a bundle, and one-time keys.

Owns: the table `published_key`, the column `keys` of `user`, and what of both is only in the
journal. Promises: a one-time key that was given out is not there again, whenever the worker ends.
Exposure: what is published is opaque; its size was checked.
"""

from typing import Final

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed, Record
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import PublishedKeys

MOST_UNWRITTEN: Final = 1_000
"""Users whose keys have changed, after which the database takes them in: 11 kB each."""
NEWS_WAIT_MS: Final = 250
"""After which it takes in what somebody has published: an operator's command that removes it sees
the tables alone."""
REMOVE_KEYS: Final = (
    "UPDATE published_key SET bundle = NULL, digest = zeroblob(32), one_time = zeroblob(0) WHERE user = ?",
    "UPDATE user SET keys = -1 WHERE row = ? AND keys IS NOT NULL",
)
"""What an operator's command does beside the worker, in one transaction."""
TOTALS: Final = "SELECT count(*), coalesce(sum(keys), 0) FROM user WHERE keys >= 0 AND NOT deleted"


class Keys:
    """The published keys of all users, by rows. `generation`: the store's."""

    def __init__(self, database: Database, generation: int) -> None:
        self._database = database
        self._generation = generation
        self.unwritten: dict[int, PublishedKeys] = {}
        """What the database does not have."""
        self._has_news = False
        """Whether somebody has published."""

    def find(self, user: int) -> PublishedKeys | None:
        """What this user has published; None for nothing, and where it was removed."""
        found = self.unwritten.get(user)
        if found is None:
            row = self._database.find(
                "SELECT bundle, digest, generation, one_time FROM published_key WHERE user = ? AND bundle IS NOT NULL",
                (user,),
            )
            found = None if row is None else PublishedKeys(*row)
        return found

    def counts(self) -> dict[int, int]:
        """How many one-time keys are kept of those users of whom the database does not know it."""
        return {user: keys.count(self._generation) for user, keys in self.unwritten.items()}

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

    def is_due(self, waited_ms: int) -> bool:
        """Whether the database should take them in, after they have waited so long at most."""
        return len(self.unwritten) >= MOST_UNWRITTEN or (self._has_news and waited_ms >= NEWS_WAIT_MS)

    def replay(self, record: Record) -> None:
        """Apply a turn's record, for the first time or again."""
        match record:
            case KeysPublished(user, generation, bundle, digest, dropped, added):
                before = self.find(user)
                kept = b"" if before is None else before.one_time_keys[dropped * ONE_TIME_KEY_SIZE :]
                self.unwritten[user] = PublishedKeys(bundle, digest, generation, kept + added)
                self._has_news = True
            case OneTimeKeyClaimed(user):
                found = self.find(user)
                if found is not None:
                    self.unwritten[user] = found._replace(one_time_keys=found.one_time_keys[ONE_TIME_KEY_SIZE:])
            case _:
                pass

    def forget(self) -> None:
        """Return to the state of the database."""
        self.unwritten.clear()
        self._has_news = False

    def forget_user(self, user: int) -> bytes:
        """Inside a transaction: this user is gone. The bundle, empty for none."""
        found = self.find(user)
        self.unwritten.pop(user, None)
        self._database.execute("DELETE FROM published_key WHERE user = ?", (user,))
        return b"" if found is None else found.bundle

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        if not self.unwritten:
            return
        rows = [
            (user, keys.generation, keys.digest, keys.bundle, keys.one_time_keys)
            for user, keys in sorted(self.unwritten.items())
        ]
        self._database.execute_many(
            "INSERT OR REPLACE INTO published_key (user, generation, digest, bundle, one_time) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        self._database.execute_many(
            "UPDATE user SET keys = ? WHERE row = ?",
            [(count, user) for user, count in sorted(self.counts().items())],
        )

    def written(self) -> None:
        """That transaction is on disk."""
        self.forget()
