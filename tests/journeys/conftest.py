"""The real programs, for each test that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.journeys.consoles import Console
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class MakeServer(Protocol):
    """Makes a server that has not been started; it ends with the test."""

    def __call__(self, *, kept: bool = False) -> Server: ...


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    servers: list[Server] = []

    def make(*, kept: bool = False) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}", kept=kept))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server().start()


class OpenConsole(Protocol):
    """Starts the client for a user's home; it ends with the test."""

    def __call__(self, server: Server, name: str, *, terminal: bool = False) -> Console: ...


@pytest.fixture
def open_console(tmp_path: Path) -> Iterator[OpenConsole]:
    consoles: list[Console] = []

    def make(server: Server, name: str, *, terminal: bool = False) -> Console:
        consoles.append(Console(tmp_path / name, server.port, terminal=terminal))
        return consoles[-1]

    yield make
    for console in consoles:
        console.end()
