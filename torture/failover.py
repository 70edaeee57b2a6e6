"""Drills: PostgreSQL's primary is killed under load, and its standby promoted; and the same with a
standby that nobody waits for, which must lose.

Owns: when the primary dies, how long that stays unnoticed, and how long it takes until somebody is
answered again.
Promises: what was acknowledged is there after each takeover, once. How long one took is shown, and
depends on the machine.
Exposure: none.
"""

import random
import threading
import time
from typing import Final

from torture.caller import Account, new_account
from torture.cast import extension_cast
from torture.drill import Place, Row, say
from torture.programs import Program, Server
from torture.replicated import Site, first_answer, loss_without_a_standby, percentile

NAME: Final = "failover"
CONTROL: Final = "control-failover-asynchronous"
_FULL_ROUNDS: Final = 200
_QUICK_ROUNDS: Final = 2
_MORE: Final = 20
"""Messages that are acknowledged before the next kill."""
_UNNOTICED: Final = 3.0
"""Seconds that a death stays unnoticed at most: what watches the primary looks at intervals."""
_KEPT_AFTER: Final = 0.1
"""After so many seconds what keeps the worker running starts it again."""
_TELL_EVERY: Final = 20


class Keeper(threading.Thread):
    """Starts a worker again whenever it has ended, and counts how often."""

    def __init__(self, worker: Program) -> None:
        super().__init__(daemon=True)
        self._worker = worker
        self._over = threading.Event()
        self.starts = 0
        self.final: list[int] = []
        """Exit codes with which it said that a start won't help."""

    def run(self) -> None:
        """Until told to end."""
        while not self._over.wait(_KEPT_AFTER):
            if not self._worker.running:
                code = self._worker.process.returncode
                if code == 78:
                    self.final.append(code)
                self._worker.start()
                self.starts += 1

    def end(self) -> None:
        """Let go of it."""
        self._over.set()
        self.join()


class Probe(threading.Thread):
    """Asks from the kill on, until the answer comes."""

    def __init__(self, port: int, account: Account, label: str) -> None:
        super().__init__(daemon=True)
        self._arguments = (port, account, label)
        self.answered_at = 0.0
        self.start()

    def run(self) -> None:
        """One answer."""
        self.answered_at = first_answer(*self._arguments)


def one_takeover(site: Site, server: Server, probe: Account, label: str, chance: random.Random) -> float:
    """Kill the primary and promote the standby; seconds from the promotion to the first answer."""
    site.pair.primary.kill()
    waiting = Probe(server.port, probe, label)
    time.sleep(chance.uniform(0, _UNNOTICED))
    noticed_at = time.monotonic()
    site.pair.promote()
    waiting.join()
    return waiting.answered_at - noticed_at


def run(place: Place) -> Row:
    """Again and again, with a load that does not stop."""
    chance = place.chance(NAME)
    rounds = place.rounds_of(_FULL_ROUNDS, _QUICK_ROUNDS)
    took: list[float] = []
    with Site(place.folder_of(NAME)) as site:
        server = site.server().start()
        probe = new_account(server.port, "probe")
        cast = extension_cast(place, NAME, server)
        keeper = Keeper(server.worker)
        keeper.start()
        try:
            cast.start()
            for number in range(rounds):
                cast.await_more(_MORE)
                time.sleep(chance.uniform(0, 0.3))
                took.append(one_takeover(site, server, probe, f"{place.seed} {number}", chance))
                site.pair.follow()
                if number % _TELL_EVERY == _TELL_EVERY - 1:
                    say(f"  {number + 1} takeovers, the slowest {max(took):.2f} s")
            cast.await_more(1)
            keeper.end()
            cast.look_for_deaths()
            cast.finish()
            if keeper.final:
                cast.problems.append(f"the worker said {len(keeper.final)} times that a start won't help")
            note = (
                f"{rounds} takeovers, seconds from the promotion to the first answer: median "
                f"{percentile(took, 50):.2f}, p99 {percentile(took, 99):.2f}, most {max(took):.2f}; a death was "
                f"noticed within {_UNNOTICED:g} s; {len(site.pair.copied)} times the old primary was copied anew"
            )
            return cast.row(NAME, rounds, note)
        finally:
            keeper.end()
            cast.end()


def run_control(place: Place) -> Row:
    """A standby that nobody waits for, and that gets nothing for a moment."""
    with Site(place.folder_of(CONTROL)) as site:
        server = site.server().start()
        return loss_without_a_standby(place, CONTROL, site, server, lambda: site.pair.primary.suspend("walsender"))
