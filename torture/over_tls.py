"""Drills: records of TLS that come in halves, cut at every byte, while mail is handed out; somebody
between client and server who forwards proofs.

Owns: both ends of the cut, and the one between. Promises: mail whose client had nothing but the
bytes in its kernel comes again, whatever half of a record it had sent; mail that was read is not
repeated. A forwarded proof that is accepted fails the drill, and so does one over plain TCP that is
not: it is what TLS keeps out.
Exposure: none.

    half of the next request's record   what the client does then          its mail
    ─────────────────────────────────   ────────────────────────────────   ──────────────
    before the answer came              sends the rest, long after; dies   comes again
    after it read the answer            sends the rest                     is settled
    after the answer came               ends TCP without close_notify      comes again
    after the answer came               is reset                           comes again
"""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from common.client_protocol.requests import PublicKeyRequest, PullRequest, encode
from gateway.certificate import current, server_context
from torture.caller import Account, Caller, Refused, TlsCaller, new_account, persistently
from torture.checker import judge
from torture.drill import Place, Row, say
from torture.drill_messages import DrillMessage, parse_content
from torture.patience import HANG_SECONDS
from torture.programs import ProgramFailed, Server, free_port, wait_until

HALVES: Final = "half-records"
MIDDLEMAN: Final = "middleman"
_FULL_PROOFS: Final = 1_000
_QUICK_PROOFS: Final = 40
_QUICK_STEP: Final = 12
_SEEN_ACKNOWLEDGED: Final = 0.02
_SURELY_SEEN: Final = 0.6
"""Longer than the gateway ever takes to look at an answer's acknowledgement once more. Who asks
sooner, without a segment for each, gets mail again, which is no fault.
"""
_COMES_AGAIN_WITHIN: Final = 15.0
_RESET: Final = struct.pack("ii", 1, 0)
_READ_SIZE: Final = 65536


class _Pipe:
    """What a `Caller` does with its socket, over TLS whose bytes are in our hands."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._until_done(self._tls.do_handshake)
        self.sock.sendall(self._outgoing.read())

    def _until_done(self, step: Callable[[], object]) -> object:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                data = self.sock.recv(_READ_SIZE)
                if not data:
                    raise ConnectionResetError("the server ended the connection") from None
                self._incoming.write(data)

    def record(self, data: bytes) -> bytes:
        """The record that carries `data`."""
        self._tls.write(data)
        return self._outgoing.read()

    def sendall(self, data: bytes) -> None:
        """Send one record."""
        self.sock.sendall(self.record(data))

    def recv(self, size: int) -> bytes:
        """Payload."""
        data = self._until_done(lambda: self._tls.read(size))
        assert isinstance(data, bytes)
        return data

    def settimeout(self, seconds: float) -> None:
        """As a socket's."""
        self.sock.settimeout(seconds)

    def close(self) -> None:
        """As a socket's: without close_notify."""
        self.sock.close()


