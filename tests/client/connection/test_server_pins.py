"""What a home remembers of its server's certificate, and that nothing makes it fall back to plain
TCP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.connection import server_file
from client.connection.server_pins import ServerPins
from client.errors import OutcomeUnknown, PlainRefused, WrongCertificate, WrongServer
from client.messages import SentMessage
from client.messenger import Messenger
from client.store.home_store import Store
from common.client_protocol.requests import HelloRequest
from common.client_protocol.versions import Feature
from common.server_address import ServerAddress, pin_text
from tests.client.certificates import new_certificate
from tests.client.fake_gateway import CLOSE, SILENCE, ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.client.conftest import Told

FIRST, SECOND, THIRD = new_certificate(), new_certificate(), new_certificate()
Make = "Callable[..., Messenger]"


@pytest.fixture
def mailroom() -> ExtendedMailroom:
    return ExtendedMailroom()


@pytest.fixture
def gateway(mailroom: ExtendedMailroom) -> Iterator[FakeGateway]:
    with FakeGateway(mailroom, certificate=FIRST) as fake:
        yield fake


def known(home: Path) -> tuple[bytes, ...]:
    store = Store.open(home)
    try:
        return ServerPins(home, store, lambda _: None).known
    finally:
        store.close()


def plain(address: ServerAddress) -> ServerAddress:
    return address._replace(pins=())


def test_a_registration_by_link_proves_over_the_certificate_and_remembers_the_pin(
    alice: Messenger, mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    assert mailroom.proofs == 1
    alice.close()
    assert known(tmp_path / "alice") == (FIRST.pin,)


def test_a_proof_for_another_certificate_is_worth_nothing(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    """What a middleman passes on is bound to his certificate, not to the server's."""
    assert gateway.address.pins == (FIRST.pin,)
    mailroom.binding = SECOND.pin
    make("alice").register("alice")
    assert mailroom.proofs == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_home_with_a_pin_never_goes_to_plain(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, *, elsewhere: bool
) -> None:
    alice.close()
    with FakeGateway(ExtendedMailroom()) as other:
        address = other.address if elsewhere else plain(gateway.address)
        with pytest.raises(PlainRefused) as caught:
            make("alice", server=address).users()
        assert other.connections == 0
    assert f"{address.place} names none; nothing was sent" in str(caught.value)
    assert f"messageu://{pin_text(FIRST.pin)}@{address.place}" in caught.value.advice


