"""Two people of the second implementation talk: what they seal fits the layouts of the text."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.suite1_second import bundles, olm, outer, payloads, streams, talk
from tests.suite1_second.people import NOW, WEEK, begin, bundle_of, met, new_home, one_time_of
from tests.suite1_second.primitives import Refused, number, padme

ALICE, BOB = b"alice's id 12345", b"bob's id 1234567"
TOKEN = bytes(16)


class Pair:
    """Alice and Bob, who have met."""

    def __init__(self) -> None:
        self.alice, self.bob = new_home(ALICE), new_home(BOB)
        self.to_bob, self.to_alice = met(self.alice, self.bob), met(self.bob, self.alice)

    def alice_says(self, payload: bytes) -> bytes:
        return talk.seal(self.alice, self.to_bob, payload)

    def bob_says(self, payload: bytes) -> bytes:
        return talk.seal(self.bob, self.to_alice, payload)

    def bob_opens(self, content: bytes) -> talk.Opened:
        return talk.opened(self.bob, self.to_alice, content)

    def alice_opens(self, content: bytes) -> talk.Opened:
        return talk.opened(self.alice, self.to_bob, content)


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    begin(pair.alice, pair.to_bob, pair.bob)
    return pair


def text(words: str) -> bytes:
    return payloads.encode(1, NOW, TOKEN, text=words)


def test_sizes_are_those_of_the_text(pair: Pair) -> None:
    long = text("x" * 256)
    first = pair.alice_says(long)
    assert len(first) == 1700
    assert pair.bob_opens(first).payload == long
    sizes = [len(pair.bob_says(long)) for _ in range(129)]
    assert sizes == [1594] * 128 + [1595]


@pytest.mark.parametrize("size", [0, 1, 150, 151, 255, 256, 1000, 70_000])
def test_the_ciphertext_is_as_long_as_padme_says(pair: Pair, size: int) -> None:
    payload = os.urandom(size)
    content = pair.alice_says(payload)
    outer_number, sealed = talk.parts(content)
    assert outer_number == pair.bob.outer[0].number
    assert len(content) == 9 + number(content[5:9])
    inside = outer.opened(sealed, pair.bob.outer[0], outer.info_of(ALICE, BOB))
    message = olm.Normal.parsed(olm.PreKey.parsed(inside[1:]).inner)
    assert len(message.ciphertext) == padme(106 + size)
    assert pair.bob_opens(content).payload == payload


def test_a_talk_with_steps_of_the_ratchet(pair: Pair) -> None:
    for turn in range(1, 8):
        opened = pair.bob_opens(pair.alice_says(text(f"{turn}")))
        assert (opened.form, opened.number, opened.order) == (1, turn, "next")
        assert payloads.decode(opened.payload).fields[payloads.TEXT] == f"{turn}"
        assert pair.alice_opens(pair.bob_says(text("yes"))).number == turn
    roots = {pair.to_bob.sessions[0].session.root, pair.to_alice.sessions[0].session.root}
    assert len(roots) == 1
    assert len(pair.to_bob.sessions) == len(pair.to_alice.sessions) == 1


def test_a_one_time_key_works_once(pair: Pair) -> None:
    given = one_time_of(pair.bob)
    pair.bob_opens(pair.alice_says(text("first")))
    assert given[:32] not in pair.bob.one_time
    begin(pair.alice, pair.to_bob, pair.bob, given)
    with pytest.raises(Refused, match=r"^one-time-key-unknown$"):
        pair.bob_opens(pair.alice_says(text("second")))
    assert pair.to_alice.renew


def test_a_fallback_key_starts_the_same_session_once() -> None:
    pair = Pair()
    begin(pair.alice, pair.to_bob, pair.bob, b"")
    first = pair.alice_says(text("first"))
    pair.bob_opens(first)
    pair.to_alice.sessions, pair.to_alice.digests = [], []
    with pytest.raises(Refused, match=r"^used-key$"):
        pair.bob_opens(first)


def test_many_sessions_end_with_their_fallback_key(pair: Pair) -> None:
    """Ids of generations that are gone do not count: nobody is locked out for good."""
    pair.to_alice.remembered = {i.to_bytes(16, "big"): 0 for i in range(talk.SESSION_IDS)}
    first = pair.alice_says(text("first"))
    pair.bob.generation = 1
    with pytest.raises(Refused, match=r"^too-many-sessions$"):
        pair.bob_opens(first)
    pair.bob.generation = 2
    assert pair.bob_opens(first).number == 1
    assert list(pair.to_alice.remembered.values()) == [2]


def test_forty_skipped_keys_are_kept(pair: Pair) -> None:
    contents = [pair.alice_says(text(f"{i}")) for i in range(45)]
    assert pair.bob_opens(contents[-1]).missing == 44
    for i, content in enumerate(contents[:-1]):
        if i < 4:
            with pytest.raises(Refused, match=r"^used-key$"):
                pair.bob_opens(content)
        else:
            assert pair.bob_opens(content).order == "late"


def test_a_bundle_of_ours_is_believed() -> None:
    home = new_home(ALICE)
    claim = bundles.checked(bundle_of(home), one_time_of(home), ALICE, NOW)
    assert (claim.identity, claim.valid_until) == (home.identity, NOW + WEEK)
    assert len(claim.outer) == 1216
    assert claim.one_time == next(iter(home.one_time))


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31)])
def test_keys_that_give_no_secret_start_no_session(key: bytes) -> None:
    home = new_home(ALICE)
    given = bundles.one_time_key(home.ed25519_seed, ALICE, key)
    with pytest.raises(Refused, match=r"^session-key$"):
        bundles.checked(bundle_of(home), given, ALICE, NOW)
    assert bundles.checked(bundle_of(home), given, ALICE, NOW, starts_session=False).one_time == key


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 40_000])
def test_a_stream_is_as_long_as_the_text_says(size: int) -> None:
    content, key, context = os.urandom(size), os.urandom(32), streams.context_of(ALICE, BOB)
    stream = streams.seal(content, key, context)
    assert len(stream) == streams.sealed_size(size)
    digest = hashlib.sha256(content).digest()
    assert streams.opened(stream, key, context, size, digest) == content
    with pytest.raises(Refused, match=r"^damaged$"):
        streams.opened(stream, key, streams.context_of(BOB, ALICE), size, digest)


def test_chunks_of_a_stream_stay_in_their_places() -> None:
    content, key, context = os.urandom(40_000), os.urandom(32), streams.context_of(ALICE, BOB)
    stream = streams.seal(content, key, context)
    whole = streams.CHUNK + streams.TAG
    swapped = stream[:56] + stream[56 + whole : 56 + 2 * whole] + stream[56 : 56 + whole] + stream[56 + 2 * whole :]
    with pytest.raises(Refused, match=r"^damaged$"):
        streams.opened(swapped, key, context, len(content), hashlib.sha256(content).digest())
