"""Homes, keys and servers for the client's tests."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from client.connection.handshake import if_registered_here
from client.crypto.ciphers import PrivateKey
from client.messenger import KeyReceived, Messenger
from client.open_home import OpenHome
from client.store.home_store import Store
from common.server_address import ServerAddress
from tests.client.exchange import receive
from tests.client.fake_gateway import (
    FakeGateway,
    Mailroom,
)
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.connection.handshake import Consent
    from client.open_home import Clock
    from common.server_address import ServerAddress


NOW = 1_700_000_000.0


@pytest.fixture(scope="session")
def private_keys() -> list[PrivateKey]:
    """A few real keys: making one takes a noticeable time."""
    return [PrivateKey.generate(os.urandom) for _ in range(3)]


@pytest.fixture
def private_key(private_keys: list[PrivateKey]) -> PrivateKey:
    return private_keys[0]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys from passphrases at 1 part in 4096 of their cost: some tests derive hundreds."""
    monkeypatch.setattr("client.crypto.sealed_storage.SCRYPT_COST", 16)
    monkeypatch.setattr("client.crypto.ciphers.SCRYPT_COST", 16)


@pytest.fixture
def mailroom(request: pytest.FixtureRequest) -> Mailroom:
    """What the server has: part 1 of the protocol alone, or what `@pytest.mark.mailroom` names."""
    marker = request.node.get_closest_marker("mailroom")
    kind: type[Mailroom] = marker.kwargs["kind"] if marker is not None else Mailroom
    return kind()


@pytest.fixture
def gateway(mailroom: Mailroom) -> Iterator[FakeGateway]:
    with FakeGateway(mailroom) as fake:
        yield fake


class Told(list[str]):
    """What a messenger told."""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def make(
    tmp_path: Path,
    private_keys: list[PrivateKey],
    gateway: FakeGateway,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Messenger]]:
    """Open homes by name; every messenger is closed at the end."""
    # The servers of these tests keep their connections: nothing is to be waited for.
    monkeypatch.setattr("client.connection.server_link.CLOSING_GRACE", 0.001)
    opened: list[Messenger] = []
    keys = itertools.cycle(private_keys)

    def open_home(
        name: str,
        server: ServerAddress = gateway.address,
        reply_timeout: float = HANG_SECONDS,
        consent: Consent = if_registered_here,
        clock: Clock = lambda: NOW,
        monotonic: Clock | None = None,
        save_dir: Path = tmp_path / "saved",
        *,
        suite_1: bool = True,
    ) -> Messenger:
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        messenger = Messenger(
            OpenHome(
                home,
                server,
                Store.open(home),
                save_dir=save_dir,
                consent=consent,
                tell=told.append,
                clock=clock,
                monotonic=monotonic or clock,
                new_private_key=lambda _: next(keys),
                reply_timeout=reply_timeout,
                pauses=(0.0, 0.0),
                suite_1=suite_1,
            )
        )
        opened.append(messenger)
        return messenger

    yield open_home
    for messenger in opened:
        messenger.close()


@pytest.fixture
def alice(make: Callable[..., Messenger]) -> Messenger:
    messenger = make("alice")
    messenger.register("alice")
    return messenger


@pytest.fixture
def bob(make: Callable[..., Messenger]) -> Messenger:
    messenger = make("bob")
    messenger.register("bob")
    return messenger


@pytest.fixture
def pair(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> tuple[Messenger, Messenger]:
    alice.fetch_public_key("bob")
    alice.send_key("bob")
    assert receive(bob) == [KeyReceived()]
    bob.users()
    gateway.requests.clear()
    return alice, bob
