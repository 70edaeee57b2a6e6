"""Drill: accounts are deleted while the storage worker is killed, again and again.

Owns: who leaves, when the worker dies, and the search through the bytes of the data folder.
Promises: the mail of others is all there, once; no trace of a deleted user is found in the folder
after an orderly end. The control runs a worker that does not overwrite its journal, and has to find
somebody.
Exposure: none.
"""

import time
from pathlib import Path
from threading import Thread
from typing import Final

from common.client_protocol.requests import DeleteAccountRequest
from common.client_protocol.responses import DeletedResponse, ErrorResponse
from common.values import ClientId, RefusalReason
from torture.caller import Account, Caller, Refused, new_account, persistently
from torture.checker import Verdict, judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server

NAME: Final = "expiry-and-deletion"
CONTROL: Final = "deletion-without-erasing"
_FULL_ROUNDS: Final = 30
_LEAVERS: Final = 4
_SMALL: Final = 100
_LARGE: Final = 100_000
_LONGEST_LIFE: Final = 0.25
"""Seconds that the worker lives at most between two kills."""


class _Round:
    """Users who are deleted, and one who stays and has mail from them."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        port = server.port
        self.stays = new_account(port, f"stays-{number}")
        self.leavers = [new_account(port, f"leaves-{number}-{index}") for index in range(_LEAVERS)]
        self.acknowledged: list[DrillMessage] = []
        with Caller(port) as caller:
            for index, leaver in enumerate(self.leavers, 1):
                for size in (_SMALL, _LARGE):
                    caller.send(self.stays.client_id, leaver.client_id, bytes(size))
                for size in (_SMALL, _LARGE):
                    message = DrillMessage(leaver.name, self.stays.name, 1 + (size == _LARGE))
                    caller.send(leaver.client_id, self.stays.client_id, message.content(size))
                    self.acknowledged.append(message)
                # What was fetched leaves traces too.
                if index % 2:
                    caller.pull(leaver.client_id)

    def leave(self, account: Account) -> None:
        """Until the server says that it is done, or does not know the account."""
        persistently(lambda: self._try_to_leave(account))

    def _try_to_leave(self, account: Account) -> None:
        with Caller(self._server.port) as caller:
            try:
                caller.prove(account)
            except Refused as refused:
                if refused.reason == RefusalReason.REQUESTER_UNKNOWN:
                    return
                raise
            answer = caller.ask(DeleteAccountRequest(account.client_id, account.client_id))
            if isinstance(answer, ErrorResponse):
                raise Refused(answer)
            assert isinstance(answer, DeletedResponse), answer

    def fetch(self) -> list[DrillMessage]:
        """Return all mail of the user who stays, acknowledged."""
        with Caller(self._server.port) as caller:
            caller.prove(self.stays)
            found: list[DrillMessage] = []
            ack = 0
            while mail := caller.fetch(self.stays.client_id, ack):
                # Unparsable content is nobody's.
                found += [parse_content(one.content) or DrillMessage("?", "?", 0) for one in mail]
                ack = mail[-1].number
            return found


def found_in(folder: Path, ids: list[ClientId]) -> list[str]:
    """The files that have one of these ids in their bytes."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if any(content.find(one) >= 0 for one in ids):
            found.append(path.name)
    return found


def _run(place: Place, name: str, worker: str) -> tuple[int, Verdict, list[str]]:
    """Kills, what became of the mail, and the files with an id of those who left."""
    chance = place.chance(name)
    kills = 0
    verdict = Verdict()
    gone: list[ClientId] = []
    with Server(place.folder_of(name), worker_module=worker) as server:
        for number in range(place.sized(_FULL_ROUNDS, 2)):
            server.start()
            this = _Round(server, number)
            threads = [Thread(target=this.leave, args=(leaver,), daemon=True) for leaver in this.leavers]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(chance.uniform(0, _LONGEST_LIFE))
                server.worker.kill()
                kills += 1
                server.worker.start()
                server.await_ready()
            gone += [leaver.client_id for leaver in this.leavers]
            received = persistently(this.fetch)
            verdict = verdict.combined(judge(this.acknowledged, this.acknowledged, {this.stays.name: received}))
        for program in reversed(server.programs):
            program.stop()
        return kills, verdict, found_in(server.data, gone)


def run(place: Place) -> Row:
    """Nothing of other users is lost, and nothing of deleted ones is found."""
    kills, verdict, after = _run(place, NAME, "storage_worker")
    if not verdict.spotless:
        say(f"  {NAME}: {examples(verdict)}")
    note = f"ids of deleted accounts in {len(after)} files after the last checkpoint{': ' if after else ''}"
    return Row(NAME, kills, verdict, verdict.spotless and not after, note + ", ".join(after))


def run_control(place: Place) -> Row:
    """Without overwriting the journal, a deleted user is found."""
    kills, verdict, after = _run(place, CONTROL, "torture.unerasing_worker")
    return Row(CONTROL, kills, verdict, bool(after), f"has to find ids: in {len(after)} files")
