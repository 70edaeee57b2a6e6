"""Drills: commits are cancelled while they wait for the standby, then the primary is lost; and the
same with a worker that takes such a commit for done, which must lose.

Owns: when the standby gets nothing, which waits are cancelled, and when the primary dies.
Promises: nothing was answered that the standby does not have: the worker ends at the warning.
Exposure: none.
"""

import time
from typing import Final

from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, say
from torture.programs import Program, wait_until
from torture.replicated import Site, fail_over, losing_row

NAME: Final = "cancelled-commit"
CONTROL: Final = "control-trusting-worker"
TRUSTING: Final = "torture.trusting_worker"
_FULL_ROUNDS: Final = 100
_QUICK_ROUNDS: Final = 2
_MORE: Final = 10
_TELL_EVERY: Final = 20
_CANCEL: Final = (
    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
    "AND application_name = 'messageu-storage-worker'"
)
_SENTENCE: Final = "committed with a warning, which may have no standby"


def _cancel_until(site: Site, cast: Cast, worker: Program, more: int) -> int:
    """Cancel each wait, until the worker has ended or so many messages were acknowledged after all;
    how many waits were cancelled.
    """
    before = cast.count_acknowledged()
    cancelled = 0

    def is_over() -> bool:
        nonlocal cancelled
        cancelled += int(site.pair.primary.tell(_CANCEL))
        return not worker.running or cast.count_acknowledged() >= before + more

    wait_until(is_over, "a worker that ends")
    return cancelled


def _one_round(site: Site, cast: Cast, seconds: float, more: int) -> int:
    cast.await_more(_MORE)
    time.sleep(seconds)
    # What the primary has not sent, the standby can't have.
    site.pair.primary.suspend("walsender")
    cancelled = _cancel_until(site, cast, cast.server.worker, more)
    fail_over(site, cast.server.worker)
    return cancelled


def run(place: Place) -> Row:
    """Again and again, under load."""
    chance = place.chance(NAME)
    rounds = place.rounds_of(_FULL_ROUNDS, _QUICK_ROUNDS)
    cancelled = 0
    with Site(place.folder_of(NAME)) as site:
        server = site.server().start()
        cast = extension_cast(place, NAME, server)
        try:
            cast.start()
            for number in range(rounds):
                cancelled += _one_round(site, cast, chance.uniform(0, 0.3), 10**9)
                site.pair.follow()
                if number % _TELL_EVERY == _TELL_EVERY - 1:
                    say(f"  {number + 1} rounds, {cancelled} commits cancelled")
            cast.await_more(1)
            cast.look_for_deaths()
            cast.finish()
            ends = server.worker.said().count(_SENTENCE)
            if not ends:
                cast.problems.append("the worker never ended at the warning")
            note = f"{cancelled} commits cancelled while they waited, the worker ended at {ends} warnings"
            return cast.row(NAME, rounds, note)
        finally:
            cast.end()


def run_control(place: Place) -> Row:
    """A worker that takes success for success."""
    with Site(place.folder_of(CONTROL)) as site:
        server = site.server(worker_module=TRUSTING).start()
        return losing_row(place, CONTROL, server, lambda cast: _one_round(site, cast, 0, _MORE))
