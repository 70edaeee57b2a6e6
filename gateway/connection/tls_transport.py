"""TLS 1.3 over TCP: a transport that puts a session's bytes into records.

Owns: the handshake of one connection, the records in both directions, and close_notify.
Promises: what `gateway.connection.transport` requires of record-based transports. Bytes pass
through memory BIOs, and record boundaries are followed here, so that a partial record counts as
waiting input; OpenSSL does not report it. A complete record is never held back, so the socket's
readiness is the transport's. Between two reads at most one record's part is held, and behind a full
send buffer at most `_BATCH` bytes in records.
Exposure: anybody who reaches the address, before any proof; OpenSSL parses what came. Too many
records without payload (key updates, empty ones) end the connection; so do too many key updates
that request one of ours, whatever comes between them.

The peer's close_notify is the end of its side. The end of TCP without it counts as a broken
connection: a middleman may have cut it, or the program may have died.

Source: RFC 8446; docs/guarantees.md, "Over TLS"; docs/client-protocol.md, "TLS".
"""

import errno
import logging
import socket
import ssl
from contextlib import suppress
from typing import Final, NamedTuple

from common.rare_log import RareLog
from common.server_log import fields
from gateway.connection.containment import contain
from gateway.connection.openings import Openings
from gateway.connection.transport import UNREGISTERED, TcpTransport, TransportOwner
from gateway.event_loop import READABLE, WRITABLE, EventLoop

log = logging.getLogger("gateway.connection.tls_transport")
_rarely: Final = RareLog(log)

_HEADER: Final = 5
_LARGEST_RECORD: Final = _HEADER + 16384 + 256
"""RFC 8446, 5.2."""
_FEED: Final = 4096
"""What goes into OpenSSL at a time. A memory BIO never gives back the room that it took once, so
this bounds what an idle connection keeps."""
_SEALED_AT_ONCE: Final = 4096
"""Payload bytes of a record that is sent, for the same reason."""
_BATCH: Final = 16384
"""Payload bytes that one call of the system takes in records."""
_BARREN_RECORDS: Final = 32
"""How many more records may have carried nothing than something."""
_UNASKED: Final = 2048
"""Bytes in records that OpenSSL has made by itself, of 27 or so each, and that wait to be sent."""
_HANDSHAKE_READ: Final = 4096
_LONGEST_HANDSHAKE: Final = 65536
_HANDSHAKE_TYPE: Final = 22


class ServerTls(NamedTuple):
    """What a listener presents to clients. `binding`: the SHA-256 of the certificate's DER."""

    context: ssl.SSLContext
    binding: bytes


