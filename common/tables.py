"""Tables that have a row for every member of an enum or of a union, checked when they are made.

Owns: the check. Promises: a module whose table lacks a row, or has one too many, can't be imported,
and the error names the table and every such member.
Exposure: none; tables are made at import, from the program's own text.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from common.errors import TableIncomplete

Key = TypeVar("Key")
Row = TypeVar("Row")


def complete(name: str, table: Mapping[Key, Row], members: Iterable[Key]) -> Mapping[Key, Row]:
    """Return `table`, which has one row for each of `members`. Raises `TableIncomplete`.

    `name`: where a person finds the table.
    """
    wanted = set(members)
    missing = sorted(map(_shown, wanted - set(table)))
    unwanted = sorted(map(_shown, set(table) - wanted))
    if missing or unwanted:
        raise TableIncomplete(
            "; ".join(
                [f"{name} has no row for {member}" for member in missing]
                + [f"{name} has a row for {member}, which it should not" for member in unwanted]
            )
        )
    return table


def _shown(member: object) -> str:
    return member.__name__ if isinstance(member, type) else str(getattr(member, "name", member))
