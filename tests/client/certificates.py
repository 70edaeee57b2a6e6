"""Server certificates for tests: new, Ed25519, self-signed."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from common.server_address import Pin, pin_of


@dataclass(frozen=True)
class Certificate:
    """A server's certificate, with its private key."""

    pem: bytes
    pin: Pin

    def context(self, lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Make what a server shakes hands with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if lowest < ssl.TLSVersion.TLSv1_3:
            context.maximum_version = lowest
        context.minimum_version = lowest
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "server.pem"
            path.write_bytes(self.pem)
            context.load_cert_chain(path)
        return context


def new_certificate() -> Certificate:
    """Make one; it was never valid, which no pin asks for."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "messageu")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1999, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(1999, 1, 2, tzinfo=datetime.UTC))
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(
        private + certificate.public_bytes(serialization.Encoding.PEM),
        pin_of(certificate.public_bytes(serialization.Encoding.DER)),
    )
