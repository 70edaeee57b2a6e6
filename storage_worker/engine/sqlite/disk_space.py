"""How much space the disk has left, whether new mail is accepted, and how much space unfinished
uploads may take.

Owns: the minimum of free space, the share of uploads, and when to check.
Promises: the disk is checked at most once a second, after each quarter of the minimum that was
accepted, and whenever SQLite found it full; freed space is noticed without a restart.
Exposure: none. Time is passed in as Unix milliseconds.

Mail is accepted while the disk has the minimum free. Space of deleted mail stays inside the
database's file, where only the database can use it again; it counts too, as long as the disk keeps
a quarter of the minimum for the log.

Unfinished uploads together may take half of the space above the minimum. So they never bring the
disk down to it, and whoever leaves theirs unfinished keeps nobody from sending smaller messages.
"""

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger("storage_worker")

LOOK_EVERY_MS: Final = 1000
_UPLOADS_SHARE: Final = 2
"""Unfinished uploads may hold one part in so many."""


class DiskSpaceMonitor:
    """`disk_bytes`: what the disk has free; `unused_bytes`: what the database's file has;
    `take_reserve`: restore the database's ballast, returns whether that worked; `give_back`: free
    needless space of the log, called when space is short.
    """

    def __init__(
        self,
        min_free_bytes: int,
        disk_bytes: Callable[[], int],
        unused_bytes: Callable[[], int],
        take_reserve: Callable[[], bool],
        give_back: Callable[[], object],
    ) -> None:
        self._min_free_bytes = min_free_bytes
        self._disk_bytes = disk_bytes
        self._unused_bytes = unused_bytes
        self._take_reserve = take_reserve
        self._give_back = give_back
        self._looked_at = -LOOK_EVERY_MS
        self._accepted = 0
        self._is_short = False
        self._told = False
        self.for_uploads = 0
        """Bytes that unfinished uploads together may have on the disk, as of the last look."""

    def allows_mail(self, now_ms: int, uploaded: int = 0) -> bool:
        """Whether new mail is accepted; checks the disk if it is time to. Outside of transactions
        only.

        `uploaded`: bytes that unfinished uploads have on the disk.
        """
        # A clock that was set back must not stop the looking.
        if not 0 <= now_ms - self._looked_at < LOOK_EVERY_MS or self._accepted > self._min_free_bytes // 4:
            self._looked_at = now_ms
            self._accepted = 0
            self._is_short = not self._has_room(uploaded)
            if self._is_short:
                self._give_back()
                self._is_short = not self._has_room(uploaded)
            if self._is_short:
                self._tell()
        return not self._is_short

    def _has_room(self, uploaded: int) -> bool:
        disk = self._disk_bytes()
        self.for_uploads = (max(0, disk - self._min_free_bytes) + uploaded) // _UPLOADS_SHARE
        enough = disk >= self._min_free_bytes or (
            disk >= self._min_free_bytes // 4 and disk + self._unused_bytes() >= self._min_free_bytes
        )
        return enough and self._take_reserve()

    def found_full(self, now_ms: int) -> None:
        """SQLite had no room for a transaction: no mail until the next check."""
        self._looked_at = now_ms
        self._is_short = True
        self._give_back()
        self._tell()

    def accepted(self, content_bytes: int) -> None:
        """This many bytes of new mail were committed; if any were, there is room."""
        self._accepted += content_bytes
        if content_bytes and self._told:
            self._told = False
            log.info("there is room again: new mail is accepted")

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            log.warning("storage is full: new mail is refused, fetching and deleting continue")
