"""client/suite1/own_keys.py: publication, rotation, and when a private key is gone."""

from __future__ import annotations

import cbor2
import pytest

from client.errors import StoreUnusable
from client.suite1 import bundles, own_keys
from client.suite1.own_keys import OwnKeys
from client.suite1.values import DAY, HOUR, OpenFailure
from tests.client.suite1.two_homes import ALICE, BOB, NOW, Home, World, days


def new_home() -> tuple[World, Home]:
    world = World()
    return world, Home(world, ALICE)


def test_a_new_home_has_something_to_publish_and_then_has_not() -> None:
    """The first publication has the server forget one-time keys of an earlier home."""
    world = World()
    keys = own_keys.new_keys(NOW, world.random_bytes)
    assert own_keys.publication_due(keys, NOW)
    keys, publication = own_keys.prepare_publication(keys, ALICE, NOW, world.random_bytes)
    assert (publication.flags, len(publication.bundle), len(publication.one_time_keys)) == (1, 1389, 50)
    assert {len(key) for key in publication.one_time_keys} == {96}
    assert own_keys.publication_due(keys, NOW)
    keys = own_keys.published(keys, 50, NOW)
    assert not own_keys.publication_due(keys, NOW)
    assert OwnKeys.from_bytes(keys.to_bytes()) == keys
    _, second = own_keys.prepare_publication(keys, ALICE, NOW + days(1), world.random_bytes)
    assert second.flags == 0


def test_a_publication_without_an_answer_comes_back_byte_for_byte() -> None:
    world = World()
    keys = own_keys.new_keys(NOW, world.random_bytes)
    keys, first = own_keys.prepare_publication(keys, ALICE, NOW, world.random_bytes)
    account = keys.account
    for later in (HOUR, days(30)):
        keys = OwnKeys.from_bytes(keys.to_bytes())
        assert own_keys.publication_due(keys, NOW + later)
        keys, again = own_keys.prepare_publication(keys, ALICE, NOW + later, world.random_bytes)
        assert again == first
    # No cut connection makes the account forget a key.
    assert keys.account == account
    # What is old by now is replaced after the answer.
    keys = own_keys.published(keys, 50, NOW + days(30))
    assert own_keys.publication_due(keys, NOW + days(30))
    keys, second = own_keys.prepare_publication(keys, ALICE, NOW + days(30), world.random_bytes)
    assert second.bundle != first.bundle


@pytest.mark.parametrize("change", ["another user", "forget", "replaced"])
def test_a_publication_that_does_not_fit_any_more_is_made_anew(change: str) -> None:
    world = World()
    keys = own_keys.published(own_keys.new_keys(NOW, world.random_bytes), 0, NOW)
    keys, first = own_keys.prepare_publication(keys, ALICE, NOW, world.random_bytes)
    assert first.one_time_keys
    if change == "forget":
        keys = keys._replace(forget=True)
    elif change == "replaced":
        keys = own_keys.replaced(keys, NOW, world.random_bytes)
    whose = BOB if change == "another user" else ALICE
    _, second = own_keys.prepare_publication(keys, whose, NOW, world.random_bytes)
    assert not set(first.one_time_keys) & set(second.one_time_keys)
    assert second.client_id == whose
    assert bundles.checked_bundle(second.bundle, whose, NOW).identity == keys.identity


@pytest.mark.parametrize(
    ("kept", "later", "is_due"),
    [(50, 0, False), (49, 0, True), (50, DAY - 1, False), (50, DAY, True), (50, -1, True)],
)
def test_when_a_publication_is_due(kept: int, later: int, is_due: bool) -> None:
    _, home = new_home()
    keys = own_keys.published(home.keys, kept, NOW)
    assert own_keys.publication_due(keys, NOW + later) is is_due


def test_a_full_shelf_gets_no_more_one_time_keys() -> None:
    world, home = new_home()
    keys = own_keys.published(home.keys, 50, NOW)
    _, publication = own_keys.prepare_publication(keys, ALICE, NOW + DAY, world.random_bytes)
    assert publication.one_time_keys == ()


def test_outer_and_fallback_key_are_replaced_at_six_days() -> None:
    world, home = new_home()
    first = home.keys
    home.world.now = NOW + days(6) - 1
    home.publish()
    assert [secret.number for secret in home.keys.outer] == [first.outer[0].number]
    home.world.now = NOW + days(6)
    assert own_keys.publication_due(home.keys, home.world.now)
    home.publish()
    assert len(home.keys.outer) == 2
    assert home.keys.fallback_generation == 1
    assert home.keys.outer[-1].valid_until == NOW + days(13)
    bundle = bundles.checked_bundle(world.shelves[ALICE].bundle, ALICE, world.now)
    assert bundle.outer == home.keys.outer[-1].public
    assert bundle.fallback == home.keys.fallback != first.fallback


