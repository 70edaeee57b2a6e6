"""640 to 643 and 9001 at the gateway: the states of a connection, proofs, waiting for mail."""

import struct
from collections.abc import Callable

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss
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
from common.storage_protocol.frames import MailArrived, StoreFacts
from common.storage_protocol.message_format import FLAG_PROVEN, Entry, pack_entry
from common.storage_protocol.operations import (
    BeginUpload,
    Done,
    Fetch,
    Fetched,
    GetProofKey,
    KeyFound,
    ListUsers,
    Mail,
    MarkProven,
    Operation,
    Outcome,
    Refused,
    Register,
    StoreMessage,
)
from common.values import ClientId, PublicKey, Token, Username
from gateway.settings import Settings
from tests.gateway.connection.memory_transport import MemoryTransport, Scene
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Gate, Peer

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
ZERO = ClientId(bytes(16))
TOKEN = Token(b"t" * 16)
KEY = RSA.generate(1024, e=17)
OTHER_KEY = RSA.generate(1024, e=17)
PUBLIC = KEY.public_key().export_key("DER")
NONCE = bytes(32)
"""What the harness gives for random bytes."""
CERTIFICATE_HASH = SHA256.new(b"the server's certificate").digest()


def signature(
    client_id: bytes = ALICE,
    key: RSA.RsaKey = KEY,
    server_id: bytes = SERVER_ID,
    nonce: bytes = NONCE,
    binding: bytes = bytes(32),
) -> bytes:
    message = b"MessageU prove 1\0" + server_id + nonce + client_id + binding
    return pss.new(key, salt_bytes=32).sign(SHA256.new(message))


def knows_alice(operation: Operation) -> Outcome:
    return KeyFound(ALICE, PUBLIC) if isinstance(operation, GetProofKey) else default_decision(operation)


def greet(peer: Peer, features: int = 0) -> bytes:
    peer.send(HelloRequest(ZERO, 1, features))
    code, payload = peer.response()
    assert code == 2140
    return payload


def prove(peer: Peer) -> None:
    greet(peer)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (2141, b"")


@pytest.fixture
def proven(gate: Gate) -> Peer:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    prove(peer)
    gate.storage.operations.clear()
    return peer


def test_hello_tells_what_the_worker_told(gate: Gate) -> None:
    payload = greet(gate.peer())
    assert struct.unpack("<IIII16sQ32s", payload) == (1, 11, 1024**3 + 21, 0, SERVER_ID, 7, NONCE)


def test_an_unknown_extension_version_gets_ours_and_no_reasons(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 2, 8))
    code, payload = peer.response()
    assert (code, payload[:4]) == (2140, struct.pack("<I", 1))
    gate.storage.decide = lambda _: Refused(2)
    peer.send(PullRequest(ALICE))
    assert peer.response() == (9000, b"")


def test_hello_waits_for_the_first_greeting_of_the_worker(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings())
    gate.storage.welcoming = False
    peers = [gate.peer(), gate.peer()]
    for peer in peers:
        peer.send(HelloRequest(ZERO, 1, 0))
    gate.turn_until(lambda: bool(gate.storage.greetings))
    gate.turns()
    peers[1].close()
    gate.turns()
    gate.storage.welcoming = True
    gate.storage.welcome(gate.storage.greetings[0])
    assert peers[0].response()[0] == 2140


def test_hello_is_given_up_without_a_reply(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings())
    gate.storage.welcoming = False
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 1, 0))
    gate.turns()
    gate.pass_time(16, 1.0)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""


def test_reasons_where_they_were_asked_for(gate: Gate) -> None:
    gate.storage.decide = lambda _: Refused(7, 30)
    peer = gate.peer()
    greet(peer, features=8)
    peer.send(PullRequest(ALICE))
    assert peer.response() == (9001, struct.pack("<HI", 7, 30))
    peer.send(struct.pack("<16sBHI", ALICE, 2, 999, 0))
    assert peer.response() == (9001, struct.pack("<HI", 1, 0))
    peer.send(struct.pack("<16sBHI", ALICE, 2, 999, 0xFFFFFFFF))
    assert peer.response() == (9001, struct.pack("<HI", 5, 0))


def test_registering_again_is_for_greeted_connections(gate: Gate) -> None:
    peer = gate.peer()
    register = RegisterRequest(ZERO, Username("alice"), PublicKey(b"k" * 160))
    peer.send(register)
    peer.response()
    greet(peer)
    peer.send(register)
    peer.response()
    asked = gate.storage.asked(Register)
    assert [operation.again for operation in asked if isinstance(operation, Register)] == [False, True]


def test_an_id_is_wanted_on_greeted_connections_alone(gate: Gate) -> None:
    peer = gate.peer()
    register = RegisterRequest(ALICE, Username("alice"), PublicKey(b"k" * 160))
    peer.send(register)
    peer.response()
    greet(peer)
    for wanted in (ALICE, ZERO):
        peer.send(register._replace(requester=wanted))
        peer.response()
    asked = gate.storage.asked(Register)
    assert [operation.wanted for operation in asked if isinstance(operation, Register)] == [None, ALICE, None]


def test_a_proof_is_answered_after_the_mark(gate: Gate) -> None:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    prove(peer)
    assert gate.storage.operations == [GetProofKey(ALICE), MarkProven(ALICE)]