def test_another_certificate_ends_it_before_a_byte(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice.close()
    with FakeGateway(ExtendedMailroom(), certificate=SECOND) as middleman:
        with pytest.raises(WrongCertificate) as caught:
            make("alice", server=middleman.address._replace(pins=gateway.address.pins)).users()
        assert middleman.requests == []
    assert caught.value.presented == pin_text(SECOND.pin)


def test_an_account_of_plain_tcp_moves_to_tls_and_stays(
    make: Callable[..., Messenger], tmp_path: Path, told: Told
) -> None:
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as before:
        make("alice", server=before.address).register("alice")
    assert mailroom.proofs == 1
    with FakeGateway(mailroom, certificate=FIRST) as after:
        alice = make("alice", server=after.address)
        alice.users()
        alice.close()
    assert mailroom.proofs == 2
    assert [text for text in told if "over TLS alone" in text and pin_text(FIRST.pin) in text]
    assert known(tmp_path / "alice") == (FIRST.pin,)


def test_a_link_that_was_pasted_wrong_locks_nobody_out(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    alice.close()
    other = ExtendedMailroom()
    other.server_id = b"O" * 16
    with FakeGateway(other, certificate=SECOND) as wrong, pytest.raises(WrongServer, match="not the one"):
        make("alice", server=wrong.address).users()
    assert other.proofs == 0
    assert known(tmp_path / "alice") == (FIRST.pin,)
    make("alice", server=gateway.address).users()


def test_a_new_link_of_the_same_server_replaces_the_pin_and_the_old_link_still_leads_there(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    """The certificate was lost and made anew: its operator hands the new link out."""
    alice.close()
    with FakeGateway(mailroom, certificate=SECOND) as renewed:
        moved = make("alice", server=renewed.address)
        moved.users()
        moved.close()
        assert known(tmp_path / "alice") == (SECOND.pin,)
        # Where a file still has the old link.
        again = make("alice", server=renewed.address._replace(pins=(FIRST.pin,)))
        again.users()
        again.close()
    mailroom.binding = FIRST.pin
    with pytest.raises(WrongCertificate):
        make("alice", server=gateway.address).users()


def test_what_a_registration_that_came_to_nothing_left_binds_nobody(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path
) -> None:
    mailroom.register("alice")
    with pytest.raises(Exception, match="taken"):
        make("alice", server=gateway.address).register("alice")
    with FakeGateway(ExtendedMailroom()) as elsewhere:
        alice = make("alice", server=elsewhere.address)
        alice.register("alice")
        alice.users()
        alice.close()
    assert known(tmp_path / "alice") == ()


@pytest.mark.parametrize("end", [SILENCE, CLOSE])
def test_over_tls_a_silence_or_a_cut_is_no_reason_to_fall_back(
    make: Callable[..., Messenger], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    """Whoever is in between can make both, and would be rid of the proof."""
    monkeypatch.setattr("client.connection.handshake.REPLY_TIMEOUT", 0.05)
    gateway.ends_orderly = False
    gateway.script.append(end)  # type: ignore[arg-type]
    with pytest.raises(OutcomeUnknown, match="does not greet us"):
        make("alice").register("alice")
    assert gateway.codes() == ["Hello"]


def test_over_tls_the_servers_own_word_is_one(make: Callable[..., Messenger], told: Told) -> None:
    with FakeGateway(certificate=FIRST) as published:
        make("alice", server=published.address).register("alice")
    assert [text for text in told if "speaks only the published protocol" in text]


def test_what_met_another_certificate_surely_never_arrived(
    make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    """An account without the outbox: its history says that it failed, not that nobody knows."""
    alice, bob = make("alice"), make("bob")
    for who, name in ((alice, "alice"), (bob, "bob")):
        who.home.published_only(wanted=True)
        who.register(name)
    alice.send("bob", "one")
    real = alice.home.link.connect

    def swapped() -> None:
        real()
        # Between a look at the connection and the sending it is gone, and the server is another.
        alice.home.link.close()
        alice.home.link.connect = real  # type: ignore[method-assign]
        alice.home.link.address = middleman.address._replace(pins=gateway.address.pins)

    with FakeGateway(ExtendedMailroom(), certificate=SECOND) as middleman:
        alice.home.link.connect = swapped  # type: ignore[method-assign]
        with pytest.raises(WrongCertificate):
            alice.send("bob", "two")
    entries = [entry for entry in alice.history() if isinstance(entry, SentMessage)]
    assert [entry.problem is None for entry in entries] == [True, False]


def names(mailroom: ExtendedMailroom, *pins: bytes) -> None:
    """Have the server name these certificates."""
    mailroom.features |= Feature.CERTIFICATES
    mailroom.certificates = list(pins)


def test_who_connects_while_two_certificates_are_named_follows_the_change(
    alice: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path
) -> None:
    alice.close()
    link = gateway.address
    names(mailroom, FIRST.pin, SECOND.pin)
    alice = make("alice", server=link)
    alice.users()
    alice.users()
    # Once in a connection, behind the proof and before anything else.
    assert gateway.codes().count("Certificates") == 1
    assert gateway.codes()[-5:] == ["Hello", "Prove", "Certificates", "ListUsers", "ListUsers"]
    alice.close()
    assert known(tmp_path / "alice") == (FIRST.pin, SECOND.pin)
    with FakeGateway(mailroom, certificate=SECOND) as changed:
        names(mailroom, SECOND.pin)
        alice = make("alice", server=changed.address._replace(pins=link.pins))
        alice.users()
        alice.close()
    assert known(tmp_path / "alice") == (SECOND.pin,)
    # Whoever took the old key can't take the server's place with it.
    with FakeGateway(ExtendedMailroom(), certificate=FIRST) as thief, pytest.raises(WrongCertificate):
        make("alice", server=thief.address).users()


def test_who_was_away_during_the_whole_change_is_told_what_to_do(
    alice: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    alice.close()
    with FakeGateway(mailroom, certificate=SECOND) as changed:
        names(mailroom, SECOND.pin)
        old = changed.address._replace(pins=(FIRST.pin,))
        with pytest.raises(WrongCertificate, match=pin_text(SECOND.pin)) as caught:
            make("alice", server=old).users()
        assert "get the new link" in caught.value.advice
        assert changed.requests == []
        alice = make("alice", server=changed.address)
        alice.users()
        alice.close()
        assert known(tmp_path / "alice") == (SECOND.pin,)
        # From then on the old link in a file does no harm.
        make("alice", server=old).users()


def test_who_was_away_while_the_next_one_was_named_twice_keeps_what_leads_back(
    alice: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path
) -> None:
    """The operator makes another next certificate in place of the one that was named."""
    alice.close()
    for following in (SECOND, THIRD):
        names(mailroom, FIRST.pin, following.pin)
        alice = make("alice", server=gateway.address)
        alice.users()
        alice.close()
        assert known(tmp_path / "alice") == (FIRST.pin, following.pin)


def test_a_server_without_the_feature_is_not_asked(alice: Messenger, gateway: FakeGateway) -> None:
    alice.users()
    assert "Certificates" not in gateway.codes()
    hello = next(request for request in gateway.requests if isinstance(request, HelloRequest))
    assert hello.features & Feature.CERTIFICATES


def test_on_plain_tcp_nobody_asks_for_certificates(make: Callable[..., Messenger]) -> None:
    mailroom = ExtendedMailroom()
    names(mailroom, FIRST.pin)
    with FakeGateway(mailroom) as plain_gateway:
        make("alice", server=plain_gateway.address).register("alice")
        assert "Certificates" not in plain_gateway.codes()
        hello = next(request for request in plain_gateway.requests if isinstance(request, HelloRequest))
        assert not hello.features & Feature.CERTIFICATES


def test_a_refusal_to_name_them_changes_nothing(
    alice: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    alice.close()
    names(mailroom)
    again = make("alice")
    again.users()
    again.close()
    assert known(tmp_path / "alice") == (FIRST.pin,)


def test_an_invitation_is_no_silence(gateway: FakeGateway, tmp_path: Path) -> None:
    told: list[str] = []
    link = gateway.address._replace(invitation=bytes(16)).link
    with Messenger.open(tmp_path / "carol", link, tell=told.append, remember_server=True) as carol:
        carol.register("carol")
    assert told[0] == "The link has an invitation, which this server has no use for: it is left out."
    assert (tmp_path / "carol" / "server.info").read_text() == f"{gateway.address}\n"
    with Messenger.open(tmp_path / "carol", link, remember_server=True) as carol:
        assert carol.users() == []


class TestLearning:
    @pytest.fixture
    def pins(self, tmp_path: Path) -> Iterator[ServerPins]:
        (tmp_path / "my.info").write_text("")
        store = Store.open(tmp_path)
        yield ServerPins(tmp_path, store, lambda _: None)
        store.close()

    ADDRESS = ServerAddress("h", 1, (FIRST.pin,))

    def test_the_next_pin_is_kept_and_the_old_one_let_go_under_the_new_one_alone(
        self, pins: ServerPins, tmp_path: Path
    ) -> None:
        server_file.remember(tmp_path, self.ADDRESS)
        pins.met(self.ADDRESS, FIRST.pin)
        pins.learn(self.ADDRESS, FIRST.pin, (FIRST.pin, SECOND.pin))
        assert list(pins.known) == list(pins.accepted(self.ADDRESS)) == [FIRST.pin, SECOND.pin]
        texts = f"{pin_text(FIRST.pin)},{pin_text(SECOND.pin)}"
        assert (tmp_path / "server.info").read_text() == f"messageu://{texts}@h:1\n"
        # The list of who still has the old certificate, and names it no more.
        pins.learn(self.ADDRESS, FIRST.pin, (SECOND.pin,))
        assert list(pins.known) == [FIRST.pin, SECOND.pin]
        pins.met(self.ADDRESS, SECOND.pin)
        pins.learn(self.ADDRESS, SECOND.pin, (SECOND.pin,))
        assert list(pins.known) == [SECOND.pin]
        # The old link is recognised, and brings nothing back.
        assert pins.accepted(self.ADDRESS) == (SECOND.pin,)
        assert (tmp_path / "server.info").read_text() == f"messageu://{pin_text(SECOND.pin)}@h:1\n"

    def test_a_link_may_add_the_next_pin(self, pins: ServerPins) -> None:
        pins.met(self.ADDRESS, FIRST.pin)
        both = self.ADDRESS._replace(pins=(FIRST.pin, SECOND.pin))
        assert pins.accepted(both) == (FIRST.pin, SECOND.pin)
        pins.met(both, FIRST.pin)
        assert pins.known == (FIRST.pin, SECOND.pin)

    def test_a_file_of_another_place_or_without_a_pin_is_left_alone(self, pins: ServerPins, tmp_path: Path) -> None:
        for text in ("h:1\n", f"messageu://{pin_text(FIRST.pin)}@other:1\n", f"messageu://{pin_text(THIRD.pin)}@h:1\n"):
            (tmp_path / "server.info").write_text(text)
            pins.met(self.ADDRESS, FIRST.pin)
            pins.learn(self.ADDRESS, FIRST.pin, (FIRST.pin, SECOND.pin))
            assert (tmp_path / "server.info").read_text() == text
            pins.learn(self.ADDRESS, FIRST.pin, (FIRST.pin,))
