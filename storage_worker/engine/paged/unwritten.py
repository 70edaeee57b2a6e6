"""What memory has and tables lack.

Owns: nothing. Promises: what changed again while a transaction took it in stays unwritten.
Exposure: none.
"""

from collections.abc import Mapping
from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def drop_written(unwritten: dict[_Key, _Value], written: Mapping[_Key, _Value]) -> None:
    """Drop from `unwritten` what a table has now, unless it changed again meanwhile."""
    for key, value in written.items():
        if unwritten.get(key) == value:
            del unwritten[key]
