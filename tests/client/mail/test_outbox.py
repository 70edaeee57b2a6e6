"""The outbox: what is kept, when it is sent again, and what is set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from client.errors import (
    InvalidServerResponse,
    OutboxFull,
    OutcomeUnknown,
    ServerAnsweredError,
    ServerUnreachable,
)
from client.mail import outbox
from client.messenger import KeyReceived, KeyRequested, Messenger, SavedFile, SentMessage, Text
from client.store.home_store import Store
from common.client_protocol import responses
from common.client_protocol.requests import SendRequest
from common.client_protocol.responses import ErrorResponse
from common.values import MessageKind, RefusalReason
from tests.client.conftest import NOW, Told
from tests.client.exchange import NOWHERE, receive, sends
from tests.client.fake_gateway import (
    SILENCE,
    Answer,
    ConnectionState,
    ExtendedMailroom,
    FakeGateway,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


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
        patched.setattr(alice.home.link, "ask", interrupt)
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
    pair: tuple[Messenger, Messenger],
    mailroom: ExtendedMailroom,
    reason: int,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice, bob = pair
    rests: list[float] = []
    monkeypatch.setattr(alice.home.link, "rest", rests.append)
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(reason, 5)
    with pytest.raises(ServerAnsweredError) as caught:
        alice.home.sending.send_text("bob", "first")
    assert caught.value.reason == reason
    assert "kept" in caught.value.advice
    assert "5 s" in caught.value.advice
    with pytest.raises(ServerAnsweredError, match="earlier message waits"):
        alice.home.sending.send_text("bob", "second")
    # Only what is too fast is waited for: for each of the two as long as anything waits.
    assert rests == ([5] * 24 if reason == RefusalReason.TOO_FAST else [])
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


def test_a_message_whose_content_is_gone_stops_nobody_else(
    pair: tuple[Messenger, Messenger], told: Told, make: Callable[..., Messenger], tmp_path: Path
) -> None:
    pair[0].close()
    alice = make("alice", server=NOWHERE)
    (tmp_path / "large.bin").write_bytes(b"x" * 500_000)
    for content in (tmp_path / "large.bin", "behind it"):
        with pytest.raises(ServerUnreachable):
            alice.send("bob", content)
    (spooled,) = (alice.home.store.database.path.parent / "store.spool").iterdir()
    spooled.unlink()
    alice.close()
    alice = make("alice")
    receive(alice)
    assert any("set aside: its content, a file beside store.db, is gone" in sentence for sentence in told)
    assert len(alice.failed()) == 1
    assert receive(pair[1])[-1] == Text("behind it")


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


def too_fast(mailroom: ExtendedMailroom, seconds: int) -> None:
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.TOO_FAST, seconds)


def test_a_send_waits_as_long_as_the_server_asks(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            mailroom.reasons.clear()

    monkeypatch.setattr(alice.home.link, "rest", rest)
    too_fast(mailroom, 7)
    assert alice.home.sending.send_text("bob", "hi").message_id
    assert rests == [7, 7, 7]
    assert [line for line in told if "by itself" in line] == [
        "The server was asked too much in a short time; this goes on by itself in 7 s."
    ]
    assert receive(bob) == [Text("hi")]


@pytest.mark.parametrize("seconds", [61, 449])
def test_what_the_server_puts_off_for_longer_is_kept(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    alice, bob = pair
    monkeypatch.setattr(alice.home.link, "rest", lambda _seconds: pytest.fail("it waits"))
    too_fast(mailroom, seconds)
    with pytest.raises(ServerAnsweredError) as caught:
        alice.home.sending.send_text("bob", "hi")
    assert caught.value.kept
    assert caught.value.retry_after == seconds
    assert caught.value.advice == (
        f"Wait a little. It asks to wait {seconds} s. The message is kept and will be sent again."
    )
    mailroom.reasons.clear()
    alice.home.sending.send_waiting()
    assert receive(bob) == [Text("hi")]


def test_who_is_interrupted_while_it_waits_has_the_message_kept(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _bob = pair

    def interrupted(_seconds: float) -> None:
        raise ServerUnreachable("The connection was ended.")

    too_fast(mailroom, 60)
    monkeypatch.setattr(alice.home.link, "rest", interrupted)
    with pytest.raises(ServerUnreachable) as caught:
        alice.home.sending.send_text("bob", "hi")
    assert caught.value.kept
    assert [row.tried_at for row in alice.home.store.outbox.waiting()] == [None], "it is surely not there"


def test_what_is_sent_on_the_way_to_something_else_waits_for_nothing(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _bob = pair
    monkeypatch.setattr(alice.home.link, "rest", lambda _seconds: pytest.fail("it waits"))
    alice.home.sending.keep_text("bob", "hi")
    too_fast(mailroom, 1)
    alice.home.sending.send_waiting()
    assert alice.home.outbox.waiting_count() == 1
