"""A gateway among four storage workers that a test scripts: which is asked for what, what becomes
of requests while one is away, and who is refused as a worker.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.client_protocol.requests import (
    AboutRequest,
    BlockRequest,
    ClaimKeyRequest,
    DeleteAccountRequest,
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PublishKeysRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
    encode,
)
from common.client_protocol.versions import Feature
from common.shards import shard_of
from common.storage_protocol.frames import Drain, MailArrived, StoreFacts
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    DeleteAccount,
    DeletionGoesOn,
    Done,
    Fetch,
    Fetched,
    Forget,
    GetAbout,
    GetProofKey,
    GetPublicKey,
    KeyFound,
    ListUsers,
    MarkAuthenticated,
    Operation,
    Outcome,
    PublishKeys,
    Pull,
    Pulled,
    Register,
    Release,
    SetBlock,
    Settle,
    StoreMessage,
    TellOthers,
)
from common.values import ClientId, PublicKey, RefusalReason, Username
from gateway import metrics
from gateway.errors import WrongWorker
from gateway.settings import Settings
from gateway.storage.shard_links import REFUSE_AFTER
from tests.gateway.authenticated import PUBLIC, signature
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Gate, Peer
from tests.gateway.mailbox import page

SHARDS = 4
USERS = [ClientId(bytes((first, *[7] * 15))) for first in (0x01, 0x40, 0x80, 0xFF)]
"""One of each shard."""
ANNA, BERT, CARA, DORA = USERS
ZERO = ClientId(bytes(16))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make_(shards: int = SHARDS) -> Gate:
        gates.append(Gate(tmp_path, Settings(), shards=shards))
        return gates[-1]

    yield make_
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make: Callable[..., Gate]) -> Gate:
    gate = make()
    gate.turn_until(lambda: all(storage.greetings for storage in gate.storages) and gate.context.link.facts is not None)
    gate.turn_until(lambda: gate.context.link.idle)
    return gate


def test_a_prefix_of_the_id_is_the_shard() -> None:
    assert [shard_of(user, SHARDS) for user in USERS] == [0, 1, 2, 3]
    assert [shard_of(b"\x80\x00" + bytes(14), shards) for shards in (1, 2, 256)] == [0, 1, 128]
    assert shard_of(b"\x7f\xff" + bytes(14), 2) == 0


def places(gate: Gate, kind: type) -> list[int]:
    """The shards that were asked for operations of this kind, once for each."""
    return [number for number, storage in enumerate(gate.storages) for _ in storage.asked(kind)]


def greeted(peer: Peer, user: ClientId) -> None:
    """Sign in as a user, with reasons."""
    peer.send(HelloRequest(ZERO, 1, int(Feature.REASONS)))
    assert peer.response()[0] == 2140
    peer.send(ProveRequest(user, signature(user)))


def knows(decide: Callable[[Operation], Outcome] = default_decision) -> Callable[[Operation], Outcome]:
    """Everybody has the one key."""

    def decision(operation: Operation) -> Outcome:
        return KeyFound(operation.requester, PUBLIC) if isinstance(operation, GetProofKey) else decide(operation)

    return decision


@pytest.mark.parametrize(
    ("requests", "asked", "shards"),
    [
        ([RegisterRequest(ZERO, Username("eve"), PublicKey(bytes(160)))], Register, [0]),
        ([ListUsersRequest(DORA)], ListUsers, [0]),
        ([AboutRequest(DORA)], GetAbout, [0]),
        ([PublicKeyRequest(DORA, ANNA)], GetPublicKey, [3]),
        ([PullRequest(CARA)], Pull, [2]),
        ([PublishKeysRequest(BERT, forget=False, bundle=b"bundle", one_time_keys=b"")], PublishKeys, [1]),
        ([ClaimKeyRequest(DORA, user) for user in USERS], ClaimKey, [0, 1, 2, 3]),
        ([SendRequest(ANNA, user, 3, b"hi") for user in USERS], StoreMessage, [0, 1, 2, 3]),
    ],
)
def test_who_is_asked(gate: Gate, requests: list[SendRequest], asked: type, shards: list[int]) -> None:
    peer = gate.peer()
    peer.send(b"".join(encode(request) for request in requests))
    for _ in requests:
        assert peer.response()[0] != 9000
    assert places(gate, asked) == shards


def test_a_large_content_goes_to_the_recipients_worker_and_a_block_to_ones_own(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(SendRequest(ANNA, CARA, 4, bytes(300_000)))
    assert peer.response()[0] == 2103
    for kind in (BeginUpload, CommitUpload):
        assert places(gate, kind) == [2]
    assert set(places(gate, Chunk)) == {2}
    gate.storage.decide = knows()
    greeted(peer := gate.peer(), BERT)
    assert peer.response()[0] == 2141
    peer.send(BlockRequest(BERT, True, DORA))
    peer.response()
    assert places(gate, SetBlock) == [1]
    peer.send(FetchRequest(BERT, 0, 1000, 0))
    assert peer.response()[0] == 2143
    assert places(gate, Fetch) == [1]


def test_leases_end_where_they_were_taken(gate: Gate) -> None:
    def has_mail(operation: Operation) -> Outcome:
        return Pulled(5, 5, 1, 2, page((5, b"hi"))) if isinstance(operation, Pull) else default_decision(operation)

    for storage in gate.storages:
        storage.decide = has_mail
    peer = gate.peer()
    for user in (DORA, BERT):
        peer.send(PullRequest(user))
        assert peer.response()[0] == 2104
    gate.turn_until(gate.all_acknowledged)
    peer.send(PullRequest(CARA))
    peer.response()
    gate.turn_until(lambda: places(gate, Settle) == [1, 3])
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: places(gate, Release) == [2])


def test_a_proof_is_answered_when_all_know_it(gate: Gate) -> None:
    told: list[bool] = []

    def directory(operation: Operation) -> Outcome:
        if isinstance(operation, MarkAuthenticated):
            told.append(operation.told)
            return Done() if operation.told else TellOthers()
        return default_decision(operation)

    gate.storage.decide = knows(directory)
    gate.storages[2].answering = False
    greeted(peer := gate.peer(), BERT)
    gate.turn_until(lambda: bool(gate.storages[2].held))
    gate.turns()
    peer.read()
    assert peer.received == b""
    assert told == [False]
    gate.storages[2].answering = True
    gate.storages[2].answer(gate.storages[2].held.pop())
    assert peer.response() == (2141, b"")
    assert told == [False, True]
    assert places(gate, Forget) == [1, 2, 3]


def test_a_first_proof_is_refused_while_a_worker_is_away(gate: Gate) -> None:
    gate.storage.decide = knows(
        lambda one: TellOthers() if isinstance(one, MarkAuthenticated) else default_decision(one)
    )
    gate.storages[3].die()
    gate.turns()
    greeted(peer := gate.peer(), BERT)
    gate.turn_until(lambda: len(places(gate, Forget)) == 2)
    gate.pass_time(REFUSE_AFTER + 0.5)
    code, payload = peer.response()
    assert (code, payload[0]) == (9001, RefusalReason.UNAVAILABLE)


def test_a_deletion_is_told_to_all(gate: Gate) -> None:
    answers: Iterator[Outcome] = iter([DeletionGoesOn(), DeletionGoesOn(), Done()])
    gate.storage.decide = knows(lambda one: next(answers) if isinstance(one, DeleteAccount) else default_decision(one))
    greeted(peer := gate.peer(), DORA)
    assert peer.response()[0] == 2141
    peer.send(DeleteAccountRequest(DORA, DORA))
    gate.turn_until(lambda: len(places(gate, Forget)) == 3)
    gate.pass_time(0.3, 0.05)
    assert peer.response()[0] == 2147
    assert places(gate, DeleteAccount) == [0, 0, 0]


# --- a worker that is away


def test_what_was_not_sent_is_refused_after_a_second_and_served_when_it_is_back(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 1, int(Feature.REASONS)))
    peer.response()
    gate.storages[1].die()
    gate.turns()
    peer.send(SendRequest(ANNA, BERT, 3, b"to one who is away"))
    peer.send(SendRequest(ANNA, CARA, 3, b"to one who is there"))
    gate.turn_until(lambda: places(gate, StoreMessage) == [2])
    gate.pass_time(REFUSE_AFTER / 2)
    peer.read()
    assert peer.received == b""
    gate.pass_time(REFUSE_AFTER)
    code, payload = peer.response()
    assert code == 9001
    assert payload[:2] == RefusalReason.UNAVAILABLE.to_bytes(2, "little")
    assert int.from_bytes(payload[2:], "little") > 0
    assert peer.response()[0] == 2103
    # From now on it is refused at once.
    peer.send(SendRequest(ANNA, BERT, 3, b"again"))
    assert peer.response()[0] == 9001
    assert gate.context.link.is_joined
    gate.storages[1].bind()
    gate.turn_until(lambda: gate.context.link.of(BERT).is_joined and len(gate.storages[1].greetings) >= 1)
    peer.send(SendRequest(ANNA, BERT, 3, b"once more"))
    assert peer.response()[0] == 2103
    assert [one.content for one in gate.storages[1].asked(StoreMessage) if isinstance(one, StoreMessage)] == [
        b"once more"
    ]


def test_what_was_sent_waits_for_the_next_worker(gate: Gate) -> None:
    gate.storages[1].answering = False
    peer = gate.peer()
    peer.send(SendRequest(ANNA, BERT, 3, b"one"))
    gate.turn_until(lambda: bool(gate.storages[1].held))
    gate.storages[1].die()
    gate.pass_time(3 * REFUSE_AFTER)
    peer.read()
    assert peer.received == b""
    gate.storages[1].answering = True
    gate.storages[1].bind()
    assert peer.response()[0] == 2103


def test_endings_wait_for_it_too(gate: Gate) -> None:
    waiter = Nothing()
    gate.storages[1].die()
    gate.turns()
    link = gate.context.link.of(BERT)
    link.submit(Release(7), waiter)
    link.submit(GetPublicKey(BERT, False, ANNA), waiter)
    gate.pass_time(2 * REFUSE_AFTER)
    assert waiter.told == ["GetPublicKey"]
    gate.storages[1].bind()
    gate.turn_until(lambda: places(gate, Release) == [1])
    gate.turn_until(lambda: waiter.told == ["GetPublicKey", "Release"])


class Nothing:
    """A waiter that notes whose outcomes it got."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        self.told.append(type(operation).__name__)

    def unknown(self, operation: Operation) -> None:
        self.told.append(f"{type(operation).__name__} unknown")


