"""Makes tests/vectors/suite1.json: `python -m tests.client.suite1.make_vectors`.

The libraries take no randomness from outside, so that each run makes other vectors. What is in the
file stays, unless docs/suite-1.md changes. Its section "Vectors" says what the fields mean.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2

from client.suite1 import bundles, layout, messages, olm, outer, payloads, peers
from client.suite1.file_stream import FileDamaged, FileOpener, FileSealer
from client.suite1.identity_numbers import fingerprint, safety_number
from client.suite1.layout import Inner
from client.suite1.messages import Opened
from client.suite1.padding import padme
from client.suite1.payloads import About, CouldNotOpen, File, PayloadMalformed, Text, Unknown
from client.suite1.values import (
    DAY,
    Bundle,
    BundleFailure,
    BundleRefused,
    Identity,
    OpenFailure,
    OuterKey,
    Pair,
)
from tests.client.suite1.two_homes import ALICE, BOB, CAROL, NOW, Home, World
from torture import olm_pickles as pickles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = Path(__file__).parents[2] / "vectors" / "suite1.json"
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol"}
Vectors = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Recorder:
    """Alice and Bob, and all that goes between them in one conversation."""

    def __init__(self, name: str, *, one_time_keys: bool = True) -> None:
        self.world = World()
        self.alice, self.bob = Home(self.world, ALICE), Home(self.world, BOB)
        for shelf in self.world.shelves.values():
            del shelf.one_time_keys[3 if one_time_keys else 0 :]
        pairs = ((self.alice, self.bob), (self.bob, self.alice))
        self.found: Vectors = {
            "name": name,
            "people": [self.person(home, other) for home, other in pairs],
            "steps": [],
        }

    def person(self, home: Home, other: Home) -> Vectors:
        """The secrets of one of the two, and what our own code needs to go on from here."""
        keys = home.keys
        return {
            "name": NAMES[home.client_id],
            "id": home.client_id.hex(),
            "ed25519": keys.identity.ed25519.hex(),
            "curve25519": keys.identity.curve25519.hex(),
            **pickles.account_secrets(keys.account),
            "outer": [{"number": secret.number, "seed": secret.seed.hex()} for secret in keys.outer],
            "state": {
                "keys": b64(keys.to_bytes()),
                "peer": b64(home.peer(other.client_id).to_bytes()),
            },
        }

    def seal(self, home: Home, payload: str | bytes, note: str = "") -> bytes:
        """Seal a text or a payload, and record who did with which keys."""
        other = self.bob if home is self.alice else self.alice
        before = {each.olm.session_id for each in home.peer(other.client_id).sessions}
        if isinstance(payload, str):
            content = home.seal(other.client_id, payload)
        else:
            content = home.seal_payload(other.client_id, payload)
        self.sealed(home, other, note, before)
        return content

    def forge(
        self,
        home: Home,
        change: Callable[[Inner], Inner] = lambda inner: inner,
        spoil: Callable[[bytes], bytes] = lambda plain: plain,
    ) -> bytes:
        """Seal what a program of ours never would."""
        other = self.bob if home is self.alice else self.alice
        peer = home.peer(other.client_id)
        session = peer.sending
        assert session is not None
        pair = Pair(home.client_id, other.client_id)
        payload = payloads.encoded(Text(About(bytes(16), NOW), "forged"))
        inner = Inner(1, peer.sent + 1, pair, home.keys.identity.ed25519, peer.identity.ed25519, payload)
        advanced, message = olm.encrypt(session.olm, spoil(layout.packed(change(inner))))
        sessions = tuple(each._replace(olm=advanced) if each is session else each for each in peer.sessions)
        home.keep(other.client_id, peer._replace(sessions=sessions))
        # A session in which nothing was sealed yet begins with this message.
        before = {session.olm.session_id} if peer.sent or peer.highest else set()
        self.sealed(home, other, "by a program that breaks the rules", before)
        return self.outside(peer.outer, pair, bytes([message.kind]) + message.data)

    @staticmethod
    def outside(key: OuterKey, pair: Pair, unsealed: bytes) -> bytes:
        return layout.enveloped(key.number, outer.seal(key.public, pair, unsealed))

    def sealed(self, home: Home, other: Home, note: str, before: set[bytes]) -> None:
        """Record what was sealed; `before`: the ids of the sessions that there were."""
        peer = home.peer(other.client_id)
        session = peer.sending
        assert session is not None
        self.found["steps"].append(
            {
                "step": "seal",
                "by": NAMES[home.client_id],
                **({"note": note} if note else {}),
                "session": session.olm.session_id.hex(),
                "starts_session": session.olm.session_id not in before,
                **pickles.sending_secrets(session.olm.pickle),
                "state": {"peer": b64(peer.to_bytes())},
            }
        )

    def put_back(self, home: Home, copy: tuple[bytes, dict[bytes, bytes]]) -> None:
        """Put a copy of a home in its place that was made behind the first two messages."""
        other = self.bob if home is self.alice else self.alice
        home.put_back(copy)
        peer = home.peer(other.client_id)
        self.found["steps"].append(
            {
                "step": "put back",
                "by": NAMES[home.client_id],
                "note": "this home is again as it was behind the first two messages",
                "state": {"keys": b64(home.keys.to_bytes()), "peer": b64(peer.to_bytes())},
            }
        )

    def start(self, home: Home) -> None:
        """Claim, and so start a session in which nothing is sealed yet."""
        other = self.bob if home is self.alice else self.alice
        claim = home.claim(other.client_id, first=False)
        home.keep(other.client_id, peers.claimed(home.keys, home.peer(other.client_id), claim, NOW))

    def open(
        self, home: Home, content: bytes, expected: OpenFailure | None = None, note: str = "", sender: bytes = b""
    ) -> None:
        """Open a content and record what comes of it, which has to be what is expected."""
        other = self.bob if home is self.alice else self.alice
        keys, peer = home.keys, home.peer(other.client_id)
        pair = Pair(sender or other.client_id, home.client_id)
        result = messages.open_message(keys, peer, pair, content)
        home.keys = result.keys
        home.keep(other.client_id, result.peer)
        step: Vectors = {
            "step": "open",
            "by": NAMES[home.client_id],
            **({"note": note} if note else {}),
            "sender": pair.sender.hex(),
            "recipient": pair.recipient.hex(),
            "content": b64(content),
        }
        if isinstance(result, Opened):
            assert expected is None, note
            step |= {
                "form": result.form,
                "number": result.number,
                "order": result.order.value,
                "missing": result.missing,
                "renewed": result.renewed,
                "payload": b64(result.payload),
            }
        else:
            assert result.failure is expected, (note, result.failure)
            step["failure"] = result.failure.value
        step["renew_next"] = result.peer.renew
        self.found["steps"].append(step)


def flipped(data: bytes, at: int) -> bytes:
    altered = bytearray(data)
    altered[at] ^= 1
    return bytes(altered)


def a_talk() -> Vectors:
    """A first message, answers, ratchet steps, an overtaken message, repeats."""
    record = Recorder("a talk that a one-time key begins")
    alice, bob = record.alice, record.bob
    first = record.seal(alice, "hello bob")
    second = record.seal(alice, "x" * 256, "still a pre-key message: 1,700 bytes")
    record.open(bob, first)
    record.open(bob, second)
    record.open(bob, first, OpenFailure.REPEATED)
    for number in range(2):
        record.open(alice, record.seal(bob, f"answer {number}"))
        record.open(bob, record.seal(alice, f"and back {number}"))
    overtaken = [record.seal(alice, f"overtaken {number}") for number in range(4)]
    for at in (2, 0, 3, 1):
        record.open(bob, overtaken[at])
    long = record.seal(bob, "\u00fc" * 5000)
    record.open(alice, long)
    record.open(alice, record.seal(bob, ""))
    record.open(alice, long, OpenFailure.REPEATED)
    return record.found


def by_a_fallback_key() -> Vectors:
    record = Recorder("a talk that the fallback key begins", one_time_keys=False)
    record.open(record.bob, record.seal(record.alice, "no one-time key was left"))
    record.open(record.alice, record.seal(record.bob, "none was needed"))
    return record.found


def both_at_once() -> Vectors:
    record = Recorder("both begin at once")
    alice, bob = record.alice, record.bob
    for number in range(3):
        crossing = record.seal(alice, f"a{number}"), record.seal(bob, f"b{number}")
        record.open(bob, crossing[0])
        record.open(alice, crossing[1])
    return record.found


def a_renewal() -> Vectors:
    record = Recorder("a home that was put back heals")
    alice, bob = record.alice, record.bob
    record.open(bob, record.seal(alice, "1"))
    record.open(alice, record.seal(bob, "2"))
    copy = alice.copy()
    record.open(bob, record.seal(alice, "3"))
    record.open(alice, record.seal(bob, "4"))
    record.put_back(alice, copy)
    record.open(alice, record.seal(bob, "5"), OpenFailure.NO_SESSION)
    notice = payloads.encoded(CouldNotOpen(About(bytes(15) + b"\7", NOW), (bytes(15) + b"\5",)))
    record.start(alice)
    content = alice.seal_payload(BOB, notice)
    record.sealed(alice, bob, "form 2: a new session takes the place of the one that failed", set())
    record.open(bob, content)
    record.open(alice, record.seal(bob, "welcome back"))
    record.open(bob, record.seal(alice, "form 1 again"))
    return record.found


def a_copy_that_writes_first() -> Vectors:
    record = Recorder("a home that was put back writes first")
    alice, bob = record.alice, record.bob
    record.open(bob, record.seal(alice, "1"))
    record.open(bob, record.seal(alice, "2"))
    copy = alice.copy()
    record.open(bob, record.seal(alice, "3"))
    record.put_back(alice, copy)
    record.open(bob, record.seal(alice, "3, of the copy"), OpenFailure.USED_KEY, "its key is the one of 3")
    record.open(alice, record.seal(bob, "I could not open something"))
    record.open(bob, record.seal(alice, "so I know it"))
    return record.found


def both_renew_at_once() -> Vectors:
    record = Recorder("both renew at once")
    alice, bob = record.alice, record.bob
    record.open(bob, record.seal(alice, "1"))
    record.open(alice, record.seal(bob, "2"))
    for home in (alice, bob):
        spoilt = layout.enveloped(home.keys.outer[-1].number, bytes(1300))
        record.open(home, spoilt, OpenFailure.OUTER_DAMAGED, "a server spoils a message each way")
    for number in range(3):
        crossing = record.seal(alice, f"a{number}"), record.seal(bob, f"b{number}")
        record.open(bob, crossing[0])
        record.open(alice, crossing[1])
    record.open(bob, record.seal(alice, "not crossed by another"))
    record.open(alice, record.seal(bob, "so this is in its session"))
    one, other = alice.peer(BOB).sending, bob.peer(ALICE).sending
    assert one is not None
    assert other is not None
    assert one.olm.session_id == other.olm.session_id
    assert not one.renewing
    assert not other.renewing
    record.open(bob, record.seal(alice, "in one session"))
    record.open(alice, record.seal(bob, "in the same session"))
    return record.found


def a_start_that_was_not_meant() -> Vectors:
    record = Recorder("a first message that was meant for somebody else")
    alice, bob = record.alice, record.bob
    record.start(alice)
    content = record.forge(alice, lambda inner: inner._replace(pair=Pair(ALICE, CAROL)))
    record.open(bob, content, OpenFailure.WRONG_IDS)
    second = record.seal(alice, "in the same session")
    record.open(bob, second, OpenFailure.USED_KEY, "bob has kept no session, and the id is remembered")
    record.open(alice, record.seal(bob, "a session of his own"))
    record.open(bob, record.seal(alice, "which both have"))
    return record.found


def refusals() -> Vectors:
    """Every failure of the table."""
    record = Recorder("what is refused")
    alice, bob = record.alice, record.bob
    bobs = bob.keys.outer[-1].public
    pair = Pair(ALICE, BOB)
    first = record.seal(alice, "first")
    record.open(bob, flipped(first, 0), OpenFailure.VERSION, "version 0")
    record.open(bob, flipped(first, 1), OpenFailure.OUTER_KEY_UNKNOWN, "another outer key's number")
    record.open(bob, flipped(first, 5), OpenFailure.MALFORMED, "another size")
    for size in (0, 8, 9, len(first) - 1):
        record.open(bob, first[:size], OpenFailure.MALFORMED, f"cut behind {size} bytes")
    record.open(bob, first + b"\0", OpenFailure.MALFORMED, "a byte more")
    for at in (9, 9 + 1087, 9 + 1088, 9 + 1119, 9 + 1120, len(first) - 1):
        record.open(bob, flipped(first, at), OpenFailure.OUTER_DAMAGED, f"a bit of byte {at}")
    record.open(bob, first, OpenFailure.OUTER_DAMAGED, "as from another sender", sender=CAROL)
    unsealed = outer.open_sealed(bob.keys.outer[-1].seed, pair, first[9:])
    assert unsealed is not None
    empty = record.outside(bobs, pair, b"")
    record.open(bob, empty, OpenFailure.INNER_MALFORMED, "nothing inside")
    for name, altered, failure in (
        ("type 2", b"\2" + unsealed[1:], OpenFailure.INNER_MALFORMED),
        ("Olm's version 2", unsealed[:1] + b"\2" + unsealed[2:], OpenFailure.INNER_MALFORMED),
        ("cut inside", unsealed[:40], OpenFailure.INNER_MALFORMED),
        ("another one-time key", flipped(unsealed, 10), OpenFailure.ONE_TIME_KEY_UNKNOWN),
        ("another base key", flipped(unsealed, 40), OpenFailure.NO_SESSION),
        ("another identity key", flipped(unsealed, 75), OpenFailure.OTHER_IDENTITY),
        ("another ciphertext", flipped(unsealed, len(unsealed) - 20), OpenFailure.NO_SESSION),
        ("another MAC", flipped(unsealed, len(unsealed) - 1), OpenFailure.NO_SESSION),
        ("pre-key as normal", b"\1" + unsealed[1:], OpenFailure.INNER_MALFORMED),
    ):
        record.open(bob, record.outside(bobs, pair, altered), failure, name)
    record.open(bob, first, None, "the first message opens after all that")
    record.open(bob, record.outside(bobs, pair, unsealed), OpenFailure.USED_KEY, "the same inside, sealed anew")
    record.open(alice, record.seal(bob, "answer"))
    for name, change, failure in (
        ("another sender inside", lambda inner: inner._replace(pair=Pair(CAROL, BOB)), OpenFailure.WRONG_IDS),
        ("another recipient inside", lambda inner: inner._replace(pair=Pair(ALICE, CAROL)), OpenFailure.WRONG_IDS),
        ("another sender's key", lambda inner: inner._replace(sender_key=bytes(32)), OpenFailure.WRONG_KEYS),
        ("another recipient's key", lambda inner: inner._replace(recipient_key=bytes(32)), OpenFailure.WRONG_KEYS),
    ):
        content = record.forge(alice, change)
        record.open(bob, content, failure, name)
        record.open(bob, content, OpenFailure.REPEATED, "its key is used up")
    # So that the next ones show whether they set *renew*.
    record.open(alice, record.seal(bob, "begun anew"))
    record.open(bob, record.seal(alice, "answered"))
    for name, spoil in (
        ("padded with another byte than zero", lambda plain: plain[:-1] + b"\1"),
        ("padded to another length", lambda plain: plain + bytes(16)),
        ("shorter than its head", lambda plain: plain[:104]),
    ):
        record.open(bob, record.forge(alice, spoil=spoil), OpenFailure.INNER_MALFORMED, name)
    record.open(bob, record.forge(alice, lambda inner: inner._replace(form=7)), None, "a form of a later version")
    normal = record.seal(alice, "last")
    unsealed = outer.open_sealed(bob.keys.outer[-1].seed, pair, normal[9:])
    assert unsealed is not None
    for at in (5, 45, len(unsealed) - 20, len(unsealed) - 1):
        altered = record.outside(bobs, pair, flipped(unsealed, at))
        record.open(bob, altered, OpenFailure.NO_SESSION, f"a bit of byte {at} inside")
    used = record.outside(bobs, pair, flipped(unsealed, 37))
    record.open(bob, used, OpenFailure.USED_KEY, "another place in the chain, whose key is used up")
    record.open(bob, normal)
    return record.found


def claims() -> Iterator[Vectors]:
    world = World()
    home, other = Home(world, ALICE), Home(world, BOB)
    raw, one_time = world.shelves[ALICE].hand_out()
    _, others_one_time = world.shelves[BOB].hand_out()
    keys, good = home.keys, home.keys.outer[-1].public

    def signed(valid_until: int = good.valid_until, public: bytes = good.public) -> bytes:
        bundle = Bundle(keys.identity, OuterKey(7, valid_until, public), keys.fallback)
        return bundles.made_bundle(ALICE, bundle, olm.signer(keys.account))

    def case(
        name: str,
        expected: BundleFailure | None = None,
        bundle: bytes = raw,
        key: bytes = one_time,
        owner: bytes = ALICE,
        known: Identity | None = None,
        newest: int | None = None,
    ) -> Vectors:
        found: Vectors = {
            "name": name,
            "owner": owner.hex(),
            "now": NOW,
            "known": None if known is None else [known.ed25519.hex(), known.curve25519.hex()],
            "newest_valid_until": newest,
            "bundle": b64(bundle),
            "one_time_key": b64(key),
        }
        believed = None if newest is None else OuterKey(0, newest, b"")
        try:
            claim = bundles.checked_claim(bundle, key, owner, NOW, known, believed)
        except BundleRefused as refused:
            assert refused.failure is expected, name
            return found | {"failure": refused.failure.value}
        assert expected is None, name
        return found | {
            "ed25519": claim.bundle.identity.ed25519.hex(),
            "curve25519": claim.bundle.identity.curve25519.hex(),
            "number": claim.bundle.outer.number,
            "valid_until": claim.bundle.outer.valid_until,
            "fallback": claim.bundle.fallback.hex(),
            "one_time": None if claim.one_time_key is None else claim.one_time_key.hex(),
        }

    yield case("a first contact")
    yield case("without a one-time key", key=b"")
    yield case("somebody who is known", known=keys.identity, newest=good.valid_until)
    yield case("beyond its time", bundle=signed(NOW - 400 * DAY))
    yield case("version 2", BundleFailure.VERSION, b"\2" + raw[1:])
    yield case("version 2 of another size", BundleFailure.VERSION, b"\2" + raw)
    yield case("no bundle", BundleFailure.MALFORMED, b"")
    yield case("cut", BundleFailure.MALFORMED, raw[:-1])
    yield case("longer", BundleFailure.MALFORMED, raw + b"\0")
    for at in (1, 33, 65, 69, 77, 1261, 1293, 1325, 1388):
        yield case(f"a bit of byte {at}", BundleFailure.SIGNATURE, flipped(raw, at))
    yield case("of another owner", BundleFailure.SIGNATURE, owner=BOB)
    yield case("another identity", BundleFailure.IDENTITY_CHANGED, known=other.keys.identity)
    half = Identity(keys.identity.ed25519, other.keys.identity.curve25519)
    yield case("another curve25519 key", BundleFailure.IDENTITY_CHANGED, known=half)
    yield case("the farthest", bundle=signed(NOW + 14 * DAY))
    yield case("too far", BundleFailure.TOO_FAR, signed(NOW + 14 * DAY + 1))
    yield case("older than the known one", BundleFailure.OLDER, newest=good.valid_until + 1)
    yield case("older than one that is too far itself", newest=NOW + 14 * DAY + 1)
    yield case("no ML-KEM key", BundleFailure.OUTER_KEY, signed(public=b"\xff" * 3 + good.public[3:]))
    yield case("a zero X25519 key", BundleFailure.OUTER_KEY, signed(public=good.public[:1184] + bytes(32)))
    yield case("a cut one-time key", BundleFailure.MALFORMED, key=one_time[:-1])
    yield case("somebody else's one-time key", BundleFailure.ONE_TIME_SIGNATURE, key=others_one_time)
    for at in (0, 32, 95):
        altered = flipped(one_time, at)
        yield case(f"a bit of byte {at} of the one-time key", BundleFailure.ONE_TIME_SIGNATURE, key=altered)


def payload_cases() -> Iterator[Vectors]:
    about = About(b"an id of 16 byte", NOW)
    reply = About(b"an id of 16 byte", NOW, b"another 16 bytes")
    file = File(about, "Pl\u00e4ne.pdf", "application/pdf", 5, bytes(range(32)), bytes(range(32, 64)), "a caption")
    for payload in (
        Text(about, "hello"),
        Text(about, ""),
        Text(reply, "\U0001f642"),
        file,
        file._replace(caption="", media_type=""),
        CouldNotOpen(about, (bytes(16), b"\1" * 16)),
        CouldNotOpen(about, ()),
    ):
        yield described(payloads.encoded(payload))
    base: dict[object, object] = {0: 1, 1: NOW, 2: about.id, 3: "hello"}
    for change in (
        {0: 4}, {0: 16, 3: ...}, {-1: b"group"}, {99: [1, None, True, {"a": -1}]}, {"x": 1},
        {0: ...}, {1: ...}, {2: ...}, {3: ...}, {0: -1}, {0: True}, {1: 2**63}, {2: b"short"}, {3: b"bytes"},
        {10: b"short"}, {99: 1.5}, {99: cbor2.CBORTag(1, 5)}, {99: cbor2.undefined}, {0: 2}, {0: 3},
    ):  # fmt: skip
        fields = {key: value for key, value in (base | change).items() if value is not ...}
        yield described(cbor2.dumps(fields, canonical=True))
    for zeros in (65_525, 65_526):
        # With the map, five keys, four values and the array 65,536 values, and one more.
        yield described(cbor2.dumps(base | {99: [0] * zeros}, canonical=True))
    good = cbor2.dumps(base, canonical=True)
    for raw in (b"", good[:-1], good + b"\0", b"\xb8\4" + good[1:], b"\xbf" + good[1:] + b"\xff", b"\xa0", b"\x80"):
        yield described(raw)


def described(raw: bytes) -> Vectors:
    """A payload and what comes of it."""
    found: Vectors = {"payload": b64(raw)}
    try:
        payload = payloads.decoded(raw)
    except PayloadMalformed:
        return found | {"failure": "malformed"}
    about = payload.about
    found |= {"id": about.id.hex(), "sent_at": about.sent_at, "reply_to": about.reply_to and about.reply_to.hex()}
    match payload:
        case Text(_, text):
            return found | {"is": "text", "text": text}
        case File(_, name, media_type, size, digest, key, caption):
            return found | {
                "is": "file", "name": name, "media_type": media_type, "size": size, "digest": digest.hex(),
                "key": key.hex(), "caption": caption,
            }  # fmt: skip
        case CouldNotOpen(_, ids):
            return found | {"is": "could not open", "ids": [each.hex() for each in ids]}
    assert isinstance(payload, Unknown)
    return found | {"is": "unknown", "kind": payload.kind, "text": payload.text}


def file_cases() -> Iterator[Vectors]:
    pair = Pair(ALICE, BOB)
    for size in (0, 1, 257, 16_384, 20_000):
        key = bytes([size % 251]) * 32
        content = bytes(at % 253 for at in range(size))
        sealer = FileSealer(key, pair)
        stream = b"".join([sealer.update(content), *sealer.finish()])
        streams = [("whole", stream)]
        if size == 257:
            streams += [("cut", stream[:-1]), ("longer", stream + b"\0")]
            streams += [(f"a bit of byte {at}", flipped(stream, at)) for at in (0, 24, 56, 300, len(stream) - 1)]
        for name, each in streams:
            opener = FileOpener(key, pair, size, sealer.digest)
            try:
                is_good = opener.update(each) + opener.finish() == content
            except FileDamaged:
                is_good = False
            assert is_good is (name == "whole")
            yield {
                "name": f"{size} bytes, {name}",
                "sender": ALICE.hex(),
                "recipient": BOB.hex(),
                "key": key.hex(),
                "size": size,
                "digest": sealer.digest.hex(),
                "stream": b64(each),
                **({} if is_good else {"failure": "damaged"}),
            }


def number_cases() -> Iterator[Vectors]:
    one, other = Identity(b"\1" * 32, b"\2" * 32), Identity(b"\3" * 32, b"\4" * 32)
    for whom in ((ALICE, one), (BOB, other)):
        yield {
            "id": whom[0].hex(),
            "ed25519": whom[1].ed25519.hex(),
            "curve25519": whom[1].curve25519.hex(),
            "fingerprint": fingerprint(*whom).hex(),
            "safety_number": safety_number((ALICE, one), (BOB, other)),
        }


def made() -> Vectors:
    """All vectors."""
    lengths = (0, 1, 255, 256, 257, 272, 273, 397, 511, 512, 513, 1000, 10_000, 65_537, 1_000_000, 2**32 + 1)
    return {
        "about": "docs/suite-1.md, section Vectors. Ids, keys and digests are hex, everything longer is base64.",
        "padme": [[length, padme(length)] for length in lengths],
        "numbers": list(number_cases()),
        "claims": list(claims()),
        "payloads": list(payload_cases()),
        "files": list(file_cases()),
        "conversations": [
            a_talk(),
            by_a_fallback_key(),
            both_at_once(),
            a_renewal(),
            a_copy_that_writes_first(),
            both_renew_at_once(),
            a_start_that_was_not_meant(),
            refusals(),
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="ascii")
