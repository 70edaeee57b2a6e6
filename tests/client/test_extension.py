"""Part 2 in the client: greeting, proof, outbox, acknowledged fetching, against a
scripted server that has it.
"""

from __future__ import annotations

import base64
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from client.connection.handshake import WARNING, Greeting
from client.connection.server_pins import ServerPins
from client.crypto import ciphers
from client.errors import (
    FileUnreadable,
    InvalidServerResponse,
    OutboxFull,
    OutcomeUnknown,
    ServerAnsweredError,
    ServerUnreachable,
    WrongServer,
)
from client.identity import identity_files
from client.mail import inbox, outbox
from client.messenger import KeyReceived, KeyRequested, Messenger, SavedFile, SentMessage, Text, Unreadable
from client.store.database import Database
from client.store.home_store import Store
from client.trust import directory
from common.client_protocol import responses
from common.client_protocol.requests import FetchRequest, SendRequest
from common.client_protocol.responses import ErrorResponse
from common.errors import SettingRejected
from common.info_files import ServerAddress
from common.values import ClientId, MessageKind, RefusalReason, Username
from tests.client.conftest import NOW, Told
from tests.client.fake_gateway import (
    CLOSE,
    ERROR,
    SILENCE,
    Answer,
    ConnectionState,
    ExtendedMailroom,
    FakeGateway,
    StoredMessage,
    fetched_list,
    user_list,
    waiting_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey

NOWHERE = ServerAddress("127.0.0.1", 1)


@pytest.fixture
def mailroom() -> ExtendedMailroom:
    return ExtendedMailroom()


@pytest.fixture
def gateway(mailroom: ExtendedMailroom) -> Iterator[FakeGateway]:
    with FakeGateway(mailroom) as fake:
        yield fake


@pytest.fixture
def pair(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> tuple[Messenger, Messenger]:
    alice.fetch_public_key("bob")
    alice.send_key("bob")
    assert receive(bob) == [KeyReceived()]
    bob.users()
    gateway.requests.clear()
    return alice, bob


def receive(messenger: Messenger) -> list[object]:
    return [message.content for message in messenger.receive()]


def sends(gateway: FakeGateway) -> list[SendRequest]:
    return [request for request in gateway.requests if isinstance(request, SendRequest)]


# --- greeting and proof
# ---------------------------------------------------------------------------------------


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
    with pytest.raises(InvalidServerResponse, match="nobody asked for"):
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
    assert "published protocol alone" in told[0]


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


def test_nothing_but_the_proof_is_signed(private_key: PrivateKey) -> None:
    assert [name for name in dir(private_key) if "sign" in name.lower()] == []
    for sizes in ((15, 32, 16, 32), (16, 33, 16, 32), (16, 32, 15, 32), (16, 32, 16, 0)):
        with pytest.raises(AssertionError):
            private_key.prove(*(bytes(size) for size in sizes))  # type: ignore[arg-type]


# --- outbox
# --------------------------------------------------------------------------------------------------


def test_texts_keys_and_files(pair: tuple[Messenger, Messenger], tmp_path: Path, gateway: FakeGateway) -> None:
    alice, bob = pair
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"y" * 1_000_000)
    seen: list[tuple[int, int]] = []
    alice.request_key("bob")
    alice.home.sending.send_text("bob", "hi")
    alice.home.sending.send_file("bob", tmp_path / "small")
    alice.home.sending.send_file("bob", tmp_path / "large", lambda done, total: seen.append((done, total)))
    request, text, small, large = receive(bob)
    assert (request, text) == (KeyRequested(), Text("hi"))
    assert isinstance(small, SavedFile)
    assert isinstance(large, SavedFile)
    assert small.path.read_bytes() == b"x" * 100
    assert large.path.read_bytes() == b"y" * 1_000_000
    assert seen[-1] == (1_000_016, 1_000_016)
    assert not list((tmp_path / "alice" / "store.spool").iterdir())
    assert alice.home.store.outbox.waiting_count() == 0
    assert len({request.token for request in sends(gateway)}) == 4


def test_a_message_is_on_disk_with_its_token_before_it_is_sent(
    pair: tuple[Messenger, Messenger], tmp_path: Path, gateway: FakeGateway
) -> None:
    on_disk: list[bytes] = []

    def look(request: object) -> None:
        if isinstance(request, SendRequest):
            other = Store.open(tmp_path / "alice")
            on_disk.extend(row.token for row in other.outbox.waiting())
            other.close()

    gateway.on_request = look
    pair[0].home.sending.send_text("bob", "hi")
    assert on_disk == [request.token for request in sends(gateway)]


def test_a_lost_answer_stores_nothing_twice(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, told: Told
) -> None:
    alice, bob = pair

    def lose(request: object) -> None:
        if isinstance(request, SendRequest):
            gateway.on_request = lambda _: None
            mailroom.answer(request, ConnectionState(proven_as=request.requester))
            gateway.script.append(Answer(b"\2", close=True))

    gateway.on_request = lose
    with pytest.raises(OutcomeUnknown) as caught:
        alice.home.sending.send_text("bob", "first")
    assert "kept" in caught.value.advice
    alice.home.sending.send_text("bob", "second")
    assert receive(bob) == [Text("first"), Text("second")]
    assert len({request.token for request in sends(gateway)}) == 2
    assert len(sends(gateway)) == 3
    assert "is sent now" in told[-1]


def test_a_large_file_starts_over_where_the_connection_breaks(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, tmp_path: Path, told: Told
) -> None:
    alice, bob = pair
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    gateway.script.extend([CLOSE, None, CLOSE])
    alice.home.sending.send_file("bob", tmp_path / "file")
    assert sum("Starting over" in line for line in told) == 2
    gateway.script.append(Answer(fetched_list(mailroom.boxes[mailroom.id_of("bob")])[:1_500_000], close=True))
    (content,) = receive(bob)
    assert sum("Starting over" in line for line in told) == 3
    assert isinstance(content, SavedFile)
    assert content.path.read_bytes() == bytes(2_000_000)
    assert len({request.token for request in sends(gateway)}) == 1


def test_a_message_that_another_process_sends_meanwhile(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    beside = make("alice")
    flush = alice.home.outbox.flush

    def after_the_other(*given: Any) -> int:
        beside.send_waiting()
        return flush(*given)

    with monkeypatch.context() as patched:
        patched.setattr(alice.home.outbox, "flush", after_the_other)
        sent = alice.home.sending.send_text("bob", "hi")
    assert sent.message_id > 0
    assert receive(bob) == [Text("hi")]
    (row,) = [message for message in alice.history() if isinstance(message, SentMessage)]
    assert (row.waiting, row.message_id) == (False, sent.message_id)


def test_who_does_not_wait_leaves_the_outbox_to_another(pair: tuple[Messenger, Messenger]) -> None:
    alice, bob = pair
    alice.keep_text("bob", "hi")
    with alice.home.store.sender(wait=False) as mine:
        assert mine
        assert list(alice.receive()) == []
        assert alice.home.outbox.waiting_count() == 1
    assert list(alice.receive()) == []
    assert receive(bob) == [Text("hi")]


def test_what_is_kept_is_sent_later_and_its_state_is_known(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, tmp_path: Path, mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    (tmp_path / "file").write_bytes(b"words" * 100_000)
    before = len(gateway.requests)
    alice.home.key_exchange.keep_key("bob")
    text, file = alice.keep_text("bob", "hi"), alice.keep_file("bob", tmp_path / "file")
    assert len(gateway.requests) == before
    assert [alice.now(message).waiting for message in (text, file)] == [True, True]
    alice.send_waiting(file)
    assert [alice.now(message).stored_at is not None for message in (text, file)] == [True, True]
    assert [type(content) for content in receive(bob)] == [KeyReceived, Text, SavedFile]
    refused = alice.keep_text("bob", "no")
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.TOO_LARGE)
    with pytest.raises(ServerAnsweredError):
        alice.send_waiting(refused)
    assert alice.now(refused).problem


def test_an_interrupt_keeps_the_message_and_says_so(
    pair: tuple[Messenger, Messenger], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(alice.home.outbox, "_send", interrupt)
        with pytest.raises(KeyboardInterrupt):
            alice.home.sending.send_text("bob", "hi")
    assert "kept" in told[-1]
    alice.home.sending.send_text("bob", "there")
    assert receive(bob) == [Text("hi"), Text("there")]


def test_without_a_server_messages_wait(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], tmp_path: Path
) -> None:
    pair[0].close()
    offline = make("alice", server=NOWHERE)
    (tmp_path / "file").write_bytes(b"z" * 200_000)
    attempts: list[Callable[[], object]] = [
        lambda: offline.send_key("bob"),
        lambda: offline.home.sending.send_text("bob", "one"),
        lambda: offline.home.sending.send_file("bob", tmp_path / "file"),
    ]
    for attempt in attempts:
        with pytest.raises(ServerUnreachable) as caught:
            attempt()
        assert "kept" in caught.value.advice
    offline.close()
    (tmp_path / "file").unlink()
    online = make("alice")
    assert receive(online) == []
    online.home.sending.send_text("bob", "two")
    key, one, file, two = receive(pair[1])
    assert (key, one, two) == (KeyReceived(unasked=True), Text("one"), Text("two"))
    assert isinstance(file, SavedFile)
    assert file.path.read_bytes() == b"z" * 200_000


def test_an_account_that_never_proved_itself_keeps_nothing(make: Callable[..., Messenger], alice: Messenger) -> None:
    alice.home.store.database.run("DELETE FROM server")
    alice.users()
    with pytest.raises(ServerUnreachable) as caught:
        make("alice", server=NOWHERE).users()
    assert "kept" not in caught.value.advice


@pytest.mark.parametrize("reason", [6, 7, 8])
def test_what_time_may_heal_is_kept_and_sent_later(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, reason: int, told: Told
) -> None:
    alice, bob = pair
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(reason, 5)
    with pytest.raises(ServerAnsweredError) as caught:
        alice.home.sending.send_text("bob", "first")
    assert caught.value.reason == reason
    assert "kept" in caught.value.advice
    assert "5 s" in caught.value.advice
    with pytest.raises(ServerAnsweredError, match="earlier message waits"):
        alice.home.sending.send_text("bob", "second")
    assert alice.failed() == []
    mailroom.reasons.clear()
    receive(alice)
    assert receive(bob) == [Text("first"), Text("second")]
    assert sum("is sent now" in sentence for sentence in told) == 2


@pytest.mark.parametrize("reason", [RefusalReason.MAILBOX_FULL, RefusalReason.SENDER_SHARE])
def test_a_full_mailbox_stops_nobody_else(
    pair: tuple[Messenger, Messenger],
    mailroom: ExtendedMailroom,
    make: Callable[..., Messenger],
    reason: RefusalReason,
) -> None:
    alice, _ = pair
    carol = make("carol")
    carol.register("carol")
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(reason, 0)
    with pytest.raises(ServerAnsweredError):
        alice.home.sending.send_text("bob", "waits")
    alice.request_key("carol")
    assert receive(carol) == [KeyRequested()]
    assert alice.home.store.outbox.waiting_count() == 1


@pytest.mark.parametrize("reason", [None, 1, 2, 3, 4, 5, 9, 77])
def test_what_is_refused_for_good_is_set_aside(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, reason: int | None, make: Callable[..., Messenger]
) -> None:
    alice, bob = pair
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(reason, 0)
    with pytest.raises(ServerAnsweredError):
        alice.home.sending.send_text("bob", "my words")
    mailroom.reasons.clear()
    alice.home.sending.send_text("bob", "other words")
    assert receive(bob) == [Text("other words")]
    (failed,) = make("alice").failed()
    assert (failed.recipient_name, failed.kind, failed.text) == ("bob", MessageKind.TEXT, "my words")
    assert failed.queued_at == NOW * 1000
    assert failed.problem


def test_a_key_and_a_file_that_are_refused(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    alice, _bob = pair
    before = alice.home.store.keys.of(mailroom.id_of("bob"))
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.MALFORMED, 0)
    (tmp_path / "file").write_bytes(bytes(100_000))
    with pytest.raises(ServerAnsweredError):
        alice.send_key("bob")
    with pytest.raises(ServerAnsweredError):
        alice.home.sending.send_file("bob", tmp_path / "file")
    assert [row for row in alice.home.store.keys.of(mailroom.id_of("bob")) if row.usable] == before
    assert not list((tmp_path / "alice" / "store.spool").iterdir())
    assert [(failed.kind, failed.text) for failed in alice.failed()] == [(2, None), (4, None)]


def test_a_refusal_behind_the_users_back_is_told_with_the_words(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, told: Told, make: Callable[..., Messenger]
) -> None:
    pair[0].close()
    with pytest.raises(ServerUnreachable):
        make("alice", server=NOWHERE).home.sending.send_text("bob", "my words")
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.TOO_LARGE, 0)
    receive(make("alice"))
    assert told[-1].startswith("The text for bob of 2023-11-1")
    assert told[-1].endswith("It reads: my words")


def test_words_whose_key_is_gone(pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom) -> None:
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.MALFORMED, 0)
    with pytest.raises(ServerAnsweredError):
        pair[0].home.sending.send_text("bob", "my words")
    pair[0].home.store.database.run("UPDATE shared_key SET key = zeroblob(16)")
    assert pair[0].failed()[0].text is None


