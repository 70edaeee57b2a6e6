"""What cipher suite 1 needs around receiving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.messenger import Text
from common.client_protocol.requests import ClaimKeyRequest
from tests.client.exchange import receive
from tests.client.fake_gateway import CLOSE, ERROR, FakeGateway, SuiteMailroom

if TYPE_CHECKING:
    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)


def test_new_senders_are_asked_for_once(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.send("bob", "one")
    alice.send("bob", "two")
    gateway.requests.clear()
    assert receive(bob) == [Text("one"), Text("two")]
    assert receive(bob) == []
    assert sum(isinstance(request, ClaimKeyRequest) for request in gateway.requests) == 1


@pytest.mark.parametrize("failure", [ERROR, CLOSE])
def test_a_claim_that_fails_does_not_stop_the_rest(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, failure: object
) -> None:
    alice.send("bob", "one")
    failed = list[bool]()

    def fail_first(request: object) -> None:
        if isinstance(request, ClaimKeyRequest) and not failed:
            failed.append(True)
            gateway.script.append(failure)  # type: ignore[arg-type]

    gateway.on_request = fail_first
    receive(bob)
    gateway.on_request = lambda _: None
    bob.fetch_public_key("alice")
    late = list(bob.receive())
    assert failed
    assert [message.content for message in late] in ([], [Text("one")])
    assert Text("one") in [message.content for message in bob.seen()]
