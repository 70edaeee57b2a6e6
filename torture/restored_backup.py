"""Drill: the database is put back to an older copy, and a client remembers an acknowledgement from the future.

Owns: the copies, and a client that goes by the store's generation. Promises: new mail, whose sequences were given
before, is lost to nobody.
Exposure: none.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from common.values import ClientId, Token
from storage_worker.folder import DATABASE_NAME, GENERATION_NAME
from torture.caller import Account, Caller, new_account, token_of
from torture.checker import judge
from torture.drill import Place, Row, examples, say
from torture.letters import Letter, parse_content
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

NAME: Final = "restored-backup"
_SMALL: Final = 300
_LARGE: Final = 100_000


class Memory:
    """What a receiving client keeps: its acknowledgement, of which generation, and what it has seen."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._generation = 0
        self._ack = 0
        self._seen: set[tuple[ClientId, Token | None]] = set()
        self.received: list[Letter] = []
        self.repeats = 0
        self.generations = 0

    def fetch(self, port: int) -> None:
        """Everything there is; from the start where the store is another one."""
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
                    self.received.append(parse_content(one.content) or Letter("damaged", "damaged", 0))
                self._ack = mail[-1].number


def _copy_database(data: Path, copies: Path) -> None:
    """A consistent copy of a database that is in use, and of nothing else."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    with closing(apsw.Connection(str(data / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READONLY)) as source:
        source.execute("VACUUM INTO ?", (str(copies / DATABASE_NAME),))


def _copy_folder(server: Server, copies: Path) -> None:
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


def _admin(data: Path, command: str) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(data), command],
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )


def run(place: Place) -> Row:
    """Back up while mail waits, go on, put the copy back, go on; several times."""
    chance, folder = place.chance(NAME), place.folder_of(NAME)
    copies = folder / "copies"
    attempted: list[Letter] = []
    acknowledged: list[Letter] = []
    number = 0
    with Server(folder / "server").start() as server:
        sender, memory = new_account(server.port, "sender"), Memory(receiver := new_account(server.port, "receiver"))

        def send(letters: int, sizes: Sequence[int] = (_SMALL,)) -> None:
            nonlocal number
            with Caller(server.port) as caller:
                caller.prove(sender)
                for _ in range(letters):
                    number += 1
                    letter = Letter("sender", "receiver", number)
                    attempted.append(letter)
                    token = token_of(str(letter))
                    content = letter.content(chance.choice(sizes))
                    caller.send(sender.client_id, receiver.client_id, content, token=token)
                    acknowledged.append(letter)

        rounds = place.sized(20, 3)
        for _ in range(rounds):
            whole_folder = bool(chance.randrange(2))
            # The contents of large messages are files of their own, which a copy of the database does not have.
            send(chance.randint(1, 5), (_SMALL, _LARGE) if whole_folder else (_SMALL,))
            if chance.randrange(2):
                memory.fetch(server.port)
            if whole_folder:
                _copy_folder(server, copies)
            else:
                _copy_database(server.data, copies)
            # All of this is gone when the copy is put back, so it is fetched before: nobody can save the rest.
            send(chance.randint(3, 10))
            memory.fetch(server.port)
            for program in server.programs:
                program.stop()
            _put_back(server.data, copies)
            if whole_folder:
                # Nothing in the folder tells that it is a copy: this is what the operator has to say.
                _admin(server.data, "new-generation")
            server.start()
            # Their sequences are below the acknowledgement that the client remembers.
            send(chance.randint(1, 5))
            memory.fetch(server.port)
    verdict = judge(attempted, acknowledged, {"receiver": memory.received})
    if told := examples(verdict):
        say(f"  {NAME}: {told}")
    noticed = memory.generations == rounds + 1
    note = f"{rounds} copies put back, {memory.generations - 1} noticed, {memory.repeats} repeats recognised"
    return Row(NAME, 0, verdict, verdict.spotless and noticed, note)