def test_what_never_left_may_wait_for_ever(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], told: Told, gateway: FakeGateway
) -> None:
    pair[0].close()
    with pytest.raises(ServerUnreachable):
        make("alice", server=NOWHERE).home.sending.send_text("bob", "old")
    # It never left: it may wait for ever, whatever the clock says.
    later = make("alice", clock=lambda: NOW + 700 * 24 * 3600)
    receive(later)
    assert told[-1].endswith("is sent now.")
    assert later.failed() == []
    assert len(sends(gateway)) == 1


def test_what_left_long_ago_without_an_answer_is_not_sent_again(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], told: Told, gateway: FakeGateway
) -> None:
    # The server may have it: its answer is lost.
    pair[0].close()
    hasty = make("alice", reply_timeout=0.05)
    hasty.users()
    gateway.requests.clear()
    gateway.script.append(SILENCE)
    with pytest.raises(OutcomeUnknown):
        hasty.home.sending.send_text("bob", "old")
    hasty.close()
    before = len(sends(gateway))
    later = make("alice", clock=lambda: NOW + 7 * 24 * 3600)
    receive(later)
    assert "left so long ago" in told[-1]
    assert later.failed()[0].text == "old"
    assert len(sends(gateway)) == before


def test_what_was_surely_refused_may_wait_for_ever(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], mailroom: ExtendedMailroom, told: Told
) -> None:
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.MAILBOX_FULL, 30)
    with pytest.raises(ServerAnsweredError):
        pair[0].home.sending.send_text("bob", "no room")
    pair[0].close()
    del mailroom.reasons[mailroom.id_of("bob")]
    receive(make("alice", clock=lambda: NOW + 700 * 24 * 3600))
    assert told[-1].endswith("is sent now.")


