"""The storage worker that deletes users and overwrites nothing: `python -m
torture.unerasing_worker`, as `python -m storage_worker`.

Owns: what is switched off. Promises: what a deleted user left in the journal's files stays there,
so that the drill `expiry-and-deletion` shows with it that it can fail.
Exposure: none.
"""

import sys

from storage_worker import __main__ as worker
from storage_worker.engine.sqlite.journal import Journal


def switch_off() -> None:
    """For the rest of this process."""
    setattr(Journal, "erase", lambda _journal: None)  # noqa: B010 - its type is another one


if __name__ == "__main__":
    switch_off()
    sys.exit(worker.main())