def test_without_the_directory_mail_goes_on(gate: Gate) -> None:
    gate.storage.die()
    gate.pass_time(2 * REFUSE_AFTER)
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 1, int(Feature.REASONS)))
    assert peer.response()[0] == 2140
    peer.send(SendRequest(DORA, CARA, 3, b"hi"))
    assert peer.response()[0] == 2103
    peer.send(ListUsersRequest(DORA))
    code, payload = peer.response()
    assert (code, payload[0]) == (9001, RefusalReason.UNAVAILABLE)
    assert gate.context.link.is_joined


# --- what workers say


def test_news_of_a_worker_concern_its_own_users(gate: Gate) -> None:
    empty = Fetched(0, 0, 0, 100, page())
    for storage in gate.storages:
        storage.decide = knows(lambda one: empty if isinstance(one, Fetch) else default_decision(one))
    for user in (BERT, DORA):
        greeted(peer := gate.peer(), user)
        assert peer.response()[0] == 2141
        peer.send(FetchRequest(user, 0, 1000, 60))
    gate.turn_until(lambda: places(gate, Fetch) == [1, 3])
    gate.turns()
    storage = gate.storages[3]
    storage.say(MailArrived(3, storage.epoch, 101, [DORA]))
    gate.turn_until(lambda: places(gate, Fetch) == [1, 3, 3])
    storage.incarnation = b"N" * 16
    storage.die()
    gate.turns()
    storage.bind()
    gate.peer().send(SendRequest(ANNA, DORA, 3, b"a batch, whose answer names the new worker"))
    gate.turn_until(lambda: places(gate, Fetch) == [1, 3, 3, 3])


