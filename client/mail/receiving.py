"""Receiving: fetch pending mail, return it, wait for more. Owns: the order: the outbox first, then
the server, then the user; and how long to wait. Promises: what was fetched is returned even if
fetching failed half-way; the failure is raised after it.
Exposure: as `client.mail.inbox`.

Source: docs/client-protocol.md, docs/journeys.md.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Protocol

from client.client_context import ClientContext
from client.connection.retry import Retry
from client.connection.server_link import Progress
from client.errors import ClientError
from client.mail.inbox import LONGEST_SERVER_WAIT, Inbox
from client.mail.outbox import Outbox
from client.messages import Received
from common.client_protocol.versions import Feature


class SuiteOfReceived(Protocol):
    """What follows for cipher suite 1 from mail that came, and was shown."""

    def meet_strangers(self) -> None:
        """Ask for the keys of senders who are not known by any."""

    def all_shown(self, *, send: bool, empty: bool) -> None:
        """Do what follows from messages that were opened, or could not be. `send`: the server can
        be asked now. `empty`: everything that waited was fetched.
        """


class Receiving:
    """The messages that arrive for a user."""

    def __init__(
        self,
        context: ClientContext,
        inbox: Inbox,
        outbox: Outbox,
        retry: Retry,
        look_up_names: Callable[[], None],
        now: Callable[[], int],
        monotonic: Callable[[], float],
        suite: SuiteOfReceived,
    ) -> None:
        self._suite = suite
        self._account, self._store, self._link, self._greeting = context
        self._inbox = inbox
        self._outbox = outbox
        self._retry = retry
        self._look_up_names = look_up_names
        self._now = now
        self._monotonic = monotonic
        self._is_receiver = False
        """Whether `receive` is under way here, and holds the lock of the receiver."""

    def receive(
        self,
        wait: float = 0.0,
        progress: Progress | None = None,
        most: int | None = None,
        *,
        send_waiting: bool = True,
        saving: Progress | None = None,
    ) -> Generator[Received, bool | None]:
        """Fetch pending mail, and yield everything that was not received yet, oldest first. With
        `most`, at most that many messages; the others stay for the next time. What waits in the
        outbox is sent first, if `send_waiting`. `progress` is called with the progress of fetching,
        `saving` with that of decrypting a file.

        If there is nothing, it waits up to `wait` seconds for mail, without polling; a server that
        speaks only the published protocol can't do that and is asked once. A message counts as
        received when the caller asks for the next one, or sends True, which ends the iteration.
        Otherwise, for example if the program died, it is given once more, as `repeated`. What was
        fetched is given even if fetching failed half-way; the failure is raised after it. Raises
        `HomeInUse`.
        """
        end = self._monotonic() + wait
        patience = given = 0
        look_up_names = _once(self._look_up_names)
        with self._store.receiver(), self._as_receiver():
            self._store.sweep(self._now())
            while True:
                failure: ClientError | None = None
                fetched = _Fetched(can_wait=False, more=False)
                try:
                    fetched = self._fetch(patience, progress, send_waiting=send_waiting)
                except ClientError as error:
                    failure = error
                self._suite.meet_strangers()
                left = None if most is None else most - given
                shown, unsaved, enough = yield from self._inbox.unread(look_up_names, left, saving)
                if not enough:
                    self._suite.all_shown(send=failure is None, empty=failure is None and not fetched.more)
                self._store.database.erase_replaced()
                if enough:
                    return
                given += shown
                if fetched.more:
                    # A file that can't be saved is tried again with the next mail, and reported at
                    # the end.
                    patience, send_waiting = 0, False
                    continue
                for problem in (failure, unsaved):
                    if problem is not None:
                        raise problem
                # The server waits only whole seconds.
                patience = min(round(end - self._monotonic()), LONGEST_SERVER_WAIT)
                if given or not fetched.can_wait or patience <= 0:
                    return

    def fetch(self) -> None:
        """Fetch pending mail into the store, to be returned later, also while `receive` is under
        way here. Raises what `receive` raises.
        """
        # `receive` sends what waits first, and that may need the mail: see `SuiteChoice.uses`.
        with contextlib.nullcontext() if self._is_receiver else self._store.receiver():
            while self._fetch(0, None, send_waiting=False).more:
                pass

    @contextlib.contextmanager
    def _as_receiver(self) -> Iterator[None]:
        self._is_receiver = True
        try:
            yield
        finally:
            self._is_receiver = False

    def _fetch(self, wait: int, progress: Progress | None, *, send_waiting: bool) -> "_Fetched":
        """Fetch pending mail into the store: all, or enough to be shown first."""
        me = self._account.identity().client_id
        self._link.connect()
        if send_waiting and self._greeting.offers(Feature.SEND_ONCE):
            # If another process is doing that, it is left to that one.
            self._outbox.flush(me, wait=False)
        return self._retry.do(lambda watch: self._fetch_once(wait, watch), progress)

    def _fetch_once(self, wait: int, progress: Progress) -> "_Fetched":
        self._link.connect()
        if self._greeting.offers(Feature.FETCH):
            return _Fetched(can_wait=True, more=self._inbox.fetch(wait, progress))
        return _Fetched(can_wait=False, more=self._inbox.pull(progress))


class _Fetched(NamedTuple):
    """Whether the server can wait for mail, and whether more of it may be there now."""

    can_wait: bool
    more: bool


def _once(do: Callable[[], None]) -> Callable[[], None]:
    """Call a function only the first time."""
    left = [do]
    return lambda: left.pop()() if left else None
