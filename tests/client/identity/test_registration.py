"""A server that was restored from a backup may have lost an account: the same key registers
its name again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from client.cli import exit_codes
from client.errors import (
    AlreadyRegistered,
    ClientError,
    KeyChanged,
    OutcomeUnknown,
    ServerAnsweredError,
)
from client.identity import identity_files
from client.identity.identity_files import Identity, Protection
from client.identity.registration import KeyToHandOver
from client.messenger import KeyReceived, Messenger, SentMessage, Text
from client.open_home import OpenHome
from common.client_protocol import responses
from common.values import ClientId, PublicKey, Username
from tests.client.conftest import Told
from tests.client.exchange import NOWHERE, receive
from tests.client.fake_gateway import (
    CLOSE,
    ERROR,
    Answer,
    ConnectionState,
    ExtendedMailroom,
    FakeGateway,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def lose(mailroom: ExtendedMailroom, name: str, *messengers: Messenger) -> ClientId:
    """Put back a backup that does not have a user."""
    lost = mailroom.id_of(name)
    for known in (mailroom.names, mailroom.keys, mailroom.boxes):
        del known[lost]
    mailroom.proven.discard(lost)
    mailroom.boxes = {name: [] for name in mailroom.boxes}
    mailroom.accepted.clear()
    mailroom.generation += 1
    for messenger in messengers:
        messenger.home.link.close()
    return lost


def test_it_is_the_same_account_again(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, told: Told) -> None:
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "before")
    assert len(receive(bob)) == 2
    lost = lose(mailroom, "bob", alice, bob)

    with pytest.raises(ServerAnsweredError, match="does not know this account any more") as caught:
        receive(bob)
    assert caught.value.advice == (
        "If it was restored from a backup, `messageu register bob` registers the name and the key again."
    )
    # Before he is there again, nobody can send him anything.
    assert alice.resend().left == 2
    assert bob.register("bob") == bob.identity()
    assert bob.identity().client_id == lost == mailroom.id_of("bob")
    assert "The server did not know this account any more: name and key are registered again." in told
    assert bob.home.greeting.has_signed_in

    alice.users()
    assert alice.fetch_public_key("bob").changed is False
    assert alice.resend().sent == 2
    alice.home.sending.send_text("bob", "after")
    # What he had already is recognised.
    assert receive(bob) == [Text("after")]
    bob.home.sending.send_text("alice", "here again")
    assert receive(alice) == [Text("here again")]


def test_what_was_never_fetched_arrives(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "lost")
    lose(mailroom, "bob", alice, bob)
    bob.register("bob")
    assert alice.resend().sent == 2
    assert receive(bob) == [KeyReceived(), Text("lost")]


def test_another_id_where_the_server_gives_one(
    alice: Messenger, mailroom: ExtendedMailroom, told: Told, make: Callable[..., Messenger]
) -> None:
    mailroom.register("another")
    lost = lose(mailroom, "alice", alice)
    mailroom.gives_wanted = False
    again = alice.register("alice")
    assert again.client_id != lost
    assert "The server did not know this account any more: name and key are registered again, under a new id." in told
    alice.close()
    opened = make("alice")
    assert opened.identity().client_id == again.client_id
    opened.users()


@pytest.mark.parametrize("verified", [False, True])
def test_contacts_see_the_same_key_under_another_id(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, told: Told, verified: bool
) -> None:
    alice.agree_on_key("bob")
    if verified:
        alice.mark_verified("bob")
    alice.home.sending.send_text("bob", "lost")
    mailroom.register("another")
    lost = lose(mailroom, "bob", alice, bob)
    mailroom.gives_wanted = False
    new = bob.register("bob").client_id
    assert new != lost

    alice.users()
    assert alice.fetch_public_key("bob").changed is False
    mark = " [verified]" if verified else ""
    assert f"bob{mark} has another id at the server now, and the same key as before." in told
    assert alice.contact("bob").client_id == new
    assert alice.home.directory.is_verified_name("bob") == verified
    # What he missed goes to where he is now.
    assert alice.resend().sent == 2
    alice.home.sending.send_text("bob", "new")
    assert [content for content in receive(bob) if isinstance(content, Text)] == [Text("lost"), Text("new")]
    # What he sends under the key of before can be read.
    bob.home.sending.send_text("alice", "here again")
    assert [content for content in receive(alice) if isinstance(content, Text)] == [Text("here again")]
    names = {one.recipient.name if isinstance(one, SentMessage) else one.sender_name for one in alice.history()}
    assert names == {"bob"}
    assert alice.home.diagnosis.changed_keys() == []


def test_another_key_under_another_id_is_an_alarm(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.agree_on_key("bob")
    mailroom.register("another")
    lose(mailroom, "bob", alice, bob)
    mailroom.register("bob", mailroom.keys[alice.identity().client_id])
    alice.users()
    with pytest.raises(KeyChanged):
        alice.home.sending.send_text("bob", "not to him")


def test_the_same_key_under_another_name_is_an_alarm(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom
) -> None:
    alice.agree_on_key("bob")
    him = mailroom.id_of("bob")
    mailroom.names[him] = Username("mallory")
    alice.users()
    with pytest.raises(KeyChanged):
        alice.home.sending.send_text("mallory", "not to him")


def test_somebody_else_has_the_name(alice: Messenger, mailroom: ExtendedMailroom) -> None:
    before = alice.identity()
    mailroom.register("another")
    lose(mailroom, "alice", alice)
    mailroom.register("alice", PublicKey(b"k" * 160))
    with pytest.raises(ServerAnsweredError, match="somebody else has registered alice since"):
        alice.register("alice")
    assert alice.identity() == before


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_an_account_that_is_known_is_not_registered_again(
    alice: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, name: str
) -> None:
    gateway.requests.clear()
    with pytest.raises(AlreadyRegistered, match="is not replaced"):
        alice.register(name)
    assert "Register" not in gateway.codes()


def test_without_a_server_nothing_is_registered_again(alice: Messenger, make: Callable[..., Messenger]) -> None:
    alice.close()
    with pytest.raises(AlreadyRegistered):
        make("alice", server=NOWHERE).register("alice")


def test_a_lost_registration_gives_the_same_id(
    make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom
) -> None:
    def lose(request: object) -> None:
        if "Register" in type(request).__name__:
            gateway.on_request = lambda _: None
            gateway.script.append(Answer(mailroom.answer(request, ConnectionState())[:5], close=True))  # type: ignore[arg-type]

    gateway.on_request = lose
    with pytest.raises(OutcomeUnknown):
        make("alice").register("alice")
    assert make("alice").register("alice").client_id == mailroom.id_of("alice")
    assert len(mailroom.names) == 1


def test_a_lost_registration_and_a_name_that_another_took(
    make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    gateway.script += [None, CLOSE]
    with pytest.raises(OutcomeUnknown):
        make("alice").register("alice")
    mailroom.register("alice")
    with pytest.raises(ServerAnsweredError, match="taken"):
        make("alice").register("alice")
    assert not list((tmp_path / "alice").glob("my.info*"))


@pytest.mark.parametrize(("answer", "left"), [(responses.encode_reason(8, 0), "pending"), (ERROR.data, "unfinished-1")])
def test_a_lost_registration_and_a_refusal_that_says_nothing_about_it(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path, answer: bytes, left: str
) -> None:
    gateway.script += [None, CLOSE]
    with pytest.raises(OutcomeUnknown):
        make("alice").register("alice")
    gateway.script += [None, Answer(answer)]
    with pytest.raises(ServerAnsweredError):
        make("alice").register("alice")
    assert [path.name for path in (tmp_path / "alice").glob("my.info*")] == [f"my.info.{left}"]


class TestInvitations:
    @pytest.fixture(autouse=True)
    def _accounts(self, mailroom: ExtendedMailroom) -> None:
        mailroom.features = 27

    def test_the_one_of_the_address_is_used(self, gateway: FakeGateway, tmp_path: Path) -> None:
        address = gateway.address._replace(invitation=bytes(range(16)))
        with OpenHome.open(tmp_path / "dora", address, tmp_path) as dora:
            dora.registration.register("dora")
        assert "RegisterInvited" in gateway.codes()

    def test_one_that_is_not_good(self, gateway: FakeGateway, tmp_path: Path) -> None:
        address = gateway.address._replace(invitation=bytes(16))
        with OpenHome.open(tmp_path / "dora", address, tmp_path) as dora:
            with pytest.raises(ServerAnsweredError, match="none that is good") as caught:
                dora.registration.register("dora")
            assert exit_codes.of_failure(caught.value) == (exit_codes.NOT_ADMITTED, "refused")
            # Another name, another link: nothing of the first try is in the way.
            dora.link.address = gateway.address._replace(invitation=bytes(range(16)))
            dora.registration.register("theodora")

    def test_a_lost_answer_is_asked_for_again(self, gateway: FakeGateway, tmp_path: Path) -> None:
        address = gateway.address._replace(invitation=bytes(range(16)))
        with OpenHome.open(tmp_path / "dora", address, tmp_path) as dora:
            gateway.script.extend([None, CLOSE])
            with pytest.raises(OutcomeUnknown):
                dora.registration.register("dora")
            assert dora.registration.register("dora").name == "dora"


class TestRecover:
    def test_the_key_is_kept_until_it_is_the_accounts(
        self, alice: Messenger, gateway: FakeGateway, mailroom: ExtendedMailroom, tmp_path: Path
    ) -> None:
        with OpenHome.open(tmp_path / "new", gateway.address, tmp_path) as new:
            first = new.registration.recover("alice")
        with OpenHome.open(tmp_path / "new", gateway.address, tmp_path) as new:
            again = new.registration.recover("alice")
            assert isinstance(first, KeyToHandOver)
            assert again == first
            with pytest.raises(AlreadyRegistered, match="has a key for alice"):
                new.registration.recover("bob")
            mailroom.keys[mailroom.id_of("alice")] = first.public_key
            found = new.registration.recover("alice")
            assert isinstance(found, Identity)
            assert found.client_id == alice.identity().client_id
            with pytest.raises(AlreadyRegistered):
                new.registration.recover("alice")

    def test_a_server_of_the_published_protocol_can_t(self, tmp_path: Path) -> None:
        with (
            FakeGateway() as gateway,
            OpenHome.open(tmp_path / "new", gateway.address, tmp_path) as new,
            pytest.raises(ClientError, match="no way to give an account another key"),
        ):
            new.registration.recover("alice")
        assert not (tmp_path / "new" / "my.info.pending").exists()


def test_a_key_that_is_encrypted_in_its_file_stays_so(
    alice: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path, cheap: None
) -> None:
    """One that was imported: the home itself has no passphrase."""
    identity_files.save(tmp_path / "alice", alice.identity(), Protection("words", os.urandom))
    alice.close()
    key = (tmp_path / "alice" / "my.info").read_text().splitlines()[2:]
    mailroom.register("another")
    lose(mailroom, "alice")
    mailroom.gives_wanted = False
    with OpenHome.open(tmp_path / "alice", gateway.address, passphrase=lambda: "words") as home:
        again = home.registration.register("alice")
    assert identity_files.with_plain_keys(tmp_path / "alice") == []
    name, client_id, *same = (tmp_path / "alice" / "my.info").read_text().splitlines()
    assert (name, client_id, same) == ("alice", again.client_id.hex(), key)


def test_who_is_blocked_is_so_under_another_id(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.send("bob", "hello")
    alice.block("bob")
    alice.mute("bob")
    mailroom.register("another")
    lose(mailroom, "bob", alice, bob)
    mailroom.gives_wanted = False
    new = bob.register("bob").client_id
    alice.users()
    assert alice.fetch_public_key("bob").changed is False
    [one] = alice.silenced()
    assert (one.contact.client_id, one.contact.name, one.blocked, one.muted) == (new, "bob", True, True)
    # One conversation, under whichever id.
    alice.send("bob", "hello again")
    assert [(one.contact.client_id, one.contact.name) for one in alice.conversations()] == [(new, "bob")]


def test_notes_of_before_another_id_stay_notes(alice: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.send("alice", "before")
    assert receive(alice) == [Text("before")]
    mailroom.register("another")
    lose(mailroom, "alice", alice)
    mailroom.gives_wanted = False
    alice.register("alice")
    alice.send("alice", "after")
    assert receive(alice) == [Text("after")]
    assert [(type(one), one.text) for one in alice.history() if isinstance(one, SentMessage)] == [
        (SentMessage, "before"),
        (SentMessage, "after"),
    ]
    assert len(alice.history()) == 2
