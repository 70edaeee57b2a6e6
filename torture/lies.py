"""Lies about suite 1: what a server can make of the bundles and messages that pass through it.

Owns: one who lies with keys of their own, and with what they stole; every way in which a claim or a
content is changed.
Promises: a lie differs from what it is made of.
Exposure: none.
"""

import random
from collections.abc import Callable
from typing import Final

from client.crypto import ciphers
from client.suite1 import bundles, layout, messages, olm, outer, own_keys, peers
from client.suite1.messages import Opened
from client.suite1.own_keys import OuterSecret, OwnKeys
from client.suite1.values import VERSION, Bundle, Identity, OuterKey, Pair
from common.values import MessageKind, PublicKey
from torture.middleman import Claimed, Letter, Overheard

_ML_KEM: Final = 1088
_ENCAPSULATED: Final = 1120
_TAG: Final = 16
_PLACES: Final = (
    ("version", 0, 1),
    ("number of the outer key", 1, 5),
    ("size", 5, 9),
    ("ML-KEM", 9, 9 + _ML_KEM),
    ("X25519", 9 + _ML_KEM, 9 + _ENCAPSULATED),
    ("body", 9 + _ENCAPSULATED, -_TAG),
    ("tag", -_TAG, None),
)
_OLM_KEYS: Final = 150
"""Bytes from the beginning of a message of Olm within which its keys and counter are."""
_OLM_TAG: Final = 8


class Mallory:
    """One who has the server, an identity of their own, and whatever outer keys they stole."""

    def __init__(self, chance: random.Random, now: Callable[[], int]) -> None:
        """`now`: Unix milliseconds."""
        self._chance = chance
        self._now = now
        self.keys = own_keys.new_keys(now(), chance.randbytes)
        self.stolen: list[OuterSecret] = []
        account, (self._one_time_key,) = olm.with_one_time_keys(self.keys.account, 1)
        self.keys = self.keys._replace(account=account)
        self._sign = olm.signer(account)

    def bundle(
        self,
        owner: bytes,
        *,
        identity: Identity | None = None,
        outer_key: OuterKey | None = None,
        fallback: bytes | None = None,
    ) -> bytes:
        """Return a bundle in somebody's name, of Mallory's keys but those that are given, with
        Mallory's signature.
        """
        mine = self.keys.outer[-1].public
        made = Bundle(identity or self.keys.identity, outer_key or mine, fallback or self.keys.fallback)
        return bundles.made_bundle(owner, made, self._sign)

    def one_time_key(self, owner: bytes) -> bytes:
        """Return a one-time key in somebody's name. It is one key, which nothing uses up."""
        return bundles.made_one_time_key(owner, self._one_time_key, self._sign)

    def reads(self, message: Overheard, sender: Identity) -> bool:
        """Whether Mallory opens a message of somebody with this identity, or so much as its outer
        layer.
        """
        pair = Pair(message.sender, message.recipient)
        head = layout.envelope(message.content)
        if head is None:
            return False
        sealed = message.content[layout.ENVELOPE.size : head.size]
        if any(outer.open_sealed(secret.seed, pair, sealed) is not None for secret in (*self.keys.outer, *self.stolen)):
            return True
        peer = peers.met(Bundle(sender, self.keys.outer[-1].public, b""))
        return isinstance(messages.open_message(self.keys, peer, pair, message.content[: head.size]), Opened)

    # --- claims
    # ---------------------------------------------------------------------------------------------

    def other_identity(self, owner: bytes, said: Claimed) -> Claimed:
        """All of it Mallory's, which is consistent in itself."""
        made = self.bundle(owner)
        return Claimed(made, self._chance.choice((self.one_time_key(owner), b"", said.one_time_key)))

    def other_keys(self, owner: bytes, said: Claimed) -> Claimed:
        """The right identity, and Mallory's outer, fallback or one-time key, or a bit of the right
        ones.
        """
        true = bundles.checked_bundle(said.bundle, owner, self._now())
        signature = said.bundle[-64:]
        made = self._chance.choice(
            (
                self.bundle(owner, identity=true.identity),
                self.bundle(owner, identity=true.identity, outer_key=true.outer),
                self.bundle(owner, identity=true.identity, fallback=true.fallback),
                said.bundle,
                said.bundle,
            )
        )
        if made != said.bundle:
            # With Mallory's signature, the one of the true bundle, or the true one but for a bit.
            spoiled = (made, made[:-64] + signature, flipped(self._chance, said.bundle))
            return Claimed(self._chance.choice(spoiled), said.one_time_key)
        mine = self.one_time_key(owner)
        given = said.one_time_key or mine
        return Claimed(
            made,
            self._chance.choice((mine, mine[:32] + given[32:], mine[:32] + signature, flipped(self._chance, mine))),
        )

    # --- messages
    # -------------------------------------------------------------------------------------------

    def forgeries(self, victim: PublicKey, sender: bytes) -> list[Letter]:
        """Return messages of the published suite in somebody's name: a symmetric key, and what is
        under it.
        """
        key = ciphers.symmetric_key(self._chance.randbytes(ciphers.SYMMETRIC_KEY_SIZE))
        forged = b"forged " * self._chance.randint(1, 30)
        contents = {
            MessageKind.KEY: ciphers.seal_key(key, victim, self._chance.randbytes),
            MessageKind.TEXT: ciphers.encrypt(key, forged),
            MessageKind.FILE: ciphers.encrypt(key, forged),
        }
        return [
            Letter(sender, kind, content, self._chance.randbytes(16))  # type: ignore[arg-type]
            for kind, content in contents.items()
        ]


def flipped(chance: random.Random, data: bytes, start: int = 0, end: int | None = None) -> bytes:
    """Return data with one bit changed, between two places."""
    start, end, _ = slice(start, end).indices(len(data))
    changed = bytearray(data)
    changed[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def altered(chance: random.Random, content: bytes) -> bytes:
    """Change a bit of a message, each part of it as often as another."""
    _, start, end = chance.choice(_PLACES)
    return flipped(chance, content, start, end)


def altered_inside(chance: random.Random, content: bytes, keys: OwnKeys, pair: Pair) -> bytes:
    """Change a bit of what the outer layer covers, as one who has `keys`: the type, the keys
    and counters, the body or the authenticator of Olm.
    """
    head = layout.envelope(content)
    assert head is not None
    seed = keys.outer_seed(head.outer_number)
    assert seed is not None
    plain = outer.open_sealed(seed, pair, content[layout.ENVELOPE.size : head.size])
    assert plain is not None
    start, end = chance.choice(((0, 1), (1, _OLM_KEYS), (_OLM_KEYS, -_OLM_TAG), (-_OLM_TAG, None)))
    sealed = outer.seal(outer.public_of(seed), pair, flipped(chance, plain, start, end))
    return layout.enveloped(head.outer_number, sealed) + content[head.size :]


def cut(chance: random.Random, content: bytes) -> bytes:
    """Cut a message anywhere, with or without the size that says so."""
    left = content[: chance.randrange(len(content))]
    if len(left) > layout.ENVELOPE.size and chance.randrange(2):
        head = layout.envelope(content)
        assert head is not None
        return layout.enveloped(head.outer_number, left[layout.ENVELOPE.size :])
    return left


def is_broken_outside(content: bytes) -> bool:
    """Whether a message shows by its first bytes that it is none of this suite: nobody asks its
    sender for it again.
    """
    head = layout.envelope(content)
    return head is None or head.version != VERSION or head.size != len(content)
