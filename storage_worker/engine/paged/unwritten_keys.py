"""What users have published for others, as far as the tables do not have it.

Owns: published keys that are in the log of turns alone. Promises: a one-time key that was given out
is not there again, whenever the worker ends. What an operator's command removes beside the worker
stays removed, also where the log alone has what was published before.
Exposure: what is published is opaque; its size was checked.

A row is known by its digest. Whoever removes what it has gives it a new one, and a publication is
applied to the row with the digest that it follows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, NamedTuple

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed, Record
from storage_worker.engine.values import PublishedKeys

MOST_UNWRITTEN: Final = 1_000
"""Users whose keys have changed, after which the tables take them in: 11 kB each."""


class Unwritten(NamedTuple):
    """What the tables do not have of a user. `row`: the digest of the row that it was made of;
    empty for none.
    """

    keys: PublishedKeys
    row: bytes


class UnwrittenKeys(ABC):
    """By users' rows. `generation`: the store's."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.unwritten: dict[int, Unwritten] = {}
        self.is_due = False
        """Whether the tables should take them in soon."""

    @abstractmethod
    def _in_table(self, user: int) -> PublishedKeys | None:
        """What the tables have."""

    def find(self, user: int) -> PublishedKeys | None:
        """What this user has published; None for nothing, without a bundle where it was removed."""
        found = self.unwritten.get(user)
        return self._in_table(user) if found is None else found.keys

    def counts(self) -> dict[int, int]:
        """How many one-time keys are kept of those users of whom the tables do not know it."""
        return {user: one.keys.count(self.generation) for user, one in self.unwritten.items()}

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
        self.unwritten[user] = Unwritten(keys, row if before is None else before.row)
        self._count()

    def _count(self) -> None:
        # Asked after every turn, so it is no property.
        self.is_due = len(self.unwritten) >= MOST_UNWRITTEN

    def _drop_removed(self, digests: Mapping[int, bytes]) -> None:
        """The tables have rows with these digests now: what was made of another row is not written
        any more.
        """
        for user, one in list(self.unwritten.items()):
            if one.row != digests.get(user, b""):
                del self.unwritten[user]
        self._count()

    def forget(self) -> None:
        """Be as the tables are."""
        self.unwritten.clear()
        self.is_due = False
