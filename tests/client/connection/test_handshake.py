"""Greeting and proof of a connection: when they are tried, and which answers are refused."""

from __future__ import annotations

import base64
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from client.connection.handshake import WARNING, Greeting
from client.connection.server_pins import ServerPins
from client.errors import (
    InvalidServerResponse,
    OutcomeUnknown,
    ServerAnsweredError,
    WrongServer,
)
from client.identity import identity_files
from client.messenger import Messenger
from client.store.home_store import Store
from common.client_protocol import responses
from common.errors import SettingRejected
from tests.client.conftest import Told
from tests.client.exchange import receive
from tests.client.fake_gateway import (
    CLOSE,
    ERROR,
    SILENCE,
    Answer,
    ExtendedMailroom,
    FakeGateway,
    Mailroom,
    waiting_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey
    from client.messenger import Messenger
    from tests.client.conftest import Told

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def test_registering_proves_the_account_and_warns_before(
    make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, told: Told
) -> None:
    at_proof: list[list[str]] = []
    gateway.on_request = lambda request: at_proof.append(list(told)) if "Prove" in type(request).__name__ else None
    alice = make("alice")
    alice.register("alice")
    assert at_proof == [[WARNING]]
    assert mailroom.proofs == 1
    assert gateway.codes() == ["Hello", "Register", "Hello", "Prove"]
    server = alice.home.store.server.known()
    assert server is not None
    assert server[:2] == (mailroom.server_id, mailroom.generation)


def test_every_connection_is_proven_and_the_warning_comes_once(
    alice: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom, told: Told
) -> None:
    alice.users()
    assert mailroom.proofs == 1
    make("alice").users()
    assert mailroom.proofs == 2
    assert told == [WARNING]


def test_published_only(make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom) -> None:
    alice = make("alice")
    alice.home.published_only(wanted=True)
    alice.register("alice")
    alice.users()
    again = make("alice")
    assert receive(again) == []
    assert gateway.codes() == ["Register", "ListUsers", "Pull"]
    again.home.published_only(wanted=False)
    make("alice").users()
    assert mailroom.proofs == 1


def test_published_only_comes_too_late(alice: Messenger, tmp_path: Path, gateway: FakeGateway) -> None:
    with pytest.raises(SettingRejected, match="unprove"):
        alice.home.published_only(wanted=True)
    alice.close()
    with pytest.raises(SettingRejected):
        Messenger.open(tmp_path / "alice", gateway.address, published_only=True)
    Messenger.open(tmp_path / "alice", gateway.address, published_only=False).close()


def imported(tmp_path: Path, alice: Messenger) -> None:
    """Another home with the same identity, as if another program had made it."""
    (tmp_path / "imported").mkdir()
    shutil.copy(tmp_path / "alice" / "my.info", tmp_path / "imported" / "me.info")


@pytest.fixture
def unproven(make: Callable[..., Messenger], tmp_path: Path) -> None:
    alice = make("alice")
    alice.home.published_only(wanted=True)
    alice.register("alice")
    imported(tmp_path, alice)


@pytest.mark.usefixtures("unproven")
def test_an_account_of_another_program_is_not_proven_unasked(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    other = make("imported")
    other.users()
    assert receive(other) == []
    other.request_key("alice") if other.users() else None
    assert mailroom.proofs == 0
    assert gateway.codes()[-1] in {"Pull", "ListUsers"}


@pytest.mark.usefixtures("unproven")
def test_consent_is_asked_for_once_and_remembered(make: Callable[..., Messenger], mailroom: ExtendedMailroom) -> None:
    asked: list[bool] = []

    def no(registered_here: bool) -> bool:
        asked.append(registered_here)
        return False

    make("imported", consent=no).users()
    make("imported", consent=no).users()
    assert asked == [False]
    assert mailroom.proofs == 0


@pytest.mark.usefixtures("unproven")
def test_not_now_is_asked_again_by_the_next_start(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, told: Told
) -> None:
    other = make("imported")
    other.users()
    other.home.link.close()
    other.users()
    assert mailroom.proofs == 0
    make("imported", consent=lambda _: True).users()
    assert mailroom.proofs == 1
    assert told == []


def test_another_server_gets_no_signature(alice: Messenger, gateway: FakeGateway, mailroom: ExtendedMailroom) -> None:
    alice.home.link.close()
    mailroom.server_id = b"E" * 16
    gateway.requests.clear()
    with pytest.raises(WrongServer, match="not the one"):
        alice.users()
    assert gateway.codes() == ["Hello"]


@pytest.mark.parametrize(
    "answer", [ERROR, Answer(b"garbage"), Answer(responses.encode_hello(0, 0, 0, 0, b"S" * 16, 1, b"N" * 32))]
)
def test_a_proven_account_never_falls_back(alice: Messenger, gateway: FakeGateway, answer: Answer) -> None:
    alice.home.link.close()
    gateway.script.append(answer)
    with pytest.raises(WrongServer, match="extension"):
        alice.users()
    gateway.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown, match="greet"):
        alice.users()
    gateway.script += [None, CLOSE]
    with pytest.raises(OutcomeUnknown, match="proof"):
        alice.users()
    gateway.script += [None, ERROR]
    with pytest.raises(ServerAnsweredError):
        alice.users()
    assert set(gateway.codes()[4:]) == {"Hello", "Prove"}
    assert [user.name for user in alice.users()] == []


def test_an_absurd_generation(alice: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.home.link.close()
    mailroom.generation = 2**64 - 1
    with pytest.raises(InvalidServerResponse):
        alice.users()


def test_bytes_behind_the_proof(alice: Messenger, gateway: FakeGateway) -> None:
    alice.home.link.close()
    gateway.script += [None, Answer(responses.AUTHENTICATED + b"\0")]
    with pytest.raises(InvalidServerResponse, match="unexpected bytes"):
        alice.users()


def test_a_list_instead_of_a_greeting(alice: Messenger, gateway: FakeGateway) -> None:
    alice.home.link.close()
    gateway.script.append(Answer(waiting_list([])))
    with pytest.raises(WrongServer):
        alice.users()


@pytest.mark.parametrize("answer", [ERROR, CLOSE, SILENCE, Answer(b"garbage"), Answer(responses.ERROR, close=True)])
def test_an_unproven_account_falls_back_and_is_told_once(
    make: Callable[..., Messenger],
    gateway: FakeGateway,
    told: Told,
    answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if answer == SILENCE:
        # Only then: another answer may take its time on a busy machine.
        monkeypatch.setattr("client.connection.handshake.HELLO_TIMEOUT", 0.05)
    gateway.script.append(answer)
    alice = make("alice")
    alice.register("alice")
    assert receive(alice) == []
    alice.home.link.close()
    alice.users()
    assert gateway.codes() == ["Hello", "Register", "Pull", "ListUsers"]
    gateway.script.append(answer)
    if answer == SILENCE:
        # It was remembered, and is not asked again.
        gateway.script.clear()
    make("alice").users()
    assert gateway.codes().count("Hello") == (1 if answer == SILENCE else 2)
    assert len(told) == 1
    assert "speaks only the published protocol" in told[0]


def test_an_identity_of_another_program_can_prove_itself(
    tmp_path: Path, make: Callable[..., Messenger], mailroom: ExtendedMailroom, private_keys: list[PrivateKey]
) -> None:
    key = private_keys[0]
    client_id = mailroom.register("carol", key.public_key())
    home = tmp_path / "carol"
    home.mkdir()
    text = base64.b64encode(key.der()).decode()
    (home / "me.info").write_text(f"carol\r\n{client_id.hex().upper()}\r\n{text}\r\n")
    assert identity_files.load(home).name == "carol"
    make("carol", consent=lambda _: True).users()
    assert mailroom.proven == {client_id}


def test_a_greeting_without_an_identity_proves_nothing(tmp_path: Path, gateway: FakeGateway) -> None:
    store = Store.open(tmp_path)
    pins = ServerPins(tmp_path, store, lambda _: None)
    greeting = Greeting(store, lambda: None, lambda _: True, lambda _: None, lambda: 0, pins)
    assert not greeting.has_signed_in
    store.close()


class OneVersionAlone(FakeGateway):
    """Answers 9000 to every request with another version byte; `versions` holds what came."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self._version = version
        self.versions: list[int] = []

    def serve(self, connection: socket.socket, peer: object) -> bool:
        head = connection.recv(23, socket.MSG_PEEK)
        if head:
            self.versions.append(head[16])
            if head[16] != self._version:
                connection.recv(1 << 20)
                connection.sendall(responses.ERROR)
                return True
        return super().serve(connection, peer)  # type: ignore[arg-type]


class SilentToHello(Mailroom):
    """Says nothing to what it does not know. `hellos` counts those."""

    ignores_hello = False
    hellos = 0

    def answer(self, request: object, state: object) -> bytes:
        if type(request).__name__ == "HelloRequest":
            self.hellos += 1
            return b""
        return super().answer(request, state)  # type: ignore[arg-type]


def test_a_server_that_takes_version_1_alone_is_remembered(make: Callable[..., Messenger]) -> None:
    with OneVersionAlone(1) as server:
        alice = make("alice", server.address)
        alice.register("alice")
        assert alice.users() == []
        assert server.codes() == ["Register", "ListUsers"]
        server.versions.clear()
        again = make("alice", server.address)
        again.users()
        # The hello that it refuses is of the remembered version too.
        assert set(server.versions) == {1}


@pytest.mark.mailroom(kind=Mailroom)
def test_a_refusal_in_either_version_is_a_refusal(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    gateway.mailroom.register("alice")
    alice = make("alice")
    with pytest.raises(ServerAnsweredError, match="taken"):
        alice.register("alice")
    assert gateway.codes() == ["Register", "Register"]
    alice.register("carol")
    assert gateway.codes() == ["Register", "Register", "Register"]


def test_a_server_with_the_extension_is_not_asked_twice(make: Callable[..., Messenger]) -> None:
    mailroom = ExtendedMailroom()
    mailroom.register("alice")
    with FakeGateway(mailroom) as server:
        with pytest.raises(ServerAnsweredError):
            make("alice", server.address).register("alice")
        assert server.codes() == ["Hello", "Register"]


def test_a_server_that_is_silent_to_hello_is_asked_once_an_hour_and_by_doctor(
    make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr("client.connection.handshake.HELLO_TIMEOUT", 0.05)
    mailroom = SilentToHello()
    time = 1_700_000_000.0
    with FakeGateway(mailroom) as server:

        def start() -> Messenger:
            return make("alice", server.address, clock=lambda: time)

        start().register("alice")
        for _ in range(3):
            start().users()
        assert mailroom.hellos == 1
        time += 3599
        start().users()
        assert mailroom.hellos == 1
        time += 2
        start().users()
        assert mailroom.hellos == 2
        assert start().home.diagnosis.server_features() == []
        assert mailroom.hellos == 3
        time -= 10_000
        start().users()
        assert mailroom.hellos == 4
    assert len(told) == 1


def test_a_server_that_speaks_again_is_heard(make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.connection.handshake.HELLO_TIMEOUT", 0.05)
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server:
        server.script.append(SILENCE)
        make("alice", server.address).register("alice")
        assert mailroom.proofs == 0
        assert make("alice", server.address).home.diagnosis.server_features()
        assert mailroom.proofs == 1
        make("alice", server.address).users()
        assert mailroom.proofs == 2


def test_a_remembered_silence_never_takes_a_proof_back(make: Callable[..., Messenger]) -> None:
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server:
        alice = make("alice", server.address)
        alice.register("alice")
        before = mailroom.proofs
        alice.home.store.settings.put("silent_to_hello", f"{server.address} 1700000000000")
        make("alice", server.address).users()
        assert mailroom.proofs == before + 1


@pytest.mark.parametrize("noted", ["", "x", "{0} ", "{0} -5", "{0} ٣", "{0} " + "9" * 99])
def test_a_note_that_can_not_be_read_is_none(make: Callable[..., Messenger], noted: str) -> None:
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server, OneVersionAlone(2) as published:
        for name, home in (("alice", make("alice", server.address)), ("bob", make("bob", published.address))):
            for setting in ("silent_to_hello", "request_version"):
                home.home.store.settings.put(setting, noted.format(home.home.link.address))
            home.register(name)
    # The one was not taken for silent, and to the other nothing was said in another version.
    assert mailroom.proofs == 1
    assert set(published.versions) == {2}
