"""A server that sends a trickle is given up after an exact time of waiting; a slow line
never is.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.connection import server_link
from client.connection.pace import LEAST, WITHIN, Pace
from client.connection.server_link import ServerLink
from client.errors import InvalidServerResponse, OutcomeUnknown, ServerUnreachable
from common.client_protocol import responses
from common.client_protocol.client_connection import ContentPart, ListEnd
from common.client_protocol.requests import LargeSendRequest, PublicKeyRequest, PullRequest, Request
from common.client_protocol.responses import ResponseCode
from common.server_address import ServerAddress
from common.values import ClientId, MessageKind
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent.parent
ME, BOB = ClientId(b"\x01" * 16), ClientId(b"\x02" * 16)
PULL = PullRequest(ME)
TOO_SLOW = r"fewer than 4,096 bytes passed in 60 s"


class TestPace:
    def test_a_trickle_is_over_after_so_much_waiting(self) -> None:
        pace = Pace()
        for waited in range(60):
            assert pace.left == 60 - waited
            pace.waited(1.0)
            pace.passed(1)
        assert pace.left == 0

    def test_the_least_is_enough_for_ever(self) -> None:
        pace = Pace()
        for _ in range(1000):
            pace.waited(59.0)
            assert pace.left == 1
            pace.passed(LEAST - 1)
            assert pace.left == 1
            pace.passed(1)
            assert pace.left == WITHIN

    def test_a_burst_pays_for_its_own_window_alone(self) -> None:
        pace = Pace()
        pace.passed(1 << 30)
        pace.waited(WITHIN)
        assert pace.left == 0

    def test_what_begins_has_all_the_time(self) -> None:
        pace = Pace()
        pace.passed(LEAST - 1)
        pace.waited(59.0)
        pace.begin()
        pace.waited(59.0)
        pace.passed(1)
        assert pace.left == 1


Act = Callable[[socket.socket], "float | None"]
"""What happens in one wait, on the server's side: gives how many seconds it took until something
came; None where the client waits in vain."""


class Line:
    """A connection over which a server acts once in each wait of the client's. The clock is the
    client's own; no real time passes.
    """

    def __init__(self, act: Act) -> None:
        self.now = 1000.0
        self.waits = 0
        self._act = act
        self._peer: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        # So little that what is sent soon waits.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.link = ServerLink(ServerAddress("127.0.0.1", self._listener.getsockname()[1]), monotonic=lambda: self.now)
        self._real_poll = self.link.poll
        self.link.poll = self._poll  # type: ignore[method-assign]

    def _poll(self, wanted: int, timeout: float) -> int:
        if not timeout:
            return self._real_poll(wanted, 0)
        if self._peer is None:
            self._peer, _ = self._listener.accept()
        if wanted & select.POLLOUT and self._real_poll(wanted, 0):
            # There is room: nothing to be waited for.
            return self._real_poll(wanted, 0)
        self.waits += 1
        seconds = self._act(self._peer)
        self.now += timeout if seconds is None else seconds
        return 0 if seconds is None else self._real_poll(wanted, HANG_SECONDS)

    def close(self) -> None:
        self.link.close()
        self._listener.close()
        if self._peer is not None:
            self._peer.close()


@contextmanager
def over(act: Act) -> Iterator[Line]:
    line = Line(act)
    try:
        yield line
    finally:
        line.close()


def sends(content: Iterator[bytes], seconds: float = 1.0) -> Act:
    def act(peer: socket.socket) -> float | None:
        data = next(content, b"")
        peer.sendall(data)
        return seconds if data else None

    return act


def one_by_one(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1] for at in range(len(content)))


MESSAGE = struct.pack("<16sIBI", BOB, 1, MessageKind.TEXT, 1 << 30)
ENDLESS = responses.encode_head(ResponseCode.WAITING, len(MESSAGE) + (1 << 30)) + MESSAGE + bytes(1 << 20)


def test_a_list_that_drips() -> None:
    with over(sends(one_by_one(ENDLESS))) as line:
        with pytest.raises(OutcomeUnknown, match=TOO_SLOW):
            list(line.link.ask_list(PULL))
        # The first byte begins it.
        assert line.waits == 61
        assert not line.link.is_open()


@pytest.mark.parametrize("request_", [PublicKeyRequest(ME, BOB), PULL])
def test_a_header_that_drips(request_: Request) -> None:
    """A byte comes before each silence would be over."""
    with over(sends(one_by_one(ENDLESS), 50.0)) as line, pytest.raises(OutcomeUnknown, match=TOO_SLOW):
        list(line.link.ask_list(request_))
    assert line.waits == 3


def test_the_time_a_server_may_take_does_not_count() -> None:
    answer = responses.encode_head(ResponseCode.WAITING, 0)
    what = iter([(answer[:5], 299.0), (answer[5:6], 59.0), (answer[6:], 0.5)])

    def act(peer: socket.socket) -> float:
        data, seconds = next(what)
        peer.sendall(data)
        return seconds

    with over(act) as line:
        assert list(line.link.ask_list(PULL, silence=300.0))[-1] == ListEnd()


@pytest.mark.parametrize("pause", [1.0, 59.0])
def test_a_slow_line_is_never_given_up(pause: float) -> None:
    size = 200 * LEAST
    head = responses.encode_head(ResponseCode.WAITING, len(MESSAGE) + size)
    content = head + struct.pack("<16sIBI", BOB, 1, MessageKind.TEXT, size) + bytes(size)
    step = LEAST if pause > 1 else LEAST // 59
    parts = (content[at : at + step] for at in range(0, len(content), step))
    with over(sends(parts, pause)) as line:
        events = list(line.link.ask_list(PULL))
        assert sum(len(event.data) for event in events if isinstance(event, ContentPart)) == size
        assert line.now - 1000 > 10_000


def test_what_a_person_takes_between_two_messages_does_not_count() -> None:
    with over(sends(one_by_one(ENDLESS))) as line:
        received = 0
        with pytest.raises(OutcomeUnknown, match=TOO_SLOW):
            for _ in line.link.ask_list(PULL):
                received += 1
                line.now += 3600.0
    assert received > 1
    assert line.waits == 61


def test_what_can_not_be_parsed_and_drips() -> None:
    broken = responses.encode_head(ResponseCode.WAITING, 1 << 30) + struct.pack("<16sIBI", BOB, 1, 3, (1 << 32) - 1)
    with over(sends(iter([broken, *one_by_one(bytes(1000))]), 4.0)) as line:
        with pytest.raises(InvalidServerResponse):
            list(line.link.ask_list(PULL, salvage=True))
        assert line.waits == 1 + 15


def test_a_server_that_takes_a_trickle() -> None:
    """It reads so little that what its TCP acknowledges is soon too little."""
    with over(lambda _: None) as line:
        request = LargeSendRequest(ME, BOB, MessageKind.FILE, 1 << 30)
        with pytest.raises(ServerUnreachable, match=TOO_SLOW) as caught:
            line.link.reply_timeout = 1000.0
            line.link.ask(request, iter(lambda: bytes(1 << 16), b""))
        assert "Nothing was done" in caught.value.advice
        assert line.now - 1000 < 2 * WITHIN


def test_what_is_on_its_way_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is written, and the line takes it slowly: the answer may come long after the
    silence would be over.
    """
    size = 1 << 16
    got = 0

    def act(peer: socket.socket) -> float | None:
        nonlocal got
        if got < size:
            got += len(peer.recv(LEAST))
            return None
        peer.sendall(responses.ERROR)
        return 0.0

    with over(act) as line:
        line.link.reply_timeout = 5.0
        acknowledged = iter(range(0, 1 << 30, LEAST // 4))
        monkeypatch.setattr(server_link, "unacknowledged", lambda _: max(0, size - next(acknowledged)))
        assert line.link.ask(LargeSendRequest(ME, BOB, MessageKind.FILE, size), iter([bytes(size)]))
        assert line.now - 1000 > 10


def test_a_frozen_clock_hangs_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ServerAddress("127.0.0.1", listener.getsockname()[1])
        link = ServerLink(address, reply_timeout=0.05, monotonic=lambda: 7.0)
        with pytest.raises(OutcomeUnknown, match="silence"):
            link.ask(PublicKeyRequest(ME, BOB))


def test_ctrl_c_is_heard_at_once_while_it_drips(tmp_path: Path) -> None:
    """The drip goes on until the client is gone: nothing but the signal ends it."""
    dripped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listener.accept()
        with peer, listener:
            peer.recv(65536)
            try:
                for byte in one_by_one(ENDLESS):
                    peer.sendall(byte)
                    dripped.set()
            except OSError:
                return

    server = threading.Thread(target=drip)
    server.start()
    program = (
        "import sys; from client.terminal import sigint; from client.connection.server_link import ServerLink\n"
        "from common.info_files import ServerAddress; from common.values import ClientId\n"
        "from common.client_protocol.requests import PullRequest\n"
        "sigint.install()\n"
        "link = ServerLink(ServerAddress('127.0.0.1', int(sys.argv[1])))\n"
        "try: list(link.ask_list(PullRequest(ClientId(bytes(16)))))\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    client = subprocess.Popen([sys.executable, "-c", program, str(listener.getsockname()[1])], cwd=ROOT)
    assert dripped.wait(HANG_SECONDS)
    os.kill(client.pid, signal.SIGINT)
    assert client.wait(HANG_SECONDS) == 130
    server.join(HANG_SECONDS)
    assert not server.is_alive()