class _HalfCaller(Caller):
    """A client that sends records in two pieces."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.pipe = _Pipe(self.socket)
        self.socket = self.pipe  # type: ignore[assignment]

    def reset(self) -> None:
        """End with a reset, as a process does that dies with unread bytes."""
        self.pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()


class _Half(StrEnum):
    BEFORE_THE_ANSWER = "before the answer"
    AFTER_READING = "after reading"
    THEN_AN_END = "then an end"
    THEN_A_RESET = "then a reset"


class _Halves:
    """One mailbox, a sender, and what came out of the mailbox."""

    def __init__(self, server: Server, tls_port: int) -> None:
        self._port, self._tls_port = server.port, tls_port
        self._sender = new_account(server.port, "s")
        self._reader = new_account(server.port, "reader")
        self.sent: list[DrillMessage] = []
        self.received: list[DrillMessage] = []

    @property
    def _question(self) -> bytes:
        return encode(PublicKeyRequest(self._reader.client_id, self._sender.client_id))

    def record_size(self) -> int:
        """Bytes of the record that is cut."""
        with _HalfCaller(self._tls_port) as caller:
            return len(caller.pipe.record(self._question))

    def _note(self, contents: list[bytes]) -> None:
        nothing = DrillMessage("nobody", "reader", 0)
        self.received += [parse_content(content) or nothing for content in contents]

    def round(self, half: _Half, cut: int) -> None:
        """A message is sent, and fetched by a client whose next record is cut."""
        message = DrillMessage("s", "reader", len(self.sent) + 1)
        with Caller(self._port) as caller:
            caller.send(self._sender.client_id, self._reader.client_id, message.content(100))
        self.sent.append(message)
        caller = _HalfCaller(self._tls_port)
        pull = PullRequest(self._reader.client_id)
        record = b""
        if half is _Half.BEFORE_THE_ANSWER:
            pulling = caller.pipe.record(encode(pull))
            record = caller.pipe.record(self._question)
            caller.pipe.sock.sendall(pulling + record[:cut])
            mail = caller.mail(caller.event())
        else:
            mail = caller.pull(self._reader.client_id)
        assert [parse_content(one.content) for one in mail] == [message], mail
        time.sleep(_SURELY_SEEN if half is _Half.AFTER_READING else _SEEN_ACKNOWLEDGED)
        if half is not _Half.BEFORE_THE_ANSWER:
            record = caller.pipe.record(self._question)
            caller.pipe.sock.sendall(record[:cut])
        match half:
            case _Half.BEFORE_THE_ANSWER:
                # Whoever counts its first half for nothing settles now.
                caller.pipe.sock.sendall(record[cut:])
                caller.event()
                caller.reset()
            case _Half.AFTER_READING:
                self._note([one.content for one in mail])
                time.sleep(_SEEN_ACKNOWLEDGED)
                caller.pipe.sock.sendall(record[cut:])
                caller.event()
                caller.reset()
            case _Half.THEN_AN_END:
                caller.pipe.sock.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    caller.event()
                caller.close()
            case _Half.THEN_A_RESET:
                caller.reset()
        self._fetch_the_rest(again=half is not _Half.AFTER_READING)

    def _fetch_the_rest(self, *, again: bool) -> None:
        """A successor reads what there is, and says that it has it by its next request."""

        def fetch() -> bool:
            with Caller(self._port) as caller:
                mail = caller.pull(self._reader.client_id)
                if mail:
                    caller.pull(self._reader.client_id)
                    self._note([one.content for one in mail])
            return bool(mail) or not again

        # A lease that the death leaves behind hides it until the gateway has seen the end.
        with suppress(ProgramFailed):
            wait_until(fetch, "the mail of a client that died", _COMES_AGAIN_WITHIN)


def run_halves(place: Place) -> Row:
    """Every cut, in every way."""
    tls_port = free_port()
    arguments = ("--tls-listen", f"127.0.0.1:{tls_port}")
    with Server(place.folder_of(HALVES) / "server", gateway_arguments=arguments).start() as server:
        halves = _Halves(server, tls_port)
        size = halves.record_size()
        for cut in range(1, size, _QUICK_STEP if place.quick else 1):
            for half in _Half:
                halves.round(half, cut)
    verdict = judge(halves.sent, halves.sent, {"reader": halves.received})
    note = f"a record of {size} bytes, {len(_Half)} ways, {len(halves.sent)} cuts"
    return Row(HALVES, 0, verdict, verdict.spotless, note)


class _Middleman:
    """Somebody between: takes connections with a certificate of their own, or plain ones, and hands
    every byte on, over TLS or not. One thread for each connection.
    """

    def __init__(self, folder: Path, onward: Callable[[], Caller], *, shows_certificate: bool) -> None:
        self._context = None
        if shows_certificate:
            folder.mkdir(parents=True, exist_ok=True)
            self._context = server_context(current(folder, datetime.now(UTC)))
        self._onward = onward
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while True:
            try:
                victim, _ = self._listening.accept()
            except OSError:
                return
            with suppress(OSError):
                self._relay(victim)

    def _relay(self, victim: socket.socket) -> None:
        """Requests one way, answers the other; one in flight at a time, as the victim has it."""
        victim.settimeout(HANG_SECONDS)
        if self._context is not None:
            victim = self._context.wrap_socket(victim, server_side=True)
        with victim, self._onward() as server:
            while data := victim.recv(_READ_SIZE):
                server.socket.sendall(data)
                answer = server.socket.recv(_READ_SIZE)
                if not answer:
                    return
                victim.sendall(answer)

    def close(self) -> None:
        """Take nobody any more."""
        # A thread in accept does not hear of a close.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(HANG_SECONDS)


def _proofs(connect: Callable[[int], Caller], port: int, account: Account, wanted: int) -> int:
    """How many of so many proofs of `account` are accepted, one for each connection."""
    accepted = 0
    for _ in range(wanted):
        with persistently(lambda: connect(port)) as caller:
            try:
                caller.prove(account)
            except Refused:
                continue
            accepted += 1
    return accepted


def run_middleman(place: Place) -> Row:
    """A victim that compares no pin proves itself to whoever is there; who is there forwards it."""
    tls_port = free_port()
    folder = place.folder_of(MIDDLEMAN)
    wanted = place.sized(_FULL_PROOFS, _QUICK_PROOFS)
    messages = [DrillMessage("victim", "victim", number) for number in range(1, 6)]
    with Server(folder / "server", gateway_arguments=("--tls-listen", f"127.0.0.1:{tls_port}")).start() as server:
        victim = new_account(server.port, "victim")
        with TlsCaller(tls_port) as caller:
            caller.prove(victim)
            for message in messages:
                caller.send(victim.client_id, victim.client_id, message.content(100))
        ways: dict[str, tuple[bool, Callable[[], Caller]]] = {
            "TLS to TLS": (True, lambda: TlsCaller(tls_port)),
            "TLS to plain TCP": (True, lambda: Caller(server.port)),
            "plain TCP to TLS": (False, lambda: TlsCaller(tls_port)),
            "plain TCP to plain TCP": (False, lambda: Caller(server.port)),
        }
        accepted = {}
        for number, (way, (shows, onward)) in enumerate(ways.items()):
            between = _Middleman(folder / f"between {number}", onward, shows_certificate=shows)
            share = wanted if way == "TLS to TLS" else max(10, wanted // 10)
            try:
                accepted[way] = _proofs(TlsCaller if shows else Caller, between.port, victim, share)
            finally:
                between.close()
            say(f"  {MIDDLEMAN}: {way}: {accepted[way]} of {share} accepted")
        with TlsCaller(tls_port) as caller:
            caller.prove(victim)
            mail = caller.fetch(victim.client_id, 0)
    nothing = DrillMessage("nobody", "victim", 0)
    verdict = judge(messages, messages, {"victim": [parse_content(one.content) or nothing for one in mail]})
    plain = accepted.pop("plain TCP to plain TCP")
    stolen = sum(accepted.values())
    control = max(10, wanted // 10)
    note = (
        f"{wanted} proofs from TLS to TLS and {2 * control} others, {stolen} accepted; plain TCP: {plain} of {control}"
    )
    return Row(MIDDLEMAN, 0, verdict, verdict.spotless and not stolen and plain == control, note)
