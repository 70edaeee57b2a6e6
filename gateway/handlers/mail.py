"""604 and 643: mail from the worker to a client, page by page.

Owns: one running 2104 or 2143. Promises: the length is fixed by the first outcome; if what follows
does not fit it, the connection is reset. A page is asked for when the previous one was written, so
a slow client costs one page. A 604's lease is handed to the session when its response is with the
kernel, and released if that never happens.
Exposure: the client chooses when it reads.
"""

import logging
from typing import Final

from common.client_protocol.requests import FetchRequest
from common.client_protocol.responses import (
    FETCHED_HEAD,
    WAITING_HEAD,
    ResponseCode,
    encode_head,
    encode_pulled,
    encode_pulled_entry_head,
)
from common.errors import FrameUndecodable
from common.rare_log import RareLog
from common.storage_protocol.operations import (
    Fetch,
    Fetched,
    Mail,
    Operation,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
)
from gateway.delivery.evidence import Lease
from gateway.event_loop import Timer
from gateway.handlers.base import HandlerContext
from gateway.storage.link import NOBODY

_rarely: Final = RareLog(logging.getLogger("gateway.handlers.mail"))

_LARGEST_ACK: Final = 2**63 - 1
"""What the store can count to; a larger ack is just as far above everything that was ever given."""

_DENSE: Final = 1024
"""Bytes of content of a message of a 604, on average, below which it is their number that takes
time: each is put into another form.
"""
_DENSE_WEIGHT: Final = 4
"""What a byte of their pages counts as in `Settings.pages_in_flight`."""


class _MailHandler:
    """What both have in common: a header, then pieces until the announced length is reached."""

    __slots__ = (
        "_asked", "_begun", "_connection", "_context", "_gone", "_is_dense", "_last", "_left", "_offset",
        "_page_came_at", "_pages", "_requester", "_sequence",
    )  # fmt: skip

    def __init__(self, connection: HandlerContext, requester: bytes) -> None:
        self._connection = connection
        self._context = connection.context
        self._pages = connection.context.pages.of(requester)
        self._requester = requester
        self._asked = 0
        self._begun = False
        self._is_dense = False
        self._gone = False
        self._page_came_at = 0.0
        self._last = 0
        self._left = 0
        self._sequence = 0
        self._offset = 0

    def _ask_for(self, operation: Pull | Fetch | PullPage) -> None:
        self._asked = operation.page_bytes * (_DENSE_WEIGHT if self._is_dense else 1)
        self._pages.ask(operation, self, self._asked)

    @property
    def _authenticated(self) -> bool:
        return self._connection.authenticated_as is not None

    def _begin(self, code: ResponseCode, payload_size: int, last: int, page: Mail) -> None:
        self._begun = True
        self._last = last
        self._left = payload_size
        connection = self._connection
        if connection.allowance is not None:
            connection.allowance.answer(connection.authenticated_as, payload_size, self._context.loop.now)
        connection.write(encode_head(code, payload_size))
        self._write_page(page)

    def _entries(self, entries: bytes) -> bytes:
        """Whole messages in the response's layout. Raises `FrameUndecodable`."""
        raise NotImplementedError

    def _entry_head(self, head: bytes) -> bytes:
        """The same for the head of one message."""
        raise NotImplementedError

    def _write_page(self, page: Mail) -> None:
        if not page:
            if self._left:
                self._connection.abort()
            return
        if page.entries:
            self._sequence, self._offset = page.last + 1, 0
            try:
                self._write(self._entries(page.entries))
            except FrameUndecodable as error:
                _rarely.write(logging.ERROR, "an invalid page of mail: %s", error)
                self._connection.abort()
                return
        part = page.part
        if part is not None:
            if part.offset == 0:
                self._write(self._entry_head(part.head))
            end = part.offset + len(part.content)
            self._sequence, self._offset = (part.sequence, end) if end < part.size else (part.sequence + 1, 0)
            self._write(part.content)
        if self._left < 0:
            self._connection.abort()

    def _write(self, data: bytes) -> None:
        self._left -= len(data)
        self._connection.write(data)

    def resume_output(self) -> None:
        """All output is with the kernel: finish, or ask for the next page."""
        if not self._begun or self._asked:
            return
        if self._left:
            settings = self._context.settings
            # A page that is with the kernel in the turn in which it came: the client reads as fast
            # as we write.
            at_once = self._context.loop.now == self._page_came_at
            page_bytes = settings.large_page if at_once and not self._is_dense else settings.page
            operation = PullPage(
                self._requester, self._authenticated, self._sequence, self._offset, self._last, page_bytes
            )
            self._ask_for(operation)
        else:
            self._written()
            self._connection.done()

    def _written(self) -> None:
        """The whole response is with the kernel."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The first outcome fixes the length; pages follow."""
        self._came()
        if self._gone:
            self._too_late(outcome)
            return
        self._page_came_at = self._context.loop.now
        match outcome:
            case Page(page):
                self._write_page(page)
            case Refused(reason, retry_after) if not self._begun:
                self._refused()
                self._connection.refuse(reason, retry_after)
                self._connection.done()
            case _:
                self._first_outcome(outcome)

    def _came(self) -> None:
        asked, self._asked = self._asked, 0
        self._pages.came(asked)

    def _first_outcome(self, outcome: Outcome) -> None:
        raise NotImplementedError

    def _refused(self) -> None:
        """The refusal is the only response."""

    def _too_late(self, outcome: Outcome) -> None:
        """The outcome came after the connection was gone."""

    def unknown(self, operation: Operation) -> None:
        """The response can't be begun or completed."""
        self._came()
        if not self._gone:
            self._connection.abort()

    def input_came(self) -> None:
        """Later requests wait."""

    def input_ended(self) -> None:
        """A client that has ended its side may still read."""

    def abandon(self) -> None:
        """The connection is gone."""
        self._gone = True
        self._pages.forget(self)


