"""Programs of other people against the gateway: other numberings, the other byte order, a
602 without a size.
"""

import struct

import pytest

from common.storage_protocol.operations import (
    GetPublicKey,
    ListUsers,
    Pull,
    Pulled,
    Register,
    StoreMessage,
    UserEntry,
    UsersPage,
)
from common.values import ClientId, PublicKey, Username
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer
from tests.gateway.mailbox import page

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
UNSIZED = struct.pack("<16sBHI", ALICE, 2, 602, 0)


def request(order: str, code: int, payload: bytes = b"") -> bytes:
    return struct.pack(f"{order}16sBHI", ALICE, 1, code, len(payload)) + payload


def send(order: str, code: int, content: bytes) -> bytes:
    return request(order, code, struct.pack(f"{order}16sBI", BOB, 3, len(content)) + content)


def speak_all(gate: Gate, peer: Peer, order: str, base: int) -> None:
    """Every request of part 1, with the answers that the published layouts have."""
    peer.send(request(order, base, b"bob".ljust(255, b"\0") + b"k" * 160))
    assert peer.take(23) == struct.pack(f"{order}BHI", 2, 2100, 16) + b"N" * 16
    gate.storage.decide = lambda _: UsersPage(1, 9, 9, [UserEntry(BOB, "bob")])
    peer.send(request(order, base + 1))
    assert peer.take(278) == struct.pack(f"{order}BHI", 2, 2101, 271) + BOB + b"bob".ljust(255, b"\0")
    gate.storage.decide = default_decision
    peer.send(request(order, base + 2, BOB))
    assert peer.take(183) == struct.pack(f"{order}BHI", 2, 2102, 176) + BOB + b"K" * 160
    peer.send(send(order, base + 3, b"text"))
    assert peer.take(27) == struct.pack(f"{order}BHI16sI", 2, 2103, 20, BOB, 1)
    gate.storage.decide = lambda _: Pulled(4, 4, 1, 2, page((4, b"hi")))
    peer.send(request(order, base + 4))
    assert peer.take(34) == struct.pack(f"{order}BHI16sIBI", 2, 2104, 27, BOB, 4, 3, 2) + b"hi"
    gate.storage.decide = default_decision
    peer.send(request(order, 999))
    assert peer.take(7) == struct.pack(f"{order}BHI", 2, 9000, 0)


@pytest.mark.parametrize("base", [600, 700, 1100])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_whole_published_protocol_in_every_dialect(gate: Gate, order: str, base: int) -> None:
    speak_all(gate, gate.peer(), order, base)
    register, users, key, sent, pull = gate.storage.operations[:5]
    assert register == Register(Username("bob"), PublicKey(b"k" * 160), False)
    assert (key, sent) == (GetPublicKey(ALICE, False, BOB), StoreMessage(ALICE, False, BOB, 3, b"text", None))
    assert (type(users), type(pull)) == (ListUsers, Pull)


def test_a_large_content_of_a_big_endian_client_streams_both_ways(gate: Gate) -> None:
    peer = gate.peer()
    content = bytes(range(256)) * 2000
    peer.send(send(">", 603, content))
    assert peer.take(27) == struct.pack(">BHI16sI", 2, 2103, 20, BOB, 1)
    gate.storage.decide = lambda _: Pulled(4, 4, 1, len(content), page((4, content)))
    peer.send(request(">", 604))
    head = struct.pack(">BHI16sIBI", 2, 2104, 25 + len(content), BOB, 4, 3, len(content))
    assert peer.take(len(head) + len(content)) == head + content


@pytest.mark.parametrize("split", [1, 23, 39, 2000])
def test_a_padded_602_without_a_size_gets_the_key(gate: Gate, split: int) -> None:
    peer = gate.peer()
    padded = (UNSIZED + BOB).ljust(1024, b"\0")
    for start in range(0, len(padded), split):
        peer.send(padded[start : start + split])
        gate.turn()
    assert peer.take(1024) == (struct.pack("<BHI", 2, 2102, 176) + BOB + b"K" * 160).ljust(1024, b"\0")
    gate.turn_until(peer.is_ended)
    assert not peer.reset
    assert gate.storage.operations == [GetPublicKey(ALICE, False, BOB)]


@pytest.mark.parametrize("there", [0, 15, 22])
def test_where_its_id_stays_away_it_is_refused_after_a_moment(gate: Gate, there: int) -> None:
    peer = gate.peer()
    peer.send(UNSIZED + (BOB + bytes(7))[:there])
    gate.turns()
    gate.pass_time(0.5)
    peer.read()
    assert peer.received == b""
    gate.pass_time(1.0)
    assert peer.response() == (9000, b"")


def test_where_the_client_ends_its_side_it_is_refused_at_once(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(UNSIZED + BOB)
    peer.end()
    assert peer.response() == (9000, b"")
    assert gate.storage.operations == []
