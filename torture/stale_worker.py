"""Drills: a storage worker stands still, another one takes the shard over, and the first one goes
on; and the same with a worker that does not look who the owner is, which must write something.

Owns: when a worker stands still and goes on, and the triggers that note who writes under whose
ownership.
Promises: a worker that was superseded writes no row in any table, answers nobody, and ends: with
the exit code for that, or because the server ended the transaction in which it stood still.
Exposure: none.
"""

import signal
import time
from collections.abc import Sequence
from typing import Final

from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, say
from torture.patience import HANG_SECONDS
from torture.programs import Server, wait_until
from torture.replicated import Site

NAME: Final = "stale-worker"
CONTROL: Final = "control-unfenced-worker"
UNFENCED: Final = "torture.unfenced_worker"
_FULL_ROUNDS: Final = 200
_QUICK_ROUNDS: Final = 2
_CONTROL_ROUNDS: Final = 4
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


def _one_round(site: Site, servers: Sequence[Server], cast: Cast, seconds: float, *, fenced: bool) -> None:
    """The first of `servers` is the owner at the beginning, the second one at the end."""
    stale, owner = servers[0].worker, servers[1].worker
    cast.await_more(_MORE)
    stale.send_signal(signal.SIGSTOP)
    last = int(site.pair.primary.tell("SELECT coalesce(max(number), 0) FROM messageu_0.journal"))
    owner.start()
    servers[1].await_ready()
    if fenced:
        time.sleep(seconds)
    else:
        # So that the number of the turn that it appends is free; one may have been on its way.
        wait_until(lambda: _first_turn(site) > last + 2, "a journal that was taken in")
    stale.send_signal(signal.SIGCONT)
    if fenced:
        code = stale.process.wait(HANG_SECONDS)
        was_ended = code == _EXIT_FAILED and _SERVER_ENDED_IT in stale.last_words()
        if code != _EXIT_SUPERSEDED and not was_ended:
            cast.problems.append(f"the worker that was superseded ended with {code}: {stale.last_words()}")
    else:
        wait_until(lambda: _stale_rows(site) or not stale.running, "a row or an end")
        stale.end()


def _first_turn(site: Site) -> int:
    return int(site.pair.primary.tell("SELECT coalesce(min(number), 9223372036854775807) FROM messageu_0.journal"))


def _stale_rows(site: Site) -> int:
    return int(site.pair.primary.tell("SELECT count(*) FROM public.stale"))


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
                _one_round(site, servers, cast, chance.uniform(0, _LONGEST), fenced=True)
                servers.reverse()
                if number % _TELL_EVERY == _TELL_EVERY - 1:
                    say(f"  {number + 1} takeovers, {_stale_rows(site)} rows by a worker that was superseded")
            _finish(cast, servers)
            found = _stale_rows(site)
            rows = site.pair.primary.tell("SELECT last_value FROM public.looked_at")
            row = cast.row(NAME, 0, f"{rounds} takeovers; {found} of {rows} rows were written by who was superseded")
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
    """A worker that appends whoever the owner is."""
    with Site(place.folder_of(CONTROL)) as site:
        servers, cast = _begin(site, CONTROL, place, UNFENCED)
        servers[1].gateway.start()
        try:
            cast.start()
            found = 0
            for _ in range(_CONTROL_ROUNDS):
                # PostgreSQL may end the worker before it appends a row.
                _one_round(site, servers, cast, 0, fenced=False)
                servers.reverse()
                found = _stale_rows(site)
                if found:
                    break
            row = cast.row(CONTROL, 0, f"{found} rows by who was superseded: there have to be some")
        finally:
            cast.end()
    return row._replace(passed=found > 0)
