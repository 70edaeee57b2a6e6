"""client/suite1/olm.py: what the library's errors mean, and that pickles stay as they were."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.errors import StoreUnusable
from client.suite1 import olm
from client.suite1.olm import OlmFailure, OlmMessage, OlmSession

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def pair() -> tuple[str, str, OlmSession]:
    """Two accounts, and a session that the first has started with a one-time key of the second."""
    alice = olm.new_account()
    bob, (key,) = olm.with_one_time_keys(olm.new_account(), 1)
    session = olm.outbound(alice, olm.identity_of(bob).curve25519, key)
    assert session is not None
    return alice, bob, session


def test_a_signature_is_ed25519() -> None:
    account = olm.new_account()
    Ed25519PublicKey.from_public_bytes(olm.identity_of(account).ed25519).verify(olm.signer(account)(b"x"), b"x")


def test_keys_are_handed_out_once() -> None:
    account, first = olm.with_one_time_keys(olm.new_account(), 50)
    _, second = olm.with_one_time_keys(account, 50)
    assert len({*first, *second}) == 100
    account, fallback = olm.with_fallback_key(account)
    _, other = olm.with_fallback_key(account)
    assert fallback != other


def test_a_session_is_started_once_by_a_one_time_key() -> None:
    alice, bob, session = pair()
    _, message = olm.encrypt(session, b"hello")
    assert message.kind == olm.PRE_KEY
    assert olm.session_id_of(message.data) == session.session_id
    identity = olm.identity_of(alice).curve25519
    started = olm.inbound(bob, identity, message.data)
    assert not isinstance(started, OlmFailure)
    after, inbound, plain = started
    assert (inbound.session_id, plain) == (session.session_id, b"hello")
    assert olm.inbound(after, identity, message.data) is OlmFailure.ONE_TIME_KEY_UNKNOWN
    # The account that was given has not changed.
    assert not isinstance(olm.inbound(bob, identity, message.data), OlmFailure)
    assert olm.inbound(bob, olm.identity_of(bob).curve25519, message.data) is OlmFailure.OTHER_IDENTITY
    altered = message.data[:-1] + bytes([message.data[-1] ^ 1])
    assert olm.inbound(bob, identity, altered) is OlmFailure.NOT_OPENED
    assert olm.is_well_formed(message)
    assert not olm.is_well_formed(OlmMessage(olm.NORMAL, message.data))
    assert not olm.is_well_formed(OlmMessage(olm.PRE_KEY, b"\3\n"))


def test_what_a_failed_decryption_means() -> None:
    alice, bob, session = pair()
    session, first = olm.encrypt(session, b"1")
    started = olm.inbound(bob, olm.identity_of(alice).curve25519, first.data)
    assert not isinstance(started, OlmFailure)
    inbound = started[1]
    answering, answer = olm.encrypt(inbound, b"2")
    assert answer.kind == olm.NORMAL
    result = olm.decrypt(session, answer)
    assert not isinstance(result, OlmFailure)
    after, plain = result
    assert plain == b"2"
    assert olm.decrypt(after, answer) is OlmFailure.KEY_USED
    altered = OlmMessage(answer.kind, answer.data[:-1] + bytes([answer.data[-1] ^ 1]))
    assert olm.decrypt(session, altered) is OlmFailure.NOT_OPENED
    assert olm.is_well_formed(answer)
    for other in (answer._replace(kind=7), answer._replace(data=b""), answer._replace(data=b"\4" + answer.data[1:])):
        assert not olm.is_well_formed(other)
    last = answer
    for _ in range(2001):
        answering, last = olm.encrypt(answering, b"far")
    assert not isinstance(olm.decrypt(after, last), OlmFailure)
    _, last = olm.encrypt(answering, b"too far")
    assert olm.decrypt(after, last) is OlmFailure.NOT_OPENED


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31), b"short"])
def test_keys_that_can_not_be_used_start_nothing(key: bytes) -> None:
    _, bob, _ = pair()
    assert olm.outbound(bob, olm.identity_of(bob).curve25519, key) is None
    assert olm.outbound(bob, key, bytes([9]) + bytes(31)) is None


def test_a_pickle_that_was_altered_in_the_home_is_named() -> None:
    alice, _, session = pair()
    for broken in ("", "no base64!", session.pickle[:-4], alice, "A" + session.pickle[1:]):
        with pytest.raises(StoreUnusable):
            olm.encrypt(session._replace(pickle=broken), b"hello")
    for broken in ("", alice[:-4], session.pickle):
        with pytest.raises(StoreUnusable):
            olm.signer(broken)


def tell_new_keys(session: OlmSession, to: Connection) -> None:
    """What makes keys, all of it, in a process of its own."""
    account, one_time = olm.with_one_time_keys(olm.new_account(), 1)
    account, fallback = olm.with_fallback_key(account)
    started = olm.outbound(account, olm.identity_of(account).curve25519, fallback)
    assert started is not None
    # The first answer in a session makes a ratchet key.
    _, answer = olm.encrypt(session, b"hello")
    to.send([*olm.identity_of(account), *one_time, fallback, started.session_id, answer.data])


def test_processes_that_were_forked_make_different_keys() -> None:
    """The library has some random numbers in store, which both would use."""
    alice, bob, session = pair()
    _, message = olm.encrypt(session, b"hello")
    opened = olm.inbound(bob, olm.identity_of(alice).curve25519, message.data)
    assert not isinstance(opened, OlmFailure)
    context = multiprocessing.get_context("fork")
    made: list[bytes] = []
    for _ in range(4):
        # The store has another size each time.
        olm.new_account()
        for _ in range(2):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=tell_new_keys, args=(opened[1], sending))
            process.start()
            made += receiving.recv()
            process.join()
            assert process.exitcode == 0
    assert len(set(made)) == len(made)
