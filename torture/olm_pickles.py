"""Reads vodozemac's pickles: the private keys that a state holds, which the library gives out none
of.

Owns: their encryption and the names of their fields.
Promises: pure.
Exposure: reads states that this project's own code has made.

A pickle is base64 of AES-256-CBC ciphertext of JSON, and 8 bytes of HMAC-SHA256; key, HMAC key and
IV are HKDF-SHA256 of the pickle key, with info "Pickle".
"""

import base64
import json
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, hmac, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.suite1.olm import PICKLE_KEY

_MAC: Final = 8


def read(pickle: str) -> dict[str, Any]:
    """Return the JSON inside a pickle."""
    raw = base64.b64decode(pickle + "=" * (-len(pickle) % 4))
    ciphertext, mac = raw[:-_MAC], raw[-_MAC:]
    derived = HKDF(hashes.SHA256(), 80, salt=None, info=b"Pickle").derive(PICKLE_KEY)
    authenticator = hmac.HMAC(derived[32:64], hashes.SHA256())
    authenticator.update(ciphertext)
    assert authenticator.finalize()[:_MAC] == mac
    decryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[64:])).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    plain = unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
    found = json.loads(plain)
    assert isinstance(found, dict)
    return found


def account_secrets(pickle: str) -> dict[str, Any]:
    """Return the private keys of an account, in hex; one-time and fallback keys in their order."""
    found = read(pickle)
    fallback = found["fallback_keys"]
    return {
        "ed25519_seed": _hex(found["signing_key"]["Normal"]),
        "curve25519_private": _hex(found["diffie_hellman_key"]),
        "one_time_private": [_hex(key) for key in found["one_time_keys"]["private_keys"].values()],
        "fallback_private": [
            _hex(fallback[name]["key"]) for name in ("fallback_key", "previous_fallback_key") if fallback[name]
        ],
    }


def sending_secrets(pickle: str) -> dict[str, str]:
    """Return the ratchet key with which a session sends, and its root key and chain key now, in
    hex.
    """
    found = read(pickle)["sending_ratchet"]
    assert found["type"] == "active"
    return {
        "ratchet_private": _hex(found["active_ratchet"]["ratchet_key"]),
        "root_key": _hex(found["active_ratchet"]["root_key"]),
        "chain_key": _hex(found["symmetric_key_ratchet"]["key"]),
    }


def sends(pickle: str) -> bool:
    """Whether a session has a ratchet key of its own to send with; it makes one when it answers."""
    found: object = read(pickle)["sending_ratchet"]["type"]
    return found == "active"


def _hex(octets: list[int]) -> str:
    return bytes(octets).hex()
