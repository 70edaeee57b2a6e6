"""After a backup was restored: acknowledged messages are marked, and sent again on request."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from client.chat.events import Event, ResendJob, Said
from client.chat.workers import Receiver, Sender
from client.errors import NameUnknown, OutcomeUnknown, ServerUnreachable
from client.mail.outbox import MOST_WAITING
from client.messages import Resent
from client.messenger import KeyReceived, Messenger, SavedFile, SentMessage, Text
from client.store.foreign import settle_foreign_store
from common.client_protocol.requests import SendRequest
from common.client_protocol.responses import ErrorResponse
from common.values import ClientId, MessageKind, RefusalReason, Token
from tests.client.conftest import Told
from tests.client.exchange import NOWHERE
from tests.client.fake_gateway import CLOSE, ExtendedMailroom, FakeGateway, StoredMessage
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


LARGE = b"a file that is large enough to wait beside the store. " * 4000


class Backup(NamedTuple):
    """What a copy of the server's data has of mail."""

    boxes: dict[ClientId, list[StoredMessage]]
    accepted: dict[tuple[bytes, bytes], int]
    next_number: int


def backup(mailroom: ExtendedMailroom) -> Backup:
    boxes = {name: list(box) for name, box in mailroom.boxes.items()}
    return Backup(boxes, dict(mailroom.accepted), mailroom.next_number)


def put_back(mailroom: ExtendedMailroom, copy: Backup, *messengers: Messenger) -> None:
    mailroom.boxes = {name: list(box) for name, box in copy.boxes.items()}
    mailroom.accepted, mailroom.next_number = dict(copy.accepted), copy.next_number
    mailroom.generation += 1
    for messenger in messengers:
        messenger.home.link.close()


def contents(messenger: Messenger) -> list[object]:
    found: list[object] = []
    for message in messenger.receive():
        content = message.content
        found.append(content.path.read_bytes() if isinstance(content, SavedFile) else content)
    return found


def marked(messenger: Messenger) -> list[str]:
    sent = [message for message in messenger.history() if isinstance(message, SentMessage)]
    return [message.text or str(message.path) for message in sent if message.lost]


def tokens(gateway: FakeGateway) -> list[Token]:
    found = [request.token for request in gateway.requests if isinstance(request, SendRequest)]
    return [token for token in found if token is not None]


def test_what_was_acknowledged_since_the_backup_arrives_once(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, told: Told, tmp_path: Path
) -> None:
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(LARGE)
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "fetched before")
    assert len(contents(bob)) == 2
    alice.home.sending.send_text("bob", "in the backup")
    copy = backup(mailroom)
    alice.home.sending.send_text("bob", "fetched since")
    assert contents(bob) == [Text("in the backup"), Text("fetched since")]
    alice.home.sending.send_text("bob", "lost")
    alice.home.sending.send_file("bob", tmp_path / "small")
    alice.home.sending.send_file("bob", tmp_path / "large")
    before = tokens(gateway)
    put_back(mailroom, copy, alice, bob)

    assert alice.lost_count() == 0
    alice.send_waiting()
    assert alice.lost_count() == 7
    assert told[-1] == (
        "The server was put back to an earlier state (a backup). 7 messages that it had acknowledged, symmetric keys "
        "included, are possibly lost: `messageu resend` sends them again; `messageu history` marks texts and files."
    )
    assert len(marked(alice)) == 6
    # Nothing goes again by itself.
    assert tokens(gateway) == before
    assert contents(bob) == []

    resent = alice.resend()
    assert (len(resent.messages), resent.sent, resent.waiting, resent.left, resent.problems) == (6, 7, 0, 0, [])
    assert tokens(gateway) == before * 2
    assert marked(alice) == []
    assert all(message.stored_at for message in resent.messages)
    # What the server still had is not stored twice, and what bob had fetched since he is shown
    # once.
    assert contents(bob) == [Text("lost"), b"small", LARGE]
    assert alice.resend() == Resent([], 0, 0, 0, [])


def test_the_notice_comes_once(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, told: Told, make: Callable[..., Messenger]
) -> None:
    assert bob.is_registered()
    alice.agree_on_key("bob")
    put_back(mailroom, backup(mailroom), alice)
    alice.send_waiting()
    alice.home.link.close()
    alice.send_waiting()
    alice.close()
    make("alice").send_waiting()
    assert len([sentence for sentence in told if "put back" in sentence]) == 1