def test_numbers_of_each_worker(gate: Gate) -> None:
    gate.storages[1].die()
    gate.turns()
    gate.peer().send(SendRequest(ANNA, BERT, 3, b"to one who is away"))
    gate.turns()
    gate.pass_time(2 * REFUSE_AFTER)
    series = {one.name.removeprefix("messageu_gateway_shard_"): one for one in metrics.series_of(gate.context)}
    assert series["joined"].read() == {"0": 1, "1": 0, "2": 1, "3": 1}
    assert series["unsent"].read() == {"0": 0, "1": 1, "2": 0, "3": 0}
    assert series["in_flight_bytes"].read() == dict.fromkeys("0123", 0)
    assert series["batches"].read() == dict.fromkeys("0123", 0)
    page_ = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    for one in series.values():
        total = "_total" if one.kind == "counter" else ""
        label = "" if one.label is None else f", by `{one.label}`"
        assert f"| `{one.name}{total}` | {one.kind}{label}. {one.text} |" in page_


def test_orders_of_any_worker_are_obeyed(gate: Gate) -> None:
    gate.storages[2].say(Drain())
    gate.turn_until(lambda: bool(gate.context.link.orders))


@pytest.mark.parametrize(
    "facts",
    [
        StoreFacts(SERVER_ID, 7, 100, 3, 4),
        StoreFacts(SERVER_ID, 7, 100, 2, 8),
        StoreFacts(SERVER_ID, 7, 100),
        StoreFacts(b"O" * 16, 7, 100, 2, 4),
    ],
)
def test_a_worker_of_another_place_or_server_ends_the_gateway(make: Callable[..., Gate], facts: StoreFacts) -> None:
    gate = make()
    gate.storages[2].facts = facts
    with pytest.raises(WrongWorker, match=r"s2\.sock"):
        gate.turn_until(lambda: False)


def test_one_worker_has_to_have_all_users(make: Callable[..., Gate]) -> None:
    gate = make(1)
    gate.storage.facts = StoreFacts(SERVER_ID, 7, 100, 0, 2)
    with pytest.raises(WrongWorker, match="shard 0 of 2, and this gateway takes it for shard 0 of 1"):
        gate.turn_until(lambda: False)
