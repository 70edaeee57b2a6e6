"""client/suite1/peers.py: when a claim is due, and what it changes."""

from __future__ import annotations

import cbor2
import pytest

from client.errors import StoreUnusable
from client.suite1 import peers
from client.suite1.peers import ClaimReason, Peer
from client.suite1.values import HOUR, BundleFailure, BundleRefused
from tests.client.suite1.two_homes import ALICE, BOB, Home, days, talking, two_homes


def test_a_new_peer_needs_a_session() -> None:
    world, alice, _ = two_homes()
    peer = alice.peer(BOB)
    assert peers.claim_due(peer, world.now) is ClaimReason.NO_SESSION
    peer = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now)
    assert peers.claim_due(peer, world.now) is None
    assert Peer.from_bytes(peer.to_bytes()) == peer


def test_an_expired_outer_key_is_asked_for_at_most_once_a_day() -> None:
    world, alice, bob = talking()
    session = alice.peer(BOB).sessions[0].olm.session_id
    world.now += days(7)
    assert peers.claim_due(alice.peer(BOB), world.now) is ClaimReason.OUTER_KEY
    # Bob is away: the server has nothing newer, and it is asked once a day.
    peer = peers.claimed(alice.keys, alice.peer(BOB), alice.claim(BOB, first=False), world.now)
    assert peers.claim_due(peer, world.now + days(1) - 1) is None
    assert peers.claim_due(peer, world.now + days(1)) is ClaimReason.OUTER_KEY
    # A message that says more than that makes it ask earlier.
    assert peers.claim_due(peers.doubted(peer), world.now + HOUR) is ClaimReason.OUTER_KEY
    assert [each.olm.session_id for each in peer.sessions] == [session]
    bob.publish()
    world.now += HOUR
    peer = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now)
    assert peers.claim_due(peer, world.now + HOUR) is None
    assert peer.outer == bob.keys.outer[-1].public


def test_a_doubted_outer_key_is_asked_for() -> None:
    world, alice, _ = talking()
    peer = peers.doubted(alice.peer(BOB))
    assert peers.claim_due(peer, world.now + HOUR) is ClaimReason.OUTER_KEY
    after = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now + HOUR)
    assert (after.doubted, after.claimed_at) == (False, world.now + HOUR)


def test_what_a_peer_says_itself_is_followed_by_a_claim_within_the_hour() -> None:
    world, alice, _ = talking()
    assert alice.peer(BOB).claimed_at == world.now
    peer = peers.to_claim_anew(alice.peer(BOB))
    assert peers.claim_due(peer, world.now) is ClaimReason.OUTER_KEY
    peer = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now)
    assert peers.claim_due(peer, world.now) is None
    # As where the server says something: the hour holds.
    assert peers.claim_due(peers.doubted(peer), world.now + HOUR - 1) is None


def test_a_renewal_retires_the_other_sessions_once_an_hour() -> None:
    world, alice, _ = talking()
    peer = alice.peer(BOB)._replace(renew=True)
    assert peers.claim_due(peer, world.now) is ClaimReason.RENEWAL
    renewed = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now)
    assert [(each.retired, each.renewing) for each in renewed.sessions] == [(False, True), (True, False)]
    assert renewed.sending is renewed.sessions[0]
    again = renewed._replace(renew=True)
    assert peers.claim_due(again, world.now + HOUR - 1) is None
    assert peers.claim_due(again, world.now + HOUR) is ClaimReason.RENEWAL


def test_a_clock_that_went_back_delays_nothing() -> None:
    world, alice, _ = talking()
    peer = alice.peer(BOB)._replace(renew=True, renewed_at=world.now + days(100))
    assert peers.claim_due(peer, world.now) is ClaimReason.RENEWAL
    peer = peers.doubted(alice.peer(BOB))._replace(claimed_at=world.now + days(100))
    assert peers.claim_due(peer, world.now) is ClaimReason.OUTER_KEY


def test_after_a_restore_nothing_is_sent_in_an_old_session() -> None:
    world, alice, _ = talking()
    peer = peers.restored(alice.peer(BOB))
    assert peer.sending is None
    assert peers.claim_due(peer, world.now) is ClaimReason.NO_SESSION
    peer = peers.claimed(alice.keys, peer, alice.claim(BOB, first=False), world.now)
    assert peer.sessions[0].renewing
    assert not peer.renew


def test_at_most_five_sessions_are_kept() -> None:
    world, alice, _ = talking()
    peer = alice.peer(BOB)
    for _ in range(7):
        peer = peers.claimed(alice.keys, peers.restored(peer), alice.claim(BOB, first=False), world.now)
    assert len(peer.sessions) == 5
    assert peer.sending is peer.sessions[0]


def test_a_claim_of_another_identity_is_not_taken_over() -> None:
    world, alice, _ = talking()
    world.shelves.pop(BOB)
    Home(world, BOB)
    with pytest.raises(BundleRefused) as refused:
        peers.claimed(alice.keys, alice.peer(BOB), alice.claim(BOB), world.now)
    assert refused.value.failure is BundleFailure.IDENTITY_CHANGED


def test_keys_that_agree_on_zero_start_no_session() -> None:
    world, alice, _ = two_homes()
    claim = alice.claim(BOB)._replace(one_time_key=bytes(32))
    with pytest.raises(BundleRefused) as refused:
        peers.claimed(alice.keys, alice.peer(BOB), claim, world.now)
    assert refused.value.failure is BundleFailure.SESSION_KEY


@pytest.mark.parametrize("state", [b"", cbor2.dumps([1, "peer"]), cbor2.dumps([1, "peer", *range(14)])])
def test_a_damaged_state_is_named(state: bytes) -> None:
    with pytest.raises(StoreUnusable):
        Peer.from_bytes(state)


def test_a_state_with_one_field_of_another_type_is_named() -> None:
    _, alice, _ = talking()
    peer = alice.peer(BOB)._replace(session_ids=((bytes(16), 0),))
    fields = cbor2.loads(peer.to_bytes())
    for at in range(2, len(fields)):
        broken = [*fields]
        broken[at] = 1.5
        with pytest.raises(StoreUnusable):
            Peer.from_bytes(cbor2.dumps(broken))
    for nested in ([[1.5]], [[["pickle", b"id"], 1, 2]]):
        with pytest.raises(StoreUnusable):
            Peer.from_bytes(cbor2.dumps([*fields[:7], nested, *fields[8:]]))
    with pytest.raises(StoreUnusable):
        Peer.from_bytes(cbor2.dumps([*fields[:14], [[1, 2]], *fields[15:]]))


@pytest.mark.parametrize("change", [{2: b"x" * 31}, {3: b""}, {6: bytes(1215)}, {4: 2**32}, {12: -1}, {12: 2**32}])
def test_a_state_with_a_value_out_of_range_is_named(change: dict[int, object]) -> None:
    _, alice, _ = talking()
    fields = cbor2.loads(alice.peer(BOB).to_bytes())
    for at, value in change.items():
        assert type(fields[at]) is type(value)
        fields[at] = value
    with pytest.raises(StoreUnusable):
        Peer.from_bytes(cbor2.dumps(fields))


def test_alice_is_known_by_her_identity() -> None:
    _, alice, bob = talking()
    assert bob.peer(ALICE).identity == alice.keys.identity
