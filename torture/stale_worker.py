"""Drills: a storage worker stands still, another one takes the shard over, and the first one goes
on; and the same with a worker that does not look who the owner is, which must write something.

Owns: when a worker stands still and goes on, and the triggers that note who writes under whose
ownership. Each row by who was superseded counts as an unexpected message.
Promises: a worker that was superseded writes no row in any table, answers nobody, and ends: with
the exit code for that, or because the server ended the transaction in which it stood still.
Exposure: none.
"""

import signal
import time
from collections.abc import Sequence
from typing import Final

import psutil

from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, say
from torture.drill_messages import DrillMessage, parse_line
from torture.patience import HANG_SECONDS
from torture.programs import Server, wait_until
from torture.replicated import Site

NAME: Final = "stale-worker"
CONTROL: Final = "control-unfenced-worker"
UNFENCED: Final = "torture.unfenced_worker"
STAND_STILL: Final = "stand-still"
"""A file in its folder, with which it is told to stand still before it appends a turn."""
_FULL_ROUNDS: Final = 200
_QUICK_ROUNDS: Final = 2
_MORE: Final = 10
_LONGEST: Final = 2.5
"""Seconds until the first worker goes on: the other one has brought its journal into tables by
then, or not."""
_TELL_EVERY: Final = 20
_TURN: Final = 4.0
"""Seconds for which an owner serves those who finish."""
_EXIT_SUPERSEDED: Final = 78
_EXIT_FAILED: Final = 1
_SERVER_ENDED_IT: Final = "the store failed, nothing more can be promised: PostgreSQL: server closed the connection"
"""Of a worker that stood still inside a transaction: the server ended that after a while."""
_USERS: Final = ("worker_one", "worker_two")
_NOTE: Final = """
CREATE TABLE public.taken (epoch bigint, who text);
CREATE SEQUENCE public.looked_at;
CREATE TABLE public.stale (who text, epoch bigint, what text);
CREATE FUNCTION public.note_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.taken VALUES (NEW.epoch, session_user);
    RETURN NULL;
END $$;
CREATE FUNCTION public.note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('public.looked_at');
    INSERT INTO public.stale SELECT session_user, owner.epoch, TG_TABLE_NAME FROM messageu_0.owner
        JOIN public.taken ON taken.epoch = owner.epoch WHERE taken.who <> session_user;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON messageu_0.owner FOR EACH ROW EXECUTE FUNCTION public.note_takeover();
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'messageu_0' AND tablename <> 'owner' LOOP
        EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON messageu_0.%I FOR EACH ROW '
            'EXECUTE FUNCTION public.note_write()', one);
    END LOOP;
END $$;
"""
"""Each worker has a user of its own. What a row is written under is the owner's epoch that its
transaction sees, after any takeover that it waited for."""


def _begin(site: Site, drill: str, place: Place, worker_module: str) -> tuple[list[Server], Cast]:
    for user in _USERS:
        site.pair.primary.tell(f"CREATE ROLE {user} LOGIN SUPERUSER")
    site.pair.primary.tell(_NOTE)
    servers = [site.server(user, user, slot, worker_module) for slot, user in enumerate(_USERS)]
    servers[0].start()
    return servers, extension_cast(place, drill, servers[0], [servers[1].port])


def _one_round(site: Site, servers: Sequence[Server], cast: Cast, seconds: float) -> None:
    """The first of `servers` is the owner at the beginning, the second one at the end."""
    stale, owner = servers[0].worker, servers[1].worker
    cast.await_more(_MORE)
    stale.send_signal(signal.SIGSTOP)
    owner.start()
    servers[1].await_ready()
    time.sleep(seconds)
    stale.send_signal(signal.SIGCONT)
    code = stale.process.wait(HANG_SECONDS)
    was_ended = code == _EXIT_FAILED and _SERVER_ENDED_IT in stale.last_words()
    if code != _EXIT_SUPERSEDED and not was_ended:
        cast.problems.append(f"the worker that was superseded ended with {code}: {stale.last_words()}")


def _stale_rows(site: Site) -> list[DrillMessage]:
    """The rows by workers that were superseded, as messages that nobody may have sent: who wrote
    into which table, and under whose epoch.
    """
    told = site.pair.primary.tell("SELECT string_agg(concat_ws(' ', who, what, epoch), ';') FROM public.stale")
    return [parse_line(row) for row in told.split(";") if row]


def _judged(row: Row, stale: Sequence[DrillMessage]) -> Row:
    """The row with what was written by who was superseded, which nobody expects."""
    return row._replace(verdict=row.verdict._replace(unexpected=[*row.verdict.unexpected, *stale]))


def run(place: Place) -> Row:
    """The two take turns: each is superseded by the other one, under load."""
    chance = place.chance(NAME)
    rounds = place.rounds_of(_FULL_ROUNDS, _QUICK_ROUNDS)
    with Site(place.folder_of(NAME)) as site:
        servers, cast = _begin(site, NAME, place, "storage_worker")
        servers[1].gateway.start()
        try:
            cast.start()
            for number in range(rounds):
                _one_round(site, servers, cast, chance.uniform(0, _LONGEST))
                servers.reverse()
                if number % _TELL_EVERY == _TELL_EVERY - 1:
                    say(f"  {number + 1} takeovers, {len(_stale_rows(site))} rows by a worker that was superseded")
            _finish(cast, servers)
            found = _stale_rows(site)
            rows = site.pair.primary.tell("SELECT last_value FROM public.looked_at")
            note = f"{rounds} takeovers; {len(found)} of {rows} rows were written by who was superseded"
            row = _judged(cast.row(NAME, 0, note), found)
        finally:
            cast.end()
    return row._replace(passed=row.passed and not found)


def _finish(cast: Cast, servers: Sequence[Server]) -> None:
    """Senders first, then receivers, each with one owner after the other: every gateway has a part
    of them. Some have nothing left to do under the first owner.
    """
    for flag, actors in ((cast.stop_sending, cast.senders), (cast.stop_receiving, cast.receivers)):
        flag.touch()
        deadline = time.monotonic() + HANG_SECONDS
        owner, other = servers
        while not all(actor.ended_well(_TURN / len(actors)) for actor in actors) and time.monotonic() < deadline:
            owner, other = other, owner
            other.worker.end()
            owner.start()
        cast.server = owner
    cast.finish()


def run_control(place: Place) -> Row:
    """A worker that appends whoever the owner is stands still with a turn that it appends next."""
    with Site(place.folder_of(CONTROL)) as site:
        servers, cast = _begin(site, CONTROL, place, UNFENCED)
        servers[1].gateway.start()
        stale, owner = servers[0].worker, servers[1].worker
        try:
            cast.start()
            cast.await_more(_MORE)
            (servers[0].folder / STAND_STILL).touch()
            process = psutil.Process(stale.pid)
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "a worker that stands still")
            owner.start()
            servers[1].await_ready()
            # Rows that nobody can have written yet would show nothing.
            too_early = _stale_rows(site)
            stale.send_signal(signal.SIGCONT)
            wait_until(lambda: _stale_rows(site) or not stale.running, "a row or an end")
            stale.end()
            found = _stale_rows(site)
            note = f"{len(found)} rows by who was superseded: there have to be some"
            row = _judged(cast.row(CONTROL, 0, note), found)
        finally:
            cast.end()
    return row._replace(passed=bool(found) and not too_early)