def test_a_first_proof_marks_nothing(alice: Messenger, told: Told) -> None:
    assert alice.home.greeting.has_signed_in
    assert alice.lost_count() == 0
    assert not [sentence for sentence in told if "put back" in sentence]


def test_a_key_that_is_possibly_lost_goes_before_the_next_text(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom
) -> None:
    copy = backup(mailroom)
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "lost with its key")
    put_back(mailroom, copy, alice, bob)
    alice.home.sending.send_text("bob", "new")
    assert contents(bob) == [KeyReceived(), Text("new")]
    assert marked(alice) == ["lost with its key"]
    assert alice.resend().sent == 1
    assert contents(bob) == [Text("lost with its key")]


def test_a_file_that_is_gone_or_has_changed_stays_marked(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    assert bob.is_registered()
    alice.agree_on_key("bob")
    paths = [tmp_path / name for name in ("gone", "longer", "other", "large")]
    for path in paths:
        path.write_bytes(LARGE if path.name == "large" else b"as it was")
        alice.home.sending.send_file("bob", path)
    put_back(mailroom, backup(mailroom), alice, bob)
    paths[0].unlink()
    paths[1].write_bytes(b"as it was, and a page more of it")
    paths[2].write_bytes(b"as it is!")
    paths[3].write_bytes(LARGE.replace(b"a file", b"A file"))
    resent = alice.resend()
    assert (resent.sent, resent.left) == (1, 4)
    assert marked(alice) == [str(path) for path in paths]
    assert [problem.split("can't be sent again: ")[1] for problem in resent.problems] == [
        f"file not found. {paths[0]}: No such file or directory. Check the path. `messageu send bob --file` and its "
        "path send it as a new message.",
        f"the file has changed. {paths[1]} has another size. `messageu send bob --file` and its path send it as a new "
        "message.",
        *(
            f"the file has changed. {path} has another content. `messageu send bob --file` and its path send it as a "
            "new message."
            for path in paths[2:]
        ),
    ]
    assert not list((tmp_path / "alice" / "store.spool").iterdir())
    assert alice.forget_lost() == 4
    assert marked(alice) == []


def test_one_recipient_of_several(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: ExtendedMailroom
) -> None:
    carol = make("carol")
    carol.register("carol")
    copy = backup(mailroom)
    for name in ("bob", "carol"):
        alice.agree_on_key(name)
        alice.home.sending.send_text(name, f"to {name}")
    put_back(mailroom, copy, alice, bob, carol)
    alice.users()
    assert alice.resend("bob").left == 2
    assert contents(bob) == [KeyReceived(), Text("to bob")]
    assert alice.forget_lost("carol") == 2
    assert alice.lost_count() == 0
    assert contents(carol) == []
    with pytest.raises(NameUnknown):
        alice.resend("nobody")
    assert alice.resend("bob").sent == 0


def test_without_a_server_nothing_is_taken_up_and_a_break_loses_nothing(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    alice.agree_on_key("bob")
    for number in range(3):
        alice.home.sending.send_text("bob", str(number))
    copy = Backup({name: [] for name in mailroom.boxes}, {}, 1)
    put_back(mailroom, copy, alice, bob)
    alice.send_waiting()
    alice.close()
    with pytest.raises(ServerUnreachable):
        make("alice", server=NOWHERE).resend()
    again = make("alice")
    assert (again.lost_count(), again.home.outbox.waiting_count()) == (4, 0)
    again.users()
    gateway.script += [CLOSE, None, None, CLOSE]
    with pytest.raises(OutcomeUnknown, match="gave no whole answer") as caught:
        again.resend()
    assert "is kept, and is sent before" in caught.value.advice
    assert (again.lost_count(), again.home.outbox.waiting_count()) == (0, 4)
    again.send_waiting()
    assert contents(bob) == [KeyReceived(), Text("0"), Text("1"), Text("2")]
    assert marked(again) == []


@pytest.mark.parametrize("reason", [RefusalReason.RECIPIENT_UNKNOWN, RefusalReason.MAILBOX_FULL])
def test_what_the_server_refuses(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, told: Told, reason: RefusalReason
) -> None:
    """Nobody of that id, yet: it stays marked. No room, yet: it waits."""
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "hello")
    put_back(mailroom, Backup({name: [] for name in mailroom.boxes}, {}, 1), alice, bob)
    mailroom.reasons[bob.identity().client_id] = ErrorResponse(reason, 0)
    resent = alice.resend()
    unknown = reason == RefusalReason.RECIPIENT_UNKNOWN
    assert (resent.sent, resent.waiting, resent.left) == ((0, 0, 2) if unknown else (0, 2, 0))
    assert any("stays marked as possibly lost: The server does not know that user." in one for one in told) == unknown
    assert alice.failed() == []
    mailroom.reasons.clear()
    assert alice.resend().sent == (2 if unknown else 0)
    alice.send_waiting()
    assert contents(bob) == [KeyReceived(), Text("hello")]


def test_what_the_server_has_under_another_key_is_not_lost(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom
) -> None:
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "hello")
    put_back(mailroom, backup(mailroom), alice, bob)
    mailroom.reasons[bob.identity().client_id] = ErrorResponse(RefusalReason.TOKEN_REUSED, 0)
    resent = alice.resend()
    assert (resent.sent, resent.left) == (2, 0)
    assert resent.messages[0].message_id == 2


