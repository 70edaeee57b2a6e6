"""Drill: a file system of 2 MiB fills up, and has room again.

Owns: the small disk: a tmpfs if that may be mounted, else a limit on the database's pages.
Promises: when the disk is full, sends are refused, fetching and acknowledging work, restarts work;
once there is room again, sends work without a restart.
Exposure: root, if it mounts; what it mounted it unmounts.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.values import RefusalReason
from torture.caller import Account, Caller, Refused, new_account, token_of
from torture.checker import judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server, wait_until

NAME: Final = "small-disk"
_DISK: Final = 2 * 1024 * 1024
_MARK: Final = 512 * 1024
_LIMIT: Final = 1024 * 1024
"""Bytes of the database: the limit if nothing can be mounted."""
_SIZE: Final = 10_000
_MOST: Final = 2_000
_REFUSALS: Final = 20


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, list[str], bool]]:
    """A data folder, arguments for the worker, and whether it really is a disk of its own."""
    data = folder / "small"
    data.mkdir(mode=0o700)
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "tmpfs", str(data)], check=False, capture_output=True
    ).returncode
    try:
        arguments = ["--free-space-mark", str(_MARK)] if mounted else ["--size-limit", str(_LIMIT)]
        yield data, arguments, mounted
    finally:
        if mounted:
            # Lazily: a process of the server may need a moment to be gone.
            subprocess.run(["umount", "-l", str(data)], check=True)


class Talk:
    """One sender and one receiver, both authenticated, and what the checker has to know."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sender, self.receiver = new_account(port, "sender"), new_account(port, "receiver")
        self.attempted: list[DrillMessage] = []
        self.acknowledged: list[DrillMessage] = []
        self.received: list[DrillMessage] = []
        self.refused = 0
        self._ack = 0
        self._number = 0

    def connect(self, account: Account) -> Caller:
        """An authenticated connection."""
        caller = Caller(self._port)
        caller.prove(account)
        return caller

    def send(self, caller: Caller, size: int = _SIZE) -> bool:
        """One message; return whether it was accepted. Raises `Refused` for any other reason than a
        full storage.
        """
        self._number += 1
        message = DrillMessage("sender", "receiver", self._number)
        self.attempted.append(message)
        try:
            caller.send(
                self.sender.client_id, self.receiver.client_id, message.content(size), token=token_of(str(message))
            )
        except Refused as error:
            if error.reason != RefusalReason.STORAGE_FULL:
                raise
            self.refused += 1
            return False
        self.acknowledged.append(message)
        return True

    def fill(self) -> int:
        """Send until the storage is full; how many were accepted. Full means full: so are
        those that follow.
        """
        with self.connect(self.sender) as caller:
            accepted = 0
            while self.send(caller):
                accepted += 1
                assert accepted < _MOST, "a small disk that never fills is none"
            for _ in range(_REFUSALS):
                accepted += self.send(caller)
                accepted += self.send(caller, 100_000)
        return accepted

    def fetch(self, most: int = 10_000) -> int:
        """Fetch and acknowledge up to `most` messages; how many came."""
        came = 0
        with self.connect(self.receiver) as caller:
            while came < most and (mail := caller.fetch(self.receiver.client_id, self._ack, max_bytes=20_000)):
                nothing = DrillMessage("damaged", "damaged", 0)
                self.received += [parse_content(one.content) or nothing for one in mail]
                self._ack = mail[-1].number
                came += len(mail)
            # What was fetched last is acknowledged, and so deleted, too.
            caller.fetch(self.receiver.client_id, self._ack, max_bytes=1)
        return came

    def sends_again(self) -> bool:
        """Whether the storage takes a message."""
        with self.connect(self.sender) as caller:
            return self.send(caller)


def run(place: Place) -> Row:
    """Fill, fetch, recover; with a restart while it is full; and with somebody else's
    file taking the room.
    """
    folder = place.folder_of(NAME)
    kills = 0
    filled: list[int] = []
    with small_disk(folder) as (data, arguments, mounted):
        with Server(folder / "server", data=data, worker_arguments=arguments) as server:
            server.start()
            talk = Talk(server.port)
            for round_number in range(place.sized(10, 2)):
                filled.append(talk.fill())
                if round_number % 2:
                    server.worker.kill()
                    server.worker.start()
                    kills += 1
                    server.await_ready()
                if not talk.fetch():
                    raise AssertionError("nothing could be fetched from a full disk")
                wait_until(talk.sends_again, "room for mail")
                talk.fetch()
            if mounted:
                _let_somebody_else_fill(data, talk)
            talk.fetch()
        verdict = judge(talk.attempted, talk.acknowledged, {"receiver": talk.received})
    if told := examples(verdict):
        say(f"  {NAME}: {told}")
    where = f"tmpfs of {_DISK >> 20} MiB" if mounted else f"at most {_LIMIT >> 20} MiB"
    note = f"{where}, filled by {min(filled)} to {max(filled)} messages, {talk.refused} refused"
    return Row(NAME, kills, verdict, verdict.spotless and min(filled) > 0, note)


def _let_somebody_else_fill(data: Path, talk: Talk) -> None:
    """A file takes all the room; then it is gone."""
    for _ in range(5):
        assert talk.sends_again()
    filler = data / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    # The disk is looked at once a second at least.
    wait_until(lambda: not talk.sends_again(), "the refusal")
    assert talk.fetch() >= 5, "nothing could be fetched from a disk without any room"
    filler.unlink()
    wait_until(talk.sends_again, "room for mail")