def test_a_proven_connection_acts_for_its_user_alone(gate: Gate, proven: Peer) -> None:
    proven.send(ListUsersRequest(ALICE))
    assert proven.response()[0] == 2101
    proven.send(SendRequest(ALICE, BOB, 3, b"x", TOKEN))
    assert proven.response()[0] == 2103
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
    proven.send(encode(SendRequest(ALICE, BOB, 3, b"x")) + b"".join(foreign) + encode(PullRequest(ALICE)))
    codes = [proven.response()[0] for _ in range(len(foreign) + 2)]
    assert codes == [2103] + [9000] * len(foreign) + [2104]
    assert len(gate.storage.operations) == 2


def test_a_new_hello_leaves_proven_as_it_is(gate: Gate, proven: Peer) -> None:
    greet(proven)
    proven.send(ListUsersRequest(ALICE))
    assert proven.response()[0] == 2101
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
    assert not gate.storage.asked(MarkProven)


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


def test_large_and_token_sends_carry_both(gate: Gate, proven: Peer) -> None:
    proven.send(SendRequest(ALICE, BOB, 4, bytes(200_000), TOKEN))
    assert proven.response()[0] == 2103
    assert gate.storage.operations[0] == BeginUpload(1, ALICE, True, BOB, 4, 200_000, TOKEN)


# --- 643
# --------------------------------------------------------------------------------------------------


def mail(operation: Operation) -> Outcome:
    if isinstance(operation, Fetch):
        entry = Entry(BOB, TOKEN, 9, 1234, FLAG_PROVEN, 3, 2, b"hi")
        return Fetched(9, 1, 2, 9, Mail(pack_entry(entry), 9))
    return default_decision(operation)


EMPTY = (2143, b"")
FETCHED = (2143, BOB + TOKEN + struct.pack("<QQBBI", 9, 1234, 1, 3, 2) + b"hi")


def test_a_fetch_acknowledges_and_carries(gate: Gate, proven: Peer) -> None:
    gate.storage.decide = mail
    proven.send(FetchRequest(ALICE, 5, 1000, 0))
    assert proven.response() == FETCHED
    assert gate.storage.operations == [Fetch(ALICE, True, 5, 1000, 54, 262144, False)]
    proven.send(FetchRequest(ALICE, 2**64 - 1, 2**32 - 1, 0))
    proven.response()
    assert gate.storage.operations[1] == Fetch(ALICE, True, 2**63 - 1, 256 * 1024 * 1024, 54, 262144, False)


def test_a_refused_fetch(gate: Gate, proven: Peer) -> None:
    gate.storage.decide = lambda _: Refused(1)
    proven.send(FetchRequest(ALICE, 5, 1000, 60))
    assert proven.response() == (9000, b"")


def test_a_waiting_fetch_is_woken_by_a_hint(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    asked = len(gate.storage.operations)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 100, [ALICE]))
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [BOB]))
    gate.turns()
    assert len(gate.storage.operations) == asked, "not later than what was seen, or another's"
    gate.storage.decide = mail
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [BOB, ALICE]))
    assert proven.response() == FETCHED
    gate.pass_time(400, 10.0)
    assert len(gate.storage.asked(Fetch)) == 2
    gate.storage.decide = default_decision
    proven.send(ListUsersRequest(ALICE))
    assert proven.response()[0] == 2101


def test_a_wait_ends_by_itself(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 5))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.pass_time(4.5)
    proven.read()
    assert proven.received == b""
    gate.pass_time(1)
    assert proven.response() == EMPTY
    last = gate.storage.asked(Fetch)[-1]
    assert isinstance(last, Fetch)
    assert not last.watch


def test_a_wait_is_300_seconds_at_most_and_asks_each_minute(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 65535))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.pass_time(299, 1.0)
    proven.read()
    assert proven.received == b""
    assert 4 <= len(gate.storage.asked(Fetch)) <= 6
    gate.pass_time(2, 1.0)
    assert proven.response() == EMPTY


def test_any_byte_ends_the_wait(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    proven.send(encode(ListUsersRequest(ALICE))[:1])
    assert proven.response() == EMPTY
    proven.send(encode(ListUsersRequest(ALICE))[1:])
    assert proven.response()[0] == 2101


def test_a_fetch_with_a_follower_in_the_same_write_does_not_wait(gate: Gate, proven: Peer) -> None:
    proven.send(encode(FetchRequest(ALICE, 0, 1000, 60)) + encode(ListUsersRequest(ALICE)))
    assert proven.response() == EMPTY
    assert proven.response()[0] == 2101


def test_the_end_of_the_client_ends_the_wait(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    proven.end()
    assert proven.response() == EMPTY
    gate.turn_until(proven.is_ended)


def test_a_waiting_client_that_goes_is_forgotten(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    proven.close()
    gate.turn_until(lambda: not gate.context.sessions)
    asked = len(gate.storage.operations)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [ALICE]))
    gate.pass_time(400, 10.0)
    assert len(gate.storage.operations) == asked


def test_another_worker_is_asked_again(gate: Gate, proven: Peer) -> None:
    proven.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.storage.die()
    gate.storage.incarnation = b"V" * 16
    gate.storage.facts = StoreFacts(SERVER_ID, 8, 200)
    gate.turns()
    gate.storage.bind()
    other = gate.peer()
    gate.storage.decide = lambda operation: mail(operation) if isinstance(operation, Fetch) else Done()
    other.send(SendRequest(BOB, ALICE, 3, b"x"))
    assert proven.response() == FETCHED
