"""Keys of cipher suite 1: published, claimed, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from client.errors import KeyChanged, KeysWithheld, SafetyNumberDiffers
from client.messenger import Messenger, Text, Unreadable
from client.suite1 import own_keys
from common.client_protocol.requests import ClaimKeyRequest, LargeSendRequest, PublishKeysRequest, SendRequest
from common.values import MessageKind
from tests.client.exchange import receive
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway, SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)

NOW = 1_700_000_000.0
DAY = 86_400.0


def published(gateway: FakeGateway) -> list[PublishKeysRequest]:
    return [request for request in gateway.requests if isinstance(request, PublishKeysRequest)]


def sign_in(messenger: Messenger) -> None:
    messenger.home.link.close()
    messenger.users()


def test_keys_are_published_at_registration_and_topped_up(
    make: Callable[..., Messenger], gateway: FakeGateway, mailroom: SuiteMailroom
) -> None:
    clock = [NOW]
    alice = make("alice", clock=lambda: clock[0])
    alice.register("alice")
    (first,) = published(gateway)
    assert (len(first.bundle), len(first.one_time_keys), first.forget) == (1389, 50 * 96, True)
    sign_in(alice)
    assert len(published(gateway)) == 1
    # A sender has begun a session: one of the keys is used up.
    bob = make("bob", clock=lambda: clock[0])
    bob.register("bob")
    bob.send("alice", "hello")
    assert receive(alice) == [Text("hello")]
    sign_in(alice)
    *_, topped_up = [request for request in published(gateway) if request.requester == alice.identity().client_id]
    assert len(topped_up.one_time_keys) == 50 * 96
    keys = {
        request.one_time_keys[at : at + 32]
        for request in (first, topped_up)
        for at in range(0, len(request.one_time_keys), 96)
    }
    assert len(keys) == 100


def test_the_outer_key_is_replaced_weekly(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    clock = [NOW]
    alice = make("alice", clock=lambda: clock[0])
    alice.register("alice")
    for day in range(1, 15):
        clock[0] = NOW + day * DAY
        sign_in(alice)
    numbers = [int.from_bytes(request.bundle[65:69], "little") for request in published(gateway)]
    assert len(set(numbers)) == 3
    assert [numbers.index(number) for number in dict.fromkeys(numbers)] == [0, 6, 12]


def test_a_server_put_back_forgets_the_keys_that_it_gave_out_before(
    alice: Messenger, gateway: FakeGateway, mailroom: SuiteMailroom
) -> None:
    mailroom.generation = 2
    sign_in(alice)
    *_, last = published(gateway)
    assert last.forget
    assert len(last.one_time_keys) == 50 * 96
    sign_in(alice)
    assert len(published(gateway)) == 2


@pytest.mark.mailroom(kind=ExtendedMailroom)
def test_a_server_without_the_suite_gets_none(alice: Messenger, gateway: FakeGateway) -> None:
    assert published(gateway) == []
    assert alice.home.suite_keys.own() is None
    assert alice.home.directory.own_link() is None


def test_exhausted_keys_end_in_the_fallback_key(
    alice: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    mailroom.one_time_keys[alice.identity().client_id] = []
    for name in ("bob", "carol"):
        sender = make(name)
        sender.register(name)
        sender.send("alice", f"of {name}")
    assert receive(alice) == [Text("of bob"), Text("of carol")]


def test_both_begin_at_once(alice: Messenger, bob: Messenger) -> None:
    alice.send("bob", "from alice")
    bob.send("alice", "from bob")
    assert receive(bob) == [Text("from alice")]
    assert receive(alice) == [Text("from bob")]
    for number in range(3):
        alice.send("bob", f"a {number}")
        bob.send("alice", f"b {number}")
    assert receive(bob) == [Text(f"a {number}") for number in range(3)]
    assert receive(alice) == [Text(f"b {number}") for number in range(3)]


def forged(mailroom: SuiteMailroom, forger: Messenger, name: str) -> None:
    """Have the server name a bundle of somebody else's keys."""
    own = forger.home.suite_keys.own()
    assert own is not None
    _, publication = own_keys.prepare_publication(own, mailroom.id_of(name), int(NOW * 1000), bytes)
    mailroom.bundles[mailroom.id_of(name)] = publication.bundle
    mailroom.one_time_keys[mailroom.id_of(name)] = list(publication.one_time_keys)


