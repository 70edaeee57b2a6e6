"""The table of rules covers the protocol: an operation without a rule is reported at import, and
each rule gives the outcomes of its row.
"""

from typing import get_args

import pytest

from common.storage_protocol import operations as ops
from common.storage_protocol.message_format import pack_frame, pack_frame_once
from common.storage_protocol.operations import OPERATIONS, AbortUpload, Operation, Refused, Release
from storage_worker.rules.fetching import FetchingRules
from storage_worker.rules.rules import TABLES
from storage_worker.rules.table import NO_RULES, rules_of
from storage_worker.rules.uploads import UploadRules
from tests.storage_worker.worker_under_test import KEY, Gateway


class Probe:
    """An operation that a coming version of the protocol brings."""


def test_an_operation_without_a_rule_is_reported() -> None:
    with pytest.raises(TypeError, match=r"^not exactly one rule for: Probe$"):
        TABLES.check(Operation | Probe)


def test_a_rule_for_no_operation_is_reported() -> None:
    probes = rules_of(FetchingRules).row(Probe, lambda fetching, slot, _probe: fetching.release(slot, Release(1)))
    tables = TABLES.join(probes)
    with pytest.raises(TypeError, match=r"^not exactly one rule for: Probe$"):
        tables.check(Operation)
    tables.check(Operation | Probe)


def test_a_second_rule_for_an_operation_is_reported() -> None:
    with pytest.raises(TypeError, match=r"^not exactly one rule for: AbortUpload$"):
        TABLES.join(rules_of(UploadRules).row(AbortUpload, UploadRules.abort)).check(Operation)


def test_an_empty_table_lacks_everything() -> None:
    with pytest.raises(TypeError) as raised:
        NO_RULES.check(Operation)
    assert all(kind.__name__ in str(raised.value) for kind in get_args(Operation))


NOBODY = b"n" * 16


def asked(kind: type[Operation], user: bytes) -> Operation:
    """An operation of this kind, on behalf of `user`."""
    samples: list[Operation] = [
        ops.Register("somebody", KEY),
        ops.ListUsers(user, False),
        ops.GetPublicKey(user, False, user),
        ops.StoreMessage(user, False, user, 3, b"content"),
        ops.BeginUpload(1, user, False, user, 4, 5),
        ops.Chunk(2, b"content"),
        ops.CommitUpload(2),
        ops.AbortUpload(2),
        ops.Pull(1, user, False, 100, 25, 100),
        ops.PullPage(user, False, 1, 0, 1, 100),
        ops.Settle(1, user, False, 1, 1),
        ops.Release(1),
        ops.Fetch(user, True, 0, 100, 54, 100, False),
        ops.GetProofKey(user),
        ops.MarkAuthenticated(user),
        ops.StoreMessages(False, pack_frame(user, user, 3, b"content")),
        ops.StoreMessagesOnce(True, pack_frame_once(user, b"t" * 16, user, 3, b"content")),
        ops.GetUploadProgress(2),
        ops.DeleteAccount(user, True),
        ops.GetAbout(),
        ops.SetBlock(user, True, user, False),
        ops.PublishKeys(user, True, False, b"bundle", b""),
        ops.ClaimKey(user, True, user, True),
        ops.Forget(user),
    ]
    [sample] = [sample for sample in samples if type(sample) is kind]
    return sample


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
def test_every_operation_has_a_rule_whose_outcomes_are_those_of_its_row(
    gateway: Gateway, kind: type[Operation]
) -> None:
    [user] = gateway.register("alice")
    if kind is ops.ClaimKey:
        gateway.ask(ops.MarkAuthenticated(user), ops.PublishKeys(user, True, False, b"before", b""))
    [outcome] = gateway.ask(asked(kind, user))
    assert type(outcome) in OPERATIONS[kind].outcomes
    [outcome] = gateway.ask(asked(kind, NOBODY))
    assert type(outcome) in {*OPERATIONS[kind].outcomes, Refused}


def test_every_outcome_belongs_to_an_operation() -> None:
    assert {outcome for row in OPERATIONS.values() for outcome in row.outcomes} | {Refused} == set(
        get_args(ops.Outcome)
    )
