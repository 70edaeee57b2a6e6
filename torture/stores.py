"""Where the servers of the drills keep their mail.

Owns: the choice, and the PostgreSQL server where that is chosen. Promises: each data folder has a
store of its own, which is the same one at each of its starts.
Exposure: none.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from cluster.postgres import Address, Node

EMBEDDED: Final = "embedded"
POSTGRESQL: Final = "postgresql"
KINDS: Final = (EMBEDDED, POSTGRESQL)


class Stores(Protocol):
    """Says what a worker is started with."""

    def arguments(self, data: Path) -> Sequence[str]:
        """Options of the worker of a data folder; the store is made where there is none."""


class EmbeddedStores:
    """In the data folder: nothing has to be said."""

    def arguments(self, data: Path) -> Sequence[str]:
        """See `Stores`."""
        return ()


class PostgresStores:
    """Each in a database of its own, of one PostgreSQL server."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
        self._folder.chmod(0o711)
        self._node = Node("one", self._folder / "one", Address(str(self._folder / "one")), durable=False)
        self._known: dict[Path, str] = {}

    def __enter__(self) -> Self:
        try:
            self._node.make()
            self._node.configure()
            self._node.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def arguments(self, data: Path) -> Sequence[str]:
        """See `Stores`."""
        # Only where it is needed: the programs of a drill import this module too.
        from torture.replicated import make_store  # noqa: PLC0415

        if data not in self._known:
            database = f"mail_{len(self._known)}"
            self._node.tell(f"CREATE DATABASE {database} TEMPLATE template0", "postgres")
            self._known[data] = self._node.url(database)
            make_store(self._known[data])
        return ("--store", self._known[data])


_EMBEDDED: Final = EmbeddedStores()
_chosen: list[Stores] = [_EMBEDDED]


def chosen() -> Stores:
    """What the drills of this run use."""
    return _chosen[0]


def choose(stores: Stores) -> None:
    """For the rest of this run."""
    _chosen[0] = stores
