"""A server that lies, or leaves one waiting: the real programs, and somebody on the way who changes
what they answer.

Owns: the middleman, what he keeps, and what he can read of it.
Promises: whatever he does not lie about passes unchanged, both ways; all that a client sent for
others is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from Crypto.Cipher import AES

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey, SymmetricKey
from client.errors import CipherError
from common.client_protocol.fields import REQUEST_HEADER, RESPONSE_HEADER
from common.client_protocol.requests import FETCH, SEND_HEAD, SEND_ONCE_HEAD, RequestCode
from common.client_protocol.responses import (
    FETCHED_HEAD,
    FLAG_SENDER_AUTHENTICATED,
    HELLO_REPLY,
    KEY_REPLY,
    WAITING_HEAD,
    ResponseCode,
)
from common.client_protocol.versions import Feature
from common.values import MessageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.values import ClientId, PublicKey

_READ_SIZE = 1 << 18
_SPREAD = 1000
_LOOK_AGAIN = 0.05
_HIGHEST_MESSAGE_ID = 2**32 - 1


class Overheard(NamedTuple):
    """A message that a client sent through him."""

    kind: int
    content: bytes


class Middleman:
    """Stands at an address of his own before a server at `port`; every `private_key` is his."""

    def __init__(self, port: int, private_keys: Sequence[PrivateKey] = ()) -> None:
        self.overheard: list[Overheard] = []
        self.names: PublicKey | None = None
        """The public key that he names for everybody; None for the right ones."""
        self.heard: list[int] = []
        """The codes of all requests, in order."""
        self.withholds: set[int] = set()
        """The codes of the answers that never arrive."""
        self.takes: int | None = None
        """Bytes of one request after which he reads no further; None: all of it."""
        self._port = port
        self._private_keys = private_keys
        self._injected: list[SymmetricKey] = []
        self._letters: list[tuple[ClientId, int, bytes]] = []
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

    # --- lies
    # ----------------------------------------------------------------------------------------------

    def inject(self, sender: ClientId, kind: int, content: bytes) -> None:
        """Put a message, in somebody's name, into the next mail that is fetched through him."""
        self._letters.append((sender, kind, content))

    def inject_key(self, sender: ClientId, to: PublicKey) -> None:
        """Put a symmetric key that he made into the next mail."""
        key = ciphers.symmetric_key(os.urandom(ciphers.SYMMETRIC_KEY_SIZE))
        self._injected.append(key)
        self.inject(sender, MessageKind.KEY, ciphers.seal_key(key, to, os.urandom))

    # --- what he gets
    # -----------------------------------------------------------------------------------------

    def plain_texts(self, since: int = 0) -> list[bytes]:
        """All that he can make of what he overheard, with every key that he has: padding
        right or wrong.
        """
        keys = [*self._injected]
        for message in self.overheard:
            for private_key in self._private_keys if message.kind == MessageKind.KEY else ():
                with contextlib.suppress(CipherError):
                    keys.append(private_key.open_key(message.content))
        made = []
        for message in self.overheard[since:]:
            made.append(message.content)
            if len(message.content) % AES.block_size == 0:
                made += [AES.new(key, AES.MODE_CBC, iv=bytes(16)).decrypt(message.content) for key in keys]
        return made

    def reads(self, secret: str, at_once: int = 8) -> bool:
        """Whether anywhere in it there are a few bytes of a secret in a row."""
        raw = secret.encode()
        everything = b"|".join(self.plain_texts())
        return any(raw[at : at + at_once] in everything for at in range(len(raw) - at_once + 1))

    # --- on the way
    # -------------------------------------------------------------------------------------------

    def serve(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            from_client, from_server = bytearray(), bytearray()
            ack = 0
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
                    ack = self._listen(frame, ack)
                    server.sendall(_with_true_ack(frame))
                while (frame := _cut(from_server, RESPONSE_HEADER.size)) is not None:
                    _, code, _ = RESPONSE_HEADER.unpack_from(frame)
                    if code not in self.withholds:
                        client.sendall(self._lie(frame, ack))

    def _listen(self, frame: bytes, ack: int) -> int:
        """Keep what a client sends; up to where the mail on this connection is acknowledged."""
        _, _, code, _ = REQUEST_HEADER.unpack_from(frame)
        payload = frame[REQUEST_HEADER.size :]
        self.heard.append(code)
        if code == RequestCode.SEND:
            _, kind, _ = SEND_HEAD.unpack_from(payload)
            self.overheard.append(Overheard(kind, payload[SEND_HEAD.size :]))
        elif code == RequestCode.SEND_ONCE:
            _, _, kind, _ = SEND_ONCE_HEAD.unpack_from(payload)
            self.overheard.append(Overheard(kind, payload[SEND_ONCE_HEAD.size :]))
        elif code == RequestCode.FETCH:
            ack, _, _ = FETCH.unpack(payload)
        return ack

    def _lie(self, frame: bytes, ack: int) -> bytes:
        version, code, _ = RESPONSE_HEADER.unpack_from(frame)
        payload = frame[RESPONSE_HEADER.size :]
        if code == ResponseCode.HELLO:
            # He hides the modern suite from the beginning: what is under the published one is his
            # to try. `tests/client/suite1/test_lying_server.py` has liars to the modern one.
            extension, features, *rest = HELLO_REPLY.unpack(payload)
            payload = HELLO_REPLY.pack(extension, features & ~Feature.KEYS, *rest)
        elif code == ResponseCode.PUBLIC_KEY and self.names is not None:
            subject, _ = KEY_REPLY.unpack(payload)
            payload = KEY_REPLY.pack(subject, self.names)
        elif code in {ResponseCode.WAITING, ResponseCode.FETCHED}:
            letters, self._letters = self._letters, []
            if code == ResponseCode.FETCHED:
                payload = _renumbered(payload)
            entries = [_entry(code, ack + place, *letter) for place, letter in enumerate(letters, 1)]
            payload = b"".join(entries) + payload
        return RESPONSE_HEADER.pack(version, code, len(payload)) + payload


def _renumbered(payload: bytes) -> bytes:
    """Mail as a client is told of it: with room between the numbers for what he puts in."""
    parts = []
    at = 0
    while at < len(payload):
        sender, token, sequence, *rest, size = FETCHED_HEAD.unpack_from(payload, at)
        end = at + FETCHED_HEAD.size + size
        parts += [
            FETCHED_HEAD.pack(sender, token, sequence * _SPREAD, *rest, size),
            payload[at + FETCHED_HEAD.size : end],
        ]
        at = end
    return b"".join(parts)


def _with_true_ack(frame: bytes) -> bytes:
    """The pair of `_renumbered`, for what a client acknowledges."""
    if REQUEST_HEADER.unpack_from(frame)[2] != RequestCode.FETCH:
        return frame
    ack, most, wait = FETCH.unpack(frame[REQUEST_HEADER.size :])
    return frame[: REQUEST_HEADER.size] + FETCH.pack(ack // _SPREAD, most, wait)


def _entry(code: int, number: int, sender: ClientId, kind: int, content: bytes) -> bytes:
    """A letter as an entry of a list of mail."""
    if code == ResponseCode.WAITING:
        return WAITING_HEAD.pack(sender, _HIGHEST_MESSAGE_ID, kind, len(content)) + content
    head = (sender, os.urandom(16), number, 1_700_000_000_000, FLAG_SENDER_AUTHENTICATED, kind, len(content))
    return FETCHED_HEAD.pack(*head) + content


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