class PullHandler(_MailHandler):
    """604: a `RequestHandler` and a `Waiter` that leases the messages it sends."""

    __slots__ = ("_first", "_lease", "_leased", "_link")

    def __init__(self, connection: HandlerContext, requester: bytes) -> None:
        super().__init__(connection, requester)
        self._link = connection.context.link.of(requester)
        self._lease = connection.context.next_number()
        self._first = 0
        self._leased = False
        settings = connection.context.settings
        self._ask_for(
            Pull(
                self._lease, requester, self._authenticated, settings.largest_response, WAITING_HEAD.size, settings.page
            )
        )

    def _entries(self, entries: bytes) -> bytes:
        return b"".join(encode_pulled(entries))

    def _entry_head(self, head: bytes) -> bytes:
        return encode_pulled_entry_head(head)

    def _first_outcome(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Pulled) or self._begun:
            self._connection.abort()
            return
        self._first = outcome.first
        self._leased = outcome.count > 0
        self._is_dense = outcome.content_bytes < outcome.count * _DENSE
        payload_size = outcome.count * WAITING_HEAD.size + outcome.content_bytes
        self._begin(ResponseCode.WAITING, payload_size, outcome.last, outcome.page)

    def _record(self) -> Lease:
        return Lease(self._lease, self._requester, self._authenticated, self._first, self._last)

    def _written(self) -> None:
        if self._leased:
            self._leased = False
            self._connection.lease_written(self._record())

    def _too_late(self, outcome: Outcome) -> None:
        if isinstance(outcome, Pulled) and outcome.count:
            self._link.submit(self._record().release(), NOBODY)

    def abandon(self) -> None:
        """The mail was not sent in full: it is pending again."""
        super().abandon()
        if self._leased:
            self._leased = False
            self._link.submit(self._record().release(), NOBODY)


class FetchHandler(_MailHandler):
    """643: a `RequestHandler`, a `Waiter` and a `WaitingFetch`; acknowledges, then sends mail or
    waits for it.
    """

    __slots__ = ("_ask_timer", "_committed", "_end_timer", "_request", "_sleeping", "_wait", "_waiters")

    def __init__(self, connection: HandlerContext, request: FetchRequest) -> None:
        super().__init__(connection, request.requester)
        self._waiters = connection.context.waiters
        self._request = request
        self._wait = min(request.wait, connection.context.settings.longest_wait) > 0
        self._sleeping = False
        self._committed = 0
        self._ask_timer: Timer | None = None
        self._end_timer: Timer | None = None
        self._ask()

    @property
    def committed(self) -> int:
        """The store's highest sequence when the mailbox was last seen empty."""
        return self._committed

    def _ask(self) -> None:
        settings = self._context.settings
        self._ask_for(
            Fetch(
                self._requester,
                self._authenticated,
                min(self._request.ack, _LARGEST_ACK),
                min(self._request.max_bytes, settings.largest_response),
                FETCHED_HEAD.size,
                settings.page,
                self._wait,
            )
        )

    def _entries(self, entries: bytes) -> bytes:
        return entries

    def _entry_head(self, head: bytes) -> bytes:
        return head

    def _first_outcome(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Fetched) or self._begun:
            self._connection.abort()
        elif outcome.count or not self._wait:
            self._wake()
            payload_size = outcome.count * FETCHED_HEAD.size + outcome.content_bytes
            self._begin(ResponseCode.FETCHED, payload_size, outcome.last, outcome.page)
        else:
            self._committed = outcome.committed
            self._sleep()

    def _sleep(self) -> None:
        context = self._context
        now = context.loop.now
        if self._end_timer is None:
            wait = min(self._request.wait, context.settings.longest_wait)
            self._end_timer = context.call_at(now + wait, self.end_wait, self._connection)
            self._waiters.wait_for_mail(self._requester, self)
        self._sleeping = True
        self._ask_timer = context.call_at(now + context.settings.ask_again, self.look_again, self._connection)

    def _wake(self) -> None:
        self._sleeping = False
        for timer in (self._ask_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        if self._end_timer is not None:
            self._waiters.stop_waiting(self._requester, self)
        self._ask_timer = self._end_timer = None

    def _refused(self) -> None:
        self._wake()

    def look_again(self) -> None:
        """Ask again, because mail was announced, the worker changed, or nothing happened
        for long.
        """
        if self._sleeping:
            self._sleeping = False
            if self._ask_timer is not None:
                self._ask_timer.cancel()
            self._ask()

    def end_wait(self) -> None:
        """The time is up, or the client sent another request: answer with what there is."""
        if self._begun or not self._wait:
            return
        self._wait = False
        self.look_again()

    input_came = input_ended = end_wait

    def abort(self) -> None:
        """Close the connection."""
        self._connection.abort()

    def abandon(self) -> None:
        """The connection is gone."""
        super().abandon()
        self._wake()
