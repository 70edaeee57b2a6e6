"""The listening socket: addresses that can't be used, no descriptors left, and who reaches it."""

import errno
import socket

import pytest

from common.errors import SettingRejected
from gateway.addresses import Place
from gateway.listener import Listener, is_reached_by_others, open_listener, open_listeners
from tests.gateway.every_kind import EVERY_KIND
from tests.gateway.harness import Gate


class NoMoreDescriptors:
    """A listening socket for which there is no descriptor, once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failures = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            raise self.failures.pop()
        return self._sock.accept()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


def test_without_descriptors_new_connections_wait(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    listening = open_listener("127.0.0.1", 0)
    gate.port = listening.getsockname()[1]
    failing = NoMoreDescriptors(listening)
    listener = Listener(failing, gate.context)  # type: ignore[arg-type]
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: not failing.failures)
    gate.turns()
    assert "Too many open files" in caplog.text
    gate.pass_time(1)
    assert peer.response()[0] == 2103
    listener.close()


def test_an_address_that_is_taken_is_named(gate: Gate) -> None:
    with pytest.raises(SettingRejected, match=str(gate.port)):
        open_listener("127.0.0.1", gate.port)
    with pytest.raises(SettingRejected, match="no such host"):
        open_listener("no such host", 1)


class Listening:
    """As much of a listening socket as says where it listens."""

    def __init__(self, address: str) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address, 1357


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("127.0.0.1", False),
        ("127.8.9.10", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("::ffff:10.0.0.1", True),
        ("fe80::1%eth0", True),
        ("192.168.1.5", True),
    ],
)
def test_whether_others_reach_it_is_known_by_the_address(address: str, *, is_open: bool) -> None:
    assert is_reached_by_others(Listening(address)) is is_open  # type: ignore[arg-type]


def test_a_real_listener_on_this_machine_is_not_open() -> None:
    with open_listener("localhost", 0) as listener:
        assert not is_reached_by_others(listener)


def test_other_machines_reach_a_plain_address_only_where_that_is_allowed() -> None:
    with pytest.raises(SettingRejected) as refused:
        open_listeners([Place(False, "127.0.0.1", 0), Place(False, "0.0.0.0", 0)], allow_plain=False)
    assert str(refused.value) == (
        "other machines would reach 0.0.0.0:0 without TLS: `--tls-listen 0.0.0.0:0` encrypts; `--allow-plain`"
        " permits it, for when something in front encrypts"
    )
    for places, allow_plain in (
        ([Place(False, "0.0.0.0", 0), Place(False, "::", 0)], True),
        ([Place(False, "127.0.0.1", 0), Place(True, "0.0.0.0", 0), Place(False, "::1", 0)], False),
    ):
        opened = open_listeners(places, allow_plain=allow_plain)
        assert [place for place, _sock in opened] == places
        for _place, sock in opened:
            sock.close()


def test_every_address_of_ipv6_is_every_one_of_ipv4_too() -> None:
    with open_listener("::", 0) as listening:
        port = listening.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()
