"""What users have published for others: a bundle, and one-time keys.

Owns: the table `published_key`, and what of it is in the journal alone. Promises: a one-time key
that was given out is not there again, whenever the worker ends.
Exposure: what is published is opaque; its size was checked.
"""

from collections.abc import Callable, Sequence
from typing import Final

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.paged.unwritten import drop_written
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed, Record
from storage_worker.engine.values import KeyState, PublishedKeys

_STATES: Final = {None: KeyState.NEVER, False: KeyState.REMOVED, True: KeyState.KEPT}
MOST_UNWRITTEN: Final = 1_000
"""Users whose keys have changed, after which the table takes them in: 11 kB each."""


class Keys:
    """The published keys of all users, by rows. `generation`: the store's."""

    def __init__(self, database: Database, generation: int) -> None:
        self._database = database
        self.generation = generation
        self.unwritten: dict[int, PublishedKeys] = {}
        """What the table does not have."""
        self._taken: dict[int, PublishedKeys] = {}

    def find(self, user: int) -> PublishedKeys | None:
        """What this user has published; None for nothing, without a bundle where it was removed."""
        found = self.unwritten.get(user)
        if found is None:
            row = self._database.find(statements.FIND_KEYS, user)
            found = None if row is None else PublishedKeys(*row)
        return found

    def state_of(self, user: int, has_bundle: bool | None) -> KeyState:
        """What is known of a user's keys, if the table has a bundle, none (False), or no row
        (None).
        """
        return KeyState.KEPT if user in self.unwritten else _STATES[has_bundle]

    def states(self, users: Sequence[int]) -> dict[int, KeyState]:
        """The same of many users, of whom the table is asked here."""
        found: dict[int, bool] = dict(self._database.rows(statements.KEY_STATES, users))
        return {user: self.state_of(user, found.get(user)) for user in users}

    def counts(self) -> dict[int, int]:
        """How many one-time keys are kept of those users of whom the table does not know it."""
        return {user: keys.count(self.generation) for user, keys in self.unwritten.items()}

    def totals(self) -> tuple[int, int]:
        """How many users have a bundle, and how many one-time keys are kept in all."""
        unwritten = self.counts()
        users, size = self._database.row(statements.KEYS_OF_ALL, self.generation, list(unwritten))
        return users + len(unwritten), size // ONE_TIME_KEY_SIZE + sum(unwritten.values())

    @property
    def is_due(self) -> bool:
        """Whether the table should take them in soon."""
        return len(self.unwritten) >= MOST_UNWRITTEN

    def replay(self, record: Record) -> None:
        """Apply a turn's record, for the first time or again."""
        match record:
            case KeysPublished(user, generation, bundle, digest, dropped, added, _follows):
                before = self.find(user)
                kept = b"" if before is None else before.one_time_keys[dropped * ONE_TIME_KEY_SIZE :]
                self.unwritten[user] = PublishedKeys(bundle, digest, generation, kept + added)
            case OneTimeKeyClaimed(user):
                found = self.find(user)
                if found is not None and found.bundle:
                    self.unwritten[user] = found._replace(one_time_keys=found.one_time_keys[ONE_TIME_KEY_SIZE:])
            case _:
                pass

    def forget(self) -> None:
        """Be as the table is."""
        self.unwritten.clear()
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
                (user, keys.generation, keys.digest, keys.bundle, keys.one_time_keys)
                for user, keys in sorted(taken.items())
            ]
            if rows:
                database.change(statements.WRITE_KEYS, *map(list, zip(*rows, strict=True)))

        return write

    def written(self) -> None:
        """See `commit_log.TakenPart`."""
        drop_written(self.unwritten, self._taken)
        self._taken = {}
