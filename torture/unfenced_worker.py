"""The storage worker without its fence: `python -m torture.unfenced_worker`, as `python -m
storage_worker`.

Owns: what is left out, and where it stands still. Promises: a turn is appended whoever the owner
is, and in the place of a turn of that number, so that the drill `stale-worker` shows with it that
it can fail. Told to, it stops itself (SIGSTOP) when it has a turn to append and the append is what
it does next.
Exposure: none.
"""

import signal
import sys
import threading
from pathlib import Path
from typing import Final

from storage_worker import __main__ as worker
from storage_worker.engine.postgres import opening, statements
from storage_worker.engine.postgres.connection import Parameter
from storage_worker.engine.postgres.database import Database
from torture.stale_worker import STAND_STILL

_LOOKS: Final = "FROM owner WHERE epoch = $1 FOR SHARE"
_REPLACES: Final = " ON CONFLICT (number) DO UPDATE SET records = excluded.records"


class StoppingDatabase(Database):
    """Stands still before an append. Not in a transaction, which the server would end."""

    def write_fenced(self, statement: str, *parameters: Parameter) -> None:
        """The same, at once or after SIGCONT."""
        told = Path(STAND_STILL)
        if statement == statements.APPEND and not self._inside and told.exists():
            told.unlink()
            # To this thread: it does not come further than here.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        super().write_fenced(statement, *parameters)


def switch_off() -> None:
    """For the rest of this process."""
    assert statements.APPEND.count(_LOOKS) == 1
    unfenced = statements.APPEND.replace(_LOOKS, "WHERE $1::bigint IS NOT NULL") + _REPLACES
    setattr(statements, "APPEND", unfenced)  # noqa: B010 - it is a constant
    assert hasattr(opening, "Database")
    setattr(opening, "Database", StoppingDatabase)  # noqa: B010 - it is a class


if __name__ == "__main__":
    switch_off()
    sys.exit(worker.main())
