"""641: which proofs are accepted, what they change, and how many may fail."""

import pytest
from Crypto.Util.asn1 import DerSequence

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
    encode,
)
from common.client_protocol.versions import EXTENSION_VERSION
from common.rare_log import RareLog
from common.server_log import AUDIT
from common.storage_protocol.operations import (
    GetProofKey,
    KeyFound,
    ListUsers,
    MarkAuthenticated,
    Refused,
    StoreMessage,
)
from common.values import PublicKey, RefusalReason, Username
from gateway.handlers import prove as prove_handler
from gateway.settings import Settings
from tests.gateway.authenticated import (
    ALICE,
    BOB,
    CERTIFICATE_HASH,
    KEY,
    OTHER_KEY,
    TOKEN,
    ZERO,
    greet,
    knows_alice,
    prove,
    signature,
)
from tests.gateway.connection.memory_transport import MemoryTransport, Scene
from tests.gateway.every_kind import EVERY_KIND, skip_greeting
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer


def test_a_proof_is_answered_after_the_mark(gate: Gate) -> None:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    prove(peer)
    assert gate.storage.operations == [GetProofKey(ALICE), MarkAuthenticated(ALICE)]


def test_an_authenticated_connection_acts_for_its_user_alone(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(ListUsersRequest(ALICE))
    assert authenticated.response()[0] == 2101
    authenticated.send(SendRequest(ALICE, BOB, 3, b"x", TOKEN))
    assert authenticated.response()[0] == 2103
    assert gate.storage.operations == [ListUsers(ALICE, True), StoreMessage(ALICE, True, BOB, 3, b"x", TOKEN)]
    gate.storage.operations.clear()
    foreign = [
        encode(ListUsersRequest(BOB)),
        encode(PullRequest(BOB)),
        encode(SendRequest(BOB, ALICE, 3, b"x")),
        encode(SendRequest(BOB, ALICE, 3, bytes(100_000))),
        encode(FetchRequest(BOB, 0, 0, 0)),
        encode(RegisterRequest(ALICE, Username("x"), PublicKey(bytes(160)))),
        encode(ProveRequest(BOB, signature(BOB))),
    ]
    authenticated.send(encode(SendRequest(ALICE, BOB, 3, b"x")) + b"".join(foreign) + encode(PullRequest(ALICE)))
    codes = [authenticated.response()[0] for _ in range(len(foreign) + 2)]
    assert codes == [2103] + [9000] * len(foreign) + [2104]
    assert len(gate.storage.operations) == 2


def test_a_new_hello_leaves_authenticated_as_it_is(gate: Gate, authenticated: Peer) -> None:
    greet(authenticated)
    authenticated.send(ListUsersRequest(ALICE))
    assert authenticated.response()[0] == 2101
    assert gate.storage.operations == [ListUsers(ALICE, True)]


@pytest.mark.parametrize(
    "bad",
    [
        bytes(128),
        signature(BOB),
        signature(key=OTHER_KEY),
        signature(server_id=b"X" * 16),
        signature(nonce=b"1" * 32),
    ],
)
def test_a_bad_proof_is_refused_and_voids_the_nonce(gate: Gate, bad: bytes) -> None:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    greet(peer)
    peer.send(ProveRequest(ALICE, bad))
    assert peer.response() == (9000, b"")
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (9000, b""), "the nonce is void"
    assert not gate.storage.asked(MarkAuthenticated)


@pytest.mark.parametrize("signed", [CERTIFICATE_HASH, bytes(32)])
def test_the_signature_covers_the_binding_of_the_connection(signed: bytes) -> None:
    peer = MemoryTransport()
    peer.binding = CERTIFICATE_HASH
    scene = Scene(peer=peer)
    scene.storage.decide = knows_alice
    scene.say(HelloRequest(ZERO, 1, 0))
    answer = scene.say(ProveRequest(ALICE, signature(binding=signed)))
    assert answer[1:3] == (2141 if signed == CERTIFICATE_HASH else 9000).to_bytes(2, "little")
    scene.close()


def test_the_audit_log_says_what_was_wrong_and_no_more(
    gate: Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove_handler, "rarely", RareLog(AUDIT))
    caplog.set_level("INFO", "messageu.audit")
    gate.storage.decide = knows_alice
    peer = gate.peer()
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response()[0] == 9000
    greet(peer)
    peer.send(ProveRequest(ALICE, signature(BOB)))
    assert peer.response()[0] == 9000
    greet(peer)
    gate.storage.decide = lambda _operation: Refused(RefusalReason.REQUESTER_UNKNOWN)
    peer.send(ProveRequest(BOB, signature(BOB)))
    assert peer.response()[0] == 9000
    assert [vars(record)["fields"] for record in caplog.records] == [
        {"event": "authentication_failed", "user": user.hex(), "wrong": wrong, "attempt": attempt}
        for attempt, (user, wrong) in enumerate(((ALICE, "nonce"), (ALICE, "signature"), (BOB, "user")), 1)
    ]
    # A connection that was authenticated, and one that the store's own trouble kept from it.
    caplog.clear()
    gate.storage.decide = knows_alice
    prove(gate.peer())
    gate.storage.decide = lambda _operation: Refused(RefusalReason.DAMAGED)
    peer = gate.peer()
    greet(peer)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response()[0] == 9000
    assert not caplog.records


def test_three_failures_end_the_connection(gate: Gate) -> None:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    for _ in range(3):
        greet(peer)
        peer.send(ProveRequest(ALICE, bytes(128)))
        assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)
    assert not peer.reset


