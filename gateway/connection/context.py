"""What all sessions of the gateway share.

Owns: the lists that the loop's turns work through: sessions with bytes to write, sessions with a
deadline; and the order of what a turn ends with.
Promises: one write per connection and turn; deadlines are looked at once per `_SWEEP` seconds,
however many there are.
Exposure: none of its own.
"""

from collections.abc import Callable
from typing import Final, Protocol

from common.client_protocol.server_connection import Limits
from gateway.connection.capacity import Occupant
from gateway.connection.containment import Breakable, contain, contained
from gateway.connection.memory_budget import MemoryBudget
from gateway.connection.scheduler import Scheduler
from gateway.event_loop import EventLoop, Timer
from gateway.settings import Settings
from gateway.storage.link import LinkListener, StorageLink
from gateway.storage.mail_waiters import MailWaiters
from gateway.storage.page_budget import PageBudget

_SWEEP: Final = 0.25


class Connected(Occupant, Protocol):
    """A session, as the shared lists see it."""

    deadline: float

    def flush(self) -> None:
        """Write what was answered in this turn."""

    def timed_out(self) -> None:
        """Its deadline has passed."""

    def stop(self) -> None:
        """Answer what was asked, read nothing more, then close."""


class SessionContext:
    """Made once. `make_link` gives the link to the storage worker; `random_bytes`, nonces."""

    def __init__(
        self,
        loop: EventLoop,
        make_link: Callable[[LinkListener], StorageLink],
        settings: Settings,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.random_bytes = random_bytes
        self.to_flush: list[Connected] = []
        self.with_deadline: set[Connected] = set()
        self.sessions: set[Connected] = set()
        self.waiters = MailWaiters(self.sessions)
        self.link = link = make_link(self.waiters)
        self.limits = Limits(settings.largest_content, settings.inline_content)
        self.place_free: Callable[[], None] = lambda: None
        self.pages = PageBudget(link, settings)
        self.turns = Scheduler(loop, link, self.pages, settings)
        self.holdings = MemoryBudget(loop, link, settings)
        self._last_number = 0
        loop.at_turn_end(self.flush)
        loop.call_at(loop.now + _SWEEP, self._sweep)

    def call_at(self, when: float, callback: Callable[[], None], connection: Breakable) -> Timer:
        """Call back once, at monotonic second `when`; a bug in the callback ends
        `connection` and nothing else.
        """
        return self.loop.call_at(when, contained(connection, callback))

    def next_number(self) -> int:
        """A number for a lease or an upload, never given twice by this process."""
        self._last_number += 1
        return self._last_number

    def flush(self) -> None:
        """One write for every session that has something to say; then those have their
        turn that wait for it.
        """
        self._flush_all()
        self.turns.serve()
        self.holdings.keep_to_budget()
        self._pump()
        self._flush_all()
        self.turns.stay_awake()

    def _flush_all(self) -> None:
        """Until nobody has anything to say: what the link hears meanwhile is said too."""
        while self.to_flush:
            sessions, self.to_flush = self.to_flush, []
            for session in sessions:
                try:
                    session.flush()
                except Exception as error:
                    contain(session, error)
            self._pump()

    def _pump(self) -> None:
        if self.link.collects:
            self.link.resume_output()

    def _sweep(self) -> None:
        now = self.loop.now
        for session in [session for session in self.with_deadline if session.deadline <= now]:
            contained(session, session.timed_out)()
        self.loop.call_at(now + _SWEEP, self._sweep)
