"""Which cipher suite a message goes under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import ClaimKeyRequest
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


def test_a_first_contact_with_a_fingerprint_takes_no_other_keys(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    link = bob.home.directory.own_link()
    assert link is not None
    alice.home.suite_choice.expect(bob.identity().client_id, link.fingerprint)
    assert alice.home.suite_choice.is_known(bob.identity().client_id)
    assert alice.home.directory.is_verified(alice.contact("bob"))
