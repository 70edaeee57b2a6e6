"""A cast: a server with senders and receivers that use it while a drill disturbs them.

Owns: the processes of a drill and their journals. Promises: a process that ended without being
killed is noted as a problem; at the end everybody may finish, and the checker sees all journals. Of
a drill that breaks off before that it is said what is certain, and that the rest is not counted.
Exposure: none.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Final

from torture.actors import (
    Actor,
    Orders,
    acknowledged_in,
    count_acknowledged,
    judge_journals,
    receive_messages,
    send_messages,
)
from torture.caller import Account, new_account
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage
from torture.patience import HANG_SECONDS
from torture.programs import Server, wait_until

_SENDERS: Final = 4
_RECEIVERS: Final = 3


class Cast:
    """A server, and processes that send and receive through it until they are told to stop."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.folder = folder
        self.senders: list[Actor] = []
        self.receivers: list[Actor] = []
        self.recipients: list[Account] = []
        self.sent: list[Path] = []
        self.received: dict[str, Path] = {}
        self.problems: list[str] = []
        self._started = False
        self._finished = False
        """Whether everybody had nothing left to do."""
        self._judged = False
        self.stop_sending, self.stop_receiving = folder / "stop-sending", folder / "stop-receiving"

    def journal(self, name: str) -> Path:
        """Where a member writes what it does."""
        return self.folder / f"{name}.journal"

    def add_sender(self, name: str, actor: Actor) -> None:
        """Add a sender with a journal."""
        self.senders.append(actor)
        self.sent.append(self.journal(name))

    def add_receiver(self, name: str, actor: Actor) -> None:
        """Add a receiver with a journal."""
        self.receivers.append(actor)
        self.received[name] = self.journal(name)

    def start(self) -> None:
        """Everybody begins."""
        self._started = True
        for actor in (*self.senders, *self.receivers):
            actor.start()

    def acknowledged(self) -> list[DrillMessage]:
        """What the senders know to be accepted."""
        return [message for journal in self.sent for message in acknowledged_in(journal)]

    def count_acknowledged(self) -> int:
        """How many these are."""
        return sum(map(count_acknowledged, self.sent))

    def await_more(self, number: int, since: int | None = None) -> int:
        """Wait until so many more are acknowledged than now, or than `since`; how many are then.
        Raises `ProgramFailed`.
        """
        before = self.count_acknowledged() if since is None else since
        wait_until(lambda: self.count_acknowledged() >= before + number, "messages that come through")
        return self.count_acknowledged()

    def look_for_deaths(self) -> None:
        """Note processes that ended without being killed."""
        self.problems += start_again((*self.senders, *self.receivers), self.server)

    def finish(self) -> None:
        """No more kills: senders get their last acknowledgements, then receivers empty
        their mailboxes.
        """
        self.server.start()
        problems = len(self.problems)
        for flag, actors in ((self.stop_sending, self.senders), (self.stop_receiving, self.receivers)):
            flag.touch()
            for actor in actors:
                if not actor.ended_well(HANG_SECONDS):
                    self.problems.append(f"a client did not finish: {actor.process.exitcode}")
                    actor.kill()
        self._finished = len(self.problems) == problems

    def row(self, drill: str, kills: int, note: str) -> Row:
        """What the checker says, and what else went wrong."""
        self._judged = True
        verdict = judge_journals(self.sent, self.received, drained=self._finished)
        unknown = f"{len(verdict.not_fetched)} not fetched when it ended, and not counted" if not self._finished else ""
        for problem in (*self.problems, examples(verdict)):
            if problem:
                say(f"  {drill}: {problem}")
        passed = verdict.spotless and self._finished and not self.problems and verdict.acknowledged > 0
        return Row(
            drill, kills, verdict, passed, "; ".join(part for part in (note, unknown, *self.problems[:2]) if part)
        )

    def end(self) -> None:
        """End all processes, whatever their state."""
        for actor in (*self.senders, *self.receivers):
            actor.kill()
        self.server.end()
        if self._started and not self._judged:
            verdict = judge_journals(self.sent, self.received, drained=False)
            say(
                f"  broken off before everything was fetched, and not counted: of {verdict.acknowledged:,} "
                f"acknowledged {len(verdict.not_fetched):,} are not fetched yet. {examples(verdict)}".rstrip()
            )


def start_again(actors: Iterable[Actor], server: Server) -> list[str]:
    """Start clients and programs that ended without being killed; what is to be said of each."""
    problems: list[str] = []
    for actor in actors:
        if not actor.process.is_alive():
            problems.append(f"a client ended by itself with {actor.process.exitcode}")
            actor.start()
    for program in server.programs:
        if not program.running:
            problems.append(f"{program.module} ended by itself: {program.last_words()}")
            program.start()
    return problems


def extension_cast(place: Place, drill: str, server: Server | None = None, other_ports: Sequence[int] = ()) -> Cast:
    """Clients of the extension at a running server of their own, or at `server`; `other_ports`: of
    gateways to the same store, to which some of them go.
    """
    folder = place.folder_of(drill)
    cast = Cast(folder, server or Server(folder / "server").start())
    port = cast.server.port
    ports = cycle((port, *other_ports))
    recipients = [new_account(port, f"r{number}") for number in range(_RECEIVERS)]
    cast.recipients = recipients
    addresses = {account.name: account.client_id for account in recipients}
    for account in recipients:
        orders = Orders(next(ports), account, {}, cast.journal(account.name), cast.stop_receiving, place.seed)
        cast.add_receiver(account.name, Actor(receive_messages, orders))
    for account in [new_account(port, f"s{number}") for number in range(_SENDERS)]:
        orders = Orders(next(ports), account, addresses, cast.journal(account.name), cast.stop_sending, place.seed)
        cast.add_sender(account.name, Actor(send_messages, orders))
    return cast
