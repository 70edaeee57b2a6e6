"""Whether the storage worker is alive, and whether it accepts mail.

Owns: what `/live` and `/ready` say. Promises: `beat`, of the loop, notes numbers at most once a
second; the thread that answers only reads them.
Exposure: none of its own; see `common.status_server`.

Source: docs/operations.md, "Health".
"""

from collections.abc import Callable

from common.status_server import BEAT, Pages, health_page, loop_problem


class Health:
    """`takes_mail`: whether there is room for mail, asked of the loop between two turns. `clock`
    gives monotonic seconds.
    """

    def __init__(self, takes_mail: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._takes_mail = takes_mail
        self._clock = clock
        self._beat_at = clock() - BEAT
        self._turned_at = clock()
        self._has_room = True

    def beat(self) -> None:
        """Called in each turn of the loop. Raises `StoreFailed`."""
        now = self._turned_at = self._clock()
        if now - self._beat_at >= BEAT:
            self._beat_at = now
            self._has_room = self._takes_mail()

    def live_problem(self) -> str | None:
        """Why the loop is stuck, or None. Any thread may call it."""
        return loop_problem(self._clock(), self._turned_at)

    def ready_problem(self) -> str | None:
        """Why no mail is accepted, or None. Any thread may call it. Each turn does everything that
        waits, so a loop that turns has committed.
        """
        return self.live_problem() or (None if self._has_room else "there is no room for mail")

    def pages(self) -> Pages:
        """The pages, by path."""
        return {"/live": health_page(self.live_problem), "/ready": health_page(self.ready_problem)}
