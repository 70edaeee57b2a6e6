"""Drill: every file of the data folder is damaged, in every way, and everything is read by real
requests.

Owns: the store that is damaged, the kinds of damage, and which answers are allowed.
Promises: a start that refuses ends with 78 and names the file. If the server serves, what it hands
out is what was sent and registered. Acknowledged messages that are missing, and refusals, are named
in the log. No worker ends again and again. The control, with all checks switched off, must hand out
altered content, and lose messages silently.
Exposure: none.
"""

import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from common.client_protocol.requests import PullRequest, RegisterRequest
from common.client_protocol.responses import ErrorResponse, RegisteredResponse
from common.values import NO_CLIENT, ClientId, PublicKey, RefusalReason, Token, Username
from torture.caller import Account, Caller, Refused, new_account, persistently, token_of
from torture.checker import Verdict, judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server

NAME: Final = "damage-of-every-file"
CONTROL: Final = "control-without-checks"
UNCHECKED: Final = "torture.unchecked_worker"
_FULL_TRIALS: Final = 400
_QUICK_TRIALS: Final = 20
_CONTROL_TRIALS: Final = 16
_CONTROL_FILES: Final = ("bodies/", "mail.journal")
"""The place where damage that is not checked for is sure to show soon."""
_SMALL: Final = 600
_LARGE: Final = 150_000
_LARGE_NUMBERS: Final = frozenset({61, 62, 83})
"""In each mailbox: after the first 60, and after 20 more."""
_FILLERS: Final = 120
_STARTS: Final = 4
"""Restarts of a failing worker, after which it counts as looping."""
_EX_CONFIG: Final = 78
_NOBODY: Final = DrillMessage("altered", "altered", 0)
_LEFT: Final = ("link", "gateway-0.lock", "worker.lock")
"""Files that hold nothing."""


class Store(NamedTuple):
    """What is in the folder that is damaged. `ids`: under which number a message with a
    token was accepted.
    """

    sender: Account
    provers: list[Account]
    published: Account
    keys: dict[ClientId, PublicKey]
    names: dict[ClientId, str]
    messages: list[DrillMessage]
    ids: dict[DrillMessage, int]


class Damage(NamedTuple):
    """One damage of one file. `file`: its name inside the folder; `do` gets its path."""

    file: str
    what: str
    do: Callable[[Path], object]


# --- the store
# --------------------------------------------------------------------------------------------------