class TlsTransport(TcpTransport):
    """One connection. A session is attached at once, and gets no events before the handshake is
    done. `network`: what the handshake counts for; see `Openings`.
    """

    __slots__ = (
        "_barren",
        "_begun",
        "_early",
        "_head",
        "_incoming",
        "_last_word",
        "_opening",
        "_outgoing",
        "_peer_ended",
        "_promised",
        "_reads",
        "_resets_only",
        "_said_end",
        "_sealed",
        "_size",
        "_tls",
        "_was_refused",
        "_writes",
        "binding",
        "held",
        "network",
    )  # fmt: skip

    authenticated_as: Final = None
    _send_raw = socket.socket.send

    def __init__(self, sock: socket.socket, loop: EventLoop, tls: ServerTls, openings: Openings, network: str) -> None:
        super().__init__(sock, loop)
        self.binding = tls.binding
        self.network = network
        self.held = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._opening: Openings | None = openings
        self._early = b""
        self._head = b""
        self._begun = 0
        """Bytes of the unfinished record that came; in the handshake, all that came."""
        self._size = 0
        """Bytes of that record in all; 0 where its header has not come whole."""
        self._barren = 0
        self._sealed = b""
        self._promised = 0
        self._last_word = b""
        self._reads = True
        self._writes = self._resets_only = self._said_end = self._peer_ended = self._was_refused = False

    # --- what the loop and the openings call

    def attach(self, owner: TransportOwner) -> None:
        """Report to `owner` once the handshake is done."""
        super().attach(owner)
        if self._opening is not None:
            self._opening.begin(self)

    def ready(self, events: int) -> None:
        """The socket has news."""
        owner = self._owner
        try:
            if events == READABLE and self._opening is None:
                owner.on_readable()
            elif self._opening is not None:
                # Its step finds out what came, a break too.
                self._loop.modify(self.fileno(), 0)
                if events & READABLE:
                    self._opening.wait(self)
                else:
                    owner.abort()
            elif self._last_word and events & WRITABLE:
                self._say_last_word()
                if events != WRITABLE and self._mask != UNREGISTERED:
                    self._report(events & ~WRITABLE)
            else:
                self._report(events)
        except Exception as error:
            contain(owner, error)

    def step(self) -> None:
        """Continue the handshake."""
        owner = self._owner
        try:
            raw = self.recv(_HANDSHAKE_READ)
        except BlockingIOError:
            self._loop.modify(self.fileno(), READABLE)
            return
        except OSError:
            owner.abort()
            return
        if not raw:
            owner.abort()
            return
        if not self._begun and raw[0] != _HANDSHAKE_TYPE:
            self._refuse("the client does not speak TLS; plain TCP has a port of its own")
            return
        self._begun += len(raw)
        self.held = self._begun
        if self._begun > _LONGEST_HANDSHAKE:
            self._refuse("it is too long")
            return
        self._incoming.write(raw)
        done = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError as error:
            # OpenSSL's own word for it. Why it was refused is for the peer, too.
            with suppress(OSError):
                self._send_raw(self._outgoing.read())
            self._refuse(error.reason or "unknown")
            return
        self._answer(done=done)

    def _answer(self, *, done: bool) -> None:
        answer = self._outgoing.read()
        try:
            # It is short, and the first that this socket sends.
            sent = self._send_raw(answer) if answer else 0
        except OSError:
            sent = -1
        if sent != len(answer):
            self._owner.abort()
        elif done:
            self._open()
        else:
            self._loop.modify(self.fileno(), READABLE)

    def _refuse(self, reason: str) -> None:
        _rarely.write(logging.INFO, "a TLS handshake failed: %s", reason, extra=fields(reason=reason))
        self._was_refused = True
        self._owner.abort()

    def _open(self) -> None:
        if self._opening is not None:
            self._opening.handshakes["done"] += 1
        self._end_opening()
        self._begun = 0
        # What came right behind the handshake: readiness tells of it no more.
        self._early = self._incoming.read()
        self.held = len(self._early)
        super().watch(reads=self._reads, writes=self._writes)
        if self._early and self._reads:
            self._owner.on_readable()

    def _end_opening(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.ended(self)

    def abort(self) -> None:
        """The handshake took too long, or is ended to make room for others."""
        self._owner.abort()

    # --- reading

    def input_waiting(self) -> bool:
        """Whether there is input that was not received; a partial record counts."""
        return self.held > 0 or super().input_waiting()

    def receive(self, size: int, /) -> bytes:  # type: ignore[override]
        """The payload of the records that end within the next `size` bytes, or `_FEED`.

        As `Transport.receive`.
        """
        if self._has_ended():
            return b""
        raw = self._early
        if raw:
            self._early = b""
        else:
            raw = self.recv(size if size > _FEED else _FEED)
            if not raw:
                raise ConnectionAbortedError(errno.ECONNABORTED, "the connection ended without close_notify")
        if len(raw) <= _FEED:
            data = self._opened(raw)
        else:
            data = b"".join([self._opened(raw[at : at + _FEED]) for at in range(0, len(raw), _FEED)])
        self.held = self._begun
        if not data:
            if not self._peer_ended:
                raise BlockingIOError(errno.EAGAIN, "no record has ended")
        elif self._peer_ended:
            self._report_the_end_soon()
        return data

    @property
    def unfed(self) -> int:
        """Bytes of input that OpenSSL has not taken in: the size to which an idle connection's
        buffer grows.
        """
        return self._incoming.pending

    def _has_ended(self) -> bool:
        return self._peer_ended

    def _opened(self, raw: bytes) -> bytes:
        """Feed at most `_FEED` bytes; the payload of all records that end in them."""
        if self._peer_ended:
            return b""
        size = len(raw)
        incoming = self._incoming
        incoming.write(raw)
        most = _LARGEST_RECORD
        if not self._begun and size > _HEADER and _HEADER + (raw[3] << 8 | raw[4]) == size:
            whole, most = 1, size
        else:
            whole = self._follow(raw)
            if not whole and incoming.pending < _FEED:
                return b""
        parts = []
        read = self._tls.read
        try:
            # Once for each record, so that OpenSSL seldom has to say that it wants more.
            for _ in range(whole or 1):
                data = read(most)
                if not data:
                    self._peer_ended = True
                    break
                parts.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            # As no data, where this side has ended too.
            self._peer_ended = True
        carried = len(parts)
        if carried != whole or self._barren:
            self._barren = max(0, self._barren + whole - 2 * carried)
            if self._barren > _BARREN_RECORDS:
                raise ConnectionAbortedError(errno.ECONNABORTED, "too many records that carry nothing")
            # OpenSSL answers an update that asks for one of ours, and has nobody to send it: it
            # goes with what we write next. One for each byte of a long content would fill memory.
            if self._outgoing.pending > _UNASKED:
                raise ConnectionAbortedError(errno.ECONNABORTED, "too many key updates that request one of ours")
        return parts[0] if carried == 1 else b"".join(parts)

    def _follow(self, raw: bytes) -> int:
        """How many records end in `raw`, which continues what came."""
        whole = at = 0
        begun, record = self._begun, self._size
        while at < len(raw):
            if not record:
                part = raw[at : at + _HEADER - begun]
                self._head += part
                begun += len(part)
                at += len(part)
                if begun < _HEADER:
                    break
                record = _HEADER + (self._head[3] << 8 | self._head[4])
                self._head = b""
                if record > _LARGEST_RECORD:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "a record is too long")
            step = min(record - begun, len(raw) - at)
            begun += step
            at += step
            if begun == record:
                whole += 1
                begun = record = 0
        self._begun, self._size = begun, record
        return whole

    def _report_the_end_soon(self) -> None:
        """Report the end in the next turn, since the kernel will not report it again."""
        self._loop.call_at(self._loop.now, self._report_the_end)

    def _report_the_end(self) -> None:
        owner = self._owner
        if self._reads and self._mask != UNREGISTERED:
            try:
                owner.on_readable()
            except Exception as error:
                contain(owner, error)

    # --- writing

    def send(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        """As `Transport.send`."""
        size = len(data)
        if 0 < size <= _SEALED_AT_ONCE and not self._sealed:
            self._tls.write(data)
            if not self._goes(self._outgoing.read(), size):
                raise BlockingIOError(errno.EAGAIN, "the record was only partly written")
            return size
        return self._send_batches(data, size)

    def _send_batches(self, data: bytes | memoryview, size: int) -> int:
        taken = 0
        if self._sealed:
            sent = self._send_raw(self._sealed)
            self._sealed = self._sealed[sent:]
            if self._sealed:
                raise BlockingIOError(errno.EAGAIN, "the records were only partly written")
            taken = self._promised
        while taken < size:
            end = min(size, taken + _BATCH)
            records = []
            for at in range(taken, end, _SEALED_AT_ONCE):
                self._tls.write(data[at : min(end, at + _SEALED_AT_ONCE)])
                records.append(self._outgoing.read())
            if not self._goes(b"".join(records), end - taken):
                if not taken:
                    raise BlockingIOError(errno.EAGAIN, "the records were only partly written")
                break
            taken = end
        return taken

    def _goes(self, sealed: bytes, payload: int) -> bool:
        """Write records; whether the kernel took all of them. The rest stays in `_sealed`, and its
        `payload` counts as not taken.
        """
        try:
            sent = self._send_raw(sealed)
        except BlockingIOError:
            sent = 0
        if sent == len(sealed):
            return True
        self._sealed, self._promised = sealed[sent:], payload
        return False

    # --- the end

    def watch(self, *, reads: bool, writes: bool) -> None:
        """Report these events, and a broken connection; during the handshake, only once it
        is done.
        """
        begins_to_read = reads and not self._reads
        self._reads, self._writes = reads, writes
        if self._opening is None:
            super().watch(reads=reads, writes=writes or bool(self._last_word))
            if begins_to_read and self._peer_ended:
                self._report_the_end_soon()

    def shut_down(self) -> None:
        """Send close_notify and a FIN behind what was sent."""
        self._say_the_end()
        if self._last_word:
            self.watch(reads=self._reads, writes=self._writes)
        else:
            super().shut_down()

    def _say_the_end(self) -> None:
        if self._said_end:
            return
        self._said_end = True
        # It wants the peer's close_notify, which the session waits for, or fails where the
        # connection is broken.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._last_word = self._sealed + self._outgoing.read()
        self._sealed = b""
        self._send_last_word()

    def _send_last_word(self) -> None:
        with suppress(BlockingIOError):
            self._last_word = self._last_word[self._send_raw(self._last_word) :]

    def _say_last_word(self) -> None:
        """Send close_notify, now that there is room."""
        try:
            self._send_last_word()
            if self._last_word:
                return
            super().shut_down()
        except OSError:
            self._owner.abort()
            return
        if self._resets_only:
            self.watch_for_reset()
        else:
            self.watch(reads=self._reads, writes=self._writes)

    def watch_for_reset(self) -> None:
        """As `Transport.watch_for_reset`."""
        self._resets_only = True
        super().watch_for_reset()

    def close(self) -> None:
        """Send close_notify if there is room for it, and close the descriptor."""
        if self._opening is not None:
            self._opening.handshakes["failed"] += 1
            self._end_opening()
        else:
            with suppress(OSError):
                self._say_the_end()
        super().close()

    def reset(self) -> None:
        """Close with a reset. A client that was refused in the handshake can still read
        the alert.
        """
        self._said_end = True
        if self._was_refused:
            self.close()
        else:
            super().reset()
