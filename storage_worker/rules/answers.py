"""Answers that several subjects of the rules share, and refusals for data that can't be read.

Owns: the refusals. Promises: an operation that needs damaged data is refused, with one line in the
log; any other error passes unchanged.
Exposure: none of its own.
"""

import logging
from typing import Final

from common.rare_log import RareLog
from common.storage_protocol.operations import Done, Refused
from common.values import RefusalReason
from storage_worker.engine.errors import DirectoryUnreachable, NoFileLeft, TablesDamaged
from storage_worker.engine.interface import Engine

rarely: Final = RareLog(logging.getLogger("storage_worker"))

RETRY_AFTER: Final = 30
"""Seconds after which trying again makes sense where a mailbox or the disk is full, or no more
uploads may begin."""

UNAVAILABLE_FOR: Final = 2
"""The same where another part of the server is down."""

DONE: Final = Done()
MALFORMED: Final = Refused(RefusalReason.MALFORMED)
REQUESTER_UNKNOWN: Final = Refused(RefusalReason.REQUESTER_UNKNOWN)
RECIPIENT_UNKNOWN: Final = Refused(RefusalReason.RECIPIENT_UNKNOWN)
PROOF_NEEDED: Final = Refused(RefusalReason.PROOF_NEEDED)
INVITATION: Final = Refused(RefusalReason.INVITATION)
REGISTRATION_CLOSED: Final = Refused(RefusalReason.REGISTRATION_CLOSED)
DISABLED: Final = Refused(RefusalReason.DISABLED)
NO_KEYS: Final = Refused(RefusalReason.NO_KEYS)
NAME_TAKEN: Final = Refused(RefusalReason.NAME_TAKEN)
TOO_LARGE: Final = Refused(RefusalReason.TOO_LARGE)
MAILBOX_FULL: Final = Refused(RefusalReason.MAILBOX_FULL, RETRY_AFTER)
SHARE_FULL: Final = Refused(RefusalReason.SENDER_SHARE, RETRY_AFTER)
STORAGE_FULL: Final = Refused(RefusalReason.STORAGE_FULL, RETRY_AFTER)
TOO_MANY_UPLOADS: Final = Refused(RefusalReason.TOO_FAST, RETRY_AFTER)
TOKEN_REUSED: Final = Refused(RefusalReason.TOKEN_REUSED)
UNAVAILABLE: Final = Refused(RefusalReason.UNAVAILABLE, UNAVAILABLE_FOR)
DAMAGED: Final = Refused(RefusalReason.DAMAGED, RETRY_AFTER)
"""The operator has to do something, and trying again later is right."""


class Unreadable:
    """Turns errors of reading into refusals."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def refusal(self, error: Exception) -> Refused:
        """The refusal for data that could not be read, with a line in the log. Re-raises any other
        error.
        """
        if isinstance(error, NoFileLeft):
            rarely.write(logging.WARNING, "an operation is refused: %s", error)
            return STORAGE_FULL
        if isinstance(error, DirectoryUnreachable):
            rarely.write(logging.WARNING, "an operation is refused: %s", error)
            return UNAVAILABLE
        damage = None if isinstance(error, TablesDamaged) else self._engine.damage(error)
        if damage is None:
            raise error
        self._engine.refuse_undone(error)
        rarely.write(logging.ERROR, "an operation is refused: %s", damage)
        return DAMAGED
