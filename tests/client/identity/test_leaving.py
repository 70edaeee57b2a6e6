"""Deleting an account: the request to the server, and what a lost answer means."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.errors import ClientError, OutcomeUnknown, ServerAnsweredError
from client.open_home import OpenHome
from tests.client.fake_gateway import CLOSE, ExtendedMailroom, FakeGateway


@pytest.fixture
def mailroom() -> ExtendedMailroom:
    room = ExtendedMailroom()
    room.features = 27
    return room


@pytest.fixture
def gateway(mailroom: ExtendedMailroom) -> Iterator[FakeGateway]:
    with FakeGateway(mailroom) as gateway:
        yield gateway


@pytest.fixture
def alice(gateway: FakeGateway, tmp_path: Path) -> Iterator[OpenHome]:
    with OpenHome.open(tmp_path / "alice", gateway.address, tmp_path) as home:
        home.registration.register("alice")
        yield home


def test_the_account_is_gone_and_the_home_is_not(alice: OpenHome, mailroom: ExtendedMailroom, tmp_path: Path) -> None:
    alice.leaving.delete()
    assert mailroom.names == {}
    assert (tmp_path / "alice" / "my.info").exists()
    with pytest.raises(ServerAnsweredError, match="does not know this account"):
        alice.directory.users()
    # Once more is no harm.
    alice.leaving.delete()


def test_a_lost_answer(alice: OpenHome, gateway: FakeGateway, mailroom: ExtendedMailroom) -> None:
    alice.directory.users()
    gateway.on_request = lambda request: mailroom.names.clear() if request_is_deletion(request) else None
    gateway.script.append(CLOSE)
    mailroom.keys.clear()
    alice.leaving.delete()


def request_is_deletion(request: object) -> bool:
    return type(request).__name__ == "DeleteAccountRequest"


def test_an_answer_that_was_lost_before_it_was_done(alice: OpenHome, gateway: FakeGateway) -> None:
    alice.directory.users()
    gateway.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown):
        alice.leaving.delete()
    alice.leaving.delete()
    assert gateway.codes().count("DeleteAccount") == 2


def test_a_server_that_forgot_the_account_has_deleted_nothing(alice: OpenHome, mailroom: ExtendedMailroom) -> None:
    alice.link.close()
    mailroom.keys.clear()
    with pytest.raises(ServerAnsweredError, match="does not know this account"):
        alice.leaving.delete()


def test_a_server_without_it(alice: OpenHome, mailroom: ExtendedMailroom) -> None:
    alice.link.close()
    mailroom.features = 11
    with pytest.raises(ClientError, match="can't delete an account by itself"):
        alice.leaving.delete()
