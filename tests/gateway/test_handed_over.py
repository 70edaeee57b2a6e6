"""Sockets that a service manager opened are taken where an option names their address."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common.client_protocol.requests import PublicKeyRequest
from common.client_protocol.responses import ErrorResponse
from common.errors import SettingRejected
from common.values import NO_CLIENT
from gateway.addresses import Place
from gateway.handed_over import handed_over
from gateway.listener import open_listeners
from torture.caller import Caller
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

PROCESS = 4711


def environment(count: str, process: int = PROCESS) -> dict[str, str]:
    return {"LISTEN_PID": str(process), "LISTEN_FDS": count}


def test_one_is_taken_where_an_option_names_its_address() -> None:
    theirs = socket.create_server(("127.0.0.1", 0))
    port = theirs.getsockname()[1]
    [taken] = handed_over(environment("1"), PROCESS, first=theirs.detach())
    assert not taken.get_inheritable()
    places = [Place(False, "127.0.0.1", 0), Place(True, "127.0.0.1", port)]
    [(_, own), (_, used)] = open_listeners(places, allow_plain=False, handed_over=[taken])
    assert used is taken
    assert own.getsockname()[1] != port
    assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not used.getblocking()
    own.close()
    used.close()


def test_one_at_every_address_is_taken_with_ipv6() -> None:
    theirs = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = theirs.getsockname()[1]
    [(_, used)] = open_listeners([Place(True, "::", port)], allow_plain=False, handed_over=[theirs])
    assert used is theirs
    socket.create_connection(("127.0.0.1", port)).close()
    used.close()


def test_one_that_no_option_names_is_refused() -> None:
    theirs = socket.create_server(("127.0.0.1", 0))
    port = theirs.getsockname()[1]
    with pytest.raises(SettingRejected, match=f"hands over 127.0.0.1:{port}, where no option says to listen"):
        open_listeners([Place(False, "127.0.0.1", 0)], allow_plain=False, handed_over=[theirs])
    assert theirs.fileno() == -1


def test_one_that_others_reach_in_plain_is_refused() -> None:
    theirs = socket.create_server(("0.0.0.0", 0))
    port = theirs.getsockname()[1]
    with pytest.raises(SettingRejected, match="without TLS"):
        open_listeners([Place(False, "0.0.0.0", port)], allow_plain=False, handed_over=[theirs])
    assert theirs.fileno() == -1


@pytest.mark.parametrize("given", [{}, environment("1", PROCESS + 1), {"LISTEN_FDS": "1"}, environment("0")])
def test_what_is_for_others_is_left_alone(given: dict[str, str]) -> None:
    assert handed_over(given, PROCESS) == []


@pytest.mark.parametrize("count", ["", "-1", "many", "1000000"])
def test_a_senseless_count_is_refused(count: str) -> None:
    with pytest.raises(SettingRejected, match="LISTEN_FDS is "):
        handed_over(environment(count), PROCESS)


def test_what_does_not_listen_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(SettingRejected, match="is no socket"):
        handed_over(environment("1"), PROCESS, first=file.fileno())
    one, other = socket.socketpair()
    descriptor = one.detach()
    with other, pytest.raises(SettingRejected, match=f"{descriptor}, of LISTEN_FDS, is not a listening TCP socket"):
        handed_over(environment("1"), PROCESS, first=descriptor)


def test_a_client_that_came_before_the_gateway_is_served(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server, socket.create_server(("127.0.0.1", 0)) as theirs:
        server.worker.start()
        port, number = theirs.getsockname()[1], theirs.fileno()
        with Caller(port) as caller:
            caller.post(PublicKeyRequest(NO_CLIENT, NO_CLIENT))
            # As a service manager does it: the socket is descriptor 3, the process is the shell's.
            started = subprocess.Popen(
                ["bash", "-c", f'exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "-",
                 sys.executable, "-P", "-m", "gateway", "--listen", f"127.0.0.1:{port}"],
                cwd=server.folder, env={**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_DATA": str(server.data)},
                pass_fds=[number],
            )  # fmt: skip
            try:
                assert isinstance(caller.event(), ErrorResponse)
            finally:
                started.terminate()
                assert started.wait(HANG_SECONDS) == 0
