"""The link to the server: one connection, plain or over TLS, requests out, responses in.

Owns: connecting, keeping the connection if the server keeps it, time-outs, and which requests may
be repeated. Promises: a server whose pins are known is used over TLS, and nothing is sent to one
whose certificate matches none of them. Header and payload leave in one write, up to 256 KiB of
them; a response may arrive in any pieces; an answer that comes while large content is still being
sent ends the sending. A server that sends or accepts only a trickle is given up like a silent one
(`client.connection.pace`); data that is still leaving this machine does not count as silence. No
failure, nor an interrupt, leaves a half-used connection behind. A request is repeated, once and on
a fresh connection, only if the kept one turned out to be closed before a byte of the answer came,
and only if the request can't take effect twice.
Exposure: talks to a server that need not be honest, over a connection that anybody may cut or
alter.

    ServerUnreachable       nothing was done: no connection, or it broke before the request was out
    OutcomeUnknown            the request was out, and no whole answer came: whether it was done is unknown
    InvalidServerResponse  the answer can't be parsed

Source: docs/client-protocol.md.
"""

import contextlib
import fcntl
import queue
import select
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from client.connection.pace import LEAST, WITHIN, Pace
from client.connection.patience import Patience
from client.connection.server_pins import Pins, PinsOfAddress, wrong_certificate
from client.connection.transport import NO_BINDING, PlainTransport, Transport
from client.errors import InvalidServerResponse, OutcomeUnknown, ServerUnreachable
from common.client_protocol.client_connection import ClientConnection, Event, ListBegins, ListEnd, UnparsedPart
from common.client_protocol.requests import (
    AboutRequest,
    BlockRequest,
    DeleteAccountRequest,
    FetchRequest,
    HelloRequest,
    LargeSendRequest,
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    Request,
    SendRequest,
    encode,
)
from common.client_protocol.responses import ErrorResponse, Whole
from common.client_protocol.versions import CLIENT_VERSION
from common.errors import ResponseMalformed
from common.server_address import Pin, ServerAddress, pin

