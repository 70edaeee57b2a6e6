"""Pins, changes, safety numbers. What a lying server gets in a hundred tries:
tests/stories/test_lying_server.py.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import apsw
import pytest

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey, SymmetricKey
from client.errors import KeyChanged, SafetyNumberDiffers
from client.messenger import KeyReceived, Messenger, Unreadable
from client.store.home_store import Store
from client.store.schema import APPLICATION_ID, FIRST
from client.trust.trust import safety_number
from common.values import ClientId, MessageKind, PublicKey

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.fake_gateway import FakeGateway

SECRET = "the plan"


def bobs_id(gateway: FakeGateway) -> ClientId:
    return gateway.mailroom.id_of("bob")


def verify(messenger: Messenger, name: str) -> None:
    messenger.verification(name)
    messenger.mark_verified(name)


def inject_key(gateway: FakeGateway, key: SymmetricKey) -> None:
    """What a lying server does: a symmetric key for alice, in the name of bob."""
    alice = gateway.mailroom.id_of("alice")
    sealed = ciphers.seal_key(key, gateway.mailroom.keys[alice], os.urandom)
    gateway.mailroom.put(bobs_id(gateway), alice, MessageKind.KEY, sealed)


def test_the_derivation_of_the_safety_number() -> None:
    one, other = (ClientId(b"1" * 16), PublicKey(b"a" * 160)), (ClientId(b"2" * 16), PublicKey(b"b" * 160))

    def half(client_id: bytes, key: bytes) -> str:
        digest = b"MessageU safety number 1\0"
        for _ in range(5200):
            digest = hashlib.sha512(digest + client_id + key).digest()
        return "".join(f"{int.from_bytes(digest[at : at + 5], 'big') % 100_000:05}" for at in range(0, 30, 5))

    assert safety_number(one, other) == safety_number(other, one) == "".join(sorted((half(*one), half(*other))))
    assert len({safety_number(one, other), safety_number(one, (other[0], one[1])), safety_number(one, one)}) == 3


def test_both_sides_see_the_same_number(alice: Messenger, bob: Messenger) -> None:
    assert alice.verification("bob").number == bob.verification("alice").number


def test_a_swapped_public_key_is_caught(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, private_keys: list[PrivateKey]
) -> None:
    assert bob.is_registered()
    verify(alice, "bob")
    honest = gateway.mailroom.keys[bobs_id(gateway)]
    gateway.mailroom.keys[bobs_id(gateway)] = private_keys[2].public_key()
    with pytest.raises(KeyChanged) as caught:
        alice.agree_on_key("bob")
    assert caught.value.old_number != caught.value.new_number
    with pytest.raises(KeyChanged):
        alice.send_key("bob")
    gateway.mailroom.keys[bobs_id(gateway)] = honest
    assert not alice.fetch_public_key("bob").changed
    assert gateway.mailroom.boxes[bobs_id(gateway)] == []


def test_an_injected_symmetric_key_only_decrypts(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    assert bob.is_registered()
    verify(alice, "bob")
    inject_key(gateway, SymmetricKey(b"1" * 16))
    assert [message.content for message in alice.receive()] == [KeyReceived(unasked=False)]
    # Even with nothing of our own in use yet.
    assert alice.agree_on_key("bob")
    inject_key(gateway, SymmetricKey(b"2" * 16))
    assert [message.content for message in alice.receive()] == [KeyReceived(unasked=True, only_decrypts=True)]
    assert not alice.agree_on_key("bob")


def test_a_key_that_was_there_before_is_not_used_once_verified(
    alice: Messenger, bob: Messenger, gateway: FakeGateway
) -> None:
    assert bob.is_registered()
    inject_key(gateway, SymmetricKey(b"i" * 16))
    list(alice.receive())
    assert not alice.agree_on_key("bob")
    verify(alice, "bob")
    assert alice.agree_on_key("bob")


def test_a_name_that_moves_to_another_account_is_caught(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, private_keys: list[PrivateKey]
) -> None:
    assert bob.is_registered()
    verify(alice, "bob")
    mallory = gateway.mailroom.register("mallory", private_keys[2].public_key())
    names = gateway.mailroom.names
    names[bobs_id(gateway)], names[mallory] = names[mallory], names[bobs_id(gateway)]
    alice.users()
    with pytest.raises(KeyChanged):
        alice.home.sending.send_text("bob", SECRET)
    with pytest.raises(KeyChanged):
        alice.send_key("bob")
    assert gateway.mailroom.boxes[mallory] == []
    with pytest.raises(KeyChanged):
        alice.send_key("mallory")
    assert alice.verification("bob").new_number is not None
    known = alice.accept_new_key("bob")
    assert (known.client_id, known.verified_at) == (mallory, None)
    assert alice.agree_on_key("bob")


def test_another_account_of_a_known_name_is_not_shown_under_it(
    alice: Messenger, bob: Messenger, gateway: FakeGateway
) -> None:
    assert bob.is_registered()
    verify(alice, "bob")
    real = bobs_id(gateway)
    mallory = gateway.mailroom.register("bob")
    del gateway.mailroom.names[real]
    alice.users()
    gateway.mailroom.put(mallory, gateway.mailroom.id_of("alice"), MessageKind.KEY_REQUEST, b"")
    (message,) = alice.receive()
    assert message.sender_name == f"bob (not the one you know, {mallory.hex()[:8]})"
    assert not message.sender_verified


def test_accepting_stops_the_keys_of_before(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, private_keys: list[PrivateKey]
) -> None:
    assert bob.is_registered()
    assert alice.agree_on_key("bob")
    gateway.mailroom.keys[bobs_id(gateway)] = private_keys[2].public_key()
    assert alice.fetch_public_key("bob").changed
    assert alice.accept_new_key("bob").new_number is None
    assert alice.agree_on_key("bob")


def test_files_between_two_who_verified_each_other(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    verify(alice, "bob")
    verify(bob, "alice")
    (tmp_path / "file").write_bytes(b"x" * 1000)
    for one, other, name in ((alice, bob, "bob"), (bob, alice, "alice"), (alice, bob, "bob")):
        one.agree_on_key(name)
        one.home.sending.send_file(name, tmp_path / "file")
        assert not [message for message in other.receive() if isinstance(message.content, Unreadable)]


def test_an_unasked_key_is_told_to_those_who_follow_too(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    """`watch`, `chat` and `history` look at what another process of the home may have received."""
    assert bob.is_registered()
    inject_key(gateway, SymmetricKey(b"1" * 16))
    inject_key(gateway, SymmetricKey(b"2" * 16))
    stranger = gateway.mailroom.id_of("bob")
    gateway.mailroom.put(stranger, gateway.mailroom.id_of("alice"), MessageKind.KEY, b"sealed to somebody else" * 5)
    received = [message.content for message in alice.receive()]
    assert received[:2] == [KeyReceived(unasked=False), KeyReceived(unasked=True)]
    assert isinstance(received[2], Unreadable)
    assert [message.content for message in alice.seen()] == received


def test_an_unasked_key_that_was_being_shown_at_a_crash_is_still_told(
    alice: Messenger, bob: Messenger, gateway: FakeGateway
) -> None:
    assert bob.is_registered()
    inject_key(gateway, SymmetricKey(b"1" * 16))
    list(alice.receive())
    inject_key(gateway, SymmetricKey(b"2" * 16))
    for _ in range(2):
        # Looked at, and never come back for.
        shown = alice.receive()
        assert next(shown).content == KeyReceived(unasked=True)
        shown.close()


def test_another_key_named_between_showing_and_accepting_is_not_accepted(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, private_keys: list[PrivateKey]
) -> None:
    assert bob.is_registered()
    compared = alice.verification("bob").number
    gateway.mailroom.keys[bobs_id(gateway)] = private_keys[2].public_key()
    shown = alice.verification("bob").new_number
    third = PrivateKey.generate(os.urandom).public_key()
    gateway.mailroom.keys[bobs_id(gateway)] = third
    # Another process of the home asks the server meanwhile.
    assert alice.fetch_public_key("bob").changed
    with pytest.raises(SafetyNumberDiffers):
        alice.accept_new_key("bob", shown)
    with pytest.raises(KeyChanged):
        alice.mark_verified("bob", compared)
    alice.accept_new_key("bob")
    with pytest.raises(SafetyNumberDiffers):
        alice.mark_verified("bob", compared)
    assert not alice.home.directory.is_verified_name("bob")


def test_a_store_of_before_is_taken_over(tmp_path: Path) -> None:
    database = apsw.Connection(str(tmp_path / "store.db"))
    database.execute(FIRST)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    database.execute("INSERT INTO contact VALUES (?, 'bob', 1, ?)", (b"b" * 16, b"k" * 160))
    database.close()
    again = Store.open(tmp_path)
    pin = again.pins.of_name("bob")
    assert pin is not None
    assert (pin.public_key, pin.verified_at) == (b"k" * 160, None)
    assert again.sent.all() == []
    again.close()
