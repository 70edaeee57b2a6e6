"""A recipient can make a message from anybody to themselves, without that person: so no message
proves to others who wrote it. The forgery is made from docs/suite-1.md with bare primitives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, hmac, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.suite1 import layout, messages, outer, payloads
from client.suite1.layout import Inner
from client.suite1.messages import Opened, Order
from client.suite1.payloads import About, Text
from client.suite1.values import Pair
from tests.client.suite1.two_homes import ALICE, BOB, NOW, two_homes
from torture import olm_pickles as pickles

if TYPE_CHECKING:
    from client.suite1.own_keys import OwnKeys
    from client.suite1.values import Identity


def derived(secret: bytes, info: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt=None, info=info).derive(secret)


def mac(key: bytes, data: bytes) -> bytes:
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(data)
    return made.finalize()


def agreed(private: X25519PrivateKey, public: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def field(tag: int, data: bytes) -> bytes:
    size, octets = len(data), bytearray()
    while size >= 128:
        octets.append(size % 128 + 128)
        size //= 128
    return bytes([tag, *octets, size]) + data


def forged_olm(
    alice: Identity, bobs_identity: X25519PrivateKey, bobs_one_time: X25519PrivateKey, plain: bytes
) -> bytes:
    """A first message from Alice, by Bob: her public key and his private ones are enough."""
    base, ratchet = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    base_public = base.public_key().public_bytes_raw()
    secret = (
        agreed(bobs_one_time, alice.curve25519)
        + agreed(bobs_identity, base_public)
        + agreed(bobs_one_time, base_public)
    )
    chain_key = derived(secret, b"OLM_ROOT", 64)[32:]
    keys = derived(mac(chain_key, b"\1"), b"OLM_KEYS", 80)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(keys[:32]), modes.CBC(keys[64:])).encryptor()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    normal = b"\3" + field(0x0A, ratchet.public_key().public_bytes_raw()) + b"\x10\0" + field(0x22, ciphertext)
    normal += mac(keys[32:64], normal)[:8]
    one_time_public = bobs_one_time.public_key().public_bytes_raw()
    parts = ((0x0A, one_time_public), (0x12, base_public), (0x1A, alice.curve25519), (0x22, normal))
    return b"\3" + b"".join(field(tag, data) for tag, data in parts)


def forged_content(bobs: OwnKeys, alice: Identity, pair: Pair, payload: bytes) -> bytes:
    """A content from Alice, by who has Bob's keys."""
    secrets = pickles.account_secrets(bobs.account)
    identity = X25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["curve25519_private"]))
    one_time = X25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["one_time_private"][-1]))
    inner = Inner(1, 1, pair, alice.ed25519, bobs.identity.ed25519, payload)
    data = forged_olm(alice, identity, one_time, layout.packed(inner))
    key = bobs.outer[-1].public
    return layout.enveloped(key.number, outer.seal(key.public, pair, b"\0" + data))


def test_a_recipient_can_forge_what_they_show_to_others() -> None:
    _, alice, bob = two_homes()
    payload = payloads.encoded(Text(About(bytes(16), NOW), "Alice never wrote this"))
    pair = Pair(ALICE, BOB)
    content = forged_content(bob.keys, alice.keys.identity, pair, payload)
    # Whoever judges it with all of Bob's keys can't tell it from a message of Alice's.
    result = messages.open_message(bob.keys, bob.peer(ALICE), pair, content)
    assert isinstance(result, Opened)
    assert (result.payload, result.order) == (payload, Order.NEXT)
