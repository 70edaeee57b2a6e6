"""The storage worker without its fence: `python -m torture.unfenced_worker`, as `python -m
storage_worker`.

Owns: what is left out. Promises: a turn is appended whoever the owner is, so that the drill
`stale-worker` shows with it that it can fail.
Exposure: none.
"""

import sys
from typing import Final

from storage_worker import __main__ as worker
from storage_worker.engine.postgres import statements

_LOOKS: Final = "FROM owner WHERE epoch = $1 FOR SHARE"


def switch_off() -> None:
    """For the rest of this process."""
    assert statements.APPEND.count(_LOOKS) == 1
    unfenced = statements.APPEND.replace(_LOOKS, "WHERE $1::bigint IS NOT NULL")
    setattr(statements, "APPEND", unfenced)  # noqa: B010 - it is a constant


if __name__ == "__main__":
    switch_off()
    sys.exit(worker.main())
