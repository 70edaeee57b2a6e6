"""The table of rules covers the protocol: an operation without a rule is reported at import."""

from typing import get_args

import pytest

from common.storage_protocol.operations import AbortUpload, Operation, Release
from storage_worker.rules.table import NO_RULES, TABLE


class Probe:
    """An operation that a coming version of the protocol brings."""


def test_an_operation_without_a_rule_is_reported() -> None:
    with pytest.raises(TypeError, match=r"^not exactly one rule for: Probe$"):
        TABLE.check(Operation | Probe)


def test_a_rule_for_no_operation_is_reported() -> None:
    table = TABLE.row(Probe, lambda of: lambda _slot, _operation: of.fetching.release(0, Release(1)))
    with pytest.raises(TypeError, match=r"^not exactly one rule for: Probe$"):
        table.check(Operation)
    table.check(Operation | Probe)


def test_a_second_rule_for_an_operation_is_reported() -> None:
    with pytest.raises(TypeError, match=r"^not exactly one rule for: AbortUpload$"):
        TABLE.row(AbortUpload, lambda of: of.uploads.abort).check(Operation)


def test_an_empty_table_lacks_everything() -> None:
    with pytest.raises(TypeError) as raised:
        NO_RULES.check(Operation)
    assert all(kind.__name__ in str(raised.value) for kind in get_args(Operation))
