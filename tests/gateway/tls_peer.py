"""The client's side of TLS, byte by byte: what it would write, and what it makes of what came."""

import hashlib
import hmac
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.certificate import current, server_context
from gateway.connection.tls_transport import ServerTls

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def server_tls(folder: Path) -> ServerTls:
    """What a listener shows, with a certificate made in `folder`."""
    certificate = current(folder, NOW)
    return ServerTls(server_context(certificate), certificate.digest)


class ClientTls:
    """A TLS client over memory. `to_send` collects what it would write to its socket."""

    def __init__(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, keys: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = newest
        if keys is not None:
            context.keylog_filename = str(keys)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        self.is_open = False
        self.received = b""
        self.ended = False
        self._advance()

    def to_send(self) -> bytes:
        """What it wants to write, once."""
        return self._outgoing.read()

    def feed(self, data: bytes) -> None:
        """What came from the server."""
        self._incoming.write(data)
        self._advance()

    def _advance(self) -> None:
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while data := self.tls.read(65536):
                self.received += data
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True

    def record(self, data: bytes) -> bytes:
        """The bytes that carry `data`, in one record for at most 16 KiB."""
        self.tls.write(data)
        return self._outgoing.read()

    def last_word(self) -> bytes:
        """close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        return self._outgoing.read()

    def certificate(self) -> bytes:
        """The server's, in DER."""
        found = self.tls.getpeercert(binary_form=True)
        assert found is not None
        return found


def _expand(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, 7.1, without a context; one block is enough."""
    name = b"tls13 " + label.encode()
    info = struct.pack("!HB", size, len(name)) + name + b"\0\1"
    return hmac.new(secret, info, hashlib.sha384).digest()[:size]


class Records:
    """What no library lets a client send: any content of a record, and as many as one likes.

    `keys` is the key log that the client of the handshake wrote; it has sent nothing since. With
    another `secret` the same for the server.
    """

    def __init__(self, keys: Path, secret: str = "CLIENT_TRAFFIC_SECRET_0") -> None:
        lines = [line.split() for line in keys.read_text().splitlines() if not line.startswith("#")]
        (found,) = [bytes.fromhex(line[2]) for line in lines if line[0] == secret]
        self._begin(found)

    def _begin(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(_expand(secret, "key", 32))
        self._iv = int.from_bytes(_expand(secret, "iv", 12))
        self._number = 0

    def record(self, content: bytes, kind: int = 23) -> bytes:
        """One record under the keys of now."""
        head = struct.pack("!BHH", 23, 0x0303, len(content) + 1 + 16)
        nonce = (self._iv ^ self._number).to_bytes(12)
        self._number += 1
        return head + self._key.encrypt(nonce, content + bytes([kind]), head)

    def key_update(self, *, asks: bool) -> bytes:
        """An update of our keys, which are other ones from now on; `asks` for one of the server's,
        too.
        """
        record = self.record(b"\x18\0\0\1" + bytes([asks]), 22)
        self._begin(_expand(self._secret, "traffic upd", 48))
        return record
