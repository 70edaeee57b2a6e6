"""Answers on their way out: one write a turn, in order, and what was not taken goes first."""

import pytest

from gateway.connection.output import Output
from gateway.counts import Counts
from tests.gateway.connection.memory_transport import PLENTY, MemoryTransport


@pytest.fixture
def peer() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def output(peer: MemoryTransport) -> Output:
    return Output(peer, Counts())


def test_what_was_said_in_a_turn_is_one_write(peer: MemoryTransport, output: Output) -> None:
    sizes: list[int] = []
    send = peer.send

    def counted(data: bytes | memoryview, /) -> int:
        sizes.append(len(data))
        return send(data)

    peer.send = counted  # type: ignore[method-assign]
    assert not output.write()
    assert sizes == []
    output.say(b"one")
    output.say(b"three")
    assert output.said == 8
    assert not output.write()
    assert sizes == [8]
    assert (peer.take(), output.unsent, output.said) == (b"onethree", None, 8)


def test_what_was_not_taken_goes_before_what_was_said_later(peer: MemoryTransport, output: Output) -> None:
    peer.room = 2
    output.say(b"first")
    assert output.write()
    assert output.unsent_size == 5
    output.say(b"second")
    assert not output.write(), "only the first time is news"
    assert peer.take() == b"fi"
    assert output.unsent_size == len(b"rstsecond")
    assert not output.write_more(), "there is no room"
    peer.room = 4
    assert output.write_more()
    assert output.unsent is not None
    assert bytes(output.unsent) == b"econd"
    peer.room = PLENTY
    assert output.write_more()
    assert (peer.take(), output.unsent_size) == (b"rstsecond", 0)
    assert not output.write_more(), "nothing is left"
    assert output.said == 11


def test_a_broken_connection_is_an_error(peer: MemoryTransport, output: Output) -> None:
    peer.break_off()
    output.say(b"first")
    with pytest.raises(ConnectionResetError):
        output.write()


def test_a_big_endian_client_gets_its_numbers_turned(peer: MemoryTransport, output: Output) -> None:
    output.turn_big_endian()
    output.say(bytes([2]) + (9000).to_bytes(2, "little") + bytes(4))
    assert not output.write()
    assert peer.take() == bytes([2]) + (9000).to_bytes(2, "big") + bytes(4)


def test_what_is_dropped_is_not_written(peer: MemoryTransport, output: Output) -> None:
    peer.room = 1
    output.say(b"first")
    output.write()
    output.say(b"second")
    output.drop()
    peer.room = PLENTY
    assert not output.write()
    assert not output.write_more()
    assert (peer.take(), output.unsent_size) == (b"f", 0)
