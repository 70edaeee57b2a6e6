"""Somebody between a client and its server, who hears all and changes what he likes.

Owns: the relay, frame by frame, and what he keeps of what clients send; the lies that are of the
protocol alone: what he leaves out, hides, refuses, holds back, puts into mail or changes in it.
Promises: whatever he does not lie about passes unchanged, both ways. What he adds to mail is
acknowledged to him, and never to the server.
Exposure: 127.0.0.1 only.
"""

import contextlib
import os
import select
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, Self

from common.client_protocol.fields import REQUEST_HEADER, RESPONSE_HEADER
from common.client_protocol.requests import FETCH, SEND_HEAD, SEND_ONCE_HEAD, RequestCode
from common.client_protocol.responses import (
    FETCHED_HEAD,
    FLAG_SENDER_AUTHENTICATED,
    HELLO_REPLY,
    LAYOUTS,
    WAITING_HEAD,
    KeyClaimedResponse,
    ResponseCode,
    WholeLayout,
    encode_key_claimed,
    encode_reason,
)
from common.client_protocol.versions import Feature
from common.values import CLIENT_ID_SIZE, TOKEN_SIZE, ClientId, RefusalReason

_READ_SIZE: Final = 1 << 18
_SPREAD: Final = 1 << 20
"""How much room he makes between the numbers of two messages."""
_LOOK_AGAIN: Final = 0.05
_HIGHEST_MESSAGE_ID: Final = 2**32 - 1


class Overheard(NamedTuple):
    """A message that a client sent through him."""

    kind: int
    content: bytes
    sender: ClientId = ClientId(b"")
    recipient: ClientId = ClientId(b"")


class Letter(NamedTuple):
    """A message as an entry of a list of mail. `token`, `accepted_at` and `flags` are 643's."""

    sender: ClientId
    kind: int
    content: bytes
    token: bytes = b""
    accepted_at: int = 1_700_000_000_000
    flags: int = FLAG_SENDER_AUTHENTICATED


class Claimed(NamedTuple):
    """What the server says of somebody's keys: a refusal has no bundle."""

    bundle: bytes
    one_time_key: bytes = b""


Rewrite = Callable[[list[Letter]], list[Letter]]
"""Changes the mail of one answer."""
Claim = Callable[[ClientId, Claimed], Claimed | None]
"""Changes what the server says of somebody's keys; None: there are none."""


class _Passage:
    """One connection through him."""

    def __init__(self) -> None:
        self.ack = 0
        """Up to where its mail is acknowledged to him."""
        self.asked = 0
        """The code of its last request."""
        self.subject = ClientId(b"")
        """Of whom its last 645 asks for keys."""


