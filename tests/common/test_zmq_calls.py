"""The short calls of ZeroMQ's sockets, over inproc: they do what the long ones do."""

import os
from collections.abc import Iterator

import pytest
import zmq

from common.errors import FrameUndecodable
from common.zmq_calls import LARGE_FRAME, ZmqCalls, wait

Socket = zmq.Socket[bytes]


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    """A ROUTER and a DEALER that is connected to it as "me"."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, b"me")
        router.bind("inproc://link")
        dealer.connect("inproc://link")
        yield router, dealer


@pytest.mark.parametrize("size", [0, 1, LARGE_FRAME - 1, LARGE_FRAME, 5 * LARGE_FRAME])
def test_a_frame_goes_there_and_back(pair: tuple[Socket, Socket], size: int) -> None:
    worker, gateway = map(ZmqCalls, pair)
    frame = os.urandom(size)
    assert not worker.has_input()
    gateway.send(frame)
    assert worker.has_input()
    assert worker.receive_routed() == (b"me", frame)
    assert not worker.has_input()
    worker.send_routed(b"me", frame + b"!")
    assert gateway.has_input()
    assert gateway.receive() == frame + b"!"
    assert not gateway.has_input()


def test_a_message_of_several_frames_is_taken_off_whole_and_reported(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    worker, gateway = map(ZmqCalls, pair)
    dealer.send_multipart([b"one", b"two", b"three"])
    gateway.send(b"next")
    with pytest.raises(FrameUndecodable, match="3 parts instead of one"):
        worker.receive_routed()
    assert worker.receive_routed() == (b"me", b"next")
    router.send_multipart([b"me", b"one", b"two"])
    with pytest.raises(FrameUndecodable, match="2 parts instead of one"):
        gateway.receive()
    assert not gateway.has_input()


def test_nothing_waits_and_errors_are_those_of_zeromq(pair: tuple[Socket, Socket]) -> None:
    worker, gateway = map(ZmqCalls, pair)
    with pytest.raises(zmq.Again):
        gateway.receive()
    with pytest.raises(zmq.ZMQError, match="unreachable"):
        worker.send_routed(b"nobody", b"frame")
    # What was not sent leaves nothing behind.
    worker.send_routed(b"me", b"frame")
    assert gateway.receive() == b"frame"


def test_what_is_waited_for_may_be_sockets_and_descriptors(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    readable, writable = os.pipe()
    try:
        items: list[tuple[Socket | int, int]] = [(router, zmq.POLLIN), (readable, zmq.POLLIN)]
        assert wait(items, 0) == set()
        os.write(writable, b"x")
        assert wait(items, None) == {readable}
        dealer.send(b"frame")
        assert wait(items, None) == {router, readable}
    finally:
        os.close(readable)
        os.close(writable)
