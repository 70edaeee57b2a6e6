"""The inbox: mail is on disk before it is acknowledged, and repeated messages are recognised."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.errors import (
    InvalidServerResponse,
    OutcomeUnknown,
    ServerAnsweredError,
)
from client.mail import inbox
from client.messenger import KeyRequested, Messenger, Text
from client.store.database import Database
from common.client_protocol import responses
from common.client_protocol.requests import FetchRequest
from common.values import MessageKind
from tests.client.exchange import receive
from tests.client.fake_gateway import (
    CLOSE,
    ERROR,
    Answer,
    ExtendedMailroom,
    FakeGateway,
    StoredMessage,
    fetched_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


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
