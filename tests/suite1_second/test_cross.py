"""The two implementations talk to each other, in both directions.

Alice is of `client.suite1`, by its public functions; Bob is of the second implementation.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import pytest

from client.suite1 import bundles as their_bundles
from client.suite1 import file_stream, identity_numbers, messages, own_keys, peers, values
from client.suite1 import payloads as their_payloads
from tests.suite1_second import bundles, cbor, payloads, streams, talk
from tests.suite1_second.outer import OuterKey
from tests.suite1_second.people import NOW, bundle_of, new_home, one_time_of
from tests.suite1_second.primitives import Refused, public_of
from torture import olm_pickles

ALICE, BOB = b"alice's id 12345", b"bob's id 1234567"
HOUR = 60 * 60 * 1000


@dataclass
class Alice:
    """A user of `client.suite1`: her keys, what she published, what she knows of Bob."""

    keys: own_keys.OwnKeys
    bundle: bytes
    one_time: list[bytes]
    bob: peers.Peer
    now: int = NOW

    def publish(self) -> None:
        self.keys, publication = own_keys.prepare_publication(self.keys, ALICE, self.now, os.urandom)
        self.bundle, self.one_time = publication.bundle, list(publication.one_time_keys)
        self.keys = own_keys.published(self.keys, len(self.one_time), self.now)

    def claim(self, bob: talk.Home, one_time: bytes) -> None:
        """What a claim changes, as before a message."""
        claim = their_bundles.checked_claim(bundle_of(bob), one_time, BOB, self.now, self.bob.identity, self.bob.outer)
        self.bob = peers.claimed(self.keys, self.bob, claim, self.now)

    def says(self, payload: bytes) -> bytes:
        sealed = messages.seal(self.keys, self.bob, values.Pair(ALICE, BOB), payload)
        self.bob = sealed.peer
        return sealed.envelope

    def opens(self, envelope: bytes) -> messages.Opened | messages.NotOpened:
        result = messages.open_message(self.keys, self.bob, values.Pair(BOB, ALICE), envelope)
        self.keys, self.bob = result.keys, result.peer
        return result


@dataclass
class Bob:
    """A user of the second implementation."""

    home: talk.Home
    alice: talk.Peer

    def claim(self, alice: Alice, one_time: bytes) -> None:
        claim = bundles.checked(alice.bundle, one_time, ALICE, alice.now, self.alice.identity)
        talk.start(self.home, self.alice, claim)

    def says(self, payload: bytes) -> bytes:
        return talk.seal(self.home, self.alice, payload)

    def opens(self, envelope: bytes) -> talk.Opened:
        return talk.opened(self.home, self.alice, envelope)


@pytest.fixture
def pair() -> tuple[Alice, Bob]:
    home = new_home(BOB)
    keys, publication = own_keys.prepare_publication(own_keys.new_keys(NOW, os.urandom), ALICE, NOW, os.urandom)
    keys = own_keys.published(keys, len(publication.one_time_keys), NOW)
    known = their_bundles.checked_bundle(bundle_of(home), BOB, NOW)
    alice = Alice(keys, publication.bundle, list(publication.one_time_keys), peers.met(known))
    claim = bundles.checked(alice.bundle, b"", ALICE, NOW)
    return alice, Bob(home, talk.Peer(ALICE, claim.identity, claim.outer_number, claim.outer))


def text(words: str) -> bytes:
    return payloads.encode(1, NOW, os.urandom(16), text=words)


def hear(alice: Alice, envelope: bytes, order: messages.Order = messages.Order.NEXT) -> messages.Opened:
    opened = alice.opens(envelope)
    assert isinstance(opened, messages.Opened)
    assert opened.order == order
    return opened


def rounds(alice: Alice, bob: Bob, count: int = 3) -> None:
    """Several messages each way, with a step of the ratchet at each change."""
    for _ in range(count):
        for _ in range(2):
            payload = text("from Alice")
            assert bob.opens(alice.says(payload)).payload == payload
        for _ in range(2):
            payload = text("from Bob")
            assert hear(alice, bob.says(payload)).payload == payload


@pytest.mark.parametrize("with_one_time", [True, False])
def test_alice_begins(pair: tuple[Alice, Bob], with_one_time: bool) -> None:
    alice, bob = pair
    alice.claim(bob.home, one_time_of(bob.home) if with_one_time else b"")
    rounds(alice, bob)
    assert len(bob.home.one_time) == 5 - with_one_time


@pytest.mark.parametrize("with_one_time", [True, False])
def test_bob_begins(pair: tuple[Alice, Bob], with_one_time: bool) -> None:
    alice, bob = pair
    bob.claim(alice, alice.one_time[0] if with_one_time else b"")
    assert hear(alice, bob.says(text("hello"))).form == 1
    rounds(alice, bob)


def test_both_begin_at_once(pair: tuple[Alice, Bob]) -> None:
    alice, bob = pair
    alice.claim(bob.home, one_time_of(bob.home))
    bob.claim(alice, alice.one_time[0])
    from_alice, from_bob = alice.says(text("one")), bob.says(text("two"))
    assert bob.opens(from_alice).number == 1
    hear(alice, from_bob)
    rounds(alice, bob)


def test_overtaken_and_missing_messages(pair: tuple[Alice, Bob]) -> None:
    alice, bob = pair
    alice.claim(bob.home, b"")
    sealed = [alice.says(text(f"{i}")) for i in range(5)]
    assert [bob.opens(sealed[i]).order for i in (2, 0, 4, 1)] == ["gap", "late", "gap", "late"]
    with pytest.raises(Refused, match=r"^repeated$"):
        bob.opens(sealed[0])
    sealed = [bob.says(text(f"{i}")) for i in range(3)]
    assert hear(alice, sealed[2], messages.Order.GAP).missing == 2
    hear(alice, sealed[0], messages.Order.LATE)
    again = alice.opens(sealed[0])
    assert isinstance(again, messages.NotOpened)
    assert again.failure == values.OpenFailure.REPEATED


def test_what_neither_opens(pair: tuple[Alice, Bob]) -> None:
    alice, bob = pair
    alice.claim(bob.home, b"")
    envelope = alice.says(text("hello"))
    altered = envelope[:-1] + bytes([envelope[-1] ^ 1])
    with pytest.raises(Refused, match=r"^outer-damaged$"):
        bob.opens(altered)
    assert bob.alice.renew
    bob.claim(alice, alice.one_time[0])
    renewed = hear(alice, bob.says(text("anew")))
    assert (renewed.form, renewed.renewed) == (2, True)
    rounds(alice, bob)


def test_files(pair: tuple[Alice, Bob]) -> None:
    content, key = os.urandom(50_000), os.urandom(32)
    context, digest = streams.context_of(ALICE, BOB), hashlib.sha256(content).digest()
    sealer = file_stream.FileSealer(key, values.Pair(ALICE, BOB))
    stream = sealer.update(content) + b"".join(sealer.finish())
    assert (sealer.digest, len(stream)) == (digest, streams.sealed_size(len(content)))
    assert streams.opened(stream, key, context, len(content), digest) == content
    opener = file_stream.FileOpener(key, values.Pair(ALICE, BOB), len(content), digest)
    assert opener.update(streams.seal(content, key, context)) + opener.finish() == content


def test_numbers(pair: tuple[Alice, Bob]) -> None:
    alice, bob = pair
    ours, theirs = bob.home.identity, alice.keys.identity
    other = values.Identity(ours.ed25519, ours.curve25519)
    as_ours = bundles.Identity(theirs.ed25519, theirs.curve25519)
    assert identity_numbers.fingerprint(BOB, other) == bundles.fingerprint(BOB, ours)
    assert identity_numbers.safety_number((ALICE, theirs), (BOB, other)) == bundles.safety_number(
        (BOB, ours), (ALICE, as_ours)
    )


def test_payloads_both_ways() -> None:
    about = their_payloads.About(bytes(range(16)), NOW, bytes(16))
    for theirs in (
        their_payloads.Text(about, "hello"),
        their_payloads.File(about, "a.txt", "text/plain", 7, bytes(32), bytes(range(32)), "a caption"),
        their_payloads.CouldNotOpen(their_payloads.About(bytes(16), NOW), (bytes(16),)),
    ):
        raw = their_payloads.encoded(theirs)
        fields = payloads.decode(raw).fields
        assert cbor.encode(fields) == raw
        assert their_payloads.decoded(cbor.encode(fields)) == theirs


FILE: dict[int, cbor.Value] = {0: 2, 1: 1, 2: bytes(16), 4: "n", 5: "", 6: 3, 7: bytes(32), 8: bytes(32)}
TEXT: dict[int, cbor.Value] = {0: 1, 1: 1, 2: bytes(16), 3: "x"}
COULD_NOT: dict[int, cbor.Value] = {0: 3, 1: 1, 2: bytes(16), 9: []}


def nested(levels: int) -> cbor.Value:
    value: cbor.Value = 0
    for level in range(levels):
        value = [value] if level % 2 else {1: value}
    return value


def inside(*items: bytes) -> bytes:
    """A text with one more pair, or with further ones, encoded as they are given."""
    return bytes([0xA4 + len(items) // 2]) + cbor.encode(TEXT)[1:] + b"".join(items)


CASES = {
    "seven levels below": cbor.encode({**TEXT, 99: nested(7)}),
    "eight levels below": cbor.encode({**TEXT, 99: nested(8)}),
    "kind 0": cbor.encode({**TEXT, 0: 0}),
    "kind 32": cbor.encode({**TEXT, 0: 32}),
    "sent at, 2^63": cbor.encode({**TEXT, 1: 1 << 63}),
    "an unknown integer, 2^64 - 1": cbor.encode({**TEXT, 99: (1 << 64) - 1}),
    "an unknown integer, -2^64": cbor.encode({**TEXT, 99: -(1 << 64)}),
    "an unknown kind with no text": cbor.encode({0: 9, 1: 1, 2: bytes(16)}),
    "an unknown kind whose text is a number": cbor.encode({**TEXT, 0: 9, 3: 7}),
    "an unknown kind whose answer is no id": cbor.encode({**TEXT, 0: 9, 10: "x"}),
    "an unknown kind whose ids are none": cbor.encode({**TEXT, 0: 9, 9: "x"}),
    "a text with a media type that is a number": cbor.encode({**TEXT, 5: 7}),
    "could not open, with a text that is a number": cbor.encode({**COULD_NOT, 3: 7}),
    "could not open, with an answer that is no id": cbor.encode({**COULD_NOT, 10: 7}),
    "256 ids": cbor.encode({**COULD_NOT, 9: [bytes(16)] * 256}),
    "257 ids": cbor.encode({**COULD_NOT, 9: [bytes(16)] * 257}),
    "a negative key, and no text": cbor.encode({0: 1, 1: 1, 2: bytes(16), -1: 0}),
    "a negative key, and a short id": cbor.encode({0: 1, 1: 1, 2: bytes(15), -1: 0}),
    "an empty file name": cbor.encode({**FILE, 4: ""}),
    "a file name of 256 bytes": cbor.encode({**FILE, 4: "ä" * 128}),
    "a size of 2^63": cbor.encode({**FILE, 6: 1 << 63}),
    "a key of bytes": inside(b"\x41a", b"\0"),
    "a key that is true": inside(b"\xf5", b"\0"),
    "an undefined value": inside(b"\x18\x63", b"\xf7"),
    "a simple value": inside(b"\x18\x63", b"\xe0"),
    "false in two bytes": inside(b"\x18\x63", b"\xf8\x14"),
    "a big number": inside(b"\x18\x63", b"\xc2\x41\x05"),
    "a key twice, inside": inside(b"\x18\x63", b"\xa2\x01\0\x01\0"),
    "keys in another order, inside": inside(b"\x18\x63", b"\xa2\x02\0\x01\0"),
    "a length that is longer than it has to be": inside(b"\x18\x63", b"\x78\x01x"),
    "half of a surrogate": inside(b"\x18\x63", b"\x63\xed\xa0\x80"),
    "an array without end": inside(b"\x18\x63", b"\x9b\x7f" + b"\xff" * 7),
    "a text without end": inside(b"\x18\x63", b"\x7b\x7f" + b"\xff" * 7),
    "a thousand levels": inside(b"\x18\x63", b"\x81" * 1000 + b"\0"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_take_and_refuse_the_same_payloads(name: str) -> None:
    raw = CASES[name]
    try:
        ours = payloads.decode(raw).form
    except Refused as refused:
        ours = refused.failure
    try:
        theirs = their_payloads.decoded(raw)
    except their_payloads.PayloadMalformed:
        assert ours == "malformed"
    else:
        forms = {"Text": "text", "File": "file", "CouldNotOpen": "could not open", "Unknown": "unknown"}
        assert ours == forms[type(theirs).__name__]


def test_a_note_to_oneself(pair: tuple[Alice, Bob]) -> None:
    """Who follows the text opens a note as any message, with the keys of the home that
    sealed it.
    """
    alice, _ = pair
    oneself = peers.oneself(alice.keys)
    for place in (1, 2):
        alice.keys, sealed = messages.seal_note(alice.keys, oneself, values.Pair(ALICE, ALICE), text(f"{place}"))
        oneself = sealed.peer
        secrets = olm_pickles.account_secrets(alice.keys.account)
        one_time = [bytes.fromhex(key) for key in secrets["one_time_private"]]
        identity = bundles.Identity(*alice.keys.identity)
        home = talk.Home(
            id=ALICE,
            ed25519_seed=bytes.fromhex(secrets["ed25519_seed"]),
            identity=identity,
            curve25519=bytes.fromhex(secrets["curve25519_private"]),
            one_time={public_of(key): key for key in one_time},
            fallback=[bytes.fromhex(key) for key in secrets["fallback_private"]],
            outer=[OuterKey(key.number, key.seed, key.valid_until) for key in alice.keys.outer],
        )
        before = len(home.one_time)
        note = talk.opened(home, talk.Peer(ALICE, identity, 0, b"", highest=place - 1), sealed.envelope)
        assert (payloads.decode(note.payload).fields[3], note.form, note.number) == (f"{place}", 1, place)
        assert note.order == "next"
        assert len(home.one_time) == before - 1
