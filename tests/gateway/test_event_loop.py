"""Cancelled timers are removed, and a descriptor's new owner gets no events of the old one."""

import os
import signal
import socket

import pytest

from common.client_protocol.requests import FetchRequest, PublicKeyRequest, encode
from gateway.event_loop import READABLE, EventLoop, SignalReceiver, Timers
from tests.gateway.authenticated import ALICE
from tests.gateway.harness import Clock, Gate


def test_cancelled_timers_take_no_more_room_than_the_others() -> None:
    timers = Timers()
    called: list[int] = []
    for number in range(10):
        timers.add(500.0 + number, lambda number=number: called.append(number))  # type: ignore[misc]
    for number in range(10_000):
        timers.add(float(number), lambda: called.append(-1)).cancel()
        assert len(timers) <= 2 * 10 + 130
    assert [timers.next_at] == [500.0]
    timers.run_due(504.0)
    assert called == [0, 1, 2, 3, 4]
    assert [timers.next_at] == [505.0]


def test_a_timer_that_is_cancelled_twice_or_after_its_call_counts_once() -> None:
    timers = Timers()
    kept = [timers.add(9.0, lambda: None) for _ in range(100)]
    done = timers.add(1.0, lambda: None)
    timers.run_due(1.0)
    for _ in range(1000):
        done.cancel()
        kept[0].cancel()
    assert [timers.cancelled] == [1]
    assert [timers.next_at] == [9.0]
    timers.run_due(9.0)
    assert timers.next_at is None
    assert [timers.cancelled] == [0]


def test_ended_waits_leave_no_timers(gate: Gate) -> None:
    peer = gate.peer()
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wait = encode(FetchRequest(ALICE, 0, 1000, 300))
    for _ in range(300):
        peer.send(wait)
        gate.turn_until(lambda: bool(gate.context.waiters.mailboxes))
        peer.send(encode(PublicKeyRequest(ALICE, ALICE)))
        assert peer.response()[0] == 2143
        assert peer.response()[0] == 2102
    assert len(gate.loop.timers) < 200


def test_a_descriptor_that_was_given_out_anew_hears_nothing_of_the_old_one() -> None:
    loop = EventLoop(Clock())
    heard: list[str] = []
    made: list[socket.socket] = []

    class Handler:
        def __init__(self, name: str, sock: socket.socket) -> None:
            self.name, self.sock = name, sock

        def ready(self, events: int) -> None:
            assert events
            heard.append(self.name)
            other = second if self is first else first
            if other.sock.fileno() == -1:
                return
            # As a listener that makes room: the other one goes, and somebody new gets its
            # descriptor.
            number = other.sock.fileno()
            loop.unregister(number)
            other.sock.close()
            new, _peer = fresh
            os.dup2(new.fileno(), number)
            made.append(socket.socket(fileno=number))
            loop.register(number, Handler("new", made[-1]), READABLE)

    pairs = [socket.socketpair() for _ in range(2)]
    fresh = socket.socketpair()
    first, second = [Handler(name, pair[0]) for name, pair in zip(("first", "second"), pairs, strict=True)]
    for handler in (first, second):
        loop.register(handler.sock.fileno(), handler, READABLE)
    for pair in pairs:
        pair[1].send(b"x")
    loop.turn(0)
    assert len(heard) == 1
    assert "new" not in heard
    fresh[1].send(b"x")
    loop.turn(0)
    assert "new" in heard
    loop.close()
    for sock in (*fresh, *made, *(sock for pair in pairs for sock in pair)):
        sock.close()


def test_a_failing_handler_ends_the_loop(gate: Gate) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    gate.loop.call_at(gate.clock.time, fail)
    with pytest.raises(ZeroDivisionError):
        gate.turn()


def test_a_hang_up_does_not_stop_the_loop() -> None:
    loop = EventLoop(Clock())
    signals = SignalReceiver(loop)
    to_send = [signal.SIGTERM, signal.SIGHUP, signal.SIGHUP]

    def send() -> None:
        number = to_send.pop()
        os.kill(os.getpid(), number)
        if number is signal.SIGHUP:
            loop.call_at(loop.now, send)

    loop.call_at(loop.now, send)
    try:
        loop.run()
    finally:
        signals.close()
        loop.close()
    assert not to_send
