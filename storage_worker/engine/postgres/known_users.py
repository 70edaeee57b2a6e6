"""The users whom a worker has looked up.

Owns: a bounded memory of them, and when the tables are to be looked at again. Promises: what turns
say of a user who is remembered is remembered too; who is not remembered is looked up anew.
Exposure: ids are what strangers chose.
"""

from collections.abc import Iterable
from typing import Final

from storage_worker.engine.records import KeysPublished, Record, SenderBlocked, UserSeen
from storage_worker.engine.values import KeyState, User

REMEMBERED: Final = 100_000
LOOK_EVERY_MS: Final = 1_000
"""How late a turn may be that sees what others have changed."""


class KnownUsers:
    """By client id and by row."""

    def __init__(self) -> None:
        self.known: dict[bytes, User] = {}
        self._by_row: dict[int, User] = {}
        self._looked_at: int | None = None

    def _remember(self, user: User) -> User:
        if len(self.known) >= REMEMBERED:
            self._forget_known()
        self.known[user.client_id] = self._by_row[user.row] = user
        return user

    def _unknown(self, client_ids: Iterable[bytes]) -> list[bytes]:
        return [client_id for client_id in client_ids if client_id not in self.known]

    def _forget_known(self) -> None:
        self.known.clear()
        self._by_row.clear()

    def _forget_row(self, row: int) -> None:
        user = self._by_row.pop(row, None)
        if user is not None:
            del self.known[user.client_id]

    def _note(self, record: Record) -> None:
        """A turn said something of a user."""
        match record:
            case UserSeen(user, day) if user in self._by_row:
                self._by_row[user].seen = day
            case SenderBlocked(user) if user in self._by_row:
                self._by_row[user].blocks = True
            case KeysPublished(user) if user in self._by_row:
                self._by_row[user].keys = KeyState.KEPT
            case _:
                pass

    def look_again(self) -> None:
        """Look into the tables with the next turn."""
        self._looked_at = None

    def _looks_now(self, now_ms: int) -> bool:
        """Whether it is time to look; if so, it is done now."""
        if self._looked_at is not None and 0 <= now_ms - self._looked_at < LOOK_EVERY_MS:
            return False
        self._looked_at = now_ms
        return True
