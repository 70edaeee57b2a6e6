"""Connections on which a user has signed in, for loads of the extension (642 and 643).

Owns: the one key that all users of such loads have registered, and the way from a new connection to
one that is authenticated (640, 641).
Promises: every answer is checked; connections that are handed out have nothing unread. Bounded in
time.
Exposure: 127.0.0.1 only. The key is made anew by each run of the bench.
"""

import functools
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from bench.plan import Plan
from bench.subject import SubjectFailed
from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import HelloRequest, ProveRequest, encode
from common.client_protocol.responses import HELLO_REPLY, ResponseCode
from common.client_protocol.versions import EXTENSION_VERSION
from common.values import CLIENT_ID_SIZE, NO_CLIENT, ClientId, PublicKey

_ANSWER_SECONDS: Final = 30.0
_AT_A_TIME: Final = 500
"""Connections whose nonces are asked for before the first of them is signed: a nonce is good for 30
seconds."""
_SIGNED: Final = b"MessageU prove 1\0"
_NO_CERTIFICATE: Final = bytes(32)
_HELLO: Final = encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, 0))


@functools.cache
def _key() -> RSA.RsaKey:
    return RSA.generate(1024, e=17)


def shared_public_key() -> PublicKey:
    """What every user registers who signs in here."""
    return PublicKey(_key().public_key().export_key("DER"))


@contextmanager
def signed_in(plan: Plan) -> Iterator[list[socket.socket]]:
    """A connection for each of a plan's prefixes, signed in as the user whose id it begins with;
    closed when the `with` is left. Raises `OSError`, `SubjectFailed`.
    """
    users = [ClientId(prefix[:CLIENT_ID_SIZE]) for prefix in plan.prefixes]
    with ExitStack() as opened:
        connections = []
        for number in range(len(users)):
            source = (f"127.0.0.{1 + number % plan.sources}", 0)
            connection = socket.create_connection(("127.0.0.1", plan.port), _ANSWER_SECONDS, source)
            connections.append(opened.enter_context(connection))
        for at in range(0, len(users), _AT_A_TIME):
            _sign_in(connections[at : at + _AT_A_TIME], users[at : at + _AT_A_TIME])
        yield connections


def connect_as(port: int, user: ClientId) -> socket.socket:
    """One such connection. Raises `OSError`, `SubjectFailed`."""
    connection = socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS)
    try:
        _sign_in([connection], [user])
    except BaseException:
        connection.close()
        raise
    return connection


def _sign_in(connections: Sequence[socket.socket], users: Sequence[ClientId]) -> None:
    signer = pss.new(_key(), salt_bytes=32, rand_func=os.urandom)
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_HELLO)
    for connection, user in zip(connections, users, strict=True):
        reply = HELLO_REPLY.unpack(_answer(connection, ResponseCode.HELLO, HELLO_REPLY.size))
        server_id, nonce = reply[4], reply[6]
        signature = signer.sign(SHA256.new(_SIGNED + server_id + nonce + user + _NO_CERTIFICATE))
        connection.sendall(encode(ProveRequest(user, signature)))
    for connection in connections:
        _answer(connection, ResponseCode.AUTHENTICATED, 0)


def _answer(connection: socket.socket, wanted: ResponseCode, size: int) -> bytes:
    """The payload of the one answer that is on its way, of `size` bytes."""
    _version, code, found = RESPONSE_HEADER.unpack(_exactly(connection, RESPONSE_HEADER.size))
    if (code, found) != (wanted, size):
        raise SubjectFailed(f"signing in was answered {code} with {found} bytes")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise SubjectFailed("the server closed a connection that was signing in")
        parts += part
    return parts
