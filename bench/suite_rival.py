"""One rival of the cipher suite: DoubleRatchet with OMEMO 2's primitives, in a Python of its own.

`suite_rival.py SECONDS`: so much processor time for each figure.

Owns: the rival's sessions, and the same steps as `bench.suite` takes with ours. Runs with the
Python of the rivals' environment and imports nothing of this project; prints one line of JSON.
Promises: every text is compared with what was sealed. The state goes through JSON at each step, as
ours goes through bytes.
"""

import asyncio
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

from doubleratchet.recommended import (  # type: ignore[import-not-found]  # only in the rivals' environment
    diffie_hellman_ratchet_curve25519,
)
from twomemo import twomemo  # type: ignore[import-not-found]  # only in the rivals' environment

_SETTINGS: dict[str, Any] = {
    "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
    "root_chain_kdf": twomemo.RootChainKDFImpl,
    "message_chain_kdf": twomemo.MessageChainKDFImpl,
    "message_chain_constant": twomemo.DoubleRatchetImpl.MESSAGE_CHAIN_CONSTANT,
    "dos_protection_threshold": 1000,
    "max_num_skipped_message_keys": 1000,
    "aead": twomemo.AEADImpl,
}
_IDENTITIES = bytes(64)
_TEXT = b"x" * 256


def _kept(ratchet: Any) -> str:
    return json.dumps(ratchet.json)


def _restored(state: str) -> Any:
    return twomemo.DoubleRatchetImpl.from_json(json.loads(state), **_SETTINGS)


async def _sealed(state: str) -> tuple[str, Any]:
    ratchet = _restored(state)
    message = await ratchet.encrypt_message(_TEXT, _IDENTITIES)
    return _kept(ratchet), message


async def _opened(state: str, message: Any) -> str:
    ratchet = _restored(state)
    if await ratchet.decrypt_message(message, _IDENTITIES) != _TEXT:
        raise SystemExit("another text came out")
    return _kept(ratchet)


async def _measured(seconds: float) -> dict[str, object]:
    secret, private = os.urandom(32), os.urandom(32)
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    ratchet, first = await twomemo.DoubleRatchetImpl.encrypt_initial_message(
        shared_secret=secret, recipient_ratchet_pub=public, message=_TEXT, associated_data=_IDENTITIES, **_SETTINGS
    )
    alice = _kept(ratchet)
    ratchet, _ = await twomemo.DoubleRatchetImpl.decrypt_initial_message(
        shared_secret=secret, own_ratchet_priv=private, message=first, associated_data=_IDENTITIES, **_SETTINGS
    )
    bob = _kept(ratchet)
    spent = {"one way": [0.0, 0.0], "in turn": [0.0, 0.0]}
    counts = dict.fromkeys(spent, 0)
    size = 0
    for way, times in spent.items():
        while sum(times) < seconds:
            begin = time.process_time()
            alice, message = await _sealed(alice)
            middle = time.process_time()
            bob = await _opened(bob, message)
            times[0] += middle - begin
            times[1] += time.process_time() - middle
            counts[way] += 1
            size = len(message.ciphertext)
            if way == "in turn":
                alice, bob = bob, alice
    return {
        "name": f"DoubleRatchet {version('DoubleRatchet')} as in OMEMO 2 (Twomemo {version('Twomemo')})",
        "texts": {way: [each / counts[way] for each in times] for way, times in spent.items()},
        "size": size,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measured(float(sys.argv[1])))))
