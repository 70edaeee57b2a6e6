"""The server's certificates: made, loaded, and replaced.

Owns: the folder `tls/` of the data folder, mode 0700. `current.pem` is what the gateway uses from
its next start on, `next.pem` the one after it, `previous.pem` what it used before; each is a
private key (Ed25519) and its certificate, mode 0600. `address` lists where the gateway listens, for
the address line.
Promises: a file is there whole or not at all. A key that others can read is refused. If the folder
has been in use, a missing certificate is not replaced by a new one, because every client's pin
would become void. Time is passed in.
Exposure: the operator. Clients see certificates and digests, never a key.

A client compares the certificate's SHA-256, its pin, and nothing else: it needs no certificate
authority, and it never expires.

Source: docs/client-protocol.md, "TLS"; RFC 8410, RFC 5280 (4.1.2.5: no date of expiry).
"""

import contextlib
import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from common.errors import SettingRejected
from common.filesystem import sync_folder

FOLDER: Final = "tls"
_CURRENT: Final = "current.pem"
_NEXT: Final = "next.pem"
_PREVIOUS: Final = "previous.pem"
_ADDRESS: Final = "address"
_SUBJECT: Final = "MessageU server"
_NO_EXPIRY: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_CLOCKS_DIFFER_BY: Final = timedelta(days=2)
_LONGEST_FILE: Final = 65536
_DER_SEQUENCE: Final = b"\x30"


class Certificate(NamedTuple):
    """A file with a key and its certificate. `digest`: the SHA-256 of the certificate's DER."""

    path: Path
    digest: bytes


def is_in_use(folder: Path) -> bool:
    """Whether the gateway has been started with TLS on this data folder."""
    return (folder / FOLDER).exists()


def current(folder: Path, now: datetime) -> Certificate:
    """The certificate of a data folder. It is made if there has never been one.

    Raises `SettingRejected`.
    """
    tls = folder / FOLDER
    with _told(tls):
        tls.mkdir(mode=0o700, exist_ok=True)
        path = tls / _CURRENT
        if not path.exists():
            if any((tls / name).exists() for name in (_NEXT, _PREVIOUS, _ADDRESS)):
                raise SettingRejected(
                    f"{path} is gone, and clients know its pin: put it back from a backup. Or remove {tls}; then a new "
                    "certificate is made, and every client has to be given the new address"
                )
            # Another gateway on this folder may be faster.
            with contextlib.suppress(FileExistsError):
                _make(path, now)
        return _read(path)


def following(folder: Path) -> Certificate | None:
    """The next certificate, if one was made. Raises `SettingRejected`."""
    path = folder / FOLDER / _NEXT
    return _read(path) if path.exists() else None


def make_next(folder: Path, now: datetime) -> Certificate:
    """Make the next certificate. Raises `SettingRejected`, also if there is one already."""
    path = folder / FOLDER / _NEXT
    if not is_in_use(folder):
        raise SettingRejected("there is no certificate yet: the gateway makes one when it starts with --tls-listen")
    with _told(path):
        if path.exists():
            raise SettingRejected(f"there is a next certificate already: {path}")
        _make(path, now)
        return _read(path)


def switch(folder: Path) -> Certificate:
    """Make the next certificate the current one. Raises `SettingRejected`."""
    tls = folder / FOLDER
    found = following(folder)
    if found is None:
        raise SettingRejected("there is no next certificate: `tls next` makes one")
    with _told(tls):
        before, kept = tls / _CURRENT, tls / _PREVIOUS
        kept.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(before, kept)
        found.path.replace(before)
        sync_folder(tls)
        return _read(before)


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """The TLS context for handshakes. Raises `SettingRejected`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A ticket would be bytes that no request asked for, and every connection proves itself again.
    context.num_tickets = 0
    with _told(certificate.path):
        # No key of ours has a passphrase. Without one here OpenSSL would ask at the terminal.
        context.load_cert_chain(certificate.path, password="")
    return context


class Pins:
    """What 649 returns: the digest of the certificate in use, then that of the next one.

    An operator makes the next one, and switches to it for the next start, while the gateway runs.
    """

    def __init__(self, folder: Path, used: Certificate) -> None:
        self._tls = folder / FOLDER
        self._used = used.digest
        self._known: dict[str, tuple[tuple[int, int, int], bytes]] = {}

    def __call__(self) -> tuple[bytes, ...]:
        """One or two digests of 32 bytes."""
        for name in (_CURRENT, _NEXT):
            digest = self._digest(name)
            if digest is not None and digest != self._used:
                return (self._used, digest)
        return (self._used,)

    def _digest(self, name: str) -> bytes | None:
        path = self._tls / name
        try:
            status = path.stat()
        except OSError:
            return None
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._known.get(name)
        if known is None or known[0] != mark:
            try:
                digest = _read(path).digest
            except SettingRejected:
                return None
            known = self._known[name] = (mark, digest)
        return known[1]


def keep_addresses(folder: Path, addresses: list[str]) -> None:
    """Store where the gateway can be reached, each as `host:port`. Raises `SettingRejected`."""
    path = folder / FOLDER / _ADDRESS
    with _told(path):
        _write(path, "".join([f"{address}\n" for address in addresses]).encode(), Path.replace)


def kept_addresses(folder: Path) -> list[str]:
    """What `keep_addresses` stored; empty if the gateway has never been started with TLS."""
    path = folder / FOLDER / _ADDRESS
    with _told(path):
        return path.read_text(encoding="utf-8").split() if path.exists() else []


def _read(path: Path) -> Certificate:
    with _told(path):
        mode = path.stat().st_mode
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE).decode("ascii", "replace")
        begin, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
        if begin < 0 or end < begin:
            raise ValueError("no certificate in it")
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)])
        if not der.startswith(_DER_SEQUENCE):
            raise ValueError("no certificate in it")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingRejected(f"others can read the key in {path}, mode {stat.S_IMODE(mode):04o}: `chmod 600 {path}`")
    return Certificate(path, hashlib.sha256(der).digest())


def _make(path: Path, now: datetime) -> None:
    # Only here: it takes as long to import as the whole gateway, and megabytes.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _SUBJECT)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER_BY)
        .not_valid_after(_NO_EXPIRY)
        .sign(key, None)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # A link, so that what is there is never replaced.
    _write(path, secret + certificate.public_bytes(serialization.Encoding.PEM), os.link)


def _write(path: Path, data: bytes, put: Callable[[Path, Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingRejected(f"{error.filename or path} can't be used: {error.strerror}") from error
    except ValueError as error:
        raise SettingRejected(f"{path} can't be used: {error}") from error
