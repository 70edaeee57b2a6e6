"""A server that lies, or leaves one waiting: the real programs, and somebody on the way who changes
what they answer.

Owns: what he does to the published suite: keys of his own, and what he can read with them. The
drill `lying-server` has liars to the modern one.
Promises: whatever he does not lie about passes unchanged, both ways; all that a client sent for
others is kept.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from Crypto.Cipher import AES

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey, SymmetricKey
from client.errors import CipherError
from common.client_protocol.responses import KEY_REPLY, ResponseCode
from common.client_protocol.versions import Feature
from common.values import MessageKind
from torture import middleman

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.values import ClientId, PublicKey


class Middleman(middleman.Middleman):
    """Every `private_key` is his. He hides the modern suite, unless `hides` is set to nothing: what
    is under the published one is his to try.
    """

    def __init__(self, port: int, private_keys: Sequence[PrivateKey] = ()) -> None:
        super().__init__(port)
        self.hides = Feature.KEYS
        self.names: PublicKey | None = None
        """The public key that he names for everybody; None for the right ones."""
        self._private_keys = private_keys
        self._injected: list[SymmetricKey] = []

    def inject_key(self, sender: ClientId, to: PublicKey) -> None:
        """Put a symmetric key that he made into the next mail."""
        key = ciphers.symmetric_key(os.urandom(ciphers.SYMMETRIC_KEY_SIZE))
        self._injected.append(key)
        self.inject(sender, MessageKind.KEY, ciphers.seal_key(key, to, os.urandom))

    def lie(self, code: int, payload: bytes) -> bytes:
        if code == ResponseCode.PUBLIC_KEY and self.names is not None:
            subject, _ = KEY_REPLY.unpack(payload)
            return KEY_REPLY.pack(subject, self.names)
        return payload

    # --- what he gets
    # -----------------------------------------------------------------------------------------

    def plain_texts(self, since: int = 0) -> list[bytes]:
        """All that he can make of what he overheard, with every key that he has: padding
        right or wrong.
        """
        keys = [*self._injected]
        for message in self.overheard:
            for private_key in self._private_keys if message.kind == MessageKind.KEY else ():
                with contextlib.suppress(CipherError):
                    keys.append(private_key.open_key(message.content))
        made = []
        for message in self.overheard[since:]:
            made.append(message.content)
            if len(message.content) % AES.block_size == 0:
                made += [AES.new(key, AES.MODE_CBC, iv=bytes(16)).decrypt(message.content) for key in keys]
        return made

    def reads(self, secret: str, at_once: int = 8) -> bool:
        """Whether anywhere in it there are a few bytes of a secret in a row."""
        raw = secret.encode()
        everything = b"|".join(self.plain_texts())
        return any(raw[at : at + at_once] in everything for at in range(len(raw) - at_once + 1))