def test_a_private_outer_key_goes_seven_days_after_its_time() -> None:
    _, home = new_home()
    old = home.keys.outer[0].number
    home.world.now = NOW + days(6)
    home.publish()
    keys = home.keys
    assert own_keys.without_expired(keys, NOW + days(14) - 1).outer_seed(old) is not None
    left = own_keys.without_expired(keys, NOW + days(14))
    assert left.outer_seed(old) is None
    assert left.outer == keys.outer[1:]


def test_a_home_that_was_away_keeps_its_key_until_its_successor_is_known_for_seven_days() -> None:
    world, home = new_home()
    old = home.keys.outer[0].number
    world.now = NOW + days(60)
    assert own_keys.without_expired(home.keys, world.now) == home.keys
    # The successor is made, and the server has not confirmed it.
    keys, _ = own_keys.prepare_publication(home.keys, ALICE, world.now, world.random_bytes)
    assert own_keys.without_expired(keys, world.now + days(60)).outer_seed(old) is not None
    keys = own_keys.published(keys, 50, world.now)
    assert own_keys.without_expired(keys, world.now + days(7) - 1).outer_seed(old) is not None
    assert own_keys.without_expired(keys, world.now + days(7)).outer_seed(old) is None


@pytest.mark.parametrize(("ahead", "is_kept"), [(3, True), (7, True), (8, False), (400, False)])
def test_a_clock_that_was_ahead_makes_no_peer_refuse_the_next_bundle(ahead: int, is_kept: bool) -> None:
    world = World(now=NOW + days(ahead))
    home = Home(world, ALICE)
    early = home.keys.outer[-1]
    world.now = NOW
    assert own_keys.publication_due(home.keys, NOW)
    home.publish()
    assert home.keys.outer[-1].valid_until == (early.valid_until if is_kept else NOW + days(7))
    # Who believed the first one believes the second.
    bundles.checked_bundle(world.shelves[ALICE].bundle, ALICE, NOW, home.keys.identity, early.public)


def test_replacing_all_makes_the_server_forget() -> None:
    world, home = new_home()
    before = home.keys
    home.keys = own_keys.replaced(before, NOW + 1, world.random_bytes)
    assert own_keys.publication_due(home.keys, NOW + 1)
    old_keys = list(world.shelves[ALICE].one_time_keys)
    home.world.now += 1
    home.publish()
    shelf = world.shelves[ALICE]
    assert len(shelf.one_time_keys) == 50
    assert not set(shelf.one_time_keys) & set(old_keys)
    # Peers that know the old bundle believe the new one.
    bundle = bundles.checked_bundle(shelf.bundle, ALICE, world.now, before.identity, before.outer[-1].public)
    assert bundle.outer.number == home.keys.outer[-1].number != before.outer[-1].number
    assert not home.keys.forget


def test_messages_that_name_unknown_keys_replace_at_most_daily() -> None:
    world, home = new_home()
    suspicious = home.keys._replace(suspect=True)
    for failure in OpenFailure:
        expected = failure in {OpenFailure.OUTER_KEY_UNKNOWN, OpenFailure.ONE_TIME_KEY_UNKNOWN}
        assert own_keys.replacement_due(suspicious, failure, NOW) is expected
        assert not own_keys.replacement_due(home.keys, failure, NOW)
    keys = own_keys.replaced(suspicious, NOW, world.random_bytes)
    assert not keys.suspect
    keys = keys._replace(suspect=True)
    assert not own_keys.replacement_due(keys, OpenFailure.OUTER_KEY_UNKNOWN, NOW + DAY - 1)
    assert own_keys.replacement_due(keys, OpenFailure.OUTER_KEY_UNKNOWN, NOW + DAY)


@pytest.mark.parametrize(
    "state",
    [b"", b"\xff", *map(cbor2.dumps, (1, [1, "own keys"], [2, "own keys"], [1, "peer"]))],
)
def test_a_damaged_state_is_named(state: bytes) -> None:
    with pytest.raises(StoreUnusable):
        OwnKeys.from_bytes(state)


@pytest.mark.parametrize(
    "change", [{2: b""}, {3: bytes(33)}, {5: []}, {5: [[0, 1, 1, bytes(96), None]]}, {6: b""}, {13: [b"id"]}]
)
def test_a_state_with_a_value_out_of_range_is_named(change: dict[int, object]) -> None:
    world, home = new_home()
    keys, _ = own_keys.prepare_publication(home.keys, ALICE, NOW, world.random_bytes)
    assert OwnKeys.from_bytes(keys.to_bytes()) == keys
    fields = cbor2.loads(keys.to_bytes())
    for at, value in change.items():
        assert type(fields[at]) is type(value)
        fields[at] = value
    with pytest.raises(StoreUnusable):
        OwnKeys.from_bytes(cbor2.dumps(fields))


def test_a_cut_state_is_named() -> None:
    _, home = new_home()
    state = home.keys.to_bytes()
    for size in range(0, len(state), 97):
        with pytest.raises(StoreUnusable):
            OwnKeys.from_bytes(state[:size])
