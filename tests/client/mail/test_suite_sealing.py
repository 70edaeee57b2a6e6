"""Texts and files under cipher suite 1: when they are sealed, and what leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import KeyChanged, KeysWithheld
from client.messenger import KeyReceived, KeyRequested, Messenger, SavedFile, Text
from client.suite1 import own_keys
from common.client_protocol.requests import ClaimKeyRequest, Request, SendRequest
from common.values import MessageKind
from tests.client.exchange import receive, sends
from tests.client.fake_gateway import CLOSE, ConnectionState, FakeGateway, SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)

DAY = 24 * 3600.0
NOW = 1_700_000_000.0


def sealed(gateway: FakeGateway) -> list[SendRequest]:
    """What left, all of it under suite 1."""
    left = sends(gateway)
    assert {request.kind for request in left} <= {MessageKind.SEALED}
    return left


def claims(gateway: FakeGateway) -> int:
    return sum(isinstance(request, ClaimKeyRequest) for request in gateway.requests)


def test_texts_and_files_both_ways(alice: Messenger, bob: Messenger, tmp_path: Path, gateway: FakeGateway) -> None:
    (tmp_path / "notes 1.txt").write_bytes(b"x" * 100)
    (tmp_path / "large.bin").write_bytes(b"y" * 1_000_000)
    assert alice.send("bob", "hello").suite == 1
    alice.send("bob", tmp_path / "notes 1.txt")
    alice.send("bob", tmp_path / "large.bin")
    alice.send("bob", b"without a name")
    text, small, large, nameless = receive(bob)
    assert text == Text("hello")
    assert isinstance(small, SavedFile)
    assert isinstance(large, SavedFile)
    assert isinstance(nameless, SavedFile)
    assert (small.path.name, small.path.read_bytes()) == ("notes 1.txt", b"x" * 100)
    assert (large.path.name, large.path.read_bytes()) == ("large.bin", b"y" * 1_000_000)
    assert (nameless.path.suffix, nameless.path.read_bytes()) == (".txt", b"without a name")
    sealed(gateway)
    bob.send("alice", "and back")
    assert receive(alice) == [Text("and back")]
    assert [message.suite for message in alice.history()] == [1, 1, 1, 1, 1]
    assert alice.home.store.outbox.waiting_count() == 0
    assert not list((tmp_path / "alice" / "store.spool").iterdir())


def test_a_repeat_sends_the_same_bytes_and_is_shown_once(
    alice: Messenger, bob: Messenger, gateway: FakeGateway
) -> None:
    alice.send("bob", "first")
    gateway.requests.clear()
    done: list[Request] = []

    def cut_the_answer(request: Request) -> None:
        if isinstance(request, SendRequest) and not done:
            done.append(request)
            gateway.mailroom.answer(request, ConnectionState(greeted=True, reasons=True, proven_as=request.requester))
            gateway.script.append(CLOSE)

    gateway.on_request = cut_the_answer
    alice.send("bob", "again and again")
    first, second = sealed(gateway)
    assert (first.content, first.token) == (second.content, second.token)
    assert receive(bob) == [Text("first"), Text("again and again")]


def test_what_was_sealed_is_sent_with_the_same_bytes_by_another_process(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice.send("bob", "first")
    alice.keep_text("bob", "kept")
    (row,) = alice.home.store.outbox.waiting()
    assert row.unsealed
    (sealed_row,) = alice.home.outbox.sealing.fit(row, lambda one: iter([one]))
    alice.close()
    gateway.requests.clear()
    with make("alice") as again:
        (waiting,) = again.home.store.outbox.waiting()
        assert not waiting.unsealed
        again.send_waiting()
    (left,) = sealed(gateway)
    assert left.content == sealed_row.content
    assert receive(bob) == [Text("first"), Text("kept")]


def test_who_is_not_known_by_keys_is_asked_for_once_in_a_while(
    make: Callable[..., Messenger], gateway: FakeGateway, mailroom: SuiteMailroom
) -> None:
    clock = [NOW]
    alice, bob = make("alice", clock=lambda: clock[0]), make("bob", suite_1=False)
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "one")
    alice.send("bob", "two")
    assert claims(gateway) == 1
    assert {request.kind for request in sends(gateway)} == {2, 3}
    clock[0] += 61
    alice.send("bob", "three")
    assert claims(gateway) == 2
    assert [content for content in receive(bob) if isinstance(content, Text)] == [
        Text("one"), Text("two"), Text("three"),
    ]  # fmt: skip


def test_what_waited_under_the_published_suite_goes_under_the_new_one(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_bytes(b"z" * 200_000)
    alice, bob = make("alice"), make("bob", suite_1=False)
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "published")
    assert receive(bob)[-1] == Text("published")
    alice.keep_text("bob", "kept")
    alice.keep_file("bob", tmp_path / "a file")
    kinds = [row.kind for row in alice.home.store.outbox.waiting()]
    assert kinds == [MessageKind.TEXT, MessageKind.FILE]
    alice.close()
    bob.close()
    with make("bob") as bob:
        bob.users()
        gateway.requests.clear()
        with make("alice") as alice:
            alice.send_waiting()
            assert [message.suite for message in alice.history()] == [0, 1, 1]
        assert {request.kind for request in sends(gateway)} <= {MessageKind.SEALED}
        text, file = receive(bob)
        assert text == Text("kept")
        assert isinstance(file, SavedFile)
        assert file.path.name == "a file"
        assert file.path.read_bytes() == b"z" * 200_000


def test_nothing_of_the_published_suite_goes_to_who_has_shown_keys(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    alice.send("bob", "first")
    assert receive(bob) == [Text("first")]
    # What is said about keys goes under suite 1 too, and a new session is begun.
    alice.request_key("bob")
    alice.send_key("bob")
    assert receive(bob) == [KeyRequested(), KeyReceived()]
    alice.send("bob", "in it")
    assert receive(bob) == [Text("in it")]
    sealed(gateway)
    mailroom.features &= ~4
    gateway.requests.clear()
    alice.home.link.close()
    with pytest.raises(KeysWithheld) as raised:
        alice.send("bob", "not in the old one")
    assert raised.value.kept
    assert sends(gateway) == []
    mailroom.features |= 4
    alice.home.link.close()
    alice.send_waiting()
    assert receive(bob) == [Text("not in the old one")]


def test_withheld_keys_stop_what_needs_a_session(
    make: Callable[..., Messenger], bob: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    clock = [NOW]
    alice = make("alice", clock=lambda: clock[0])
    alice.register("alice")
    alice.fetch_public_key("bob")
    state = alice.home.store.peers.of_id(mailroom.id_of("bob"))
    assert state is not None
    with alice.home.store.database.transaction():
        alice.home.store.database.run("UPDATE peer SET state = NULL")
    mailroom.withheld.add(mailroom.id_of("bob"))
    gateway.requests.clear()
    with pytest.raises(KeysWithheld) as raised:
        alice.send("bob", "held")
    assert raised.value.kept
    assert sends(gateway) == []
    mailroom.withheld.clear()
    alice.send_waiting()
    assert receive(bob) == [Text("held")]


def test_an_outer_key_beyond_its_time_is_asked_for_and_used_if_there_is_no_other(
    make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "one")
    clock[0] += 8 * DAY
    mailroom.withheld.add(mailroom.id_of("bob"))
    alice.send("bob", "two")
    assert receive(bob) == [Text("one"), Text("two")]
    # Now a newer one is published.
    bob.home.link.close()
    bob.users()
    mailroom.withheld.clear()
    clock[0] += 3601
    gateway.requests.clear()
    alice.send("bob", "three")
    assert claims(gateway) == 1
    assert receive(bob) == [Text("three")]


def test_a_swapped_bundle_sends_nothing(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    mallory = make("mallory")
    mallory.register("mallory")
    alice.send("bob", "first")
    with alice.home.store.database.transaction():
        alice.home.store.database.run("UPDATE peer SET state = NULL")
    own = mallory.home.suite_keys.own()
    assert own is not None
    _, forged = own_keys.prepare_publication(own, mailroom.id_of("bob"), int(NOW * 1000), bytes)
    mailroom.bundles[mailroom.id_of("bob")] = forged.bundle
    mailroom.one_time_keys[mailroom.id_of("bob")] = []
    gateway.requests.clear()
    with pytest.raises(KeyChanged):
        alice.send("bob", "for bob alone")
    with pytest.raises(KeyChanged):
        alice.send("bob", "and this")
    assert sends(gateway) == []


def test_two_processes_of_one_home_use_no_key_twice(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice.send("bob", "0")
    with make("alice") as other:
        for number in range(1, 9):
            (alice if number % 2 else other).send("bob", str(number))
            if number % 3 == 0:
                bob.send("alice", f"answer {number}")
                receive(other if number % 2 else alice)
    assert list(receive(bob)) == [Text(str(number)) for number in range(9)]
    contents = [request.content for request in sealed(gateway)]
    assert len(set(contents)) == len(contents)
