"""Drill: homes talk under cipher suite 1 in both directions, two processes each, while clients,
gateway and worker are killed at any instant; and homes and the server are put back from copies.

Owns: who is killed when, what is put back, and the rules of what may be seen then.
Promises: nothing that was acknowledged is lost or undecryptable, nothing is shown twice, and no
message key seals twice. Where a home was put back, what was sealed for its later state heals by
itself, and both sides are told. A client whose ratchet is not in the transaction of the message has
to fail, or the drill shows nothing.
Exposure: 127.0.0.1 only.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final, Self

from client.errors import ClientError
from client.identity.archive import export_home, import_home
from client.identity.home import open_store
from client.suite1.own_keys import OwnKeys
from torture.actors import Actor
from torture.cast import start_again
from torture.checker import Verdict, judge
from torture.drill import Place, Row, examples, say
from torture.olm_messages import KeyUses
from torture.programs import Server, wait_until
from torture.restored_backup import copy_folder, restore_folder
from torture.talkers import Notes, Orders, Talker, count_acknowledged, read_notes, sent_envelopes, talk

NAME: Final = "kills-while-ratcheting"
CONTROL: Final = "ratchet-out-of-transaction"
WEIGHTS: Final = {"worker": 25, "gateway": 25, "client": 50}
_USERS: Final = ("alice", "bob", "carol")
_FULL_KILLS: Final = 1_000
_QUICK_KILLS: Final = 12
_FULL_STAGES: Final = 9
_PAUSE: Final = 0.2
"""Seconds between two kills, on average."""
_LOOK_AFTER: Final = 8
"""Kills after which something has to come through before the next."""
_AHEAD: Final = 50 * 3600.0
"""Seconds by which the clients' clocks go ahead from stage to stage: keys are rotated, and limits
on renewals are over.
"""
_ROUNDS: Final = 60
"""Enough for everything to come to rest."""
_BEHIND_THE_COPY: Final = 3
"""Messages from everybody for a home that was put back, and has not said so."""


class _Homes:
    """The homes, the server, and the processes that talk."""

    def __init__(self, folder: Path, chance: Random, *, is_bound: bool) -> None:
        self._folder = folder
        self._chance = chance
        self._is_bound = is_bound
        self.server = Server(folder / "server").start()
        self._actors: list[Actor] = []
        self._flags = 0
        self._ahead = 0.0
        self.epoch = 0
        self.unordered: set[int] = set()
        """Epochs in which messages were sent again behind later ones."""
        self.killed: Counter[str] = Counter()
        self.problems: list[str] = []
        self.seeds: dict[int, bytes] = {}
        """Of all outer keys that any home ever had."""
        (folder / "files").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.server.end()

    def orders(self, user: str, role: str, *, resends: bool = False) -> Orders:
        """What a process of a home has to know now."""
        others = tuple(other for other in _USERS if other != user)
        stop = self._folder / f"stop-{self._flags}"
        return Orders(
            self.server.port, self._folder, user, role, self.epoch, others, role == "one", stop, self._ahead,
            resends, self._is_bound,
        )  # fmt: skip

    @property
    def all_orders(self) -> list[Orders]:
        """Those of all processes, for their journals."""
        return [self.orders(user, role) for user in _USERS for role in ("one", "two")]

    @property
    def notes(self) -> Notes:
        """What all of them have noted."""
        return read_notes(self.all_orders)

    def introduce(self) -> None:
        """Everybody registers, and writes to everybody."""
        for user in _USERS:
            with Talker(self.orders(user, "one")) as talker:
                talker.messenger.register(user)
        for _ in range(2):
            for user in _USERS:
                with Talker(self.orders(user, "one")) as talker:
                    talker.messenger.users()
                    for _ in range(4):
                        talker.send()
        self.rest()

    # --- disturbed

    def start(self, *, resends: bool = False) -> None:
        """Everybody talks, two processes of each home."""
        self._actors = [
            Actor(talk, self.orders(user, role, resends=resends and role == "one"))
            for user in _USERS
            for role in ("one", "two")
        ]
        for actor in self._actors:
            actor.start()

    def stop(self) -> None:
        """The talkers are killed."""
        for actor in self._actors:
            actor.kill()
        self._actors = []

    def kill(self, how_many: int) -> None:
        """Kill one after another, of each kind."""
        acknowledged = self._acknowledged()
        for number in range(1, how_many + 1):
            time.sleep(self._chance.expovariate(1 / _PAUSE))
            self.problems += start_again(self._actors, self.server)
            (who,) = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            if who == "client":
                actor = self._chance.choice(self._actors)
                actor.kill()
                actor.start()
            else:
                program = self.server.worker if who == "worker" else self.server.gateway
                program.kill()
                program.start()
            self.killed[who] += 1
            if number % _LOOK_AFTER == 0:
                acknowledged = self._await_more(acknowledged)

    def _await_more(self, before: int) -> int:
        """Wait until the talkers know of more than `before` accepted messages; return how many."""
        wait_until(lambda: self._acknowledged() > before, "a message that comes through")
        return self._acknowledged()

    def _acknowledged(self) -> int:
        return sum(count_acknowledged(orders) for orders in self.all_orders)

    # --- undisturbed

    def rest(self) -> None:
        """Without kills: until nothing waits anywhere, and nothing comes any more."""
        self.server.start()
        for _ in range(_ROUNDS):
            moved = 0
            for user in _USERS:
                with Talker(self.orders(user, "one")) as talker:
                    moved += talker.finish() + talker.receive()
            if not moved:
                break
        else:
            self.problems.append("it does not come to rest")
        for user in _USERS:
            self._note_seeds(user)

    def resend(self) -> None:
        """Everybody sends again what is possibly lost: at once, or when the others have fetched."""
        for user in _USERS:
            if self._resent(user):
                self.rest()
                self.problems += [f"{user}: {problem}" for problem in self._resent(user)]

    def _resent(self, user: str) -> list[str]:
        for _ in range(_ROUNDS):
            with Talker(self.orders(user, "one")) as talker, suppress(ClientError):
                return talker.resend()
        return ["it does not come to resending"]

    def _note_seeds(self, user: str) -> None:
        store = open_store(self._folder / user)
        try:
            row = store.own_keys.get()
            assert row is not None
            self.seeds.update({secret.number: secret.seed for secret in OwnKeys.from_bytes(row.state).outer})
        finally:
            store.close()

    # --- put back

    def home_by_export(self, kills: int) -> str:
        """A home is exported, used on, and put back from the export; return whose it was."""
        user, file = self._chance.choice(_USERS), self._folder / f"export-{self.epoch}"
        export_home(self._folder / user, file, "secret")
        self._put_back(user, kills, lambda home: import_home(home, file, "secret"))
        return user

    def home_by_copy(self, kills: int) -> str:
        """The same with a copy of its folder."""
        user, copy = self._chance.choice(_USERS), self._folder / f"copy-{self.epoch}"
        shutil.copytree(self._folder / user, copy)
        self._put_back(user, kills, lambda home: shutil.copytree(copy, home))
        return user

    def _put_back(self, user: str, kills: int, bring: Callable[[Path], object]) -> None:
        self.start()
        self.kill(kills)
        self.stop()
        self.rest()
        home = self._folder / user
        shutil.rmtree(home)
        bring(home)
        self.begin_epoch(unordered=True)
        # For a home that has not said yet that it is an old copy.
        for other in _USERS:
            if other != user:
                with Talker(self.orders(other, "one")._replace(others=(user,))) as talker:
                    for _ in range(_BEHIND_THE_COPY):
                        talker.send()
        self.start()
        self.kill(kills)
        self.stop()
        self.rest()

    def put_server_back(self, kills: int) -> None:
        """The server is backed up, used on, and put back."""
        copies = self._folder / "server-copies"
        copy_folder(self.server, copies)
        self.unordered.add(self.epoch)
        self.start()
        self.kill(kills)
        self.stop()
        self.server.start()
        restore_folder(self.server, copies)
        self.begin_epoch()
        self.start(resends=True)
        self.kill(kills)
        self.stop()
        self.server.start()
        self.resend()
        self.rest()

    def begin_epoch(self, *, unordered: bool = False) -> None:
        """What is sent from now on has an order of its own."""
        self.epoch += 1
        if unordered:
            self.unordered.add(self.epoch)

    def next_stage(self) -> None:
        """Days pass."""
        self._ahead += _AHEAD
        self.begin_epoch()

    # --- judged

    def verdict(self) -> Verdict:
        """What the checker says, of the order only where it can hold."""
        notes = self.notes
        found = judge(notes.attempted, notes.acknowledged, notes.received)
        strict = [one for one in found.out_of_order if int(one.sender.rpartition(".")[2]) not in self.unordered]
        return found._replace(out_of_order=strict)

    def key_uses(self) -> KeyUses:
        """The message keys of all that ever left the homes."""
        uses = KeyUses(self.seeds)
        uses.add(sent_envelopes(self.all_orders))
        return uses


class _Healing:
    """What is seen where homes are put back."""

    def __init__(self, homes: _Homes) -> None:
        self._homes = homes
        self.homes = self.servers = self.unreadable = self.healed = 0

    def after_kills(self, before: Notes) -> None:
        """Everything has to be readable."""
        new = _without(self._homes.notes.unreadable, before.unreadable)
        self.unreadable += len(new)
        self._homes.problems += [f"undecryptable: {line}" for line in new[:3]]

    def after_a_home(self, user: str, before: Notes) -> None:
        """What was sealed for a later state of the home can't be read at first; both sides are
        told.
        """
        now = self._homes.notes
        new = _without(now.unreadable, before.unreadable)
        healed = [line for line in new if user in line.split(" ")[:2]]
        self.healed += len(healed)
        self.unreadable += len(new) - len(healed)
        self._homes.problems += [f"undecryptable: {line}" for line in new if line not in healed][:3]
        self.homes += 1
        if not any(line.startswith(f"{user} This home was copied") for line in _without(now.told, before.told)):
            self._homes.problems.append(f"the home of {user} was not told that it is a copy")
        for other in _USERS:
            told = any(line.startswith(f"{other} {user} ") for line in _without(now.renewed, before.renewed))
            if other != user and not told:
                self._homes.problems.append(f"{other} was not told that the home of {user} began anew")


def _without(lines: Sequence[str], before: Sequence[str]) -> list[str]:
    return list((Counter(lines) - Counter(before)).elements())


def run(place: Place) -> Row:
    """Kills while homes talk; in each stage a home or the server is put back."""
    stages, kills = place.sized(_FULL_STAGES, 1), place.sized(_FULL_KILLS, _QUICK_KILLS)
    with _Homes(place.folder_of(NAME), place.chance(NAME), is_bound=True) as homes:
        homes.introduce()
        healing = _Healing(homes)
        began = time.monotonic()
        for stage in range(stages):
            before, share = homes.notes, -(-kills // (2 * stages))
            # The server first: what is sent again could be news to a home that was put back, and
            # the server knows a sender's newest tokens alone.
            if stage < stages // 3:
                homes.put_server_back(share)
                healing.servers += 1
                healing.after_kills(before)
            elif stage % 2:
                healing.after_a_home(homes.home_by_copy(share), before)
            else:
                healing.after_a_home(homes.home_by_export(share), before)
            homes.next_stage()
            say(
                f"  {time.monotonic() - began:.0f} s: {homes.killed.total()} kills, {homes.verdict().acknowledged} sent"
            )
        # What could not be opened in the last stage may have to wait an hour until it is asked for.
        homes.rest()
        return _row(NAME, homes, healing)


def _row(name: str, homes: _Homes, healing: _Healing) -> Row:
    verdict, uses = homes.verdict(), homes.key_uses()
    problems = [*homes.problems, *(f"a key that sealed twice: {key}" for key in uses.twice)]
    if uses.unread:
        problems.append(f"{len(uses.unread)} envelopes to outer keys that no home has")
    for problem in (*problems, examples(verdict)):
        if problem:
            say(f"  {name}: {problem}")
    killed = ", ".join(f"{who} {number}" for who, number in sorted(homes.killed.items()))
    note = (
        f"{killed}; {uses.keys} message keys of {uses.chains} chains, {len(uses.twice)} used twice; "
        f"{healing.unreadable} undecryptable; {healing.homes} homes put back, {healing.healed} messages sealed for "
        f"their later states healed; servers put back {healing.servers}"
    )
    passed = verdict.spotless and not problems and verdict.acknowledged > 0
    return Row(name, homes.killed.total(), verdict, passed, "; ".join([note, *problems[:2]]))


def run_control(place: Place) -> Row:
    """A client whose ratchet is saved one message late uses keys twice, and can't be read."""
    with _Homes(place.folder_of(CONTROL), place.chance(CONTROL), is_bound=False) as homes:
        homes.introduce()
        twice = unreadable = 0
        for _ in range(place.sized(10, 6)):
            homes.start()
            homes.kill(4)
            homes.stop()
            homes.rest()
            twice, unreadable = len(homes.key_uses().twice), len(homes.notes.unreadable)
            if twice and unreadable:
                break
        found = homes.verdict()
        note = (
            f"has to use keys twice: {twice}; and to show what can't be read: {unreadable}; what can't be sent again "
            f"is lost: {len(found.lost)}"
        )
        verdict = Verdict(found.attempted, found.acknowledged, found.received)
        return Row(CONTROL, homes.killed.total(), verdict, twice > 0 and unreadable > 0, note)