class _Maker:
    """Fills a server: mail in the database, then in its log, then in the journal alone."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self._port = server.port
        self._chance = chance
        self._numbers: Counter[str] = Counter()
        self.sender = new_account(server.port, "ann")
        self.provers = [new_account(server.port, name) for name in ("bob", "cleo")]
        self.published = new_account(server.port, "dora")
        self.messages: list[DrillMessage] = []
        self.ids: dict[DrillMessage, int] = {}
        self.names = {account.client_id: account.name for account in (self.sender, *self.provers, self.published)}
        self.keys: dict[ClientId, PublicKey] = {}
        with Caller(server.port) as caller:
            for client_id in self.names:
                self.keys[client_id] = caller.public_key(self.sender.client_id, client_id)

    def register(self, count: int) -> None:
        """More users, whose keys are no keys."""
        with Caller(self._port) as caller:
            for _ in range(count):
                name, key = f"filler {len(self.names)}", PublicKey(self._chance.randbytes(160))
                client_id = caller.register(name, key)
                self.names[client_id], self.keys[client_id] = name, key

    def send(self, small: int, large: int) -> None:
        """Send everybody messages: with tokens to those who sign in, without to the other."""
        with Caller(self._port) as caller:
            caller.prove(self.sender)
            for account in (*self.provers, self.published):
                for size in [_SMALL] * small + [_LARGE] * large:
                    self._numbers[account.name] += 1
                    message = DrillMessage("ann", account.name, self._numbers[account.name])
                    token = None if account is self.published else token_of(str(message))
                    number = caller.send(self.sender.client_id, account.client_id, message.content(size), token=token)
                    self.messages.append(message)
                    if token is not None:
                        self.ids[message] = number

    def store(self) -> Store:
        """What there is."""
        return Store(
            self.sender, self.provers, self.published, self.keys, self.names, list(self.messages), dict(self.ids)
        )


def _make(folder: Path, chance: random.Random) -> tuple[Store, list[Path]]:
    """The store, and two copies of its folder: after a kill, and after an orderly end."""
    copies = [folder / "killed", folder / "stopped"]
    with Server(folder / "maker").start() as server:
        maker = _Maker(server, chance)
        maker.register(_FILLERS)
        maker.send(60, 2)
        for program in reversed(server.programs):
            program.stop()
        server.start()
        maker.send(20, 1)
        # A registration is a transaction, which takes all of it in.
        maker.register(3)
        maker.send(8, 0)
        with Caller(server.port) as caller:
            # A lease that nobody ends.
            caller.post(PullRequest(maker.published.client_id))
            caller.event()
            for program in server.programs:
                program.kill()
        _copy(server.data, copies[0])
        server.start()
        for program in reversed(server.programs):
            program.stop()
        _copy(server.data, copies[1])
    return maker.store(), copies


def _copy(data: Path, copy: Path) -> None:
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns(*_LEFT))


# --- the ways
# --------------------------------------------------------------------------------------------------


def _flip(path: Path, at: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def _cut(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)


def _zero(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(bytes(size))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def damages(folder: Path, chance: random.Random, files: tuple[str, ...] = ("",)) -> Iterator[Damage]:
    """Yield damages without end: each round damages each file once in each way, in any order, at
    other places.

    Of those whose names begin with one of `files`.
    """
    names = [name for name in _files(folder) if name.startswith(files)]
    while True:
        this_round = [damage for name in names for damage in _of_file(folder, name, chance)]
        chance.shuffle(this_round)
        # First, one damage of each file.
        yield from {damage.file: damage for damage in this_round}.values()
        yield from this_round


def _of_file(folder: Path, name: str, chance: random.Random) -> list[Damage]:
    content = (folder / name).read_bytes()
    size = len(content)
    # The journal's files are zeros behind their records.
    used = len(content.rstrip(b"\0")) or size
    if not size:
        return []
    # The database has many tables and indexes, each with pages of its own.
    places = [used] * (12 if name == "mail.db" else 3)
    flips = [(chance.randrange(most), chance.randrange(8)) for most in (*places, size)]
    cuts = [chance.randrange(used), chance.randrange(size), size - 1]
    return [
        Damage(name, "zeros", _zero),
        Damage(name, "deleted", Path.unlink),
        *[Damage(name, f"bit {bit} of byte {at} is flipped", partial(_flip, at=at, bit=bit)) for at, bit in flips],
        *[Damage(name, f"cut to {length} bytes", partial(_cut, length=length)) for length in cuts],
    ]


# --- a trial
# --------------------------------------------------------------------------------------------------


class _WorkerEnded(Exception):
    """The worker ended during a request."""


class Trial:
    """One damaged folder, and a server on it. `faults`: what must not happen."""

    def __init__(self, server: Server, store: Store, damage: Damage) -> None:
        self._server = server
        self._worker = worker = server.worker
        self._store = store
        self._damage = damage
        self._log_from = len(worker.said())
        self._caller: Caller | None = None
        self._starts = 0
        self.refusals = 0
        self.faults: list[str] = []
        self.silently_lost: list[DrillMessage] = []
        self.altered = 0
        self.received: dict[str, list[DrillMessage]] = {}
        self.outcome = ""

    @property
    def said(self) -> str:
        """What the worker logged of this damage."""
        return self._worker.said()[self._log_from :]

    def _is_named(self) -> bool:
        """Whether a line above information names the file, or what of it is damaged."""
        lines = [line for line in self.said.splitlines() if any(f" {level} " in line for level in _LEVELS)]
        name = self._damage.file
        return any(name in line or (name.startswith("mail.db") and "page " in line) for line in lines)

    def run(self) -> None:
        """Start, read everything, end."""
        # A gateway of its own: an older one would settle here what was handed out from another
        # copy.
        self._server.gateway.start()
        try:
            while not self._read_all_once():
                if self._starts >= _STARTS:
                    self.faults.append("the worker ends again and again")
                    return
            if not self.outcome:
                # The stop has to write, which may fail as well: that is named, too.
                self._worker.stop()
                self._judge()
            if not self._server.gateway.running:
                self.faults.append(f"the gateway ended: {self._server.gateway.last_words()}")
        finally:
            self._server.end()
        if "Traceback" in self.said:
            self.faults.append("a traceback in the log")

    def _read_all_once(self) -> bool:
        """One life of the worker; return whether it is the last."""
        self._starts += 1
        self._worker.start()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._read_all()
        except _WorkerEnded:
            code = self._worker.process.wait()
            if code != _EX_CONFIG:
                return False
            self.outcome = "refused at the start" if "started:" not in self.said else "ended with 78"
            if not self._is_named():
                self.faults.append(f"{self.outcome}, and {self._damage.file} is not named")
        return True

    def _watch(self) -> None:
        """Nobody waits for an answer of a worker that has ended."""
        worker = self._worker.process
        worker.wait()
        caller = self._caller
        if caller is not None and worker is self._worker.process:
            caller.abort()

    def _ask(self, account: Account | None, action: Callable[[Caller], None]) -> bool:
        """Do something over a connection of its own; return whether it was accepted."""
        try:
            with persistently(lambda: Caller(self._server.port)) as self._caller:
                if not self._worker.running:
                    raise _WorkerEnded
                if account is not None:
                    self._caller.prove(account)
                action(self._caller)
        except Refused as error:
            self.refusals += 1
            if error.reason in {RefusalReason.REQUESTER_UNKNOWN, RefusalReason.RECIPIENT_UNKNOWN}:
                self.faults += [] if self._is_named() else [f"a user is unknown ({error})"]
            return False
        except OSError:
            if not self._worker.running:
                raise _WorkerEnded from None
            self.refusals += 1
            return False
        finally:
            self._caller = None
        return True

    def _read_all(self) -> None:
        store = self._store
        # This waits for the worker, or notices its end.
        self._ask(None, lambda caller: _hear(caller, store.published))
        self._ask(store.sender, self._look_at_users)
        for account in store.provers:
            self._ask(account, partial(self._fetch, account=account))
        self._ask(None, self._pull)
        for message in [*store.ids][:: max(len(store.ids) // 8, 1)]:
            self._ask(store.sender, partial(self._send_again, message=message))
        self._ask(None, self._take_a_name)
        account = store.provers[0]
        fresh = DrillMessage("ann", account.name, 1_000_000 + self._starts)
        if self._ask(store.sender, lambda caller: _send(caller, store.sender, account, fresh)):
            self._ask(account, lambda caller: self._fetch_one(caller, account, fresh))

    def _look_at_users(self, caller: Caller) -> None:
        store = self._store
        listed = {one.client_id: one.name for one in caller.users(store.sender.client_id)}
        for client_id, name in listed.items():
            if store.names.get(client_id) != name:
                self._is_altered(f"user {name!r}")
        if len(listed) < len(store.names) - 1 and not self._is_named():
            self.faults.append("users are missing")
        for client_id in [*store.keys][::3]:
            try:
                if caller.public_key(store.sender.client_id, client_id) != store.keys[client_id]:
                    self._is_altered(f"the key of {store.names[client_id]!r}")
            except Refused as error:
                self.refusals += 1
                if error.reason != RefusalReason.DAMAGED and not self._is_named():
                    self.faults.append(f"a key is refused without a reason ({error})")

    def _fetch(self, caller: Caller, account: Account) -> None:
        found = self.received.setdefault(account.name, [])
        ack = 0
        while mail := caller.fetch(account.client_id, ack, max_bytes=20_000):
            self._take(found, [one.content for one in mail], [one.sender for one in mail])
            ack = mail[-1].number

    def _pull(self, caller: Caller) -> None:
        account = self._store.published
        found = self.received.setdefault(account.name, [])
        mail = caller.pull(account.client_id)
        self._take(found, [one.content for one in mail], [one.sender for one in mail])

    def _take(self, found: list[DrillMessage], contents: list[bytes], senders: list[ClientId]) -> None:
        for content, sender in zip(contents, senders, strict=True):
            message = parse_content(content)
            if message is None or sender != self._store.sender.client_id:
                self._is_altered("a content")
            elif message not in found or self._starts == 1:
                # A worker that ended before it had deleted it hands it out again.
                found.append(message)

    def _send_again(self, caller: Caller, message: DrillMessage) -> None:
        store = self._store
        size = _LARGE if message.number in _LARGE_NUMBERS else _SMALL
        recipient = next(account for account in store.provers if account.name == message.recipient)
        number = caller.send(
            store.sender.client_id, recipient.client_id, message.content(size), token=token_of(str(message))
        )
        if number != store.ids[message] and not self._is_named():
            self.faults.append(f"the token of {message} is forgotten")

    def _take_a_name(self, caller: Caller) -> None:
        """Return the name of another user."""
        name = Username(self._store.provers[0].name)
        answer = caller.ask(RegisterRequest(NO_CLIENT, name, PublicKey(bytes(160))))
        if isinstance(answer, RegisteredResponse) and not self._is_named():
            self.faults.append("a name was given twice")
        elif isinstance(answer, ErrorResponse):
            self.refusals += answer.reason not in {RefusalReason.NAME_TAKEN, None}

    def _fetch_one(self, caller: Caller, account: Account, message: DrillMessage) -> None:
        got: list[DrillMessage] = []
        ack = 0
        while mail := caller.fetch(account.client_id, ack):
            self._take(got, [one.content for one in mail], [one.sender for one in mail])
            ack = mail[-1].number
        if message not in got and not self._is_named():
            self.silently_lost.append(message)

    def _is_altered(self, what: str) -> None:
        self.altered += 1
        self.faults.append(f"{what} is handed out altered")

    def _judge(self) -> None:
        """Compare what was received with what was sent."""
        verdict = judge(
            self._store.messages,
            self._store.messages,
            self.received,
        )
        named = self._is_named()
        if verdict.lost and not named:
            self.silently_lost += verdict.lost
        if verdict.duplicated or verdict.unexpected or verdict.out_of_order:
            self.faults.append(f"wrong mail: {examples(verdict)}")
        if self.refusals and not named:
            self.faults.append(f"{self.refusals} refusals, and {self._damage.file} is not named")
        if self.silently_lost:
            self.faults.append(f"{len(self.silently_lost)} messages are lost without a word")
        lacks = bool(verdict.lost or self.refusals)
        self.outcome = (
            "served without what is damaged" if lacks else "served whole, and named" if named else "served whole"
        )


_LEVELS: Final = ("WARNING", "ERROR", "CRITICAL")


def _hear(caller: Caller, account: Account) -> None:
    caller.public_key(account.client_id, account.client_id)


def _send(caller: Caller, sender: Account, recipient: Account, message: DrillMessage) -> None:
    caller.send(sender.client_id, recipient.client_id, message.content(_SMALL), token=_token(message))


def _token(message: DrillMessage) -> Token:
    return token_of(f"fresh {message}")


def _put(copy: Path, data: Path) -> None:
    """The folder as it was copied."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(copy, data)
    data.chmod(0o700)