class Middleman:
    """Stands at an address of his own before a server at `port`."""

    def __init__(self, port: int) -> None:
        self.heard: list[int] = []
        """The codes of all requests, in order."""
        self.overheard: list[Overheard] = []
        self.withholds: set[int] = set()
        """The codes of the answers that never arrive."""
        self.cuts: set[int] = set()
        """The codes of the answers in whose place he ends the connection."""
        self.takes: int | None = None
        """Bytes of one request after which he reads no further; None: all of it."""
        self.hides = Feature(0)
        """What of the server's features he leaves out."""
        self.refuses: dict[int, RefusalReason] = {}
        """By the code of an answer: the refusal that he gives in its place. The server has done
        what it was asked for.
        """
        self.rewrite: Rewrite | None = None
        """Changes the next mail that is fetched through him, and no other."""
        self.claim: Claim | None = None
        """Changes every answer to a 645."""
        self.told = 0
        """How many lies were told: answers that he changed, refused or cut."""
        self._port = port
        self._letters: list[Letter] = []
        middleman = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # Either end may go at any time.
                with contextlib.suppress(ConnectionError):
                    middleman.serve(self.request)

        self._listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.port: int = self._listener.server_address[1]
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def be_honest(self) -> None:
        """Lie no more."""
        self.withholds, self.cuts, self.refuses = set(), set(), {}
        self.hides = Feature(0)
        self.rewrite = self.claim = None
        self._letters = []

    def inject(self, sender: ClientId, kind: int, content: bytes, token: bytes | None = None) -> None:
        """Put a message, in somebody's name, into the next mail that is fetched through him."""
        self._letters.append(Letter(sender, kind, content, os.urandom(TOKEN_SIZE) if token is None else token))

    # --- on the way
    # -------------------------------------------------------------------------------------------

    def serve(self, client: socket.socket) -> None:
        """Relay one connection until either end closes it, or he cuts it."""
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            from_client, from_server = bytearray(), bytearray()
            passage = _Passage()
            while True:
                full = self.takes is not None and len(from_client) >= self.takes
                ready, _, _ = select.select([server] if full else [client, server], [], [], _LOOK_AGAIN)
                for one, came in ((client, from_client), (server, from_server)):
                    if one in ready:
                        data = one.recv(_READ_SIZE)
                        if not data:
                            return
                        came.extend(data)
                while (frame := _cut(from_client, REQUEST_HEADER.size)) is not None:
                    self._listen(frame, passage)
                    server.sendall(_with_true_ack(frame))
                while (frame := _cut(from_server, RESPONSE_HEADER.size)) is not None:
                    _, code, _ = RESPONSE_HEADER.unpack_from(frame)
                    if code in self.cuts:
                        self.told += 1
                        return
                    if code not in self.withholds:
                        client.sendall(self._answer(frame, passage))

    def _listen(self, frame: bytes, passage: _Passage) -> None:
        """Keep what a client sends."""
        sender, _, code, _ = REQUEST_HEADER.unpack_from(frame)
        payload = frame[REQUEST_HEADER.size :]
        self.heard.append(code)
        passage.asked = code
        if code == RequestCode.SEND:
            recipient, kind, _ = SEND_HEAD.unpack_from(payload)
            self.overheard.append(Overheard(kind, payload[SEND_HEAD.size :], ClientId(sender), ClientId(recipient)))
        elif code == RequestCode.SEND_ONCE:
            _, recipient, kind, _ = SEND_ONCE_HEAD.unpack_from(payload)
            self.overheard.append(
                Overheard(kind, payload[SEND_ONCE_HEAD.size :], ClientId(sender), ClientId(recipient))
            )
        elif code == RequestCode.FETCH:
            passage.ack, _, _ = FETCH.unpack(payload)
        elif code == RequestCode.CLAIM_KEY:
            passage.subject = ClientId(payload[:CLIENT_ID_SIZE])

    def _answer(self, frame: bytes, passage: _Passage) -> bytes:
        version, code, _ = RESPONSE_HEADER.unpack_from(frame)
        if code in self.refuses:
            self.told += 1
            return encode_reason(self.refuses[code], 0)
        payload = frame[RESPONSE_HEADER.size :]
        if passage.asked == RequestCode.CLAIM_KEY and self.claim is not None:
            said = Claimed(b"")
            if code == ResponseCode.KEY_CLAIMED:
                said = _claimed(payload)
            lie = self.claim(passage.subject, said)
            if lie == said:
                return frame
            self.told += 1
            return encode_reason(RefusalReason.NO_KEYS, 0) if lie is None else encode_key_claimed(*lie)
        if code == ResponseCode.HELLO and self.hides:
            extension, features, *rest = HELLO_REPLY.unpack(payload)
            payload = HELLO_REPLY.pack(extension, features & ~self.hides, *rest)
            self.told += 1
        elif code == ResponseCode.FETCHED:
            payload = self._fetched(payload, passage.ack)
        elif code == ResponseCode.WAITING:
            payload = self._waiting(payload)
        else:
            payload = self.lie(code, payload)
        return RESPONSE_HEADER.pack(version, code, len(payload)) + payload

    def lie(self, code: int, payload: bytes) -> bytes:
        """Change another answer."""
        return payload

    def _changed(self, letters: list[Letter]) -> list[Letter]:
        mine, self._letters = self._letters, []
        changed = [*mine, *letters]
        if changed and self.rewrite is not None:
            rewrite, self.rewrite = self.rewrite, None
            changed = rewrite(changed)
        self.told += changed != letters
        return changed

    def _fetched(self, payload: bytes, ack: int) -> bytes:
        """Mail as a client is told of it: with room between the numbers for what he puts in."""
        letters, last, at = [], 0, 0
        while at < len(payload):
            sender, token, last, accepted_at, flags, kind, size = FETCHED_HEAD.unpack_from(payload, at)
            at += FETCHED_HEAD.size + size
            letters.append(Letter(ClientId(sender), kind, payload[at - size : at], token, accepted_at, flags))
        changed = self._changed(letters)
        # The last number says how far the server's own mail has been given out.
        first = last * _SPREAD - len(changed) + 1 if last else ack + 1
        parts = []
        for number, letter in enumerate(changed, first):
            head = (letter.sender, letter.token, number, letter.accepted_at, letter.flags, letter.kind)
            parts += [FETCHED_HEAD.pack(*head, len(letter.content)), letter.content]
        return b"".join(parts)

    def _waiting(self, payload: bytes) -> bytes:
        letters, at = [], 0
        while at < len(payload):
            sender, number, kind, size = WAITING_HEAD.unpack_from(payload, at)
            at += WAITING_HEAD.size + size
            # Of the numbers nothing is acknowledged: they stay with the messages.
            letters.append(Letter(ClientId(sender), kind, payload[at - size : at], accepted_at=number))
        parts = []
        for letter in self._changed(letters):
            number = _HIGHEST_MESSAGE_ID if letter.token else letter.accepted_at
            parts += [WAITING_HEAD.pack(letter.sender, number, letter.kind, len(letter.content)), letter.content]
        return b"".join(parts)


def _claimed(payload: bytes) -> Claimed:
    layout = LAYOUTS[ResponseCode.KEY_CLAIMED]
    assert isinstance(layout, WholeLayout)
    said = layout.decode(payload)
    assert isinstance(said, KeyClaimedResponse)
    return Claimed(said.bundle, said.one_time_key)


def _with_true_ack(frame: bytes) -> bytes:
    """The pair of `Middleman._fetched`, for what a client acknowledges."""
    if REQUEST_HEADER.unpack_from(frame)[2] != RequestCode.FETCH:
        return frame
    ack, most, wait = FETCH.unpack(frame[REQUEST_HEADER.size :])
    return frame[: REQUEST_HEADER.size] + FETCH.pack(ack // _SPREAD, most, wait)


def _cut(data: bytearray, head: int) -> bytes | None:
    """Take a whole frame, whose size stands at the end of its head."""
    if len(data) < head:
        return None
    end = head + int.from_bytes(data[head - 4 : head], "little")
    if len(data) < end:
        return None
    frame = bytes(data[:end])
    del data[:end]
    return frame