def test_where_a_waiting_key_was_set_aside_a_new_one_goes_first(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice, bob = pair
    receive(bob)
    alice.close()
    offline = make("alice", server=NOWHERE)
    offline.home.store.database.run("DELETE FROM shared_key")
    offline.home.key_exchange.keep_key("bob")
    offline.keep_text("bob", "first")
    # Both left, and no answer came.
    offline.home.store.database.run("UPDATE outbox SET tried_at = 0")
    offline.close()
    later = make("alice")
    later.home.sending.send_text("bob", "second")
    assert contents(bob)[-1] == Text("second")
    assert [failed.text for failed in later.failed()] == [None, "first"]


def contents(messenger: Messenger) -> list[object]:
    return [message.content for message in messenger.receive()]


def test_who_asks_for_a_key_again_gets_a_new_one_before_the_next_text(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway
) -> None:
    alice, bob = pair
    alice.home.sending.send_text("bob", "under the first key")
    receive(bob)
    assert not alice.agree_on_key("bob")
    # Bob has lost his store, say.
    bob.home.store.database.run("DELETE FROM shared_key")
    bob.request_key("alice")
    receive(alice)
    assert alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "under a new one")
    assert contents(bob)[-1] == Text("under a new one")
    assert not alice.agree_on_key("bob"), "it was answered"


