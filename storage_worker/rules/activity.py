"""When a user was last seen: the day, and nothing closer.

Owns: the turn's day. Promises: the first thing that is done for a user on a day is noted, once; it
costs a comparison besides. A power cut may lose it.
Whoever is enabled again, or gets another key, counts as seen.
Exposure: whoever may act for a user. Of one who never signed in with 641 that is anybody.
"""

from typing import Final

from storage_worker.engine.interface import Engine
from storage_worker.engine.records import UserSeen
from storage_worker.engine.values import User

DAY_MS: Final = 24 * 3600 * 1000


class Activity:
    """`today`: of the turn, days since 1970, UTC; `begin` sets it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.today = 0

    def begin(self, now_ms: int) -> None:
        """A turn begins."""
        self.today = now_ms // DAY_MS

    def note(self, user: User) -> None:
        """Inside a turn: something is done for a user who was not `seen` today. Who calls compares
        first: that is less than a call, and nearly always the end of it.
        """
        self._engine.apply(UserSeen(user.row, self.today))
