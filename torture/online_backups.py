"""Drills: backups of a server that is in use, each started on and fetched from.

Owns: when the backups are made, what is done to the server meanwhile, and the servers that run on
the copies.
Promises: everything that a sender knew to be acknowledged before the command was given is in the
copy, or its recipient has it. The control does not flush the journal first, and must lose.
Exposure: none.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import BLOBS_NAME, DATABASE_NAME
from storage_worker.engine.sqlite.store_identity import mark_as_copy
from torture.actors import attempted_in, received_in
from torture.caller import LARGEST_FETCH, Account, Caller
from torture.cast import Cast, extension_cast
from torture.checker import Verdict, judge
from torture.drill import Place, Row, examples, must_lose, say
from torture.drill_messages import DrillMessage, parse_content
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

NAME: Final = "backup-under-load"
CONTROL: Final = "control-copied-database"
_DAMAGED: Final = DrillMessage("damaged", "damaged", 0)
_MORE: Final = 40
"""Messages that are acknowledged between two backups."""
_KILL_EVERY: Final = 4
_KILLED_WITHIN: Final = 0.6

Copy = Callable[[Server, Path], subprocess.Popen[str] | None]
"""Begins to copy a server's data into a folder; None if that is done already."""


def _command(server: Server, target: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(server.data), "backup", str(target)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _copied_database(server: Server, target: Path) -> None:
    """The same, as if the database were the whole store: the journal is not flushed first."""
    target.mkdir()
    (target / BLOBS_NAME).mkdir()
    with closing(Database(server.data / DATABASE_NAME, beside=True)) as database:
        database.copy_to(target / DATABASE_NAME)
    with closing(Database(target / DATABASE_NAME, beside=True)) as copy:
        mark_as_copy(copy, 0)
    for path in (server.data / BLOBS_NAME).iterdir():
        with suppress(FileNotFoundError):
            (target / BLOBS_NAME / path.name).hardlink_to(path)


def _fetched(port: int, account: Account) -> list[DrillMessage]:
    """All that waits for somebody."""
    found: list[DrillMessage] = []
    ack = 0
    with Caller(port) as caller:
        caller.prove(account)
        while mail := caller.fetch(account.client_id, ack, 0, LARGEST_FETCH):
            found += [parse_content(one.content) or _DAMAGED for one in mail]
            ack = mail[-1].number
    return found


def _judged(
    copy: Path, cast: Cast, acknowledged: Sequence[DrillMessage], received: Mapping[str, Sequence[DrillMessage]]
) -> Verdict:
    """Start a server on a copy. `received`: what recipients have had besides."""
    with Server(copy.parent / f"{copy.name}-server", data=copy).start() as server:
        found = {account.name: _fetched(server.port, account) for account in cast.recipients}
    # Read last: nothing is in a copy before somebody attempted it.
    attempted = [message for journal in cast.sent for message in attempted_in(journal)]
    together = {
        name: [*had, *(message for message in found[name] if message not in set(had))] for name, had in received.items()
    }
    return judge(attempted, acknowledged, together)


def _run(place: Place, drill: str, rounds: int, copy_of: Copy, received_every: int) -> Row:
    """`received_every`: of so many backups one is made while recipients receive. In the others all
    that they do not have yet must be in the copy.
    """
    chance = place.chance(drill)
    cast = extension_cast(place, drill)
    server = cast.server
    verdict, kills, broken_off, problems = Verdict(), 0, 0, list[str]()

    try:
        cast.start()
        for number in range(rounds):
            cast.await_more(_MORE)
            alone = (number + 1) % received_every != 0
            if alone:
                for receiver in cast.receivers:
                    receiver.kill()
            received = {name: received_in(journal) for name, journal in cast.received.items()}
            acknowledged = cast.acknowledged()
            target = cast.folder / f"copy-{number}"
            command = copy_of(server, target)
            if command is not None and number % _KILL_EVERY == _KILL_EVERY - 1:
                time.sleep(chance.random() * _KILLED_WITHIN)
                server.worker.kill()
                server.worker.start()
                kills += 1
            if command is not None:
                _, said = command.communicate(timeout=HANG_SECONDS)
                if command.returncode and number % _KILL_EVERY != _KILL_EVERY - 1:
                    problems.append(f"backup {number} failed: {said.strip()}")
            if alone:
                for receiver in cast.receivers:
                    receiver.start()
            else:
                received = {name: received_in(journal) for name, journal in cast.received.items()}
            if (target / DATABASE_NAME).exists():
                verdict = verdict.combined(_judged(target, cast, acknowledged, received))
            else:
                broken_off += 1
            cast.look_for_deaths()
        cast.finish()
        live = cast.row(drill, kills, "")
    finally:
        cast.end()
    for problem in (*problems, examples(verdict)):
        if problem:
            say(f"  {drill}: {problem}")
    made = rounds - broken_off
    passed = verdict.spotless and live.passed and not problems and made > 0
    note = f"{rounds} backups, {kills} with a kill of the worker meanwhile, {broken_off} of which left no backup"
    return Row(drill, kills, verdict, passed, "; ".join([note, *problems[:2]]))


def run(place: Place) -> Row:
    """`scripts/admin backup`, again and again."""
    return _run(place, NAME, place.sized(40, 4), _command, 2)


def run_control(place: Place) -> Row:
    """A copy of only the database does not keep that promise, and the checker says so."""
    return must_lose(_run(place, CONTROL, place.sized(10, 4), _copied_database, 100))