def test_history_is_in_the_order_in_which_it_happened_here(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger]
) -> None:
    alice, bob = pair
    alice.close()
    said = ["one", "two", "three", "four"]
    # Alice's clock is set back, and goes wrong by years.
    clocks = [NOW + 9_000_000, NOW - 9_000_000]
    for text, clock in zip(said[::2], clocks, strict=True):
        here = make("alice", clock=lambda now=clock: now)
        here.home.sending.send_text("bob", text)
        here.close()
        receive(bob)
        bob.home.sending.send_text("alice", said[said.index(text) + 1])
        here = make("alice", clock=lambda now=clock: now)
        receive(here)
        here.close()
    texts: list[str | None] = []
    for entry in make("alice").history():
        if isinstance(entry, SentMessage):
            texts.append(entry.text)
        elif isinstance(entry.content, Text):
            texts.append(entry.content.text)
    assert texts == said


def test_the_outbox_is_bounded(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert outbox.MOST_WAITING == 256
    monkeypatch.setattr(outbox, "MOST_WAITING", 2)
    pair[0].close()
    offline = make("alice", server=NOWHERE)
    (tmp_path / "file").write_text("x")
    for _ in range(2):
        with pytest.raises(ServerUnreachable):
            offline.home.sending.send_text("bob", "x")
    keys = offline.home.store.keys.of(pair[1].identity().client_id)
    attempts: list[Callable[[], object]] = [
        lambda: offline.home.sending.send_text("bob", "x"),
        lambda: offline.send_key("bob"),
        lambda: offline.home.sending.send_file("bob", tmp_path / "file"),
    ]
    for attempt in attempts:
        with pytest.raises(OutboxFull):
            attempt()
    assert offline.home.store.keys.of(pair[1].identity().client_id) == keys


def test_an_answer_for_somebody_else_keeps_the_message(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(Answer(responses.encode_stored(b"x" * 16, 1)))
    with pytest.raises(InvalidServerResponse):
        pair[0].home.sending.send_text("bob", "hi")
    receive(pair[0])
    assert receive(pair[1]) == [Text("hi")]


def test_a_file_that_is_too_large_for_this_server(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, tmp_path: Path, gateway: FakeGateway
) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    mailroom.largest_content = 1007
    pair[0].home.link.close()
    with pytest.raises(FileUnreadable, match="too large"):
        pair[0].home.sending.send_file("bob", tmp_path / "file")
    mailroom.largest_content = 1008
    pair[0].home.link.close()
    pair[0].home.sending.send_file("bob", tmp_path / "file")
    assert len(sends(gateway)) == 1


def test_a_spooled_file_that_ends_too_soon_leaves_nothing(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))

    read, spool = os.read, tmp_path / "alice" / "store.spool"

    def fail_when_some_is_spooled(descriptor: int, size: int) -> bytes:
        if spool.is_dir() and any(spool.iterdir()):
            raise OSError(5, "Input/output error")
        return read(descriptor, size)

    monkeypatch.setattr("client.mail.outgoing_file.os.read", fail_when_some_is_spooled)
    with pytest.raises(FileUnreadable):
        pair[0].home.sending.send_file("bob", tmp_path / "file")
    assert not list(spool.iterdir())
    assert pair[0].home.store.outbox.waiting_count() == 0


def test_a_server_without_send_once(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway, alice: Messenger, bob: Messenger
) -> None:
    mailroom.features = 8
    alice.home.link.close()
    bob.home.link.close()
    alice.request_key("bob")
    assert receive(bob) == [KeyRequested()]
    assert sends(gateway)[0].token is None
    assert "Fetch" not in gateway.codes()


# --- inbox
# --------------------------------------------------------------------------------------------------


def test_mail_is_on_disk_before_it_is_acknowledged_and_before_it_is_given(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    for number in range(3):
        alice.home.sending.send_text("bob", str(number))
    mailroom.acks.clear()
    receiving = bob.receive()
    first = next(receiving)
    assert first.content == Text("0")
    assert first.accepted_at == 1_700_000_000_000
    assert first.sender_proven
    # All of it was acknowledged when the second answer came empty.
    assert mailroom.acks == [1, 4]
    assert mailroom.boxes[mailroom.id_of("bob")] == []
    assert [message.content for message in receiving] == [Text("1"), Text("2")]


def test_death_between_the_answer_and_the_acknowledgement(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, make: Callable[..., Messenger], mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    alice.home.sending.send_text("bob", "once")
    # The second fetch is lost, and so is its repetition on a connection that is greeted first.
    gateway.script += [None, CLOSE, None, None, CLOSE]
    receiving = bob.receive()
    assert next(receiving).content == Text("once")
    with pytest.raises(OutcomeUnknown):
        next(receiving)
    assert mailroom.boxes[mailroom.id_of("bob")] != []
    bob.close()
    assert receive(make("bob")) == []
    assert mailroom.boxes[mailroom.id_of("bob")] == []


def test_an_answer_that_breaks_off_keeps_what_came_whole(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    for number in range(3):
        alice.home.sending.send_text("bob", str(number))
    whole = fetched_list(mailroom.boxes[mailroom.id_of("bob")])
    gateway.script.append(Answer(whole[:-1], close=True))
    receiving = bob.receive()
    assert [next(receiving).content, next(receiving).content] == [Text("0"), Text("1")]
    with pytest.raises(OutcomeUnknown):
        next(receiving)
    mailroom.acks.clear()
    (last,) = bob.receive()
    assert (last.content, last.repeated) == (Text("2"), False)
    assert mailroom.acks == [3, 4]


def test_a_message_that_comes_again_is_recognised_by_its_token(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    alice, bob = pair
    alice.home.sending.send_text("bob", "once")
    box = list(mailroom.boxes[mailroom.id_of("bob")])
    assert receive(bob) == [Text("once")]
    mailroom.boxes[mailroom.id_of("bob")] = [box[0]._replace(number=99)]
    mailroom.next_number = 100
    assert receive(bob) == []
    mailroom.boxes[mailroom.id_of("bob")] = [StoredMessage(b"o" * 16, 101, 1, b"", box[0].token)]
    mailroom.next_number = 102
    assert receive(bob) == [KeyRequested()]


def test_a_large_message_that_comes_again_leaves_no_spool(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    alice, bob = pair
    (tmp_path / "file").write_bytes(bytes(100_000))
    alice.home.sending.send_file("bob", tmp_path / "file")
    box = list(mailroom.boxes[mailroom.id_of("bob")])
    receive(bob)
    mailroom.boxes[mailroom.id_of("bob")] = [box[0]._replace(number=99)]
    mailroom.next_number = 100
    assert receive(bob) == []
    assert not list((tmp_path / "bob" / "store.spool").iterdir())


def test_another_generation_starts_again_at_zero(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    alice, bob = pair
    for number in range(5):
        alice.home.sending.send_text("bob", str(number))
    backup = list(mailroom.boxes[mailroom.id_of("bob")][:2])
    receive(bob)
    # Restored from a backup: two old messages are there again, and new ones get numbers that were
    # used before.
    mailroom.generation, mailroom.next_number = 2, 4
    mailroom.boxes[mailroom.id_of("bob")] = backup
    alice.home.link.close()
    bob.home.link.close()
    alice.home.sending.send_text("bob", "new")
    mailroom.acks.clear()
    assert receive(bob) == [Text("new")]
    assert mailroom.acks[0] == 0
    server = bob.home.store.server.known()
    assert server is not None
    assert server[1:] == (2, 4)


def test_a_fetch_that_waits_while_a_backup_is_put_back_acknowledges_nothing(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    """It is sent again on the next connection, where the old acknowledgement means other mail."""
    alice, bob = pair
    for number in range(5):
        alice.home.sending.send_text("bob", str(number))
    receive(bob)
    server = bob.home.store.server.known()
    assert server is not None
    assert server.ack == 6
    me = mailroom.id_of("bob")

    def put_back(request: object) -> None:
        if isinstance(request, FetchRequest) and mailroom.generation == 1:
            mailroom.generation, mailroom.next_number = 2, 4
            mailroom.boxes[me] = []
            mailroom.put(mailroom.id_of("alice"), me, MessageKind.KEY_REQUEST, b"")
            # Others got mail, too.
            mailroom.next_number = 20
            gateway.script.append(CLOSE)

    gateway.on_request = put_back
    mailroom.acks.clear()
    assert receive(bob) == [KeyRequested()]
    assert mailroom.acks == [0, 4]


def test_what_nobody_can_read_costs_the_same_however_much_of_it_came(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts under no key, and keys, in turns: each key might open what came before it."""
    _, bob = pair
    me, mallory = mailroom.id_of("bob"), mailroom.id_of("alice")
    public_key = mailroom.keys[me]
    done: list[None] = []
    transaction = Database.transaction

    def counted(database: Database) -> AbstractContextManager[None]:
        done.append(None)
        return transaction(database)

    monkeypatch.setattr(Database, "transaction", counted)

    def cost_of_more() -> int:
        for number in range(10):
            mailroom.put(mallory, me, MessageKind.TEXT, bytes([number]) * 32)
            key = ciphers.symmetric_key(bytes([number]) * 16)
            mailroom.put(mallory, me, MessageKind.KEY, ciphers.seal_key(key, public_key, os.urandom))
        done.clear()
        assert len(receive(bob)) == 20
        return len(done)

    cost_of_more()
    assert cost_of_more() == cost_of_more()


def test_an_acknowledgement_that_the_server_does_not_know(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    alice.home.sending.send_text("bob", "lost in history")
    receive(bob)
    mailroom.next_number = 1
    alice.home.sending.send_text("bob", "new")
    assert receive(bob) == [Text("new")]


def test_a_refused_fetch(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    gateway.script += [Answer(responses.encode_reason(2, 0))]
    with pytest.raises(ServerAnsweredError):
        receive(pair[1])
    gateway.script += [ERROR, ERROR]
    with pytest.raises(ServerAnsweredError):
        receive(pair[1])
    assert receive(pair[1]) == []


def test_604_before_643_may_repeat_and_says_so(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    alice, bob = pair
    alice.request_key("bob")
    box = list(mailroom.boxes[mailroom.id_of("bob")])
    mailroom.features = 8
    bob.home.link.close()
    assert receive(bob) == [KeyRequested()]
    mailroom.boxes[mailroom.id_of("bob")] = box
    mailroom.features = 11
    bob.home.link.close()
    (again,) = bob.receive()
    assert again.repeated


def test_absurd_numbers(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(Answer(fetched_list([StoredMessage(b"x" * 16, 2**64 - 1, 1, b"", b"t" * 16)])))
    with pytest.raises(InvalidServerResponse, match="beyond all bounds"):
        receive(pair[1])


def test_until_nothing_waits(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom
) -> None:
    alice, bob = pair
    for number in range(4):
        alice.home.sending.send_text("bob", str(number))
    box = mailroom.boxes[mailroom.id_of("bob")]
    gateway.script += [Answer(fetched_list(box[:1])), Answer(fetched_list(box[1:3]))]
    assert receive(bob) == [Text(str(number)) for number in range(4)]
    assert gateway.codes()[-4:] == ["Fetch"] * 4


# --- waiting for mail
# -----------------------------------------------------------------------------------------


def waits(gateway: FakeGateway) -> list[int]:
    return [request.wait for request in gateway.requests if isinstance(request, FetchRequest)]


def test_waiting_for_mail(pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom) -> None:
    _alice, bob = pair

    def mail_comes(request: object) -> None:
        if isinstance(request, FetchRequest) and request.wait:
            mailroom.put(mailroom.id_of("alice"), mailroom.id_of("bob"), 1, b"")

    gateway.on_request = mail_comes
    assert [message.content for message in bob.receive(wait=20)] == [KeyRequested()]
    assert waits(gateway) == [0, 20, 0]


def test_nothing_is_waited_for_where_mail_is(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    pair[0].home.sending.send_text("bob", "here")
    assert [message.content for message in pair[1].receive(wait=20)] == [Text("here")]
    assert waits(gateway) == [0, 0]


def test_a_wait_that_ends_without_mail(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    now = [0.0]

    def time_passes(request: object) -> None:
        if isinstance(request, FetchRequest):
            now[0] += request.wait

    gateway.on_request = time_passes
    pair[1].close()
    # The clock on the wall stands still meanwhile, or goes back.
    waiting = make("bob", clock=lambda: NOW - now[0], monotonic=lambda: now[0])
    assert list(waiting.receive(wait=700)) == []
    assert waits(gateway) == [0, 300, 300, 100]
    assert inbox.LONGEST_SERVER_WAIT == 300
    # Half a second is as near as it comes.
    assert list(waiting.receive(wait=0.4)) == list(waiting.receive(wait=1.4)) == []
    assert waits(gateway)[4:] == [0, 0, 1]


def test_a_server_of_part_1_can_not_wait(tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.home.published_only(wanted=True)
    alice.register("alice")
    assert list(alice.receive(wait=1000)) == []
    assert gateway.codes() == ["Register", "Pull"]


def test_a_process_beside_follows(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], tmp_path: Path, gateway: FakeGateway
) -> None:
    alice, bob = pair
    beside = make("bob")
    (tmp_path / "file").write_text("data")
    alice.request_key("bob")
    alice.home.sending.send_text("bob", "hi")
    alice.home.sending.send_file("bob", tmp_path / "file")
    gateway.mailroom.put(alice.identity().client_id, bob.identity().client_id, 4, b"damaged")
    gateway.mailroom.put(alice.identity().client_id, bob.identity().client_id, 3, b"damaged")
    receiving = bob.receive()
    next(receiving)
    # What is being shown counts as seen with the next one.
    assert [message.content for message in beside.seen()] == [KeyReceived()]
    given = list(receiving)
    followed = list(beside.seen(after=1))
    assert [message.content for message in followed[1:3]] == [message.content for message in given[:2]]
    assert [type(message.content) for message in followed] == [KeyRequested, Text, SavedFile, Unreadable, Unreadable]
    assert [message.number for message in followed] == [2, 3, 4, 5, 6]


# --- odds and ends
# --------------------------------------------------------------------------------------------


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
    assert not greeting.has_proven
    store.close()


def test_a_large_mailbox_is_shown_as_it_is_fetched(
    pair: tuple[Messenger, Messenger],
    gateway: FakeGateway,
    mailroom: ExtendedMailroom,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, bob = pair
    receive(bob)
    bob.users()
    monkeypatch.setattr(inbox, "FETCH_BYTES", 600)
    sender = mailroom.id_of("alice")
    many = [StoredMessage(sender, number, 1, b"", number.to_bytes(16, "big")) for number in range(100, 120)]
    mailroom.next_number = 120
    gateway.script += [Answer(fetched_list(many[:10])), Answer(fetched_list(many[10:]))]
    mailroom.acks.clear()
    before = gateway.codes().count("Fetch")
    asked = [gateway.codes().count("Fetch") - before for _ in bob.receive()]
    # The first half is shown before the second one is asked for.
    assert asked == [1] * 10 + [2] * 10
    assert mailroom.acks == [119]


@pytest.mark.parametrize("numbers", [(7, 7), (7, 6), (0,)])
def test_numbers_that_do_not_grow(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, numbers: tuple[int, ...]
) -> None:
    _, bob = pair
    bob.users()
    sender = mailroom.id_of("alice")
    given = [StoredMessage(sender, number, 1, b"", bytes([at]) * 16) for at, number in enumerate(numbers)]
    gateway.script.append(Answer(fetched_list(given)))
    received: list[object] = []
    with pytest.raises(InvalidServerResponse, match=f"gives message {numbers[-1]} behind message"):
        received.extend(bob.receive())
    assert gateway.codes().count("Fetch") == 1


def test_more_users_than_anybody_takes(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _ = pair
    monkeypatch.setattr(directory, "MOST_USERS", 1)
    alice.users()
    two = [(ClientId(b"x" * 16), Username("x")), (ClientId(b"y" * 16), Username("y"))]
    gateway.script.append(Answer(user_list(two)))
    with pytest.raises(InvalidServerResponse, match="lists 2 users, and this program takes 1 at most"):
        alice.users()
    assert alice.contact("bob").name == "bob"
