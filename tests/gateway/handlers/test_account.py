"""646 to 648 at the gateway: what is asked of the worker, and who may ask for it."""

import socket
import struct
from pathlib import Path

import pytest

from common.client_protocol.requests import (
    AboutRequest,
    DeleteAccountRequest,
    ListUsersRequest,
    RegisterInvitedRequest,
    RegisterRequest,
)
from common.storage_protocol.operations import (
    DeleteAccount,
    DeletionGoesOn,
    Done,
    GetAbout,
    Operation,
    Outcome,
    Refused,
    Register,
)
from common.values import ClientId, Invitation, PublicKey, RefusalReason, Username
from gateway.settings import Limited, Rate, Settings
from tests.gateway.authenticated import ALICE, BOB, ZERO, greet, knows_alice
from tests.gateway.harness import Gate, Peer

INVITATION = Invitation(bytes(range(16)))
KEY = PublicKey(bytes(160))
NAME = Username("carol")


class TestDelete:
    def test_it_is_answered_when_nothing_is_left(self, gate: Gate, authenticated: Peer) -> None:
        left = [2]

        def decide(operation: Operation) -> Outcome:
            if isinstance(operation, DeleteAccount):
                left[0] -= 1
                return DeletionGoesOn() if left[0] >= 0 else Done()
            return knows_alice(operation)

        gate.storage.decide = decide
        authenticated.send(DeleteAccountRequest(ALICE, ALICE))
        for asked in (1, 2, 3):
            gate.turn_until(lambda asked=asked: len(gate.storage.asked(DeleteAccount)) == asked)  # type: ignore[misc]
            gate.turns()
            assert len(gate.storage.asked(DeleteAccount)) == asked, "not at once"
            gate.pass_time(0.1)
        assert authenticated.response() == (2147, b"")
        assert gate.storage.asked(DeleteAccount) == [DeleteAccount(ALICE, True)] * 3

    def test_what_comes_behind_it_waits(self, gate: Gate, authenticated: Peer) -> None:
        authenticated.send(DeleteAccountRequest(ALICE, ALICE))
        authenticated.send(ListUsersRequest(ALICE))
        assert [authenticated.response()[0] for _ in range(2)] == [2147, 2101]

    def test_without_a_proof(self, gate: Gate) -> None:
        peer = gate.peer()
        peer.send(DeleteAccountRequest(ALICE, ALICE))
        assert peer.response() == (9000, b"")
        greet(peer, features=8)
        peer.send(DeleteAccountRequest(ALICE, ALICE))
        assert peer.response() == (9001, struct.pack("<HI", RefusalReason.PROOF_NEEDED, 0))
        assert gate.storage.asked(DeleteAccount) == []

    @pytest.mark.parametrize(("requester", "confirmed"), [(ALICE, BOB), (BOB, BOB), (BOB, ALICE), (ALICE, ZERO)])
    def test_another_id(self, gate: Gate, authenticated: Peer, requester: ClientId, confirmed: ClientId) -> None:
        authenticated.send(DeleteAccountRequest(requester, confirmed))
        assert authenticated.response() == (9000, b"")
        assert gate.storage.asked(DeleteAccount) == []

    def test_a_refusal(self, gate: Gate, authenticated: Peer) -> None:
        gate.storage.decide = lambda _operation: Refused(RefusalReason.DAMAGED, 30)
        greet(authenticated, features=8)
        authenticated.send(DeleteAccountRequest(ALICE, ALICE))
        assert authenticated.response() == (9001, struct.pack("<HI", RefusalReason.DAMAGED, 30))

    def test_a_client_that_goes_before_the_answer(self, gate: Gate, authenticated: Peer) -> None:
        gate.storage.decide = lambda _operation: DeletionGoesOn()
        authenticated.send(DeleteAccountRequest(ALICE, ALICE))
        gate.turn_until(lambda: bool(gate.storage.asked(DeleteAccount)))
        # An end in order keeps the session until the system itself gives up on it, a minute later.
        authenticated.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        authenticated.close()
        gate.turn_until(lambda: not gate.context.sessions)
        gate.pass_time(1)
        gate.turns()
        assert len(gate.storage.asked(DeleteAccount)) == 1, "for nobody it is not asked again"


class TestAbout:
    def test_anybody_may_ask(self, gate: Gate) -> None:
        peer = gate.peer()
        peer.send(AboutRequest(ZERO))
        assert peer.response() == (2148, struct.pack("<HIIQB", 21, 1000, 2000, 3000, 1) + b"about")
        assert gate.storage.operations == [GetAbout()]

    def test_on_an_authenticated_connection_too(self, authenticated: Peer) -> None:
        authenticated.send(AboutRequest(BOB))
        assert authenticated.response()[0] == 2148


class TestRegisterInvited:
    def test_it_may_be_asked_again(self, gate: Gate) -> None:
        peer = gate.peer()
        peer.send(RegisterInvitedRequest(BOB, NAME, KEY, INVITATION))
        assert peer.response() == (2100, b"N" * 16)
        greet(peer)
        peer.send(RegisterInvitedRequest(BOB, NAME, KEY, INVITATION))
        assert peer.response() == (2100, b"N" * 16)
        assert gate.storage.operations == [
            Register(NAME, KEY, True, None, INVITATION),
            Register(NAME, KEY, True, BOB, INVITATION),
        ]

    def test_not_on_an_authenticated_connection(self, gate: Gate, authenticated: Peer) -> None:
        authenticated.send(RegisterInvitedRequest(ALICE, NAME, KEY, INVITATION))
        assert authenticated.response() == (9000, b"")
        assert gate.storage.asked(Register) == []

    @pytest.mark.parametrize("reason", [RefusalReason.INVITATION, RefusalReason.REGISTRATION_CLOSED])
    def test_reasons_are_for_those_who_know_them(self, gate: Gate, reason: RefusalReason) -> None:
        gate.storage.decide = lambda _operation: Refused(reason)
        published, extended = gate.peer(), gate.peer()
        greet(extended, features=8)
        for request in (RegisterRequest(ZERO, NAME, KEY), RegisterInvitedRequest(ZERO, NAME, KEY, INVITATION)):
            published.send(request)
            assert published.response() == (9000, b"")
            extended.send(request)
            assert extended.response() == (9001, struct.pack("<HI", reason, 0))

    def test_each_try_is_one_registration_of_the_address(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path, Settings(limited=Limited.EVERYBODY, limit_registrations=Rate(2, 1, 60)))
        try:
            gate.turn_until(lambda: gate.link.facts is not None)
            gate.storage.decide = lambda _operation: Refused(RefusalReason.INVITATION)
            peer = gate.peer()
            greet(peer, features=8)
            request = RegisterInvitedRequest(ZERO, NAME, KEY, INVITATION)
            reasons = []
            for _ in range(3):
                peer.send(request)
                reasons.append(struct.unpack("<HI", peer.response()[1])[0])
            assert reasons == [RefusalReason.INVITATION] * 2 + [RefusalReason.TOO_FAST]
        finally:
            gate.close()
