"""Messages that waited when their recipient was verified: none leaves under a key that came from
outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey, SymmetricKey
from client.errors import CipherError, ServerUnreachable
from client.messenger import KeyReceived, Messenger, SavedFile, Text
from common.client_protocol.requests import SendRequest
from common.client_protocol.responses import ErrorResponse
from common.values import MessageKind, RefusalReason
from tests.client.conftest import Told
from tests.client.exchange import NOWHERE
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


SECRET = "we meet at noon"
LIARS = SymmetricKey(b"the liar has it.")
LARGE = b"a file that is large enough to wait beside the store. " * 4000


@pytest.fixture
def alice(
    make: Callable[..., Messenger], bob: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway, tmp_path: Path
) -> Messenger:
    """She got a key from a lying server in bob's name, and wrote under it while there was
    no server.
    """
    alice = make("alice")
    alice.register("alice")
    alice.home.directory.meet("bob")
    me = mailroom.id_of("alice")
    injected = ciphers.seal_key(LIARS, alice.identity().private_key.public_key(), lambda n: b"r" * n)
    mailroom.put(bob.identity().client_id, me, MessageKind.KEY, injected)
    assert [message.content for message in alice.receive()] == [KeyReceived()]
    alice.close()
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(LARGE)
    offline = make("alice", server=NOWHERE)
    attempts: list[Callable[[], object]] = [
        lambda: offline.home.sending.send_text("bob", SECRET),
        lambda: offline.home.sending.send_file("bob", tmp_path / "small"),
        lambda: offline.home.sending.send_file("bob", tmp_path / "large"),
    ]
    for attempt in attempts:
        with pytest.raises(ServerUnreachable):
            attempt()
    offline.mark_verified("bob")
    gateway.requests.clear()
    return offline


def left(gateway: FakeGateway) -> list[SendRequest]:
    return [request for request in gateway.requests if isinstance(request, SendRequest)]


def received(messenger: Messenger) -> list[object]:
    found: list[object] = []
    for message in messenger.receive():
        content = message.content
        found.append(content.path.read_bytes() if isinstance(content, SavedFile) else content)
    return found


def again(alice: Messenger, make: Callable[..., Messenger]) -> Messenger:
    alice.close()
    return make("alice")


def nothing_for_the_liar(gateway: FakeGateway) -> bool:
    """Whether none of what left can be read with the key that came from outside."""
    for request in left(gateway):
        try:
            plain = ciphers.decrypt(LIARS, request.content)
        except CipherError:
            continue
        if plain in {SECRET.encode(), b"small", LARGE}:
            return False
    return True


def test_it_leaves_under_a_key_of_our_own_that_goes_ahead(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    again(alice, make).send_waiting()
    assert [request.kind for request in left(gateway)] == [2, 3, 4, 4]
    assert nothing_for_the_liar(gateway)
    assert received(bob) == [KeyReceived(), Text(SECRET), b"small", LARGE]
    assert list((tmp_path / "alice" / "store.spool").iterdir()) == []


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_it_goes_on_where_it_was_held_back(
    alice: Messenger,
    bob: Messenger,
    make: Callable[..., Messenger],
    gateway: FakeGateway,
    mailroom: ExtendedMailroom,
    taken: int,
) -> None:
    bobs = bob.identity().client_id

    def look(_: object) -> None:
        if len(left(gateway)) > taken:
            mailroom.reasons[bobs] = ErrorResponse(RefusalReason.TOO_FAST, 1)

    gateway.on_request = look
    alice = again(alice, make)
    alice.send_waiting()
    assert alice.home.outbox.waiting_count() == 4 - taken
    gateway.on_request = lambda _: None
    mailroom.reasons.clear()
    again(alice, make).send_waiting()
    assert nothing_for_the_liar(gateway)
    assert received(bob) == [KeyReceived(), Text(SECRET), b"small", LARGE]


def test_where_its_key_is_refused_nothing_goes(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom
) -> None:
    mailroom.reasons[bob.identity().client_id] = ErrorResponse(RefusalReason.MALFORMED, 0)
    alice = again(alice, make)
    alice.send_waiting()
    assert [request.kind for request in left(gateway)] == [2]
    assert alice.home.outbox.waiting_count() == 3
    mailroom.reasons.clear()
    alice.send_waiting()
    assert received(bob) == [KeyReceived(), Text(SECRET), b"small", LARGE]


def test_what_left_before_is_told(
    alice: Messenger,
    bob: Messenger,
    make: Callable[..., Messenger],
    gateway: FakeGateway,
    mailroom: ExtendedMailroom,
    told: Told,
) -> None:
    bobs = bob.identity().client_id

    def look(request: object) -> None:
        if isinstance(request, SendRequest) and request.kind != MessageKind.KEY:
            mailroom.reasons[bobs] = ErrorResponse(RefusalReason.TOKEN_REUSED, 0)

    gateway.on_request = look
    alice = again(alice, make)
    alice.send_waiting()
    assert alice.home.outbox.waiting_count() == 0
    assert "The server has it already, as it was before" in told[-1]


def test_a_file_under_a_key_that_nobody_knows_is_set_aside(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, told: Told
) -> None:
    """A store of before does not say under which key a file is; a text is in the history."""
    alice.home.store.database.run("UPDATE outbox SET under = NULL")
    alice = again(alice, make)
    alice.send_waiting()
    assert received(bob) == [KeyReceived(), Text(SECRET)]
    assert nothing_for_the_liar(gateway)
    assert [failed.kind for failed in alice.failed()] == [4, 4]
    assert "bob [verified] was verified after it was encrypted, and it can't be encrypted again" in told[-1]


def test_a_key_for_another_public_key_than_the_verified_one_does_not_leave(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway, private_keys: list[PrivateKey], told: Told
) -> None:
    alice.home.key_exchange.keep_key("bob")
    other = private_keys[2].public_key()
    alice.home.store.database.run("UPDATE pin SET public_key = ?", other)
    again(alice, make).send_waiting()
    assert "sealed to another public key than the one of bob [verified] that is compared now" in "".join(told)
    assert nothing_for_the_liar(gateway)
