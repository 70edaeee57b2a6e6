"""TLS on real sockets, under a gateway that is turned by hand: the handshake, records cut at every
byte, the ends, and what proves that mail arrived.
"""

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from common.client_protocol.requests import PublicKeyRequest, PullRequest, SendRequest, encode
from common.storage_protocol.operations import Operation, Outcome, Pull, Pulled, Release, Settle
from common.values import ClientId
from gateway.connection.session import Session
from gateway.connection.tls_transport import ServerTls, TlsTransport
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer, TlsPeer
from tests.gateway.mailbox import page
from tests.gateway.tls_peer import ClientTls, Records, server_tls

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
KEY_REQUEST = encode(PublicKeyRequest(ALICE, BOB))
PULL = PullRequest(ALICE)
SETTLED = Settle(1, ALICE, False, 4, 4)


def mail(operation: Operation) -> Outcome:
    return Pulled(4, 4, 1, 2, page((4, b"hi"))) if isinstance(operation, Pull) else default_decision(operation)


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    return server_tls(tmp_path)


@pytest.fixture
def make_gate(tmp_path: Path, tls: ServerTls) -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make(settings: Settings | None = None) -> Gate:
        gates.append(Gate(tmp_path, settings, tls))
        gates[-1].storage.decide = mail
        gates[-1].turn_until(lambda: gates[-1].link.facts is not None)
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[..., Gate]) -> Gate:
    return make_gate()


def sessions(gate: Gate) -> list[Session]:
    return [session for session in gate.context.sessions if isinstance(session, Session)]


def transport_of(gate: Gate) -> TlsTransport:
    (session,) = sessions(gate)
    assert isinstance(session.transport, TlsTransport)
    return session.transport


def told(gate: Gate) -> list[Operation]:
    return [operation for operation in gate.storage.operations if isinstance(operation, Settle | Release)]


def pull(gate: Gate, peer: Peer) -> None:
    peer.send(PULL)
    assert peer.response()[0] == 2104


def test_requests_are_answered_over_tls(gate: Gate, tls: ServerTls) -> None:
    peer = gate.tls_peer()
    peer.send(KEY_REQUEST)
    assert peer.response()[0] == 2102
    assert transport_of(gate).binding == tls.binding
    assert peer.client.tls.version() == "TLSv1.3"
    assert not len(gate.context.openings)
    assert not gate.context.holdings.size


def test_the_handshake_is_done_wherever_it_is_cut(gate: Gate) -> None:
    hello = ClientTls().to_send()
    for cut in range(1, len(hello)):
        peer = TlsPeer(gate)
        gate.peers.append(peer)
        client_hello = peer.client.to_send()
        peer.send_raw(client_hello[:cut])
        gate.turn_until(lambda cut=cut: transport_of(gate).held == cut if sessions(gate) else False)  # type: ignore[misc]
        peer.send_raw(client_hello[cut:])
        peer.shake_hands()
        assert peer.client.is_open
        peer.close()
        gate.turn_until(lambda: not sessions(gate))


def test_a_request_right_behind_the_handshake_is_heard_at_whatever_byte_it_is_cut(gate: Gate) -> None:
    finished_and_request = 0
    cut = 1
    while not finished_and_request or cut < finished_and_request:
        peer = TlsPeer(gate)
        gate.peers.append(peer)
        peer.send_raw(peer.client.to_send())

        def done(peer: TlsPeer = peer) -> bool:
            peer.read()
            return peer.client.is_open

        gate.turn_until(done)
        last = peer.client.to_send() + peer.client.record(KEY_REQUEST)
        finished_and_request = len(last)
        peer.send_raw(last[:cut])
        gate.turns(3)
        peer.send_raw(last[cut:])
        assert peer.response()[0] == 2102
        peer.close()
        cut += 1


