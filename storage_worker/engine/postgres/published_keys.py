"""What users have published for others: a bundle, and one-time keys.

Owns: the table `published_key`. Promises: as storage_worker.engine.paged.unwritten_keys says.
Exposure: what is published is opaque; its size was checked.
"""

from collections.abc import Callable, Sequence
from typing import Final

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.paged.unwritten_keys import Unwritten, UnwrittenKeys
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.values import KeyState, PublishedKeys

_STATES: Final = {None: KeyState.NEVER, False: KeyState.REMOVED, True: KeyState.KEPT}


class Keys(UnwrittenKeys):
    """The published keys of all users of a shard."""

    def __init__(self, database: Database, generation: int) -> None:
        super().__init__(generation)
        self._database = database
        self._taken: dict[int, Unwritten] = {}

    def _in_table(self, user: int) -> PublishedKeys | None:
        row = self._database.find(statements.FIND_KEYS, user)
        return None if row is None else PublishedKeys(*row)

    def look_again(self) -> None:
        """An operator's command may have changed the table: what it has removed is not written any
        more.
        """
        if self.unwritten:
            self._drop_removed(dict(self._database.rows(statements.KEY_DIGESTS, list(self.unwritten))))

    def state_of(self, user: int, has_bundle: bool | None) -> KeyState:
        """What is known of a user's keys, if the table has a bundle, none (False), or no row
        (None).
        """
        return KeyState.KEPT if user in self.unwritten else _STATES[has_bundle]

    def states(self, users: Sequence[int]) -> dict[int, KeyState]:
        """The same of many users, of whom the table is asked here."""
        found: dict[int, bool] = dict(self._database.rows(statements.KEY_STATES, users))
        return {user: self.state_of(user, found.get(user)) for user in users}

    def totals(self) -> tuple[int, int]:
        """How many users have a bundle, and how many one-time keys are kept in all."""
        unwritten = self.counts()
        users, size = self._database.row(statements.KEYS_OF_ALL, self.generation, list(unwritten))
        return users + len(unwritten), size // ONE_TIME_KEY_SIZE + sum(unwritten.values())

    def forget(self) -> None:
        """Be as the table is."""
        super().forget()
        self._taken = {}

    def forget_user(self, user: int) -> bytes:
        """Inside a transaction: this user is gone. The bundle, empty for none."""
        found = self.find(user)
        self._database.change(statements.FORGET_KEYS, user)
        return b"" if found is None else found.bundle

    def taken(self, _now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        taken = self._taken = dict(self.unwritten)

        def write(database: Database) -> None:
            rows = [
                (user, keys.generation, keys.digest, keys.bundle, keys.one_time_keys, row)
                for user, (keys, row) in sorted(taken.items())
            ]
            if rows:
                database.change(statements.WRITE_KEYS, *map(list, zip(*rows, strict=True)))

        return write

    def written(self) -> None:
        """See `commit_log.TakenPart`."""
        for user, taken in self._taken.items():
            found = self.unwritten.get(user)
            if found == taken:
                del self.unwritten[user]
            elif found is not None and found.row == taken.row:
                # It was changed again: on top of what the table has now.
                self.unwritten[user] = found._replace(row=taken.keys.digest)
        self._taken = {}
        self._count()
