"""Olm, as docs/suite-1.md has it in short: the agreement of three keys, the ratchet, two messages.

A session is changed only by what it opens: a message that does not open leaves it as it was.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.suite1_second.primitives import ZeroSecret, dh, hkdf, mac, public_of

SKIPPED = 40
CHAINS = 5
GAP = 2000


class NotOlm(Exception):
    """No message of Olm in message version 3."""


class DoesNotOpen(Exception):
    """Altered, of another session, or too far ahead."""


class UsedUp(Exception):
    """The key of this place in a chain is used up or dropped."""


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


class Reader:
    """Reads the fields of a message in the order of the text."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        if size > len(self.rest):
            raise NotOlm
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def expect(self, wanted: bytes) -> None:
        if self.take(len(wanted)) != wanted:
            raise NotOlm

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise NotOlm


@dataclass(frozen=True)
class Normal:
    """A message of type 1."""

    ratchet_key: bytes
    place: int
    ciphertext: bytes
    mac: bytes
    authenticated: bytes

    @classmethod
    def parsed(cls, data: bytes) -> Normal:
        if len(data) < 8:
            raise NotOlm
        reader = Reader(data[:-8])
        reader.expect(b"\x03\x0a\x20")
        ratchet_key = reader.take(32)
        reader.expect(b"\x10")
        place = reader.varint()
        reader.expect(b"\x22")
        ciphertext = reader.take(reader.varint())
        if reader.rest:
            raise NotOlm
        return cls(ratchet_key, place, ciphertext, data[-8:], data[:-8])


@dataclass(frozen=True)
class PreKey:
    """A message of type 0."""

    one_time: bytes
    base: bytes
    identity: bytes
    inner: bytes

    @classmethod
    def parsed(cls, data: bytes) -> PreKey:
        reader = Reader(data)
        keys = []
        for start in (b"\x03\x0a\x20", b"\x12\x20", b"\x1a\x20"):
            reader.expect(start)
            keys.append(reader.take(32))
        reader.expect(b"\x22")
        inner = reader.take(reader.varint())
        if reader.rest:
            raise NotOlm
        Normal.parsed(inner)
        return cls(keys[0], keys[1], keys[2], inner)

    @property
    def session_id(self) -> bytes:
        return hashlib.sha256(self.identity + self.base + self.one_time).digest()[:16]


def keys_of(message_key: bytes) -> tuple[bytes, bytes, bytes]:
    found = hkdf(b"", message_key, b"OLM_KEYS", 80)
    return found[:32], found[32:64], found[64:]


def encrypted(message_key: bytes, ratchet_key: bytes, place: int, plain: bytes) -> bytes:
    """A normal message."""
    aes, mac_key, iv = keys_of(message_key)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(aes), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    body = b"\x03\x0a\x20" + ratchet_key + b"\x10" + varint(place) + b"\x22" + varint(len(ciphertext)) + ciphertext
    return body + mac(mac_key, body)[:8]


