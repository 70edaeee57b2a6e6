"""TLS 1.3 over a connection, with a server whose certificate is known by its pin.

Owns: the handshake, records in and out, and how a connection over TLS ends.
Promises: nothing here blocks. After our first handshake message nothing leaves before `admit`: a
caller who compares the pin first has revealed only that a TLS 1.3 client connects. No name of the
server is sent in the clear. A connection that ends without close_notify is broken, whatever TCP
says. We send close_notify only if every answer was read completely, because the server takes it as
the acknowledgement of what it has sent.
Exposure: parses what a stranger sends, with OpenSSL; no authority is asked, and the name and dates
of a certificate do not count. That the other side holds the certificate's private key is part of
the handshake.

Bytes pass through memory BIOs, not through an `ssl` socket: otherwise half a record is invisible,
and silence can't be told from a trickle.

Source: docs/decisions/0015-a-pinned-certificate.md.
"""

import contextlib
import select
import socket
import ssl
from typing import Final

from client.connection.transport import READ_SIZE, Received
from common.server_address import pin_of

_RECORD_HEADER: Final = 5
_AT_ONCE: Final = 256 * 1024
"""Bytes that are made into records before these are handed to the kernel."""
_MOST_LEAVING: Final = 2 * _AT_ONCE
"""The most bytes of records that the kernel has not taken, while the server keeps sending."""
_MOST_EMPTY: Final = 64
"""Records in a row without content. A server sends a few of them (tickets) at the beginning; a
server that sends nothing else is misbehaving.
"""


class NotTls(OSError):
    """The other side does not speak TLS 1.3."""


class TlsTransport:
    """One connection. The socket must not block. See `client.connection.transport.Transport`."""

    protected = True

    def __init__(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._socket = connection
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out)
        self._records = _Records()
        self._leaving = bytearray()
        self._is_over = False
        self._admitted = False
        self._failure: OSError | None = None
        self.binding = b""
        self.written = 0

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    # --- the handshake
    # ----------------------------------------------------------------------------------------

    def shake_hands(self) -> int:
        """Advance the handshake as far as possible; return what to wait for (a mask of `poll`), 0
        once it is done.

        Done on our side only: the server gets our last handshake message after `admit`. Raises
        `NotTls`, `OSError`.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise NotTls(_problem(error)) from error
            else:
                certificate = self._tls.getpeercert(binary_form=True)
                if not certificate:
                    raise NotTls("it has no certificate")
                self.binding = pin_of(certificate)
                return 0
            self._flush()
            if self._leaving:
                return select.POLLOUT
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                return select.POLLIN
            if not data:
                raise NotTls("it closed the connection in the midst of the handshake")
            self._take(data)

    def admit(self) -> None:
        """Continue: the certificate is the right one. Raises `OSError`."""
        assert self.binding
        self._admitted = True
        self._flush()

    # --- as any transport
    # -------------------------------------------------------------------------------------

    @property
    def unsent(self) -> bool:
        """Whether records are still to be handed to the kernel."""
        return bool(self._leaving)

    @property
    def midway(self) -> bool:
        """Whether a part of a record has arrived."""
        return self._records.midway

    @property
    def ready(self) -> bool:
        """Whether the server has ended the connection, or failed, after what was returned."""
        return self._is_over or self._failure is not None

    def send(self, data: memoryview) -> int:
        """Accept bytes once all earlier ones are with the kernel. Raises `OSError`."""
        assert self._admitted
        self._flush()
        if self._leaving:
            return 0
        taken = 0
        try:
            while taken < min(len(data), _AT_ONCE):
                taken += self._tls.write(data[taken:_AT_ONCE])
        except ssl.SSLError as error:
            raise ConnectionAbortedError(None, _problem(error)) from error
        self._flush()
        return taken

    def receive(self) -> Received:
        """Return the content of complete records. Raises `OSError` if the connection broke, or
        ended without close_notify.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_over:
            return Received(b"", 0, ended=True)
        try:
            raw = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return Received(b"", 0, ended=False)
        if not raw:
            raise ConnectionAbortedError(None, "it closed the connection without the ending of TLS")
        self._take(raw)
        found = self._content()
        if found:
            # Records that were complete before a failure are the server's.
            self._records.empty = 0
        elif self._failure is not None:
            raise self._failure
        elif self._records.empty > _MOST_EMPTY:
            raise ConnectionAbortedError(None, "it sends records without content")
        # An answer to a key update. A server that asks for one after each byte, and reads none,
        # would fill memory.
        self._flush()
        if len(self._leaving) > _MOST_LEAVING:
            raise ConnectionAbortedError(None, "it asks for updates of keys and does not take them")
        return Received(found, len(raw), ended=not found and self.ready)

    def _content(self) -> bytes:
        found = bytearray()
        try:
            while part := self._tls.read(READ_SIZE):
                found += part
            # After close_notify, each further `read` returns nothing.
            self._is_over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._is_over = True
        except ssl.SSLError as error:
            self._failure = ConnectionAbortedError(None, _problem(error))
        return bytes(found)

    def interrupt(self) -> None:
        """End it from another thread. Raises `OSError`."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self, *, orderly: bool) -> None:
        """Close it, with close_notify if in order; the server's is not waited for."""
        if orderly and self._admitted:
            with contextlib.suppress(OSError):
                self._flush()
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                if not self._leaving:
                    self._flush()
        self._socket.close()

    def _take(self, raw: bytes) -> None:
        self._records.pass_on(raw)
        self._in.write(raw)

    def _flush(self) -> None:
        self._leaving += self._out.read()
        while self._leaving:
            try:
                count = self._socket.send(self._leaving)
            except BlockingIOError:
                return
            self.written += count
            del self._leaving[:count]


class _Records:
    """Follows the framing of the input: five bytes of header, the last two of them the length."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self.empty = 0
        """Records since the last content."""

    @property
    def midway(self) -> bool:
        return bool(self._header) or self._left > 0

    def pass_on(self, raw: bytes) -> None:
        at = 0
        while at < len(raw):
            if not self._left:
                wanted = _RECORD_HEADER - len(self._header)
                self._header += raw[at : at + wanted]
                at += wanted
                if len(self._header) < _RECORD_HEADER:
                    return
                self._left = int.from_bytes(self._header[3:], "big")
                self._header.clear()
            count = min(self._left, len(raw) - at)
            self._left -= count
            at += count
            if not self._left:
                self.empty += 1


def _problem(error: ssl.SSLError) -> str:
    """Return what OpenSSL says, in words."""
    reason = (error.reason or "").replace("_", " ").lower()
    return f"TLS: {reason or error.strerror or 'it failed'}"
