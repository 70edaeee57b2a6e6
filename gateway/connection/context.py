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
from gateway.storage.link import StorageLink
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


class AwaitsGreeting(Protocol):
    """Something that needs to know the storage worker's facts."""

    def abort(self) -> None:
        """Close its connection."""

    def greeted(self) -> None:
        """They are known."""


class WaitingFetch(Protocol):
    """A 643 that waits for mail."""

    def abort(self) -> None:
        """Close its connection."""

    def look_again(self) -> None:
        """There may be mail now."""

    @property
    def committed(self) -> int:
        """The store's highest sequence when the mailbox was seen empty."""


class SessionContext:
    """Made once. `random_bytes` gives nonces."""

    def __init__(
        self, loop: EventLoop, link: StorageLink, settings: Settings, random_bytes: Callable[[int], bytes]
    ) -> None:
        self.loop = loop
        self.link = link
        self.settings = settings
        self.random_bytes = random_bytes
        self.to_flush: list[Connected] = []
        self.with_deadline: set[Connected] = set()
        self.sessions: set[Connected] = set()
        self.awaiting_greeting: dict[AwaitsGreeting, None] = {}
        self.limits = Limits(settings.largest_content, settings.inline_content)
        self.place_free: Callable[[], None] = lambda: None
        self.pages = PageBudget(link, settings)
        self.turns = Scheduler(loop, link, self.pages, settings)
        self.holdings = MemoryBudget(loop, link, settings)
        self._last_number = 0
        self._waiting_fetches: dict[bytes, set[WaitingFetch]] = {}
        link.arrived = self._mail_arrived
        link.worker_changed = self._worker_changed
        link.greeted = self._greeted
        link.store_changed = self._store_changed
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

    def wait_for_mail(self, client_id: bytes, fetch: WaitingFetch) -> None:
        """`fetch` hears of hints for this mailbox until `stop_waiting`."""
        self._waiting_fetches.setdefault(client_id, set()).add(fetch)

    def stop_waiting(self, client_id: bytes, fetch: WaitingFetch) -> None:
        """Take back `wait_for_mail`."""
        fetches = self._waiting_fetches.get(client_id)
        if fetches is not None:
            fetches.discard(fetch)
            if not fetches:
                del self._waiting_fetches[client_id]

    def _mail_arrived(self, sequence: int, recipients: list[bytes]) -> None:
        for recipient in recipients:
            for fetch in list(self._waiting_fetches.get(recipient, ())):
                if sequence > fetch.committed:
                    contained(fetch, fetch.look_again)()

    def _worker_changed(self) -> None:
        for fetches in list(self._waiting_fetches.values()):
            for fetch in list(fetches):
                contained(fetch, fetch.look_again)()

    def _store_changed(self) -> None:
        """Sequences mean other messages now: what connections were told before must not
        be settled or acknowledged.
        """
        for session in list(self.sessions):
            session.abort()

    def _greeted(self) -> None:
        for one in list(self.awaiting_greeting):
            contained(one, one.greeted)()

    def _sweep(self) -> None:
        now = self.loop.now
        for session in [session for session in self.with_deadline if session.deadline <= now]:
            contained(session, session.timed_out)()
        self.loop.call_at(now + _SWEEP, self._sweep)
