"""The storage worker with its checks switched off: `python -m torture.unchecked_worker`, as `python
-m storage_worker`.

Owns: which checks there are. Promises: what is damaged on its disk is neither noticed nor named, so
that the drill `damage-of-every-file` shows with it that it can fail.
Exposure: none.
"""

import sys
from typing import Any, Final

from storage_worker import __main__ as worker
from storage_worker.engine.sqlite import blobs, database, mail_pages
from storage_worker.engine.sqlite.journal import Journal


class _Anything(int):
    """Equal to whatever was read."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


_OFF: Final[list[tuple[object, str, Any]]] = [
    (database, "load_checksums", lambda: "unix"),
    (mail_pages, "checksum_of", lambda _page: _Anything(1)),
    (blobs, "pieces_are_whole", lambda *_: True),
    (blobs, "table_is_whole", lambda *_: True),
    (Journal, "_damage", lambda *_: None),
    (worker, "look_at_journal", lambda *_: False),
]


def switch_off() -> None:
    """For the rest of this process."""
    for where, name, instead in _OFF:
        assert hasattr(where, name), name
        setattr(where, name, instead)


if __name__ == "__main__":
    switch_off()
    sys.exit(worker.main())
