"""Signing in, against a scripted server: what is signed, and what is no answer to it."""

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from bench.generator import Generator, GeneratorFailed, Run
from bench.plan import Mode, Plan
from bench.signing_in import connect_as, shared_public_key, signed_in
from bench.subject import SubjectFailed
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ERROR
from common.values import ClientId
from tests.bench.scripted_server import NONCE, SERVER_ID, ScriptedServer

USERS = [ClientId(bytes([number]) * 16) for number in range(1, 4)]


def plan(port: int) -> Plan:
    return Plan(
        Mode.IDLE, port, len(USERS), 5.0, extension=True, sources=2, prefixes=[user + b"more" for user in USERS]
    )


def test_each_connection_is_its_users_with_a_proof_that_fits() -> None:
    with ScriptedServer() as server, signed_in(plan(server.port)) as connections:
        assert server.open == len(connections) == 3
        # Each connection has a thread at the server: the proofs come in any order.
        assert sorted(server.proofs) == USERS
        verifier = pss.new(RSA.import_key(shared_public_key()), salt_bytes=32)
        for user, signature in server.proofs.items():
            verifier.verify(SHA256.new(b"MessageU prove 1\0" + SERVER_ID + NONCE + user + bytes(32)), signature)


def test_one_connection_may_be_had_alone() -> None:
    with ScriptedServer() as server, connect_as(server.port, USERS[1]) as connection:
        assert connection.getpeername()[1] == server.port
        assert list(server.proofs) == [USERS[1]]


class Refusing(ScriptedServer):
    """Answers one kind of request otherwise."""

    def __init__(self, code: RequestCode, instead: bytes) -> None:
        self._refused = code
        self._instead = instead
        super().__init__()

    def right_answer(self, requester: bytes, code: int, payload: bytes) -> bytes:
        return self._instead if code == self._refused else super().right_answer(requester, code, payload)


@pytest.mark.parametrize("code", [RequestCode.HELLO, RequestCode.PROVE])
def test_a_refusal_fails_the_run(c_generator: Generator, code: RequestCode) -> None:
    with Refusing(code, ERROR) as server:
        with (
            pytest.raises(SubjectFailed, match="signing in was answered 9000 with 0 bytes"),
            signed_in(plan(server.port)),
        ):
            pass
        with pytest.raises(GeneratorFailed, match="nobody can sign in: signing in was answered 9000"):
            Run(c_generator, plan(server.port))


class Closing(ScriptedServer):
    """Ends every connection at its first request."""

    def right_answer(self, requester: bytes, code: int, payload: bytes) -> bytes:
        raise OSError


def test_an_end_in_the_middle_fails_the_run() -> None:
    with Closing() as server, pytest.raises(SubjectFailed, match="closed a connection that was signing in"):
        connect_as(server.port, USERS[0])
