"""Drills: clients of the published protocol that die while they receive; the same with server
kills; the control.

Owns: the instants at which they die, and who counts what as received.
Promises: what a client did not read to its end comes again, to its successor; what it read and
noted does not, as long as the server lives. The control, a server without proof, must be found
guilty by the same drill.
Exposure: none.

    dies                                  counts for the checker as
    ───────────────────────────────────   ────────────────────────────────────────────────────────
    before the last byte was read         nothing received: it must come again
    after the last byte, before its note  nobody's fault if it does not come again: told as a
    rate
    after it noted what it got            received: it must not come again

A lease that a death leaves behind hides its mail until the gateway sees the end of the connection,
so that a successor may get later mail first: the order is reported, and is not a fault.
"""

import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum, auto
from pathlib import Path
from typing import Final, NamedTuple

from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import PullRequest
from common.values import ClientId
from torture.actors import Actor, judge_journals
from torture.caller import Caller, Mail, new_key, persistently, public_half
from torture.checker import Verdict
from torture.drill import Place, Row, examples, must_lose, say
from torture.drill_messages import DrillMessage, parse_content, parse_line
from torture.journal import Journal, read_journal
from torture.naive_server import serve_naively
from torture.patience import HANG_SECONDS
from torture.programs import Server, free_port, wait_until

NAME: Final = "published-clients"
RESTARTS: Final = "published-clients-and-server-kills"
CONTROL: Final = "control-without-proof"
_SIZES: Final = (0, 300, 2_000, 30_000, 60_000, 200_000)
_SENDERS: Final = 3
_QUIET_SECONDS: Final = 3.0
_QUIET_LOOKS: Final = 30
"""For how long, and how often, nothing may come before a mailbox counts as empty: a clean end is
watched for 2 s. A server that is slower to end its watch is slower to answer so many looks, too."""


class Death(StrEnum):
    """When a receiving client dies."""

    BEFORE_THE_LAST_BYTE = auto()
    BEFORE_THE_NOTE = auto()
    AFTER_THE_NOTE = auto()


class Box(NamedTuple):
    """A mailbox. `notes`: what its clients wrote down; `read`: what one had read and had
    no time to write down.
    """

    name: str
    client_id: ClientId
    notes: Path
    read: Path


def receive_and_die(port: int, box: Box, death: Death, share: float) -> None:
    """One 604, read as far as the death allows. `share` of the payload, if it dies before the last
    byte.
    """
    with suppress(OSError), Caller(port) as caller:
        caller.post(PullRequest(box.client_id))
        if death is Death.BEFORE_THE_LAST_BYTE:
            size = RESPONSE_HEADER.unpack(_read(caller.socket, RESPONSE_HEADER.size))[2]
            _read(caller.socket, int(share * size))
            if not size:
                return
        else:
            mail = caller.mail(caller.event())
            if not mail:
                return
            _note(box.notes if death is Death.AFTER_THE_NOTE else box.read, mail)
        os.kill(os.getpid(), signal.SIGKILL)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def _note(path: Path, mail: list[Mail]) -> None:
    with Journal(path) as journal:
        journal.write([f"{one.number} {parse_content(one.content) or 'damaged'}" for one in mail])


def write_messages(port: int, senders: Mapping[str, ClientId], boxes: Sequence[Box], journal: Path, seed: str) -> None:
    """Some for every mailbox, by 603. What breaks is not sent again: nobody can know
    whether it was stored.
    """
    chance = random.Random(seed)
    with Journal(journal) as notes:
        numbers = Counter(line.split(" ", 1)[1].rpartition(" ")[0] for line in notes.lines if line.startswith("A "))
        caller: Caller | None = None
        for box in boxes:
            for _ in range(chance.randint(1, 4)):
                sender = chance.choice(sorted(senders))
                numbers[f"{sender} {box.name}"] += 1
                message = DrillMessage(sender, box.name, numbers[f"{sender} {box.name}"])
                caller = caller or persistently(lambda: Caller(port))
                notes.write([f"A {message}"])
                try:
                    caller.send(senders[sender], box.client_id, message.content(chance.choice(_SIZES)))
                except OSError:
                    caller.close()
                    caller = None
                else:
                    notes.write([f"K {message}"])
        if caller is not None:
            caller.close()


