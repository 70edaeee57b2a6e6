"""Rules of expiry: mail that nobody fetched for so many days is deleted.

Owns: how far an expiry is. Promises: nothing younger goes, by the days in UTC; what a lease covers
stays until the next one. A step takes a bounded part of the loop's time. Tokens stay, so a sender
who sends an expired message again gets the first sequence and stores nothing.
Exposure: the clock of the machine. A day counts once it has lasted an hour at the worker, so that a
clock that is wrong at a start and corrected soon deletes nothing.
"""

import logging
from typing import Final

from storage_worker.engine.interface import Engine
from storage_worker.engine.values import ExpiryState, MailPlace
from storage_worker.state.leases import Leases

log = logging.getLogger("storage_worker")

DAY_MS: Final = 24 * 3600 * 1000
SETTLED_MS: Final = 3600 * 1000
"""So long a day has to last before mail is deleted for it."""
PAGES_AT_ONCE: Final = 128
_BEGINNING: Final = MailPlace(0, 0)


class Expiry:
    """`days`: after which mail is deleted by itself; 0: never."""

    def __init__(self, engine: Engine, leases: Leases, days: int) -> None:
        self._engine = engine
        self._mailboxes = engine.mailboxes
        self._leases = leases
        self.days = days
        self._today = -1
        self._since_ms = 0
        self._done_for = -1
        self._place: MailPlace | None = None
        self._sequence = 0
        self._next: MailPlace | None = None
        self._taken = (0, 0)
        self.state = ExpiryState()
        """The expiry that goes on, or the last one of this worker's life."""

    def begin(self, days: int, now_ms: int) -> None:
        """Delete what was accepted more than `days` days ago, in steps."""
        with self._engine.reading():
            self._sequence = self._mailboxes.accepted_before(now_ms // DAY_MS - days)
        self._place = _BEGINNING
        self.state = ExpiryState(running=True)

    @property
    def goes_on(self) -> bool:
        """Whether `step` has something to do."""
        return self._place is not None

    def look(self, now_ms: int) -> None:
        """Between two turns: begin what is due by itself."""
        if not self.days or self.goes_on:
            return
        today = now_ms // DAY_MS
        if today != self._today or now_ms < self._since_ms:
            self._today, self._since_ms = today, now_ms
        if self._done_for != today and now_ms - self._since_ms >= SETTLED_MS:
            self._done_for = today
            self.begin(self.days, now_ms)

    def step(self) -> None:
        """Inside a turn: delete some. Raises `TablesDamaged`."""
        assert self._place is not None, "it goes on"
        found = self._mailboxes.old_mail(self._place, self._sequence, PAGES_AT_ONCE)
        messages = size = 0
        for removed in found.removed:
            if self._leases.of_mailbox(removed.recipient):
                continue
            before = self._mailboxes.pending(removed.recipient)
            self._engine.apply(removed)
            after = self._mailboxes.pending(removed.recipient)
            messages += before.messages - after.messages
            size += before.content_bytes - after.content_bytes
        self._next = found.behind
        self._taken = (messages, size)

    def committed(self) -> None:
        """The step is on disk."""
        messages, size = self._taken
        self._place = self._next
        self.state = ExpiryState(
            self._place is not None, self.state.messages + messages, self.state.content_bytes + size
        )
        if self._place is None and self.state.messages:
            log.info("expired: %d messages, %d bytes of content", self.state.messages, self.state.content_bytes)

    def give_up(self, problem: object) -> None:
        """The step was undone: what is left is for the next expiry."""
        log.error("mail can't expire now: %s", problem)
        self._place = None
        self.state = self.state._replace(running=False)