def test_no_proof_without_a_greeting_or_with_an_old_one(gate: Gate) -> None:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (9000, b"")
    greet(peer)
    gate.pass_time(31, 5.0)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (9000, b"")
    assert gate.storage.operations == []


ZERO_PRIME = DerSequence([0, int(KEY.n), 17, 5, 7, 0, 1, 1, 1]).encode()
"""A private key with a prime of 0: whoever checks it divides by zero."""


@pytest.mark.parametrize(
    "key", [b"k" * 160, bytes(160), OTHER_KEY.export_key("DER")[:160], (ZERO_PRIME + bytes(160))[:160]]
)
def test_a_registered_key_that_is_none_proves_nothing(gate: Gate, key: bytes) -> None:
    gate.storage.decide = lambda operation: (
        KeyFound(ALICE, key) if isinstance(operation, GetProofKey) else default_decision(operation)
    )
    peer = gate.peer()
    greet(peer)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (9000, b"")


def test_an_unknown_user_proves_nothing(gate: Gate) -> None:
    gate.storage.decide = lambda _: Refused(2)
    peer = gate.peer()
    greet(peer)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (9000, b"")


def test_a_proof_of_a_user_who_vanished_meanwhile(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        KeyFound(ALICE, bytes(160)) if isinstance(operation, GetProofKey) else Refused(2)
    )
    peer = gate.peer()
    peer.send(EVERY_KIND["proof"])
    skip_greeting(peer, "proof")
    assert peer.response() == (9000, b"")


def test_one_turn_checks_a_bounded_number_of_signatures() -> None:
    scene = Scene(Settings()._replace(proofs_a_turn=2))
    scene.storage.decide = knows_alice
    peers = [scene.peer, *(scene.another() for _ in range(4))]
    for peer in peers:
        peer.say(encode(HelloRequest(ZERO, EXTENSION_VERSION, 0)) + encode(ProveRequest(ALICE, signature())))
    waiting = []
    for _ in range(12):
        scene.turn(1)
        waiting.append(len(scene.context.proofs))
    most = max(waiting)
    assert most > 0
    assert waiting[waiting.index(most) :][:3] == [most, max(0, most - 2), max(0, most - 4)]
    assert waiting[-1] == 0
    assert scene.storage.asked_for(MarkAuthenticated) == [MarkAuthenticated(ALICE)] * 5
    scene.close()
