"""Tables of rules: which rule answers which operation, and a check that every operation has one.

Owns: the form of a table. Each subject of the rules has one of its own, beside its rules;
`storage_worker.rules.rules` puts them together.
Promises: where the tables are put together every operation of the protocol has exactly one rule. A
missing row is a type error there, because together they have to cover the whole union `Operation`,
and an error at import.
Exposure: none.
"""

from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any, Final, Generic, Never, TypeVar, get_args

from common.storage_protocol.operations import Outcome
from storage_worker.rules.answers import Unreadable

Subject = TypeVar("Subject")
One = TypeVar("One")
Others = TypeVar("Others")
Covered_contra = TypeVar("Covered_contra", contravariant=True)

BoundRules = dict[type, Callable[[int, Any], Outcome]]
"""The rule of each type of operation, which takes the gateway's slot and the operation: `bind` sees
to it that they belong together."""


class _Row(Generic[Subject, One]):
    """`reads_first`: the rule changes nothing before it has read everything it needs, so that
    unreadable data leads to a refusal. `at_refusal`: what such a refusal does in addition.
    """

    def __init__(
        self,
        operation: type[One],
        rule: Callable[[Subject, int, One], Outcome],
        reads_first: bool,
        at_refusal: Callable[[Subject, int, One], object] | None,
    ) -> None:
        self.operation = operation
        self._rule = rule
        self._reads_first = reads_first
        self._at_refusal = at_refusal

    def bind(self, subject: Subject, unreadable: Unreadable) -> Callable[[int, One], Outcome]:
        """The rule, bound to this subject."""
        rule = MethodType(self._rule, subject)
        if not self._reads_first:
            return rule
        at_refusal = None if self._at_refusal is None else MethodType(self._at_refusal, subject)

        def refusing(slot: int, operation: One) -> Outcome:
            try:
                outcome: Outcome = rule(slot, operation)
            except Exception as error:
                refusal = unreadable.refusal(error)
            else:
                return outcome
            if at_refusal is not None:
                at_refusal(slot, operation)
            return refusal

        return refusing


class Table(Generic[Subject, Covered_contra]):
    """The rules of one subject, for the operations `Covered_contra`, which is a union."""

    def __init__(self, subject: type[Subject], rows: tuple[_Row[Subject, Any], ...]) -> None:
        self.subject = subject
        self.rows = rows

    def row(
        self: "Table[Subject, Others]",
        operation: type[One],
        rule: Callable[[Subject, int, One], Outcome],
        *,
        reads_first: bool = True,
        at_refusal: Callable[[Subject, int, One], object] | None = None,
    ) -> "Table[Subject, Others | One]":
        """The table with one more row: see `_Row`."""
        return Table(self.subject, (*self.rows, _Row(operation, rule, reads_first, at_refusal)))


def rules_of(subject: type[Subject]) -> Table[Subject, Never]:
    """An empty table, for the rules that are methods of `subject`."""
    return Table(subject, ())


class Tables(Generic[Covered_contra]):
    """The rules of several subjects, for the operations `Covered_contra`, which is a union."""

    def __init__(self, tables: tuple[Table[Any, Any], ...]) -> None:
        self._tables = tables

    def join(self: "Tables[Others]", table: Table[Any, One]) -> "Tables[Others | One]":
        """These tables and one more."""
        return Tables((*self._tables, table))

    def bind(self, subjects: Iterable[object], unreadable: Unreadable) -> BoundRules:
        """The rules, bound to these subjects, one for each table."""
        of_type = {type(subject): subject for subject in subjects}
        return {
            row.operation: row.bind(of_type[table.subject], unreadable) for table in self._tables for row in table.rows
        }

    def check(self, union: object) -> None:
        """Raise `TypeError` where not every type of a union has exactly one row."""
        rows = [row.operation for table in self._tables for row in table.rows]
        wrong = {kind.__name__ for kind in {*get_args(union), *rows} if rows.count(kind) != 1}
        unknown = {kind.__name__ for kind in rows if kind not in get_args(union)}
        if wrong or unknown:
            raise TypeError(f"not exactly one rule for: {', '.join(sorted(wrong | unknown))}")


NO_RULES: Final[Tables[Never]] = Tables(())