CONNECT_TIMEOUT: Final = 5.0
HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds that a whole TLS handshake may take."""
REPLY_TIMEOUT: Final = 60.0
TOLD_AFTER: Final = 5.0
"""Seconds of silence after which the user is told what is being waited for."""
CLOSING_GRACE: Final = 0.1
"""Seconds. Some servers close after each reply. Until this one has shown that it does not, a
request that must not be repeated first waits this long for the close, rather than being sent into a
connection that is about to end.
"""
_ONE_WRITE: Final = 256 * 1024
"""Bytes. As much of a request as fits is sent in one write: some servers take the result of one
read for the whole request.
"""
_MOMENT: Final = 0.1
"""Seconds until an interrupt by another thread is noticed."""
_LOOK: Final = 1.0
"""Seconds between two checks of how many written bytes the server's TCP has acknowledged."""
_INT: Final = struct.Struct("i")
_SALVAGE_SILENCE: Final = 5.0
"""Seconds of silence after which no more is expected of an answer that can't be parsed."""

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As `getaddrinfo` gives it; the last is what `connect` takes."""
Progress = Callable[[int, int], None]
"""Called with how many bytes have passed, and how many there are."""


class _Broken(Exception):
    """The connection ended or fell silent."""

    def __init__(self, problem: str, *, closed: bool, orderly: bool = False) -> None:
        super().__init__(problem)
        self.closed = closed
        self.orderly = orderly


class ServerLink:
    """The connection to one server. Used from one thread, except for `interrupt`."""

    def __init__(
        self,
        address: ServerAddress,
        connect_timeout: float = CONNECT_TIMEOUT,
        reply_timeout: float = REPLY_TIMEOUT,
        greet: "Callable[[ServerLink], bool] | None" = None,
        tell: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        pins: Pins | None = None,
    ) -> None:
        """`pins`: says which certificates are the server's; without it, those of the
        address are.
        """
        self.address = address
        self.version = CLIENT_VERSION
        """The version byte of requests."""
        self._greet = greet
        self._tell = tell
        self._connect_timeout = connect_timeout
        self.reply_timeout = reply_timeout
        self._pins: Pins = pins or PinsOfAddress()
        self._transport: Transport | None = None
        self._protocol = ClientConnection()
        self._events: deque[Event] = deque()
        self._replies = 0
        self._server_keeps = False
        self._sent_all = False
        self._awaited = False
        """Whether the answer to a request is still incomplete."""
        self.fell_silent = False
        self.was_cut = False
        """Whether a TLS connection ended without close_notify, which only its server can send."""
        self._interrupted = threading.Event()
        self._monotonic = monotonic
        self._pace = Pace()
        self._taken = 0
        """Written bytes that the server's TCP had acknowledged at the last check."""

    @property
    def binding(self) -> bytes:
        """The channel binding for a proof on the current connection; see `Transport`."""
        return NO_BINDING if self._transport is None else self._transport.binding

    @property
    def protected(self) -> bool:
        """Whether the current connection is over TLS."""
        return self._transport is not None and self._transport.protected

    def interrupt(self) -> None:
        """Stop the running call, and all later ones until `resume`. The only method that another
        thread may call.

        The request fails as if the connection had broken, and no other one is opened.
        """
        self._interrupted.set()
        transport = self._transport
        if transport is not None:
            with contextlib.suppress(OSError):
                transport.interrupt()

    def resume(self) -> None:
        """Allow calls again after `interrupt`, once the interrupted one has ended, on a new
        connection.
        """
        self.close()
        self._interrupted.clear()

    def rest(self, seconds: float) -> None:
        """Pause. Raises `ServerUnreachable` as soon as it is interrupted."""
        if self._interrupted.wait(seconds):
            raise _connection_lost()

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._transport is not None:
            self._transport.close(orderly=not self._awaited)
            self._transport = None

    def connect(self) -> None:
        """Open a connection if there is none, and greet. Raises `ServerUnreachable`, and what the
        greeting raises.
        """
        if not self.is_open():
            try:
                self._connect()
            except BaseException:
                self.close()
                raise

    def is_open(self) -> bool:
        """Whether there is a connection and the server keeps it."""
        return self._reuse(patient=True)

    def exchange(self, request: Request, timeout: float) -> Whole | None:
        """Send a request on the present connection and return its answer; None for silence or the
        connection's end.

        After a silence the connection is closed too; `fell_silent` says which of the two it was.
        For the greeting, which has to be sent on this connection and no other. Raises
        `InvalidServerResponse`.
        """
        if self._transport is None:
            return None
        self.fell_silent = self.was_cut = False
        try:
            self._send(encode(request, self.version), ())
            event = self._next_event(timeout)
        except _Broken as broken:
            self.fell_silent = not broken.closed
            self.was_cut = self.protected and not broken.orderly
            self.close()
            return None
        except InvalidServerResponse:
            self.close()
            raise
        if not isinstance(event, Whole):
            self.close()
            raise _nonsense("a list instead of a greeting")
        self._end_of_reply()
        return event

    def ask(self, request: Request, body: Iterable[bytes] = ()) -> Whole:
        """Send a request, and `body` behind a `LargeSendRequest`; return its answer.

        One of `_WAITING` that is refused as too fast is asked again when the server says. Raises
        `ServerUnreachable`, `OutcomeUnknown`, `InvalidServerResponse`.
        """
        patience = Patience(self.rest, self._tell)
        while True:
            event = self._first_event(request, body)
            if isinstance(event, ListBegins) or not isinstance(event, Whole):
                self.close()
                raise _nonsense(f"a list (code {event.code})" if isinstance(event, ListBegins) else "part of a list")
            self._end_of_reply()
            if not (isinstance(request, _WAITING) and isinstance(event, ErrorResponse) and patience.suffices(event)):
                return event
            patience.wait(event)

    def ask_list(
        self, request: Request | Callable[[], Request], silence: float = 0.0, *, salvage: bool = False
    ) -> Iterator[Event]:
        """Send a request whose answer is a list; return an `ErrorResponse` alone, or the list from
        begin to end.

        A callable is called to make the request again on each connection, once that is greeted,
        because what holds for one store of the server need not hold for the one that answers now.
        `silence` in seconds is what the server was allowed to wait before it answers. A list that
        is not read to its end costs the connection. If the list can't be parsed and `salvage`, the
        rest of it comes in `UnparsedPart`s before that is raised. What is refused as too fast is
        asked again when the server says. Raises what `ask` raises.
        """
        patience = Patience(self.rest, self._tell)
        while isinstance(event := self._first_event(request, (), silence), ErrorResponse):
            self._end_of_reply()
            if not patience.suffices(event):
                yield event
                return
            patience.wait(event)
        if not isinstance(event, ListBegins):
            self.close()
            raise _nonsense("an answer to another request")
        whole = False
        try:
            yield event
            while not isinstance(event, ListEnd):
                event = self._next_event(self.reply_timeout)
                whole = isinstance(event, ListEnd)
                if whole:
                    self._end_of_reply()
                yield event
        except InvalidServerResponse:
            if salvage:
                yield from self._unparsed()
            raise
        except _Broken as broken:
            raise OutcomeUnknown(
                f"The answer of the server at {self.address.place} broke off: {broken}.", "Try again."
            ) from broken
        finally:
            if not whole:
                self.close()

    def _unparsed(self) -> Iterator[UnparsedPart]:
        """The rest of a list that can't be parsed."""
        while True:
            data = self._protocol.take_unparsed()
            if data:
                yield UnparsedPart(data)
            try:
                if not self._protocol.list_left or not self._wait(select.POLLIN, _SALVAGE_SILENCE):
                    return
                assert self._transport is not None
                received = self._transport.receive()
            except (OSError, _Broken):
                return
            if received.ended:
                return
            self._pace.passed(received.passed)
            self._protocol.receive_data(received.data)

    # --- one exchange
    # -----------------------------------------------------------------------------------------

    def _first_event(
        self, asked: Request | Callable[[], Request], body: Iterable[bytes], silence: float = 0.0
    ) -> Event:
        """Send the request, if that is safe a second time on a fresh connection, and return the
        answer's beginning.
        """
        request = asked() if callable(asked) else asked
        repeatable = _is_repeatable(request)
        reused = self._reuse(patient=not repeatable)
        while True:
            try:
                if not reused:
                    self._connect()
                    request = asked() if callable(asked) else asked
                self._send(encode(request, self.version), body)
                return self._next_event(self.reply_timeout + silence, silence)
            except _Broken as broken:
                self.close()
                began = not self._protocol.idle
                untouched = not self._sent_all and not isinstance(request, LargeSendRequest)
                if reused and broken.closed and not began and (repeatable or untouched):
                    reused = False
                    continue
                if not self._sent_all:
                    raise ServerUnreachable(
                        f"The connection to the server at {self.address.place} broke before the request was out: "
                        f"{broken}.",
                        "Nothing was done; try again.",
                    ) from broken
                raise OutcomeUnknown(
                    f"The server at {self.address.place} gave no whole answer: {broken}.",
                    "Check that it is a MessageU server and that it runs, then try again.",
                ) from broken
            except BaseException:
                self.close()
                raise

    def _reuse(self, *, patient: bool) -> bool:
        """Whether the connection of the last request can carry another one."""
        if self._transport is None:
            return False
        grace = CLOSING_GRACE if patient and not self._server_keeps and self._replies else 0.0
        while self.poll(select.POLLIN, grace):
            # Closed, or bytes that no request asked for: either way it is of no more use. Records
            # of TLS itself are the exception.
            try:
                received = self._transport.receive() if self._transport.protected else None
            except OSError:
                received = None
            if received is None or received.data or received.ended:
                self.close()
                return False
            grace = 0.0
        return True

    def _connect(self) -> None:
        self._open()
        if self._greet is None:
            return
        if not self._greet(self):
            self.close()
            self._open()
        elif self._transport is None:
            raise _nonsense("unexpected bytes after its greeting")

    def _open(self) -> None:
        if self._interrupted.is_set():
            raise _connection_lost()
        # Before a connection is opened: perhaps none is allowed.
        pins = self._pins.accepted(self.address)
        try:
            connection = self._connected()
        except (OSError, UnicodeError) as error:
            problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ServerUnreachable(
                f"There is no server at {self.address.place} ({problem}).",
                "Check that the server runs and that server.info has its address.",
            ) from error
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._protocol = ClientConnection()
        self._awaited = False
        self._taken = 0
        self._events.clear()
        self._replies = 0
        if pins:
            self._secure(connection, pins)
        else:
            self._transport = PlainTransport(connection)
        if self._interrupted.is_set():
            self.interrupt()

    def _secure(self, connection: socket.socket, pins: Sequence[Pin]) -> None:
        """Set up TLS on the connection; the server must have one of these certificates.

        Raises `ServerUnreachable`, `WrongCertificate`: then nothing of ours was sent.
        """
        from client.connection.tls import NotTls, TlsTransport  # noqa: PLC0415 - `ssl`, where there is a pin alone

        self._transport = transport = TlsTransport(connection)
        if self._interrupted.is_set():
            self.interrupt()
        end = self._monotonic() + HANDSHAKE_TIMEOUT
        try:
            while wanted := transport.shake_hands():
                left = end - self._monotonic()
                if left <= 0 or not self.poll(wanted, left):
                    raise NotTls(f"no handshake within {HANDSHAKE_TIMEOUT:g} s")
        except OSError as error:
            if self._interrupted.is_set():
                raise _connection_lost() from error
            raise ServerUnreachable(
                f"The server at {self.address.place} does not speak TLS as its link says "
                f"({error.strerror or error}); nothing of yours was sent to it.",
                "Check the port: a server has one for TLS, and another one without it.",
            ) from error
        presented = pin(transport.binding)
        if presented not in pins:
            raise wrong_certificate(self.address, pins, presented)
        # Stored before a byte is sent: what is known of the server does not depend on what follows.
        self._pins.met(self.address, presented)
        try:
            transport.admit()
        except OSError as error:
            raise ServerUnreachable(
                f"The connection to the server at {self.address.place} broke ({error.strerror or error}).",
                "Nothing was done; try again.",
            ) from error

    def _connected(self) -> socket.socket:
        """Connect to the first place of the server that accepts, and there to the first address of
        its name. Raises `OSError`, `UnicodeError`.
        """
        failure: OSError | UnicodeError = OSError("its name has no address")
        for host, port in self.address.places:
            if self._interrupted.is_set():
                raise _connection_lost()
            try:
                addresses = self._addresses(host, port)
            except (OSError, UnicodeError) as error:
                failure = error
                continue
            connection = self._first_of(addresses)
            if isinstance(connection, socket.socket):
                return connection
            failure = connection or failure
        raise failure

    def _first_of(self, addresses: Sequence[_Address]) -> socket.socket | OSError | None:
        """A connection, or why the last address took none; None where there is no address."""
        failure: OSError | None = None
        for family, kind, protocol, _, where in addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._connect_timeout)
                connection.connect(where)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        return failure

    def _addresses(self, host: str, port: int) -> Sequence[_Address]:
        """Look a name up. Raises `OSError`, `UnicodeError`.

        The system's look-up can't be interrupted and may take minutes, so it runs in a thread of
        its own, which is abandoned if the caller gives up.
        """
        with contextlib.suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found: queue.SimpleQueue[Sequence[_Address] | OSError | UnicodeError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.put(error)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        while not self._interrupted.is_set():
            with contextlib.suppress(queue.Empty):
                answer = found.get(timeout=_MOMENT)
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise _connection_lost()

    def _end_of_reply(self) -> None:
        self._awaited = False
        self._replies += 1
        if self._replies > 1:
            self._server_keeps = True
        # An answer to half a request, or bytes after an answer (one dialect pads with zeros): the
        # two sides would read what follows differently.
        if self._events or not self._protocol.idle or not self._sent_all:
            self.close()

    def _send(self, head: bytes, body: Iterable[bytes]) -> None:
        """Write the request. Ends early when an answer comes meanwhile: a refusal need
        not wait for the content.
        """
        self._sent_all = False
        self._awaited = True
        self._pace.begin()
        parts = iter(body)
        first = bytearray(head)
        part: bytes | None = b""
        while part is not None and len(first) < _ONE_WRITE:
            part = next(parts, None)
            first += part or b""
        view = memoryview(first)
        while True:
            view = view[self._write(view) :]
            if self._events:
                return
            assert self._transport is not None
            if not view and not self._transport.unsent:
                part = next(parts, None)
                if part is None:
                    self._sent_all = True
                    return
                view = memoryview(part)
            ready = self._wait(select.POLLIN | select.POLLOUT, self.reply_timeout)
            if not ready:
                raise _Broken(f"it took nothing for {self.reply_timeout:g} s", closed=False)
            if ready & ~select.POLLOUT:
                self._read()

    def _write(self, view: memoryview) -> int:
        assert self._transport is not None
        try:
            return self._transport.send(view)
        except OSError as error:
            # The server may have answered before it closed; the answer is still to be read.
            while not self._events and self.poll(select.POLLIN, CLOSING_GRACE):
                self._read()
            if not self._events:
                raise _Broken(error.strerror or str(error), closed=True) from error
            return 0

    def _next_event(self, timeout: float, silence: float = 0.0) -> Event:
        """Wait for the next event; `silence` is the part of the time-out that the server was
        granted.
        """
        while not self._events:
            event = self._parse()
            if event is not None:
                return event
            if not self._comes(timeout, silence):
                raise _Broken(f"silence for {timeout:g} s", closed=False)
            self._read()
        return self._events.popleft()

    def _comes(self, timeout: float, silence: float) -> bool:
        """Whether there is something to read within a time; if the wait is long, the user
        is told.
        """
        quiet = silence + TOLD_AFTER
        if quiet >= timeout:
            return bool(self._wait(select.POLLIN, timeout))
        if self._wait(select.POLLIN, quiet):
            return True
        left = timeout - quiet
        self._tell(f"The server at {self.address.place} does not answer; waiting for up to {left:g} s more.")
        return bool(self._wait(select.POLLIN, left))

    def _wait(self, wanted: int, timeout: float) -> int:
        """Wait until the connection is ready; 0 if nothing passed in either direction for this many
        seconds.

        Raises `_Broken` if too little passed. That is judged once a request is on its way, or an
        answer has begun: a server may take its time before it answers.
        """
        quiet = 0.0
        while True:
            self._look_at_the_queue()
            judged = self._queued > 0 or self._began
            if judged and not self._pace.left:
                raise _Broken(f"fewer than {LEAST:,} bytes passed in {WITHIN:g} s", closed=False)
            length = timeout - quiet
            if judged:
                length = min(length, self._pace.left)
            if self._queued:
                length = min(length, _LOOK)
            began = self._monotonic()
            ready = self.poll(wanted, length)
            spent = self._monotonic() - began
            if not ready:
                # Whatever a clock says.
                spent = max(spent, length)
            if judged:
                self._pace.waited(spent)
            if ready:
                return ready
            quiet = 0.0 if self._look_at_the_queue() else quiet + spent
            if quiet >= timeout:
                return 0

    @property
    def _queued(self) -> int:
        """Bytes that were written and that the server's TCP had not acknowledged at the
        last look.
        """
        assert self._transport is not None
        return self._transport.written - self._taken

    @property
    def _began(self) -> bool:
        """Whether part of an answer has arrived, even if only part of a record."""
        assert self._transport is not None
        return self._transport.midway or not self._protocol.idle

    def _look_at_the_queue(self) -> int:
        """Count what the server's TCP has acknowledged since the last look."""
        assert self._transport is not None
        try:
            queued = unacknowledged(self._transport.fileno())
        except OSError:
            # The connection is gone; the next read reports how.
            return 0
        count = max(0, self._transport.written - queued - self._taken)
        self._taken += count
        self._pace.passed(count)
        return count

    def _read(self) -> None:
        """Read what has arrived, and keep its first event."""
        assert self._transport is not None
        began = self._began
        try:
            received = self._transport.receive()
        except OSError as error:
            raise _Broken(error.strerror or str(error), closed=True) from error
        if received.ended:
            raise _Broken("it closed the connection", closed=True, orderly=True)
        if not began:
            # The first bytes of an answer.
            self._pace.begin()
        self._pace.passed(received.passed)
        self._protocol.receive_data(received.data)
        event = self._parse()
        if event is not None:
            self._events.append(event)

    def _parse(self) -> Event | None:
        try:
            return self._protocol.next_event()
        except ResponseMalformed as error:
            raise _nonsense(str(error)) from error

    def poll(self, wanted: int, timeout: float) -> int:
        """Which of the `wanted` events occur within `timeout` seconds. All waiting is done here."""
        assert self._transport is not None
        if wanted & select.POLLIN and self._transport.ready:
            return select.POLLIN
        poll = select.poll()
        poll.register(self._transport.fileno(), wanted)
        ready = poll.poll(timeout * 1000)
        return ready[0][1] if ready else 0


def unacknowledged(descriptor: int) -> int:
    """How many bytes written to a connection are not acknowledged by the other side."""
    return int(_INT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_INT.size)))[0])


_WAITING: Final = (PublicKeyRequest, AboutRequest, BlockRequest, DeleteAccountRequest)
"""Requests that wait if the server asks for it, beside those for lists. Sends have their own
patience, and registrations are the user's to repeat.
"""


def _is_repeatable(request: Request) -> bool:
    """Whether repeating the request has the same effect as doing it once."""
    if isinstance(request, SendRequest | LargeSendRequest):
        # A body is the caller's iterator, which may be exhausted; the caller repeats it.
        return isinstance(request, SendRequest) and request.token is not None
    return isinstance(request, ListUsersRequest | PublicKeyRequest | PullRequest | HelloRequest | FetchRequest)


def _connection_lost() -> ServerUnreachable:
    return ServerUnreachable("It was broken off.", "Nothing was done; try again.")


def _nonsense(what: str) -> InvalidServerResponse:
    return InvalidServerResponse(
        f"The server's answer can't be understood: {what}.", "Check that server.info leads to a MessageU server."
    )
