"""Drill: the database is restored from an older copy, and clients remember later acknowledgements.

Owns: the copies, a client that goes by the generation, and rounds with the client of this project.
Promises: new mail, whose sequences were given before, is lost to nobody; what was acknowledged
since the copy was made arrives once its sender sends it again.
Exposure: none.
"""

import contextlib
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from client.messenger import KeyReceived, Messenger, Text
from common.info_files import ServerAddress
from common.values import ClientId, Token
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import DATABASE_NAME, GENERATION_NAME
from torture.caller import Account, Caller, new_account, token_of
from torture.checker import judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

NAME: Final = "restored-backup"
_SMALL: Final = 300
_LARGE: Final = 100_000
_DAMAGED: Final = DrillMessage("damaged", "damaged", 0)


class Memory:
    """What a receiving client keeps: its acknowledgement, of which generation, and what
    it has seen.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._generation = 0
        self._ack = 0
        self._seen: set[tuple[ClientId, Token | None]] = set()
        self.received: list[DrillMessage] = []
        self.repeats = 0
        self.generations = 0

    def fetch(self, port: int) -> None:
        """Everything there is; from the start if the store is another one."""
        with Caller(port) as caller:
            hello = caller.hello()
            caller.prove(self._account, hello)
            if hello.generation != self._generation:
                self._generation, self._ack = hello.generation, 0
                self.generations += 1
            while mail := caller.fetch(self._account.client_id, self._ack):
                for one in mail:
                    if (one.sender, one.token) in self._seen:
                        self.repeats += 1
                        continue
                    self._seen.add((one.sender, one.token))
                    self.received.append(parse_content(one.content) or _DAMAGED)
                self._ack = mail[-1].number


def _copy_database(data: Path, copies: Path) -> None:
    """A consistent copy of a database that is in use, and of nothing else."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    with closing(Database(data / DATABASE_NAME, beside=True)) as source:
        source.execute("VACUUM INTO ?", (str(copies / DATABASE_NAME),))


def copy_folder(server: Server, copies: Path) -> None:
    """All there is, while nobody works on it: the backup that the documents ask for."""
    shutil.rmtree(copies, ignore_errors=True)
    for program in server.programs:
        program.stop()
    shutil.copytree(server.data, copies, ignore=shutil.ignore_patterns("link"))
    server.start()


def _put_back(data: Path, copies: Path) -> None:
    """What was copied, in the place of what is there."""
    for left_over in data.glob(f"{DATABASE_NAME}*"):
        left_over.unlink()
    if (copies / GENERATION_NAME).exists():
        shutil.rmtree(data)
    shutil.copytree(copies, data, dirs_exist_ok=True)


def restore_folder(server: Server, copies: Path) -> None:
    """Put a whole folder back as the documents ask for it."""
    for program in server.programs:
        program.stop()
    _put_back(server.data, copies)
    # Nothing in the folder tells that it is a copy: this is what the operator has to say.
    _admin(server.data, "new-generation")
    server.start()


def _admin(data: Path, command: str) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(data), command],
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )


class _Person:
    """A user of the client of this project, and what came for them."""

    def __init__(self, folder: Path, port: int, name: str) -> None:
        self.name = name
        self.messenger = Messenger.open(folder / name, ServerAddress("127.0.0.1", port), folder / name / "received")
        self.messenger.register(name)
        self.received: list[DrillMessage] = []

    def receive(self) -> None:
        for message in self.messenger.receive():
            if isinstance(message.content, Text):
                self.received.append(parse_content(message.content.text.encode("latin-1")) or _DAMAGED)
            elif not isinstance(message.content, KeyReceived):
                self.received.append(_DAMAGED)


class _Resent(NamedTuple):
    """What the rounds with the real client came to: by (sender, recipient, number), and
    how much went again.
    """

    messages: list[DrillMessage]
    received: dict[str, list[DrillMessage]]
    marked: int
    sent_again: int


