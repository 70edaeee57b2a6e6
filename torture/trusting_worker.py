"""The storage worker that takes every commit for done: `python -m torture.trusting_worker`, as
`python -m storage_worker`.

Owns: what is left out. Promises: a commit whose wait for a standby was cancelled counts, so that
the drill `cancelled-commit` shows with it that it can fail.
Exposure: none.
"""

import sys
from typing import Final

from storage_worker import __main__ as worker
from storage_worker.engine.postgres import connection

_NEVER: Final = "-----"
"""No SQLSTATE."""


def switch_off() -> None:
    """For the rest of this process."""
    assert hasattr(connection, "_WARNING")
    setattr(connection, "_WARNING", _NEVER)  # noqa: B010 - it is a constant


if __name__ == "__main__":
    switch_off()
    sys.exit(worker.main())
