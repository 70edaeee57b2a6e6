"""Which cipher suite a message goes under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.messenger import Text, Unreadable
from common.client_protocol.requests import ClaimKeyRequest
from tests.client.exchange import receive
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway, SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)


def claimed(gateway: FakeGateway) -> int:
    return sum(isinstance(request, ClaimKeyRequest) for request in gateway.requests)


def test_it_is_suite_1_between_clients_that_have_it(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    choice, bobs = alice.home.suite_choice, mailroom.id_of("bob")
    assert not choice.is_known(bobs)
    assert choice.uses_now(bobs)
    assert choice.is_known(bobs)
    assert choice.uses_now(bobs)
    assert claimed(gateway) == 1
    # Our own keys are here.
    assert choice.uses_now(alice.identity().client_id)
    assert claimed(gateway) == 1
    assert alice.send("alice", "a note").suite == 1


def test_it_is_the_published_one_with_others(
    alice: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    make("old", suite_1=False).register("old")
    choice, olds = alice.home.suite_choice, mailroom.id_of("old")
    assert not choice.uses_now(olds)
    assert not choice.uses_now(olds)
    assert claimed(gateway) == 1
    assert not choice.uses(olds, again=True)
    assert claimed(gateway) == 2


@pytest.mark.mailroom(kind=ExtendedMailroom)
def test_a_server_without_it_is_not_asked(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    choice = alice.home.suite_choice
    assert not choice.uses_now(bob.identity().client_id)
    assert not choice.is_on()
    assert claimed(gateway) == 0


def upgraded(make: Callable[..., Messenger], mailroom: SuiteMailroom) -> tuple[Messenger, Messenger]:
    """Alice has moved to the modern suite. Bob, who has it, does not know, and something that she
    has sent before waits for him.
    """
    alice, bob = make("alice", suite_1=False), make("bob")
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "before, fetched")
    assert Text("before, fetched") in receive(bob)
    alice.send("bob", "before, waiting")
    alice.close()
    alice = make("alice")
    alice.users()
    return alice, bob


def test_what_came_before_the_keys_is_believed_while_receiving_too(
    make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    """What waits in the outbox is sent first, and that asks for the keys."""
    alice, bob = upgraded(make, mailroom)
    bob.keep_text("alice", "waits")
    assert receive(bob) == [Text("before, waiting")]
    assert bob.home.suite_choice.is_known(alice.identity().client_id)
    assert receive(alice) == [Text("waits")]
    assert [message.suite for message in alice.seen()] == [1]


def test_what_came_before_the_keys_is_believed_between_two_messages_too(
    make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    alice, bob = upgraded(make, mailroom)
    carol = make("carol")
    carol.register("carol")
    carol.send("bob", "hello")
    shown: list[object] = []
    for message in bob.receive():
        shown.append(message.content)
        bob.send("alice", f"an answer to {len(shown)}")
    assert shown == [Text("before, waiting"), Text("hello")]
    assert receive(alice) == [Text("an answer to 1"), Text("an answer to 2")]


def test_another_process_that_receives_is_not_waited_for(
    make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    """What it has not fetched by then is shown as not believed: nobody can say when it was sent."""
    alice, bob = upgraded(make, mailroom)
    with make("bob") as other, other.home.store.receiver():
        assert bob.send("alice", "under the modern suite").suite == 1
    (content,) = receive(bob)
    assert isinstance(content, Unreadable)
    assert "does not use any more" in content.problem
    assert content.advice
    assert receive(alice) == [Text("under the modern suite")]
    alice.send("bob", "sent anew")
    assert receive(bob) == [Text("sent anew")]


def test_what_comes_in_our_own_name_asks_for_no_keys(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    """Notes to oneself would be sealed to whatever keys the server names."""
    me = alice.identity().client_id
    bob.send("alice", "hello")
    (message,) = mailroom.boxes[me]
    mailroom.boxes[me] = [message._replace(sender=me)]
    gateway.requests.clear()
    (content,) = receive(alice)
    assert isinstance(content, Unreadable)
    assert alice.send("alice", "a note").suite == 1
    assert Text("a note") in receive(alice)
    assert claimed(gateway) == 0


def test_a_first_contact_with_a_fingerprint_takes_no_other_keys(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    link = bob.home.directory.own_link()
    assert link is not None
    alice.home.suite_choice.expect(bob.identity().client_id, link.fingerprint)
    assert alice.home.suite_choice.is_known(bob.identity().client_id)
    assert alice.home.directory.is_verified(alice.contact("bob"))