def test_a_change_is_noticed_compared_and_accepted(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    other = make("other")
    other.register("other")
    alice.send("bob", "first")
    assert receive(bob) == [Text("first")]
    assert alice.mark_verified("bob").suite == 1
    before = alice.verification("bob").number
    assert before == bob.verification("alice").number
    forged(mailroom, other, "bob")
    known = alice.verification("bob")
    assert known.new_number not in {None, before}
    assert not alice.home.directory.is_verified_name("bob")
    with pytest.raises(KeyChanged) as raised:
        alice.send("bob", "not to somebody else")
    assert (raised.value.old_number, raised.value.new_number) == (before, known.new_number)
    alice.accept_new_key("bob", known.new_number)
    assert alice.verification("bob").verified_at is None
    assert alice.verification("bob").number == known.new_number


def test_a_change_is_noticed_under_an_older_bundle_too(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    other = make("other", clock=lambda: NOW - DAY)
    other.register("other")
    alice.send("bob", "first")
    forged(mailroom, other, "bob")
    assert alice.verification("bob").new_number is not None
    with pytest.raises(KeyChanged):
        alice.send("bob", "not to somebody else")


def test_the_known_keys_again_are_no_change(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    other = make("other")
    other.register("other")
    alice.send("bob", "first")
    kept = mailroom.bundles[bob.identity().client_id], list(mailroom.one_time_keys[bob.identity().client_id])
    forged(mailroom, other, "bob")
    assert alice.verification("bob").new_number is not None
    mailroom.bundles[bob.identity().client_id], mailroom.one_time_keys[bob.identity().client_id] = kept
    assert alice.verification("bob").new_number is None
    alice.send("bob", "second")
    assert receive(bob) == [Text("first"), Text("second")]


def test_verified_says_who_wrote_it(alice: Messenger, bob: Messenger, mailroom: SuiteMailroom) -> None:
    bob.send("alice", "not compared")
    (message,) = list(alice.receive())
    assert not message.sender_verified
    alice.verification("bob")
    alice.mark_verified("bob")
    bob.send("alice", "compared")
    (message,) = list(alice.receive())
    assert message.sender_verified
    assert [one.sender_verified for one in alice.seen()] == [True, True]
    mailroom.put(bob.identity().client_id, alice.identity().client_id, 5, b"\1 nobody sealed this")
    (message,) = list(alice.receive())
    assert not message.sender_verified


class Moved(NamedTuple):
    """Two people, and the number by which alice has compared bob before both had the suite."""

    alice: Messenger
    bob: Messenger
    number: str


@pytest.fixture
def moved(make: Callable[..., Messenger]) -> Moved:
    """Alice has compared bob by the old number, and both have the modern suite since."""
    alice, bob = make("alice", suite_1=False), make("bob", suite_1=False)
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "published")
    assert Text("published") in receive(bob)
    alice.verification("bob")
    compared = alice.mark_verified("bob")
    assert compared.suite == 0
    alice.close()
    bob.close()
    bob = make("bob")
    bob.users()
    alice = make("alice")
    assert alice.home.directory.is_verified_name("bob")
    return Moved(alice, bob, compared.number)


def left(gateway: FakeGateway) -> list[int]:
    """The types of what was sent."""
    return [request.kind for request in gateway.requests if isinstance(request, SendRequest | LargeSendRequest)]


@pytest.mark.parametrize("decision", ["number", "going on without"])
def test_the_move_from_the_old_number_waits_for_the_user(
    moved: Moved, told: list[str], gateway: FakeGateway, decision: str
) -> None:
    alice, bob, old = moved
    told.clear()
    gateway.requests.clear()
    with pytest.raises(KeyChanged) as raised:
        alice.send("bob", "modern")
    (explained,) = [sentence for sentence in told if "safety number of its own" in sentence]
    assert "messageu verify bob" in explained
    assert "nothing is sent to bob until you decide" in explained
    assert "bob was verified by the key of the old cipher suite" in str(raised.value)
    assert "`messageu verify bob --accept-new`" in raised.value.advice
    assert (raised.value.old_number, raised.value.new_number == old) == (old, False)
    told.clear()
    for content in ("again", b"as a file"):
        with pytest.raises(KeyChanged):
            alice.send("bob", content)
    with pytest.raises(KeyChanged):
        alice.mark_verified("bob")
    assert (told, left(gateway), alice.home.store.outbox.waiting_count()) == ([], [], 0)
    # What comes is shown, without the mark.
    bob.send("alice", "who am I?")
    (message,) = list(alice.receive())
    assert (message.content, message.sender_verified) == (Text("who am I?"), False)
    known = alice.verification("bob")
    assert (known.suite, known.number, known.new_number) == (0, old, raised.value.new_number)
    assert known.new_number == bob.verification("alice").number
    assert known.verified_at is not None
    assert not alice.home.directory.is_verified_name("bob")
    assert alice.home.contacts.shown_id(bob.identity().client_id) == "bob [was verified]"
    gateway.requests.clear()
    if decision == "number":
        with pytest.raises(SafetyNumberDiffers):
            alice.accept_new_key("bob", old)
        alice.accept_new_key("bob", known.new_number)
        assert alice.mark_verified("bob", known.new_number).suite == 1
    else:
        assert alice.accept_new_key("bob").suite == 1
    assert alice.home.directory.is_verified_name("bob") == (decision == "number")
    assert alice.verification("bob").number == known.new_number
    # The session that was begun at the first claim is used: nobody lost what was received.
    alice.send("bob", "at last")
    assert receive(bob) == [Text("at last")]
    assert set(left(gateway)) == {MessageKind.SEALED}


def test_a_link_decides_about_the_move(moved: Moved) -> None:
    alice, bob, _ = moved
    with pytest.raises(KeyChanged):
        alice.send("bob", "not yet")
    link = bob.home.directory.own_link()
    assert link is not None
    with pytest.raises(SafetyNumberDiffers):
        alice.home.directory.compare_link(link._replace(fingerprint=bytes(32)))
    with pytest.raises(KeyChanged):
        alice.send("bob", "nor now")
    assert alice.home.directory.compare_link(link).verified_at is not None
    alice.send("bob", "now")
    assert receive(bob) == [Text("now")]


def test_a_link_before_the_move_needs_no_decision(moved: Moved) -> None:
    alice, bob, _ = moved
    link = bob.home.directory.own_link()
    assert link is not None
    assert alice.home.directory.compare_link(link).verified_at is not None
    alice.send("bob", "at once")
    assert receive(bob) == [Text("at once")]


def test_a_server_that_swaps_and_swaps_back_decides_nothing(
    moved: Moved,
    make: Callable[..., Messenger],
    mailroom: SuiteMailroom,
    gateway: FakeGateway,
) -> None:
    alice, bob, _ = moved
    other = make("other")
    other.register("other")
    bobs = bob.identity().client_id
    truth = mailroom.bundles[bobs], list(mailroom.one_time_keys[bobs])
    numbers = set[str | None]()
    gateway.requests.clear()
    for number in range(5):
        if number % 2:
            mailroom.bundles[bobs], mailroom.one_time_keys[bobs] = truth[0], list(truth[1])
        else:
            forged(mailroom, other, "bob")
        numbers.add(alice.verification("bob").new_number)
        with pytest.raises(KeyChanged):
            alice.send("bob", "for bob alone")
    assert (len(numbers), None in numbers) == (2, False)
    assert left(gateway) == []
    # What was compared is what is accepted: not what the server names by then.
    forged_number = alice.verification("bob").new_number
    mailroom.bundles[bobs], mailroom.one_time_keys[bobs] = truth[0], list(truth[1])
    true_number = alice.verification("bob").new_number
    with pytest.raises(SafetyNumberDiffers):
        alice.accept_new_key("bob", forged_number)
    alice.accept_new_key("bob", true_number)
    alice.send("bob", "to bob")
    assert receive(bob) == [Text("to bob")]


@pytest.mark.parametrize("compared_by", [1, 2])
def test_another_id_with_keys_that_the_server_made_up_gets_nothing(
    moved: Moved, make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway, compared_by: int
) -> None:
    """The server gives bob's name and public key, which it has, to an account of its own, from
    which alice has got something already.
    """
    alice, bob, _ = moved
    if compared_by == 2:
        link = bob.home.directory.own_link()
        assert link is not None
        alice.home.directory.compare_link(link)
        alice.send("bob", "for bob")
    mallory = make("mallory")
    mallory.register("mallory")
    mallory.send("alice", "hello")
    assert receive(alice)[-1] == Text("hello")
    mallorys, bobs = mailroom.id_of("mallory"), mailroom.id_of("bob")
    mailroom.keys[mallorys] = mailroom.keys[bobs]
    mailroom.names[mallorys] = mailroom.names.pop(bobs)
    alice.users()
    gateway.requests.clear()
    with pytest.raises(KeyChanged):
        alice.send("bob", "for bob alone")
    with pytest.raises(KeyChanged):
        alice.send("bob", "nor this")
    assert left(gateway) == []
    assert not alice.home.directory.is_verified_name("bob")
    # Nor is anything believed that comes under the published suite in the name of the former id.
    if compared_by == 2:
        mailroom.put(bobs, mailroom.id_of("alice"), MessageKind.KEY_REQUEST, b"")
        (message,) = list(alice.receive())
        assert isinstance(message.content, Unreadable)


def test_what_waited_at_the_move_waits_on(moved: Moved, gateway: FakeGateway) -> None:
    alice, bob, _ = moved
    kept = alice.keep_text("bob", "written before the move")
    gateway.requests.clear()
    with pytest.raises(KeyChanged):
        alice.send_waiting(kept)
    alice.send_waiting()
    assert (left(gateway), alice.home.store.outbox.waiting_count()) == ([], 1)
    alice.accept_new_key("bob", alice.verification("bob").new_number)
    alice.send_waiting()
    assert receive(bob) == [Text("written before the move")]


def test_a_link_closes_the_first_contact(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    other, carol = make("other"), make("carol")
    other.register("other")
    carol.register("carol")
    bobs, carols = (one.home.directory.own_link() for one in (bob, carol))
    assert bobs is not None
    assert carols is not None
    assert alice.home.directory.compare_link(bobs).verified_at is not None
    assert alice.home.directory.is_verified_name("bob")
    # The server lies about carol from the beginning.
    forged(mailroom, other, "carol")
    with pytest.raises(KeysWithheld):
        alice.home.directory.compare_link(carols)
    gateway.requests.clear()
    with pytest.raises(KeysWithheld):
        alice.send("carol", "for carol alone")
    mailroom.bundles.pop(mailroom.id_of("carol"))
    with pytest.raises(KeysWithheld):
        alice.send("carol", "nor in the published suite")
    assert {type(request) for request in gateway.requests} >= {ClaimKeyRequest}
    assert not [request for request in gateway.requests if getattr(request, "kind", None) is not None]
    with pytest.raises(SafetyNumberDiffers):
        alice.home.directory.compare_link(bobs._replace(fingerprint=bytes(32)))
