"""Where the server's programs write their log, and in which form.

Owns: the root logger of gateway and storage worker.
Promises: one line a record, on stderr, with time, level and the part that says it. Under systemd's
journal, which has a time for every line, there is no second one.
Exposure: none; what is written there is escaped by whoever writes it.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

JOURNAL_VARIABLE: Final = "JOURNAL_STREAM"
_FORM: Final = "%(levelname)s %(name)s: %(message)s"


def begin_log(level: str, environment: Mapping[str, str]) -> None:
    """Write to stderr what is of this level or above."""
    form = _FORM if is_journal(sys.stderr, environment) else f"%(asctime)s {_FORM}"
    logging.basicConfig(level=level.upper(), format=form, stream=sys.stderr)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a stream goes to the journal, whose device and inode systemd names in the
    environment, in decimal.

    The variable alone says nothing: it is inherited, and the stream may have gone elsewhere since.

    Source: systemd.exec(5), "$JOURNAL_STREAM".
    """
    named = environment.get(JOURNAL_VARIABLE)
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        # It is closed, or no stream of the system.
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
