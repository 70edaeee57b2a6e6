"""What users have published for others: a bundle, and one-time keys.

Owns: the table `published_key`, the column `keys` of `user`, and what of both is only in the
journal. Promises: a one-time key that was given out is not there again, whenever the worker ends.
What an operator's command removes beside the worker stays removed, also where the journal alone has
what was published before.
Exposure: what is published is opaque; its size was checked.

A row is known by its digest. Whoever removes what it has gives it a new one, and a publication is
applied to the row with the digest that it follows.
"""

from typing import Final, NamedTuple

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed, Record
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import PublishedKeys

MOST_UNWRITTEN: Final = 1_000
"""Users whose keys have changed, after which the database takes them in: 11 kB each."""
REMOVE_KEYS: Final = (
    "INSERT OR REPLACE INTO published_key (user, generation, digest, bundle, one_time) "
    "VALUES (?, 0, randomblob(32), NULL, zeroblob(0))",
    "UPDATE user SET keys = -1 WHERE row = ?",
)
"""What an operator's command does beside the worker, in one transaction."""
TOTALS: Final = "SELECT count(*), coalesce(sum(keys), 0) FROM user WHERE keys >= 0 AND NOT deleted"


class _Unwritten(NamedTuple):
    """What the database does not have. `row`: the digest of the row that it was made of; empty for
    none.
    """

    keys: PublishedKeys
    row: bytes


class Keys:
    """The published keys of all users, by rows. `generation`: the store's."""

    def __init__(self, database: Database, generation: int) -> None:
        self._database = database
        self._generation = generation
        self.unwritten: dict[int, _Unwritten] = {}
        self.is_due = False
        """Whether the database should take them in soon."""

    def find(self, user: int) -> PublishedKeys | None:
        """What this user has published; None for nothing, without a bundle where it was removed."""
        found = self.unwritten.get(user)
        return self._in_table(user) if found is None else found.keys

    def _in_table(self, user: int) -> PublishedKeys | None:
        row = self._database.find(
            "SELECT coalesce(bundle, x''), digest, generation, one_time FROM published_key WHERE user = ?", (user,)
        )
        return None if row is None else PublishedKeys(*row)

    def look_again(self) -> None:
        """Another process may have changed the table: what it has removed is not written any
        more.
        """
        for user, one in list(self.unwritten.items()):
            row = self._database.find("SELECT digest FROM published_key WHERE user = ?", (user,))
            if one.row != (b"" if row is None else row[0]):
                del self.unwritten[user]

    def counts(self) -> dict[int, int]:
        """How many one-time keys are kept of those users of whom the database does not know it."""
        return {user: one.keys.count(self._generation) for user, one in self.unwritten.items()}

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

    def replay(self, record: Record) -> None:
        """Apply a turn's record, for the first time or again."""
        match record:
            case KeysPublished(user, generation, bundle, digest, dropped, added, follows):
                before = self.find(user)
                if follows != (b"" if before is None else before.digest):
                    # An operator has removed what there was, since this was published.
                    return
                kept = b"" if before is None else before.one_time_keys[dropped * ONE_TIME_KEY_SIZE :]
                self._change(user, PublishedKeys(bundle, digest, generation, kept + added), follows)
            case OneTimeKeyClaimed(user):
                found = self.find(user)
                if found is not None and found.bundle:
                    rest = found._replace(one_time_keys=found.one_time_keys[ONE_TIME_KEY_SIZE:])
                    self._change(user, rest, found.digest)
            case _:
                pass

    def _change(self, user: int, keys: PublishedKeys, row: bytes) -> None:
        """`row`: the digest of what it was made of."""
        before = self.unwritten.get(user)
        self.unwritten[user] = _Unwritten(keys, row if before is None else before.row)
        # Asked after every turn, so it is no property.
        self.is_due = len(self.unwritten) >= MOST_UNWRITTEN

    def forget(self) -> None:
        """Return to the state of the database."""
        self.unwritten.clear()
        self.is_due = False

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