# --- the drill
# --------------------------------------------------------------------------------------------------


def run(place: Place) -> Row:
    """Damage every file in every way, until there were enough."""
    return _run(place, NAME, place.sized(_FULL_TRIALS, _QUICK_TRIALS))


def run_control(place: Place) -> Row:
    """The same with a worker that checks nothing."""
    return _run(place, CONTROL, _CONTROL_TRIALS, unchecked=True)


def _run(place: Place, name: str, wanted: int, *, unchecked: bool = False) -> Row:
    chance, folder = place.chance(name), place.folder_of(name)
    store, copies = _make(folder, chance)
    outcomes: Counter[str] = Counter()
    lost: list[DrillMessage] = []
    altered = faults = acknowledged = 0
    with Server(folder / "server", worker_module=UNCHECKED if unchecked else "storage_worker") as server:
        streams = [damages(copy, chance, _CONTROL_FILES if unchecked else ("",)) for copy in copies]
        for number in range(wanted):
            # What an orderly end left is in no journal: one of four trials.
            which = number % 4 == 3 and not unchecked
            damage = next(streams[which])
            _put(copies[which], server.data)
            damage.do(server.data / damage.file)
            trial = Trial(server, store, damage)
            trial.run()
            outcomes[trial.outcome or "failed"] += 1
            acknowledged += len(store.messages)
            lost += trial.silently_lost
            altered += trial.altered
            faults += bool(trial.faults)
            if trial.faults and not unchecked:
                say(f"  {name}: {copies[which].name}/{damage.file}, {damage.what}: {'; '.join(trial.faults[:4])}")
                say(trial.said[-1500:])
    verdict = Verdict(acknowledged, acknowledged, acknowledged - len(lost), lost=lost, unexpected=[_NOBODY] * altered)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    passed = bool(lost and altered) if unchecked else verdict.spotless and not faults
    return Row(name, len(copies), verdict, passed, f"{wanted} damages: {told}; {faults} faults")