def test_a_record_is_received_wherever_it_is_cut(gate: Gate) -> None:
    peer = gate.tls_peer()
    size = len(KEY_REQUEST) + 22
    for cut in range(1, size):
        record = peer.client.record(KEY_REQUEST)
        assert len(record) == size
        peer.send_raw(record[:cut])
        gate.turn_until(lambda: transport_of(gate).held > 0)
        assert transport_of(gate).held == cut
        assert transport_of(gate).input_waiting()
        peer.send_raw(record[cut:])
        assert peer.response()[0] == 2102
        gate.turns(3)
        assert transport_of(gate).held == 0
        assert not transport_of(gate).input_waiting()


def test_many_records_in_one_segment_are_all_received(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send_raw(b"".join([peer.client.record(KEY_REQUEST) for _ in range(200)]))
    for _ in range(200):
        assert peer.response()[0] == 2102


def test_a_request_in_records_of_one_byte(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send_raw(b"".join([peer.client.record(bytes([byte])) for byte in KEY_REQUEST]))
    assert peer.response()[0] == 2102


# --- evidence


def test_a_record_after_the_acknowledged_response_settles(gate: Gate) -> None:
    peer = gate.tls_peer()
    pull(gate, peer)
    gate.turn_until(gate.all_acknowledged)
    assert not told(gate)
    peer.send(KEY_REQUEST)
    assert peer.response()[0] == 2102
    gate.turn_until(lambda: told(gate) == [SETTLED])


def test_a_record_begun_before_the_response_settles_nothing_wherever_it_is_cut(gate: Gate) -> None:
    """The rest of it comes long after everything was acknowledged."""
    for cut in range(1, len(KEY_REQUEST) + 22):
        peer = gate.tls_peer()
        record = peer.client.record(encode(PULL))
        begun = peer.client.record(KEY_REQUEST)
        peer.send_raw(record + begun[:cut])
        assert peer.response()[0] == 2104
        gate.pass_time(1.0)
        peer.send_raw(begun[cut:])
        assert peer.response()[0] == 2102
        gate.turns(5)
        assert not told(gate), f"cut at {cut}"
        gate.turn_until(gate.all_acknowledged)
        peer.send(KEY_REQUEST)
        assert peer.response()[0] == 2102
        gate.turn_until(lambda: bool(told(gate)))
        assert [type(operation) for operation in told(gate)] == [Settle]
        gate.storage.operations.clear()
        peer.close()
        gate.turn_until(lambda: not sessions(gate))


def test_a_record_that_never_ends_proves_nothing_wherever_it_is_cut(gate: Gate) -> None:
    for cut in range(1, len(KEY_REQUEST) + 22):
        peer = gate.tls_peer()
        pull(gate, peer)
        gate.turn_until(gate.all_acknowledged)
        peer.send_raw(peer.client.record(KEY_REQUEST)[:cut])
        gate.turn_until(lambda: transport_of(gate).held > 0)
        gate.turns(3)
        assert not told(gate)
        peer.sock.shutdown(socket.SHUT_WR)
        gate.turn_until(lambda: not sessions(gate))
        gate.turn_until(lambda: bool(told(gate)))
        assert [type(operation) for operation in told(gate)] == [Release]
        gate.storage.operations.clear()
        peer.close()


def test_an_altered_record_proves_nothing(gate: Gate) -> None:
    peer = gate.tls_peer()
    pull(gate, peer)
    gate.turn_until(gate.all_acknowledged)
    record = bytearray(peer.client.record(KEY_REQUEST))
    record[20] ^= 1
    peer.send_raw(bytes(record))
    gate.turn_until(lambda: told(gate) == [Release(1)])
    assert not sessions(gate)


# --- ends


def end_in_order(peer: TlsPeer) -> None:
    peer.end()


def say_the_last_word_alone(peer: TlsPeer) -> None:
    peer.send_raw(peer.client.last_word())


def end_and_close(peer: TlsPeer) -> None:
    peer.end()
    peer.close()


def cut(peer: TlsPeer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)


def reset(peer: TlsPeer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def end_then_reset(peer: TlsPeer) -> None:
    peer.end()
    reset(peer)


@pytest.mark.parametrize("end", [end_in_order, say_the_last_word_alone, end_and_close])
def test_close_notify_is_an_end_in_order(gate: Gate, end: Callable[[TlsPeer], None]) -> None:
    peer = gate.tls_peer()
    pull(gate, peer)
    end(peer)
    gate.pass_time(1.9)
    assert not told(gate)
    gate.pass_time(1.0)
    assert told(gate) == [SETTLED]
    assert not sessions(gate)
    if end is not end_and_close:
        gate.turn_until(peer.is_ended)
        assert not peer.is_cut, "the client's close_notify is answered"
        assert not peer.reset


@pytest.mark.parametrize("end", [cut, reset, end_then_reset])
def test_an_end_without_close_notify_and_a_reset_release(gate: Gate, end: Callable[[TlsPeer], None]) -> None:
    peer = gate.tls_peer()
    pull(gate, peer)
    gate.turn_until(gate.all_acknowledged)
    end(peer)
    gate.pass_time(3.0)
    gate.turn_until(lambda: told(gate) == [Release(1)])
    assert not sessions(gate)


def test_close_notify_in_the_segment_of_the_last_request_is_heard(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send_raw(peer.client.record(KEY_REQUEST) + peer.client.last_word())
    assert peer.response()[0] == 2102
    gate.turn_until(peer.is_ended)
    assert not peer.is_cut
    assert not sessions(gate)


def test_a_client_that_unwraps_is_answered_with_close_notify(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send_raw(peer.client.last_word())
    gate.turn_until(peer.is_ended)
    assert peer.client.ended
    assert not peer.is_cut


def test_an_end_of_ours_is_close_notify_and_the_client_may_end_behind_it(gate: Gate) -> None:
    """The sixteenth malformed frame: the last answer, then our end."""
    peer = gate.tls_peer()
    bad = ALICE + struct.pack("<BHI", 2, 999, 0)
    peer.send(bad * 16)
    for _ in range(16):
        assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)
    assert not peer.is_cut
    assert len(sessions(gate)) == 1, "it drains"
    peer.end()
    gate.turn_until(lambda: not sessions(gate))
    assert not peer.reset


def test_stopping_ends_with_close_notify(gate: Gate) -> None:
    peer = gate.tls_peer()
    for session in sessions(gate):
        session.stop()
    gate.turn_until(peer.is_ended)
    assert not peer.is_cut


# --- writing


def test_a_response_is_whole_however_little_room_there_is(gate: Gate) -> None:
    content = bytes(range(256)) * 4000
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, len(content), page((4, content)))
        if isinstance(operation, Pull)
        else default_decision(operation)
    )
    peer = gate.tls_peer()
    transport_of(gate).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.send(PULL)
    gate.turns(30)
    code, payload = peer.response()
    assert code == 2104
    assert payload.endswith(content)
    gate.turn_until(lambda: transport_of(gate).unacknowledged() == 0)


# --- what strangers do


def test_plain_bytes_are_refused_with_one_line(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    peer = gate.peer()
    peer.send(KEY_REQUEST)
    gate.turn_until(peer.is_ended)
    assert not sessions(gate)
    assert [record.message for record in caplog.records] == [
        "a TLS handshake failed: the client does not speak TLS; plain TCP has a port of its own"
    ]
    assert not len(gate.context.openings)
    assert not gate.context.holdings.size


def test_tls_before_1_3_is_refused_with_an_alert(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    peer = gate.peer()
    client = ClientTls(ssl.TLSVersion.TLSv1_2)
    peer.send(client.to_send())
    gate.turn_until(peer.is_ended)
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        client.feed(peer.received)
    (record,) = caplog.records
    assert record.message == "a TLS handshake failed: UNSUPPORTED_PROTOCOL"


def test_a_handshake_that_is_garbage_or_too_long_is_refused(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for garbage in (b"\x16" * 100, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16\x03\x01\x40\x00" + bytes(70000)):
        peer = gate.peer()
        with suppress(OSError):
            peer.send(garbage)
        gate.turn_until(peer.is_ended)
    gate.turn_until(lambda: not sessions(gate))
    assert len(caplog.records) == 3
    assert all("TLS handshake failed" in record.message for record in caplog.records)


def test_a_handshake_has_ten_seconds_however_slowly_it_comes(gate: Gate) -> None:
    peer = TlsPeer(gate)
    gate.peers.append(peer)
    hello = peer.client.to_send()
    gate.turn_until(lambda: len(gate.context.openings) == 1)
    for at in range(9):
        peer.send_raw(hello[at : at + 1])
        gate.pass_time(1.0)
    assert sessions(gate)
    gate.pass_time(1.5)
    assert not sessions(gate)
    assert not len(gate.context.openings)
    assert not gate.context.holdings.size


def test_half_a_record_has_a_deadline_and_counts_as_memory(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send(KEY_REQUEST)
    assert peer.response()[0] == 2102
    record = peer.client.record(bytes(4000))
    peer.send_raw(record[:3000])
    gate.turn_until(lambda: transport_of(gate).held == 3000)
    gate.turns(3)
    assert gate.context.holdings.size == 3000
    gate.pass_time(29.0, 1.0)
    assert sessions(gate)
    gate.pass_time(2.0)
    assert not sessions(gate)
    assert not gate.context.holdings.size


def test_half_a_record_behind_a_run_of_sends_has_a_deadline(gate: Gate) -> None:
    peer = gate.tls_peer()
    for _ in range(3):
        peer.send(KEY_REQUEST)
        assert peer.response()[0] == 2102
    peer.send_raw(peer.client.record(KEY_REQUEST) + peer.client.record(KEY_REQUEST)[:30])
    assert peer.response()[0] == 2102
    gate.turns(3)
    assert sessions(gate)[0].deadline is not None
    gate.pass_time(31.0, 1.0)
    assert not sessions(gate)


def test_a_record_longer_than_any_ends_the_connection(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send_raw(b"\x17\x03\x03\xff\xff")
    gate.turn_until(lambda: not sessions(gate))


def test_a_large_record_leaves_no_large_buffer_behind(gate: Gate) -> None:
    """OpenSSL takes in what came of it while its rest is missing."""
    peer = gate.tls_peer()
    record = peer.client.record(bytes(16384))
    for at in range(0, len(record), 100):
        peer.send_raw(record[at : at + 100])
        gate.turns(1)
        assert transport_of(gate).unfed < 8192


def test_too_many_handshakes_cost_the_network_that_has_the_most(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(Settings(openings=3))
    first = [gate.peer() for _ in range(3)]
    gate.turn_until(lambda: len(gate.context.openings) == 3)
    late = gate.peer()
    gate.turns()
    assert not any(one.is_ended() for one in [*first, late]), "they have a second"
    late.close()
    gate.pass_time(1.5)
    peer = gate.tls_peer()
    peer.send(KEY_REQUEST)
    assert peer.response()[0] == 2102
    # One made room for him that had gone; his place was free for the last one.
    assert [one.is_ended() for one in first] == [True, False, False]


def test_one_turn_takes_few_steps_of_handshakes(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(Settings(openings_a_turn=2))
    peers = [TlsPeer(gate) for _ in range(7)]
    gate.peers += peers
    gate.turn_until(lambda: len(gate.context.openings) == 7)
    for peer in peers:
        peer.send_raw(peer.client.to_send())
    answered = 0
    while answered < 7:
        gate.turn()
        for peer in peers:
            peer.read()
        now = sum(peer.client.is_open for peer in peers)
        assert now - answered <= 2
        answered = now


def test_an_update_of_keys_is_followed(gate: Gate, tmp_path: Path) -> None:
    peer = gate.tls_peer(ClientTls(keys=tmp_path / "keys"))
    records = Records(tmp_path / "keys")
    for asks in (False, True):
        peer.send_raw(records.key_update(asks=asks) + records.record(KEY_REQUEST))
        assert peer.response()[0] == 2102
        for record in (records.key_update(asks=asks), records.record(b""), records.record(KEY_REQUEST)):
            peer.send_raw(record)
            gate.turns(3)
        assert peer.response()[0] == 2102
    assert not transport_of(gate).held


@pytest.mark.parametrize("kind", ["updates", "updates that ask", "empty records", "a byte among them"])
def test_many_records_that_carry_nothing_end_the_connection(gate: Gate, tmp_path: Path, kind: str) -> None:
    peer = gate.tls_peer(ClientTls(keys=tmp_path / "keys"))
    records = Records(tmp_path / "keys")
    sent = 0
    while sessions(gate) and sent < 200:
        if kind == "empty records":
            record = records.record(b"")
        elif kind == "a byte among them" and sent % 10 == 9:
            record = records.record(b"a")
        else:
            record = records.key_update(asks=kind == "updates that ask")
        with suppress(OSError):
            peer.sock.send(record)
        gate.turns(2)
        sent += 1
    assert not sessions(gate)
    assert 30 < sent < 60


def test_updates_that_ask_for_ours_are_bounded_whatever_is_among_them(gate: Gate, tmp_path: Path) -> None:
    """Each is answered, and the answers wait for what is written next, in nobody's budget."""
    peer = gate.tls_peer(ClientTls(keys=tmp_path / "keys"))
    records = Records(tmp_path / "keys")
    frame = encode(SendRequest(ALICE, BOB, 3, bytes(60_000)))
    asked = 0
    while sessions(gate) and asked < 300:
        with suppress(OSError):
            peer.sock.send(records.record(frame[asked : asked + 1]) + records.key_update(asks=True))
        gate.turns(2)
        asked += 1
    assert not sessions(gate)
    assert 50 < asked < 100


def test_updates_that_ask_for_ours_between_answers_are_followed(gate: Gate, tmp_path: Path) -> None:
    peer = gate.tls_peer(ClientTls(keys=tmp_path / "keys"))
    records = Records(tmp_path / "keys")
    for _ in range(200):
        peer.send_raw(records.record(KEY_REQUEST) + records.key_update(asks=True))
        assert peer.response()[0] == 2102


def test_empty_records_prove_nothing(gate: Gate, tmp_path: Path) -> None:
    peer = gate.tls_peer(ClientTls(keys=tmp_path / "keys"))
    records = Records(tmp_path / "keys")
    peer.send_raw(records.record(encode(PULL)))
    assert peer.response()[0] == 2104
    gate.turn_until(gate.all_acknowledged)
    for record in (records.record(b""), records.key_update(asks=False), records.key_update(asks=True)):
        peer.send_raw(record)
        gate.turns(5)
    assert not told(gate)
    peer.send_raw(records.record(KEY_REQUEST))
    assert peer.response()[0] == 2102
    gate.turn_until(lambda: told(gate) == [SETTLED])


def test_who_comes_while_we_are_behind_with_handshakes_waits_and_ends_nobody(make_gate: Callable[..., Gate]) -> None:
    """As after a restart, when all clients come back at once."""
    gate = make_gate(Settings(openings=12, openings_a_turn=1))
    peers = [TlsPeer(gate) for _ in range(60)]
    gate.peers += peers
    for peer in peers:
        peer.send_raw(peer.client.to_send())

    def all_open() -> bool:
        for peer in peers:
            if not peer.client.is_open:
                peer.read()
                peer.send_raw(peer.client.to_send())
        return all(peer.client.is_open for peer in peers)

    gate.turn_until(all_open)
    assert not any(peer.reset for peer in peers)
