"""The table of rules: which rule answers which operation.

Owns: that table. Promises: every operation of the protocol has exactly one rule. A missing row is
an error of types, for `TABLE` has to cover the whole union `Operation`, and one of this module's
import.
Exposure: none.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, Never, TypeVar, get_args

from common.storage_protocol import operations
from common.storage_protocol.operations import Operation, Outcome
from storage_worker.rules.answers import Unreadable
from storage_worker.rules.fetching import FetchingRules
from storage_worker.rules.sending import SendingRules
from storage_worker.rules.uploads import UploadRules
from storage_worker.rules.users import UserRules

One = TypeVar("One")
Others = TypeVar("Others")
Covered_contra = TypeVar("Covered_contra", contravariant=True)

Rule = Callable[[int, One], Outcome]
"""Takes the gateway's slot and the operation."""
BoundRules = dict[type, Callable[[int, Any], Outcome]]
"""The rule of each type of operation: `bind` sees to it that they belong together."""


class Subjects:
    """The rules by their subjects."""

    def __init__(self, users: UserRules, sending: SendingRules, uploads: UploadRules, fetching: FetchingRules) -> None:
        self.users = users
        self.sending = sending
        self.uploads = uploads
        self.fetching = fetching


class _Row(Generic[One]):
    """`reads_first`: nothing is changed before all that is needed was read, so that what can't be
    read is refused. `at_refusal`: what such a refusal does besides.
    """

    def __init__(
        self,
        operation: type[One],
        rule: Callable[[Subjects], Rule[One]],
        reads_first: bool,
        at_refusal: Callable[[Subjects], Callable[[int, One], object]] | None,
    ) -> None:
        self.operation = operation
        self._rule = rule
        self._reads_first = reads_first
        self._at_refusal = at_refusal

    def bind(self, subjects: Subjects, unreadable: Unreadable) -> Rule[One]:
        """The rule of these subjects."""
        rule = self._rule(subjects)
        if not self._reads_first:
            return rule
        at_refusal = None if self._at_refusal is None else self._at_refusal(subjects)

        def refusing(slot: int, operation: One) -> Outcome:
            try:
                return rule(slot, operation)
            except Exception as error:
                refusal = unreadable.refusal(error)
            if at_refusal is not None:
                at_refusal(slot, operation)
            return refusal

        return refusing


class Table(Generic[Covered_contra]):
    """Rules for the operations `Covered_contra`, which is a union."""

    def __init__(self, rows: tuple[_Row[Any], ...]) -> None:
        self._rows = rows

    def row(
        self: "Table[Others]",
        operation: type[One],
        rule: Callable[[Subjects], Rule[One]],
        *,
        reads_first: bool = True,
        at_refusal: Callable[[Subjects], Callable[[int, One], object]] | None = None,
    ) -> "Table[Others | One]":
        """The table with one more row: see `_Row`."""
        return Table((*self._rows, _Row(operation, rule, reads_first, at_refusal)))

    def bind(self, subjects: Subjects, unreadable: Unreadable) -> BoundRules:
        """The rules of these subjects."""
        return {row.operation: row.bind(subjects, unreadable) for row in self._rows}

    def check(self, union: object) -> None:
        """Raise `TypeError` where not every type of a union has exactly one row."""
        rows = [row.operation for row in self._rows]
        wrong = {kind.__name__ for kind in {*get_args(union), *rows} if rows.count(kind) != 1}
        unknown = {kind.__name__ for kind in rows if kind not in get_args(union)}
        if wrong or unknown:
            raise TypeError(f"not exactly one rule for: {', '.join(sorted(wrong | unknown))}")


NO_RULES: Final[Table[Never]] = Table(())

TABLE: Final[Table[Operation]] = (
    NO_RULES.row(operations.Register, lambda of: of.users.register)
    .row(operations.ListUsers, lambda of: of.users.list_users)
    .row(operations.GetPublicKey, lambda of: of.users.get_public_key)
    .row(operations.GetProofKey, lambda of: of.users.get_proof_key)
    .row(operations.MarkAuthenticated, lambda of: of.users.mark_authenticated)
    .row(operations.StoreMessage, lambda of: of.sending.store_message)
    # It refuses each of its messages by itself.
    .row(operations.StoreMessages, lambda of: of.sending.store_messages, reads_first=False)
    .row(operations.BeginUpload, lambda of: of.uploads.begin)
    .row(operations.GetUploadProgress, lambda of: of.uploads.progress, reads_first=False)
    .row(operations.Chunk, lambda of: of.uploads.chunk, at_refusal=lambda of: of.uploads.drop)
    .row(operations.CommitUpload, lambda of: of.uploads.commit, at_refusal=lambda of: of.uploads.drop)
    .row(operations.AbortUpload, lambda of: of.uploads.abort, reads_first=False)
    .row(operations.Pull, lambda of: of.fetching.pull)
    .row(operations.PullPage, lambda of: of.fetching.pull_page)
    # It ends the lease in any case.
    .row(operations.Settle, lambda of: of.fetching.settle, reads_first=False)
    .row(operations.Release, lambda of: of.fetching.release, reads_first=False)
    .row(operations.Fetch, lambda of: of.fetching.fetch)
)
TABLE.check(Operation)