def _with_the_client(folder: Path, chance: random.Random, rounds: int) -> _Resent:
    """Back up, send on, put the copy back, have the senders send again what is possibly
    lost; several times.
    """
    messages: list[DrillMessage] = []
    marked = sent_again = 0
    with Server(folder / "server").start() as server, contextlib.ExitStack() as homes:
        people = [_Person(folder, server.port, name) for name in ("alice", "bob", "carol")]
        for person in people:
            homes.enter_context(person.messenger)

        def send(how_many: int, *, meanwhile: str = "") -> None:
            for _ in range(how_many):
                sender, recipient = chance.sample(people, 2)
                # What is sent before the senders send again comes before it: a sender of its own
                # for the order.
                message = DrillMessage(f"{sender.name}{meanwhile}", recipient.name, len(messages) + 1)
                sender.messenger.agree_on_key(recipient.name)
                content = message.content(chance.choice((_SMALL, _LARGE)))
                sender.messenger.home.sending.send_text(recipient.name, content.decode("latin-1"))
                messages.append(message)

        for number in range(rounds):
            send(chance.randint(0, 4))
            newcomer = f"newcomer-{number}"
            for person in chance.sample(people, chance.randint(0, 2)):
                person.receive()
            copy_folder(server, folder / "copies")
            people.append(_Person(folder, server.port, newcomer))
            homes.enter_context(people[-1].messenger)
            send(chance.randint(3, 10))
            # What was fetched before the copy is put back is not shown a second time.
            for person in chance.sample(people, chance.randint(0, 3)):
                person.receive()
            restore_folder(server, folder / "copies")
            # The server does not know who came since: the same user again, under the same id.
            before = people[-1].messenger.identity()
            assert people[-1].messenger.register(newcomer).client_id == before.client_id, newcomer
            if chance.randrange(2):
                send(chance.randint(1, 3), meanwhile=f"-meanwhile-{number}")
            for person in people:
                person.messenger.send_waiting()
                marked += person.messenger.lost_count()
                resent = person.messenger.resend()
                assert not resent.problems, resent.problems
                sent_again += resent.sent
            send(chance.randint(1, 3))
        for person in people:
            person.receive()
    return _Resent(messages, {person.name: person.received for person in people}, marked, sent_again)


def run(place: Place) -> Row:
    """Back up while mail waits, go on, put the copy back, go on; several times, and so
    with the real client.
    """
    chance, folder = place.chance(NAME), place.folder_of(NAME)
    copies = folder / "copies"
    attempted: list[DrillMessage] = []
    acknowledged: list[DrillMessage] = []
    number = 0
    with Server(folder / "server").start() as server:
        sender, memory = new_account(server.port, "sender"), Memory(receiver := new_account(server.port, "receiver"))

        def send(messages: int, sizes: Sequence[int] = (_SMALL,)) -> None:
            nonlocal number
            with Caller(server.port) as caller:
                caller.prove(sender)
                for _ in range(messages):
                    number += 1
                    message = DrillMessage("sender", "receiver", number)
                    attempted.append(message)
                    token = token_of(str(message))
                    content = message.content(chance.choice(sizes))
                    caller.send(sender.client_id, receiver.client_id, content, token=token)
                    acknowledged.append(message)

        rounds = place.sized(20, 3)
        for _ in range(rounds):
            whole_folder = bool(chance.randrange(2))
            # The contents of large messages are files of their own, which a copy of the database
            # does not have.
            send(chance.randint(1, 5), (_SMALL, _LARGE) if whole_folder else (_SMALL,))
            if chance.randrange(2):
                memory.fetch(server.port)
            if whole_folder:
                copy_folder(server, copies)
            else:
                _copy_database(server.data, copies)
            # All of this is gone when the copy is put back, so it is fetched before: nobody can
            # save the rest.
            send(chance.randint(3, 10))
            memory.fetch(server.port)
            if whole_folder:
                restore_folder(server, copies)
            else:
                for program in server.programs:
                    program.stop()
                _put_back(server.data, copies)
                server.start()
            # Their sequences are below the acknowledgement that the client remembers.
            send(chance.randint(1, 5))
            memory.fetch(server.port)
    real = _with_the_client(folder / "clients", chance, place.sized(20, 3))
    attempted += real.messages
    acknowledged += real.messages
    verdict = judge(attempted, acknowledged, {"receiver": memory.received, **real.received})
    if told := examples(verdict):
        say(f"  {NAME}: {told}")
    noticed = memory.generations == rounds + 1
    note = (
        f"{rounds} copies put back, {memory.generations - 1} noticed, {memory.repeats} repeats recognised; with the "
        f"client {real.marked} marked, {real.sent_again} sent again"
    )
    return Row(NAME, 0, verdict, verdict.spotless and noticed and real.marked == real.sent_again, note)