class Post:
    """Mailboxes of the published protocol at one server, and those who write to them."""

    def __init__(self, port: int, folder: Path, boxes: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._journal = folder / "messages.journal"
        with Caller(port) as caller:
            key = public_half(new_key("published"))
            self._senders = {name: caller.register(name, key) for name in (f"s{n}" for n in range(_SENDERS))}
            self.boxes = [
                Box(name, caller.register(name, key), folder / f"{name}.notes", folder / f"{name}.read")
                for name in (f"b{number}" for number in range(boxes))
            ]
        self.deaths: dict[Death, int] = dict.fromkeys(Death, 0)

    def start_writing(self) -> Actor:
        """A process that writes some messages for every mailbox, and ends."""
        seed = str(self._chance.random())
        writer = Actor(write_messages, self._port, self._senders, self.boxes, self._journal, seed)
        writer.start()
        return writer

    def start_deaths(self, deaths: list[Death]) -> list[tuple[Actor, Death]]:
        """A client for every mailbox, each with its death before it."""
        doomed = []
        for box in self.boxes:
            death = self._chance.choice(deaths)
            # Nothing, everything but a byte, or anything between.
            share = self._chance.choice((0.0, 1 - 1e-9, self._chance.random(), self._chance.random()))
            doomed.append((Actor(receive_and_die, self._port, box, death, share), death))
            doomed[-1][0].start()
        return doomed

    def bury(self, doomed: list[tuple[Actor, Death]]) -> None:
        """Wait for the deaths, and count them."""
        for actor, death in doomed:
            actor.process.join()
            code = actor.process.exitcode
            assert code in {0, -signal.SIGKILL}, f"a client ended with {code}"
            self.deaths[death] += code == -signal.SIGKILL

    def empty(self) -> None:
        """Good clients note everything that is left, and prove it with their next request."""
        last_news = time.monotonic()
        looks = 0
        give_up = last_news + HANG_SECONDS
        while looks < _QUIET_LOOKS or time.monotonic() < last_news + _QUIET_SECONDS:
            assert time.monotonic() < give_up, "mail that never ends"
            looks += 1
            for box in self.boxes:
                with suppress(OSError), Caller(self._port) as caller:
                    while mail := caller.pull(box.client_id):
                        _note(box.notes, mail)
                        last_news, looks = time.monotonic(), 0
            time.sleep(0.1)

    def stored_twice(self) -> int:
        """How many messages came as two messages of different numbers: no death of anybody
        may cause that.
        """
        messages = {(one.name, line) for one in self.boxes for line in read_journal(one.notes)}
        return len(messages) - len({(name, line.partition(" ")[2]) for name, line in messages})

    def verdict(self) -> tuple[Verdict, str]:
        """What the checker says, without what dying clients had read and not noted; and
        that, as a rate.
        """
        found = judge_journals([self._journal], {box.name: box.notes for box in self.boxes})
        read = {parse_line(line.partition(" ")[2]) for box in self.boxes for line in read_journal(box.read)}
        gone = [message for message in found.lost if message in read]
        rate = f"{len(gone)} of {len(read)} gone that were read and not noted" if read else ""
        return found._replace(lost=[message for message in found.lost if message not in read]), rate

    def row(self, drill: str, kills: int, *, may_repeat: bool) -> Row:
        """What went wrong, and whether it may."""
        verdict, rate = self.verdict()
        twice = self.stored_twice()
        if told := examples(verdict):
            say(f"  {drill}: {told}")
        passed = (
            not (verdict.lost or verdict.unexpected or twice)
            and (may_repeat or not verdict.duplicated)
            and verdict.acknowledged > 0
        )
        deaths = ", ".join(f"{death.replace('_', ' ')} {number}" for death, number in self.deaths.items() if number)
        note = "; ".join(part for part in (deaths, rate, f"{twice} stored twice") if part)
        return Row(drill, kills + sum(self.deaths.values()), verdict, passed, note)


def run(place: Place) -> Row:
    """Clients die, the server lives."""
    chance, folder = place.chance(NAME), place.folder_of(NAME)
    with Server(folder / "server").start() as server:
        post = Post(server.port, folder, place.sized(50, 12), chance)
        for _ in range(place.sized(60, 3)):
            assert post.start_writing().ended_well(HANG_SECONDS)
            post.bury(post.start_deaths(_MIXED))
        post.empty()
        return post.row(NAME, 0, may_repeat=False)


def run_with_server_kills(place: Place) -> Row:
    """Clients die, and so do the server's programs, while mail is on its way to the clients."""
    chance, folder = place.chance(RESTARTS), place.folder_of(RESTARTS)
    kills = 0
    with Server(folder / "server").start() as server:
        post = Post(server.port, folder, place.sized(50, 12), chance)
        for _ in range(place.sized(60, 3)):
            writer = post.start_writing()
            kills += _kill_one(server, chance)
            assert writer.ended_well(HANG_SECONDS)
            doomed = post.start_deaths(_MIXED)
            kills += _kill_one(server, chance)
            post.bury(doomed)
            server.await_ready()
        post.empty()
        return post.row(RESTARTS, kills, may_repeat=True)


def _kill_one(server: Server, chance: random.Random) -> int:
    """A moment later."""
    time.sleep(chance.uniform(0, 0.1))
    program = chance.choice(server.programs)
    program.kill()
    program.start()
    return 1


def run_control(place: Place) -> Row:
    """A server that deletes on fetch: passed if the checker reports losses."""
    chance, folder = place.chance(CONTROL), place.folder_of(CONTROL)
    port = free_port(chance)
    server = Actor(serve_naively, port)
    server.start()
    try:
        wait_until(lambda: persistently(lambda: Caller(port).close()) is None, "the control")
        post = Post(port, folder, place.sized(50, 12), chance)
        for _ in range(place.sized(10, 2)):
            assert post.start_writing().ended_well(HANG_SECONDS)
            post.bury(post.start_deaths([Death.BEFORE_THE_LAST_BYTE, Death.AFTER_THE_NOTE]))
        post.empty()
        return must_lose(post.row(CONTROL, 0, may_repeat=False))
    finally:
        server.kill()


_MIXED: Final = [
    *[Death.BEFORE_THE_LAST_BYTE] * 6,
    *[Death.BEFORE_THE_NOTE] * 2,
    *[Death.AFTER_THE_NOTE] * 3,
]