def decrypted(message_key: bytes, message: Normal) -> bytes:
    aes, mac_key, iv = keys_of(message_key)
    if not hmac.compare_digest(mac(mac_key, message.authenticated)[:8], message.mac):
        raise DoesNotOpen
    try:
        decryptor = Cipher(algorithms.AES256(aes), modes.CBC(iv)).decryptor()
        unpadder = padding.PKCS7(128).unpadder()
        padded = decryptor.update(message.ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise DoesNotOpen from error


@dataclass
class Sending:
    """A chain of one's own: the private ratchet key, the chain key, the next place."""

    private: bytes
    key: bytes
    place: int = 0

    @property
    def public(self) -> bytes:
        return public_of(self.private)

    def next_key(self) -> tuple[int, bytes]:
        place, message_key = self.place, mac(self.key, b"\x01")
        self.key, self.place = mac(self.key, b"\x02"), place + 1
        return place, message_key


@dataclass
class Receiving:
    """A chain of the other side's, with the keys of overtaken messages."""

    public: bytes
    key: bytes
    place: int = 0
    skipped: dict[int, bytes] = field(default_factory=dict)

    def open(self, message: Normal) -> bytes:
        if message.place < self.place:
            if message.place not in self.skipped:
                raise UsedUp
            plain = decrypted(self.skipped[message.place], message)
            del self.skipped[message.place]
            return plain
        if message.place - self.place > GAP:
            raise DoesNotOpen
        while self.place < message.place:
            self.skipped[self.place] = mac(self.key, b"\x01")
            self.key, self.place = mac(self.key, b"\x02"), self.place + 1
        plain = decrypted(mac(self.key, b"\x01"), message)
        self.key, self.place = mac(self.key, b"\x02"), self.place + 1
        for oldest in sorted(self.skipped)[:-SKIPPED]:
            del self.skipped[oldest]
        return plain


@dataclass
class Session:
    """One session; `root` is the last R, `starter` the three public keys while no answer came."""

    session_id: bytes
    root: bytes
    sending: Sending | None
    receiving: list[Receiving]
    # E_B, E_A, I_A for the pre-key messages of the side that started.
    starter: tuple[bytes, bytes, bytes] | None = None

    def encrypt(self, plain: bytes, new_private: bytes | None = None) -> tuple[int, bytes]:
        """A message and its type; a new ratchet key is made where one is due."""
        if self.sending is None:
            self.turn(new_private or os.urandom(32))
        assert self.sending is not None
        place, key = self.sending.next_key()
        message = encrypted(key, self.sending.public, place, plain)
        if self.starter is None:
            return 1, message
        e_b, e_a, i_a = self.starter
        keys = b"\x03\x0a\x20" + e_b + b"\x12\x20" + e_a + b"\x1a\x20" + i_a
        return 0, keys + b"\x22" + varint(len(message)) + message

    def turn(self, private: bytes) -> None:
        """The next step of the root, for a new ratchet key of one's own."""
        out = hkdf(self.root, dh(private, self.receiving[0].public), b"OLM_RATCHET", 64)
        self.root, self.sending = out[:32], Sending(private, out[32:])

    def open(self, message: Normal) -> bytes:
        """The plain text; raises UsedUp or DoesNotOpen, and has not changed then."""
        chain = next((each for each in self.receiving if each.public == message.ratchet_key), None)
        if chain is not None:
            tried = copy.deepcopy(chain)
            plain = tried.open(message)
            self.receiving[self.receiving.index(chain)] = tried
        else:
            if self.sending is None:
                raise DoesNotOpen  # nobody can have answered a ratchet key that was not made
            try:
                out = hkdf(self.root, dh(self.sending.private, message.ratchet_key), b"OLM_RATCHET", 64)
            except ZeroSecret as error:
                raise DoesNotOpen from error
            chain = Receiving(message.ratchet_key, out[32:])
            plain = chain.open(message)
            self.root, self.sending = out[:32], None
            self.receiving = [chain, *self.receiving][:CHAINS]
        self.starter = None
        return plain


def started(identity: bytes, their_identity: bytes, their_one_time: bytes) -> Session:
    """A session that this side starts, with the private identity key; raises ZeroSecret."""
    base, ratchet = os.urandom(32), os.urandom(32)
    secret = dh(identity, their_one_time) + dh(base, their_identity) + dh(base, their_one_time)
    out = hkdf(b"", secret, b"OLM_ROOT", 64)
    own, base_public = public_of(identity), public_of(base)
    session_id = hashlib.sha256(own + base_public + their_one_time).digest()[:16]
    starter = (their_one_time, base_public, own)
    return Session(session_id, out[:32], Sending(ratchet, out[32:]), [], starter)


def answered(identity: bytes, one_time: bytes, message: PreKey) -> tuple[Session, bytes]:
    """The session that a pre-key message starts here, and its plain text; raises DoesNotOpen."""
    try:
        secret = dh(one_time, message.identity) + dh(identity, message.base) + dh(one_time, message.base)
    except ZeroSecret as error:
        raise DoesNotOpen from error
    out = hkdf(b"", secret, b"OLM_ROOT", 64)
    inner = Normal.parsed(message.inner)
    chain = Receiving(inner.ratchet_key, out[32:])
    plain = chain.open(inner)
    return Session(message.session_id, out[:32], None, [chain]), plain
