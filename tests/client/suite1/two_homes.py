"""Two homes that speak suite 1 with each other, and an obedient server between them."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from client.suite1 import bundles, messages, own_keys, payloads, peers
from client.suite1.messages import NotOpened, Opened
from client.suite1.payloads import About, Text
from client.suite1.values import DAY, Claim, OpenFailure, Pair

if TYPE_CHECKING:
    from client.suite1.own_keys import OwnKeys, Publication
    from client.suite1.peers import Peer

NOW = 1_800_000_000_000
ALICE, BOB, CAROL = b"alice's id 12345", b"bob's id 1234567", b"carol's id 12345"


@dataclass
class Shelf:
    """What the server keeps of one user's keys."""

    bundle: bytes = b""
    one_time_keys: list[bytes] = field(default_factory=list)

    def take(self, publication: Publication) -> int:
        if publication.flags & own_keys.FORGET:
            self.one_time_keys.clear()
        self.bundle = publication.bundle
        self.one_time_keys += publication.one_time_keys[: 100 - len(self.one_time_keys)]
        return len(self.one_time_keys)

    def hand_out(self) -> tuple[bytes, bytes]:
        return self.bundle, self.one_time_keys.pop(0) if self.one_time_keys else b""


@dataclass
class World:
    """A clock, a server's shelves, and repeatable randomness of our own."""

    now: int = NOW
    shelves: dict[bytes, Shelf] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def random_bytes(self, count: int) -> bytes:
        return self.dice.randbytes(count)


class Home:
    """One user's state, as a store has it: bytes between any two steps."""

    def __init__(self, world: World, client_id: bytes) -> None:
        self.world = world
        self.client_id = client_id
        self._keys = own_keys.new_keys(world.now, world.random_bytes).to_bytes()
        self._peers: dict[bytes, bytes] = {}
        self._ids = itertools.count(1)
        self.publish()

    @property
    def keys(self) -> OwnKeys:
        return own_keys.OwnKeys.from_bytes(self._keys)

    @keys.setter
    def keys(self, keys: OwnKeys) -> None:
        self._keys = keys.to_bytes()

    def peer(self, other: bytes) -> Peer:
        if other not in self._peers:
            self._peers[other] = peers.met(self.claim(other).bundle).to_bytes()
        return peers.Peer.from_bytes(self._peers[other])

    def keep(self, other: bytes, peer: Peer) -> None:
        self._peers[other] = peer.to_bytes()

    def copy(self) -> tuple[bytes, dict[bytes, bytes]]:
        """What a copy of the home's files holds."""
        return self._keys, dict(self._peers)

    def put_back(self, copy: tuple[bytes, dict[bytes, bytes]]) -> None:
        self._keys, self._peers = copy[0], dict(copy[1])

    def publish(self) -> None:
        shelf = self.world.shelves.setdefault(self.client_id, Shelf())
        self.keys, publication = own_keys.prepare_publication(
            self.keys, self.client_id, self.world.now, self.world.random_bytes
        )
        self.keys = own_keys.published(self.keys, shelf.take(publication), self.world.now)

    def claim(self, other: bytes, *, first: bool = True) -> Claim:
        raw_bundle, raw_key = self.world.shelves[other].hand_out()
        known = peers.Peer.from_bytes(self._peers[other]) if other in self._peers and not first else None
        return bundles.checked_claim(
            raw_bundle, raw_key, other, self.world.now, known and known.identity, known and known.outer
        )

    def seal(self, other: bytes, text: str = "hello") -> bytes:
        """Seal a text as a client does, with a claim before it if one is due."""
        peer = self.peer(other)
        if peers.claim_due(peer, self.world.now) is not None:
            peer = peers.claimed(self.keys, peer, self.claim(other, first=False), self.world.now)
            self.keep(other, peer)
        about = About(next(self._ids).to_bytes(16, "big"), self.world.now)
        return self.seal_payload(other, payloads.encoded(Text(about, text)))

    def seal_payload(self, other: bytes, payload: bytes) -> bytes:
        sealed = messages.seal(self.keys, self.peer(other), Pair(self.client_id, other), payload)
        self.keep(other, sealed.peer)
        return sealed.envelope

    def open(self, other: bytes, envelope: bytes) -> Opened | NotOpened:
        result = messages.open_message(self.keys, self.peer(other), Pair(other, self.client_id), envelope)
        self.keys = result.keys
        self.keep(other, result.peer)
        return result

    def read(self, other: bytes, envelope: bytes) -> str:
        """Open a text that has to open."""
        result = self.open(other, envelope)
        assert isinstance(result, Opened), result.failure
        payload = payloads.decoded(result.payload)
        assert isinstance(payload, Text)
        return payload.text

    def refusal(self, other: bytes, envelope: bytes) -> OpenFailure:
        """Open a message that has to be refused."""
        result = self.open(other, envelope)
        assert isinstance(result, NotOpened)
        return result.failure


def two_homes() -> tuple[World, Home, Home]:
    """Alice and Bob, who have published and know nothing of each other."""
    world = World()
    return world, Home(world, ALICE), Home(world, BOB)


def talking() -> tuple[World, Home, Home]:
    """Alice and Bob, after a message in each direction."""
    world, alice, bob = two_homes()
    assert bob.read(ALICE, alice.seal(BOB)) == "hello"
    assert alice.read(BOB, bob.seal(ALICE)) == "hello"
    return world, alice, bob


def days(count: float) -> int:
    return int(count * DAY)
