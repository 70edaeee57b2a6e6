"""Who may act for whom."""

from collections.abc import Callable

from common.storage_protocol.operations import (
    Done,
    GetProofKey,
    ListUsers,
    MarkAuthenticated,
    Refused,
)
from common.values import RefusalReason as Reason
from tests.storage_worker.rules.asking import NOBODY, in_the_name_of
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker


class TestWhoMayAct:
    def test_unknown_requester(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        for operation in [*in_the_name_of(NOBODY, alice, True), GetProofKey(NOBODY), MarkAuthenticated(NOBODY)]:
            assert gateway.refused(operation) is Reason.REQUESTER_UNKNOWN, operation

    def test_authenticating_user_without_proof(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.one(MarkAuthenticated(alice)) == Done()
        for operation in in_the_name_of(alice, bob, False):
            assert gateway.refused(operation) is Reason.PROOF_NEEDED, operation

    def test_authenticating_user_with_proof(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(MarkAuthenticated(alice))
        for operation in in_the_name_of(alice, bob, True):
            assert not isinstance(gateway.one(operation), Refused), operation

    def test_the_mark_holds_within_its_batch_and_is_no_news_the_second_time(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        outcomes = gateway.ask(MarkAuthenticated(alice), MarkAuthenticated(alice), ListUsers(alice, False))
        assert outcomes == [Done(), Done(), Refused(Reason.PROOF_NEEDED)]

    def test_the_mark_survives_a_restart(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.ask(MarkAuthenticated(alice))
        worker.close()
        assert Gateway(open_worker()).refused(ListUsers(alice, False)) is Reason.PROOF_NEEDED

    def test_others_may_write_to_an_authenticated_user(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(MarkAuthenticated(alice))
        gateway.store(bob, alice, b"hello")
