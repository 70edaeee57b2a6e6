"""What all sessions of the gateway share.

Owns: the sessions, the set of those with bytes to write in this turn, and the order of the steps at
a turn's end.
Promises: one write per connection and turn.
Exposure: none of its own.
"""

from collections.abc import Callable, Sequence

from common.client_protocol import server_connection
from gateway.connection.base import Connection
from gateway.connection.capacity import Capacity
from gateway.connection.containment import Breakable, contain, contained
from gateway.connection.memory_budget import MemoryBudget
from gateway.connection.openings import Openings
from gateway.connection.scheduler import Scheduler
from gateway.connection.slow_steps import SlowSteps
from gateway.connection.timeouts import Timeouts
from gateway.counts import Counts
from gateway.event_loop import EventLoop, Timer
from gateway.limits import SECRET_SIZE, Limits
from gateway.settings import Settings
from gateway.storage.link import StorageLink
from gateway.storage.mail_waiters import MailWaiters
from gateway.storage.page_budget import PageBudget, ShardPages
from gateway.storage.shard_links import ShardLinks


class SessionContext:
    """Made once. `make_link` gives the link to the storage worker, or those to several;
    `random_bytes`: nonces, and the
    secret for hashing addresses.
    """

    def __init__(
        self,
        loop: EventLoop,
        make_link: Callable[[MailWaiters], StorageLink | ShardLinks],
        settings: Settings,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.random_bytes = random_bytes
        self.counts = Counts()
        self.to_flush: list[Connection] = []
        self.sessions: set[Connection] = set()
        self.waiters = MailWaiters(self.sessions)
        self.link = link = make_link(self.waiters)
        self.worker = link.directory
        """The link to the one storage worker, or to the directory's."""
        self.limits = server_connection.Limits(settings.largest_content, settings.inline_content)
        self.rates = Limits(settings, random_bytes(SECRET_SIZE))
        self.certificates: Callable[[], Sequence[bytes]] = tuple
        """The digests of the server's certificates, the one in use first; see 649."""
        self.places = Capacity(loop, settings, self.sessions)
        self._wait_for_place: list[Callable[[], None]] = []
        self.pages = ShardPages(link, settings) if isinstance(link, ShardLinks) else PageBudget(link, settings)
        self.turns = Scheduler(loop, link, self.pages, settings)
        self.holdings = MemoryBudget(loop, link, settings)
        self.timeouts = Timeouts(loop, settings)
        # Before our own turn's end: what it opens may have something to say.
        self.openings = Openings(loop, self.holdings, settings)
        self.proofs = SlowSteps(loop, settings.proofs_a_turn)
        self._last_number = 0
        loop.at_turn_end(self.flush)

    def call_at(self, when: float, callback: Callable[[], None], connection: Breakable) -> Timer:
        """Call back once, at monotonic second `when`; a bug in the callback ends
        `connection` and nothing else.
        """
        return self.loop.call_at(when, contained(connection, callback))

    def when_a_place_is_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when a connection ends."""
        self._wait_for_place.append(callback)

    def place_free(self) -> None:
        """A connection has ended."""
        if self._wait_for_place:
            waiting, self._wait_for_place = self._wait_for_place, []
            for callback in waiting:
                callback()

    def next_number(self) -> int:
        """A new number for a lease or an upload, unique within this process."""
        self._last_number += 1
        return self._last_number

    def flush(self) -> None:
        """Write once for every session with pending output; then serve the sessions that wait for a
        turn.
        """
        self._flush_all()
        turns = self.turns
        if turns.waiting or turns.refused:
            turns.serve()
        self.holdings.keep_to_budget()
        self._resume_link()
        self._flush_all()
        if turns.waiting or turns.refused:
            turns.stay_awake()

    def _flush_all(self) -> None:
        """Repeat until no output is pending; includes what the link receives meanwhile."""
        while self.to_flush:
            sessions, self.to_flush = self.to_flush, []
            for session in sessions:
                try:
                    session.flush()
                except Exception as error:
                    contain(session, error)
            self._resume_link()

    def _resume_link(self) -> None:
        if self.link.collects:
            self.link.resume_output()
