"""The link over TCP, with real ZeroMQ: whose frames reach the worker, and whose do not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from common.data_folder import link_endpoint
from common.errors import SettingRejected
from common.link_address import LinkAddress, key_text
from common.link_keys import FOLDER, AllowedKeys, KeyPair, write_allowed
from common.storage_protocol.frames import Hello, Welcome, decode_to_gateway, encode_hello
from storage_worker.server.tcp_link import TcpLink, new_pair
from storage_worker.server.zmq_server import ZmqServer
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.worker_under_test import SqliteWorker
from torture.programs import free_port, wait_until

HELLO = encode_hello(Hello(0, b"i" * 16))


class Door:
    """A worker's socket with a TCP address, and gateways that come to it."""

    def __init__(self, worker: SqliteWorker, folder: Path, keys: KeyPair | None) -> None:
        self.folder = folder
        self.keys = keys
        self.address = LinkAddress("127.0.0.1", free_port())
        self.service = ZmqServer(
            worker.processor,
            worker.administration,
            link_endpoint(folder),
            lambda: worker.now_ms,
            lambda context, router: TcpLink(context, router, self.address, keys, AllowedKeys(folder)),
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def gateway(self, own: KeyPair | None = None, worker: bytes | None = None) -> "zmq.Socket[bytes]":
        """One that sends a greeting as soon as it is let in. `worker`: whose key it expects."""
        one = self._context.socket(zmq.DEALER)
        self._sockets.append(one)
        one.setsockopt(zmq.LINGER, 0)
        one.setsockopt(zmq.IMMEDIATE, 1)
        if own is not None:
            assert self.keys is not None
            one.setsockopt(zmq.CURVE_SERVERKEY, worker or self.keys.public)
            one.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
            one.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
        one.connect(self.address.endpoint)
        return one

    def turn_until(self, condition: Callable[[], object], what: str) -> None:
        def turned() -> object:
            self.service.turn()
            return condition()

        wait_until(turned, what)

    def is_welcomed(self, gateway: "zmq.Socket[bytes]") -> bool:
        self.turn_until(lambda: gateway.poll(0, zmq.POLLOUT), "a connection")
        gateway.send(HELLO)
        self.turn_until(lambda: gateway.poll(0), "an answer")
        return isinstance(decode_to_gateway(gateway.recv()), Welcome)

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        self._context.term()
        self.service.close()


@pytest.fixture
def door(worker: SqliteWorker, tmp_path: Path) -> Iterator[Door]:
    door = Door(worker, tmp_path, new_pair())
    yield door
    door.close()


def test_a_gateway_whose_key_is_allowed_is_served(door: Door) -> None:
    own = new_pair()
    write_allowed(door.folder, {own.public: "one"})
    assert door.is_welcomed(door.gateway(own))


def test_who_is_on_the_same_machine_needs_no_key(door: Door) -> None:
    with FakeGateway(door.folder) as gateway:
        gateway.send(HELLO)
        door.turn_until(lambda: gateway.socket.poll(0), "an answer")
        assert isinstance(gateway.receive(), Welcome)


def test_nothing_of_a_key_that_is_not_allowed_passes(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    own = new_pair()
    write_allowed(door.folder, {new_pair().public: "another one"})
    gateway = door.gateway(own)
    sentence = f"refused: its key {key_text(own.public)} is not allowed"
    door.turn_until(lambda: sentence in caplog.text, "the line of the log")
    assert not gateway.poll(0, zmq.POLLOUT), "it has no connection that would take a frame"
    # Allowed later, without a start: the next connection is served.
    write_allowed(door.folder, {own.public: "this one"})
    assert door.is_welcomed(door.gateway(own))


def test_nothing_passes_to_or_from_who_knows_another_key_of_the_worker(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    own = new_pair()
    write_allowed(door.folder, {own.public: ""})
    gateway = door.gateway(own, worker=new_pair().public)
    door.turn_until(lambda: "a connection to --link was refused" in caplog.text, "the line")
    assert not gateway.poll(0, zmq.POLLOUT)
    assert not gateway.poll(0)


def test_nothing_passes_in_plain(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    gateway = door.gateway()
    door.turn_until(lambda: "a connection to --link was refused" in caplog.text, "the line")
    assert not gateway.poll(0, zmq.POLLOUT)
    assert not gateway.poll(0)


def test_an_unusable_list_lets_nobody_in(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    own = new_pair()
    write_allowed(door.folder, {own.public: ""})
    (door.folder / FOLDER / "allowed").chmod(0o644)
    gateway = door.gateway(own)
    door.turn_until(lambda: "no gateway is let in: others can read" in caplog.text, "the line")
    assert not gateway.poll(0, zmq.POLLOUT)


def test_without_keys_the_loopback_alone(worker: SqliteWorker, tmp_path: Path) -> None:
    door = Door(worker, tmp_path, None)
    try:
        assert door.is_welcomed(door.gateway())
    finally:
        door.close()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        for host in ("0.0.0.0", "::", "10.0.0.5"):
            with pytest.raises(SettingRejected, match="other machines could reach it, and this worker has no key"):
                TcpLink(context, router, LinkAddress(host, 1360), None, frozenset)
    context.term()


def test_an_address_that_is_taken_is_a_sentence(door: Door, worker: SqliteWorker, tmp_path: Path) -> None:
    with pytest.raises(SettingRejected, match="can't be bound"):
        ZmqServer(
            worker.processor,
            worker.administration,
            link_endpoint(tmp_path),
            lambda: worker.now_ms,
            lambda context, router: TcpLink(context, router, door.address, None, frozenset),
        )


def test_a_key_never_begins_as_an_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    dashed, plain = bytes([0xFB]) + bytes(31), bytes(32)
    assert key_text(dashed).startswith("-")
    pairs = iter([(z85.encode(dashed), z85.encode(dashed)), (z85.encode(plain), z85.encode(dashed))])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs))
    assert new_pair() == KeyPair(plain, dashed)