def test_nothing_goes_to_somebody_whose_key_has_changed(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "hello")
    put_back(mailroom, backup(mailroom), alice, bob)
    mailroom.keys[bob.identity().client_id] = mailroom.keys[alice.identity().client_id]
    alice.fetch_public_key("bob")
    gateway.requests.clear()
    resent = alice.resend()
    assert (resent.sent, resent.left, len(resent.problems)) == (0, 2, 1)
    assert "The key of bob has changed; nothing was sent." in resent.problems[0]
    assert tokens(gateway) == []


def test_more_than_the_outbox_takes_at_a_time(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    alice.agree_on_key("bob")
    many = MOST_WAITING + 10
    for number in range(many):
        alice.keep_text("bob", str(number))
        if number % 200 == 0:
            alice.send_waiting()
    alice.send_waiting()
    put_back(mailroom, Backup({name: [] for name in mailroom.boxes}, {}, 1), alice, bob)
    assert alice.resend().sent == many + 1
    assert contents(bob) == [KeyReceived(), *(Text(str(number)) for number in range(many))]


def test_a_store_cannot_have_a_file_sent_that_never_was(
    alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path
) -> None:
    """Whoever made an export that is imported may write anything into the history."""
    bait = tmp_path / "bait"
    bait.write_bytes(b"a secret")
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "16 bytes of this")
    alice.home.sending.send_file("bob", bait)
    put_back(mailroom, backup(mailroom), alice, bob)
    alice.send_waiting()
    alice.home.store.database.run("UPDATE sent SET text = NULL, path = ?", str(bait))
    gateway.requests.clear()
    resent = alice.resend()
    # The key and the file that was sent, but no text with a path.
    assert (resent.sent, resent.left) == (2, 1)
    assert "what this home has of it is damaged" in resent.problems[0]
    put_back(mailroom, backup(mailroom), alice)
    alice.send_waiting()
    settle_foreign_store(tmp_path / "alice" / "store.db")
    gateway.requests.clear()
    assert alice.resend().sent == 1
    assert [request.kind for request in gateway.requests if isinstance(request, SendRequest)] == [MessageKind.KEY]


def test_a_chat_says_it_and_sends_it_again(
    bob: Messenger, mailroom: ExtendedMailroom, make: Callable[..., Messenger]
) -> None:
    # The threads of a chat go by the real clock.
    alice = make("alice", clock=time.time)
    alice.register("alice")
    alice.agree_on_key("bob")
    alice.home.sending.send_text("bob", "lost")
    put_back(mailroom, Backup({name: [] for name in mailroom.boxes}, {}, 1), alice, bob)
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def post(event: Event) -> None:
        if isinstance(event, Said):
            said.put(event.sentence)

    sender = Sender("bob", alice.home.another, post)
    receiver = Receiver(0, ClientId(bytes(16)), alice.home.another, post, sender.wake)
    try:
        receiver.start()
        assert said.get(timeout=HANG_SECONDS) == (
            "The server was put back to an earlier state (a backup). 2 messages that it had acknowledged, symmetric "
            "keys included, are possibly lost: /resend sends them again; `messageu history` marks texts and files."
        )
        sender.give(ResendJob())
        sender.start()
        assert said.get(timeout=HANG_SECONDS) == "2 messages are sent again."
    finally:
        for worker in (sender, receiver):
            worker.stop()
        for worker in (sender, receiver):
            worker.join(HANG_SECONDS)
    assert contents(bob) == [KeyReceived(), Text("lost")]
