"""Fail points: named places at which a program can be made to die, so that tests see what that
leaves behind.

Owns: the environment variable MESSAGEU_FAILPOINT, read once when a program starts.
Promises: if the variable is not set, nothing ever happens here. If it is, the process kills itself
as kill -9 does, at the given pass through the named place.
Exposure: the environment of whoever starts the programs.

    MESSAGEU_FAILPOINT=worker-before-commit:3                 at the third pass
    MESSAGEU_FAILPOINT=worker-before-commit/StoreMessage:1    at the first pass that concerns a StoreMessage
"""

import os
import signal
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from common.errors import SettingRejected

VARIABLE: Final = "MESSAGEU_FAILPOINT"


class FailPoint(StrEnum):
    """The places. They concern operations, by the name of their type; REPLYING concerns a
    response's code.

    Those of deletions, which go on between turns, and of backups and the recovery, operators'
    commands, concern nothing.
    """

    WORKER_RECEIVED = "worker-received"
    """Batches are read from the link, and nothing was done about them."""
    WORKER_BEFORE_COMMIT = "worker-before-commit"
    """All of the turn is done in memory, and nothing of it is on disk."""
    WORKER_AFTER_COMMIT = "worker-after-commit"
    """It is on disk, and no answer has left."""
    WORKER_REPLYING = "worker-replying"
    """The answer is handed to ZeroMQ: it may be out, or not."""
    WORKER_FLUSHING = "worker-flushing"
    """The database has taken in what the journal holds, inside the transaction."""
    WORKER_FLUSHED = "worker-flushed"
    """That is on disk, and the journal's new log epoch has no record yet."""
    DELETION_STEP = "deletion-step"
    """A step of a user's deletion is done inside its transaction."""
    DELETION_STEPPED = "deletion-stepped"
    """It is on disk, and the files of its messages are not removed."""
    DELETION_ERASED = "deletion-erased"
    """The journal's files are overwritten, and SQLite's log is not."""
    BACKUP_COPIED = "backup-copied"
    """Of a backup the database is copied, and not marked."""
    BACKUP_LINKED = "backup-linked"
    """It is whole, and has no name."""
    RECOVERY_KEPT = "recovery-kept"
    """`admin recover-journal`: a file of the damaged journal is copied aside."""
    RECOVERY_GENERATION = "recovery-generation"
    """Its new generation is on disk, and nothing is taken in."""
    RECOVERY_OPENED = "recovery-opened"
    """The journal's files have their length again."""
    RECOVERY_TAKEN_IN = "recovery-taken-in"
    """All that is whole is in the database, and the journal's files are not marked."""
    RECOVERY_MARKED = "recovery-marked"
    """They are."""
    GATEWAY_RECEIVED = "gateway-received"
    """Requests are read and became a batch, which has not left."""
    GATEWAY_SENT = "gateway-sent"
    """The batch is handed to ZeroMQ: it may be out, or not."""
    GATEWAY_ANSWERED = "gateway-answered"
    """The worker's answer is here, and no client knows of it."""
    GATEWAY_REPLYING = "gateway-replying"
    """Half of a response is with the kernel."""
    GATEWAY_AFTER_WAITING = "gateway-after-waiting"
    """A 2104 with mail is with the kernel, whole."""
    GATEWAY_BEFORE_SETTLE = "gateway-before-settle"
    """There is evidence that a client has its mail, and the worker does not know."""
    CLIENT_KEYS_MADE = "client-keys-made"
    """The private halves of what is to be published are on disk, and nothing has left."""
    CLIENT_KEYS_PUBLISHED = "client-keys-published"
    """The server has them, and the home has not noted it."""
    CLIENT_KEY_CLAIMED = "client-key-claimed"
    """The server has given somebody's key, and nothing of it is on disk."""
    CLIENT_PAYLOAD_KEPT = "client-payload-kept"
    """A message is in the outbox, and not sealed."""
    CLIENT_SEALED = "client-sealed"
    """It is sealed on disk, with the session that sealed it, and has not left."""
    CLIENT_SENT = "client-sent"
    """The server has it, and the home has not noted it."""
    CLIENT_FETCHED = "client-fetched"
    """Messages are in the inbox, and none is opened."""
    CLIENT_OPENED = "client-opened"
    """One is opened on disk, with the session that opened it, and nobody has seen it."""


class Countdown:
    """One armed point."""

    def __init__(self, setting: str) -> None:
        place, colon, passes = setting.rpartition(":")
        point, _, self._concern = place.partition("/")
        if not colon or point not in set(FailPoint) or not (passes.isascii() and passes.isdigit()) or int(passes) < 1:
            raise SettingRejected(f"{VARIABLE} is POINT:N or POINT/OPERATION:N, not {setting!r}")
        self._point = FailPoint(point)
        self._passes_left = int(passes)

    def passes(self, point: FailPoint, concerns: Iterable[str]) -> bool:
        """Count a pass; whether it is the one."""
        if point is not self._point or (self._concern and self._concern not in concerns):
            return False
        self._passes_left -= 1
        return self._passes_left == 0


_armed = Countdown(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def armed() -> bool:
    """Whether a point is armed at all; callers check this before costly inspection."""
    return _armed is not None


def due(point: FailPoint, concerns: Iterable[str] = ()) -> bool:
    """Whether the process has to die here and now. `concerns` is only iterated if a point
    is armed.
    """
    return _armed is not None and _armed.passes(point, concerns)


def die() -> None:
    """End as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def reach(point: FailPoint, concerns: Iterable[str] = ()) -> None:
    """Pass a fail point, and die there if it is due."""
    if due(point, concerns):
        die()


def names(things: Iterable[object]) -> Iterator[str]:
    """What operations concern: the names of their types, made as they are asked for."""
    for thing in things:
        yield type(thing).__name__
