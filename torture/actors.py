"""Senders and receivers of the extension, as processes that may be killed at any instant.

Owns: what a client must do so that nothing is lost or doubled: a message is in the journal before
it is sent, and is sent again, with its token, oldest first, until it is acknowledged; received mail
is in the journal, synced, before it is acknowledged.
Promises: the successor of a killed process continues where it stopped. They end once they are told
to and nothing is left to do.
Exposure: talk to a server that dies and comes back.
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, NamedTuple

from common.client_protocol.requests import SendRequest, encode
from common.client_protocol.responses import ErrorResponse, StoredResponse
from common.values import ClientId, RefusalReason
from torture.caller import LARGEST_FETCH, Account, Caller, Refused, token_of
from torture.checker import Verdict, judge
from torture.drill_messages import DrillMessage, parse_content, parse_line
from torture.journal import Journal, count_lines, read_journal

WINDOW: Final = 8
_CONNECT_AGAIN: Final = 0.02
_WAIT: Final = 1
"""Seconds that a 643 waits for mail."""
_SIZES: Final = (0, 60, 256, 1000, 20_000)
_LARGE_SIZES: Final = (70_000, 300_000)
_LARGE_ONE_IN: Final = 40


def size_of(message: DrillMessage) -> int:
    """Always the same for the same message, so that what is sent again is the same message."""
    chance = random.Random(str(message))
    return chance.choice(_SIZES if chance.randrange(_LARGE_ONE_IN) else _LARGE_SIZES)


class Orders(NamedTuple):
    """What an actor has to know. `stop`: a file that exists once it may end. `pace`: messages a
    second.
    """

    port: int
    account: Account
    addresses: Mapping[str, ClientId]
    journal: Path
    stop: Path
    seed: int
    pace: float = 50.0


def send_messages(orders: Orders) -> None:
    """Send message after message, by 642."""
    me = orders.account
    with Journal(orders.journal) as journal:
        attempted = [parse_line(line[2:]) for line in journal.lines if line.startswith("A ")]
        acknowledged = {parse_line(line[2:]) for line in journal.lines if line.startswith("K ")}
        waiting = [message for message in attempted if message not in acknowledged]
        numbers = Counter(message.recipient for message in attempted)
        chance = random.Random(f"{orders.seed} {me.name} {len(journal.lines)}")
        names = sorted(orders.addresses)

        def next_message() -> DrillMessage:
            recipient = chance.choice(names)
            numbers[recipient] += 1
            return DrillMessage(me.name, recipient, numbers[recipient])

        def request(message: DrillMessage) -> bytes:
            content = message.content(size_of(message))
            token = token_of(str(message))
            return encode(SendRequest(me.client_id, orders.addresses[message.recipient], 3, content, token))

        while True:
            try:
                with Caller(orders.port) as caller:
                    caller.prove(me)
                    caller.post(b"".join(map(request, waiting)))
                    due = time.monotonic()
                    while True:
                        if orders.stop.exists():
                            if not waiting:
                                return
                        elif time.monotonic() >= due and len(waiting) < WINDOW:
                            # Write down, then send.
                            fresh = [next_message() for _ in range(chance.randint(1, WINDOW - len(waiting)))]
                            journal.write([f"A {message}" for message in fresh])
                            waiting += fresh
                            caller.post(b"".join(map(request, fresh)))
                            due = max(due, time.monotonic() - 1) + len(fresh) / orders.pace
                        if waiting:
                            answer = caller.event()
                            if isinstance(answer, ErrorResponse):
                                # What was sent behind it may be accepted before it now.
                                journal.write([f"R {waiting[0]}"])
                                raise Refused(answer)
                            assert isinstance(answer, StoredResponse), answer
                            journal.write([f"K {waiting.pop(0)}"])
                        else:
                            time.sleep(max(0.0, due - time.monotonic()))
            except (OSError, Refused) as error:
                _wait_after(error)


def receive_messages(orders: Orders) -> None:
    """Fetch by 643; a message is on disk before it is acknowledged."""
    me = orders.account
    with Journal(orders.journal) as journal:
        ack = int(journal.lines[-1].split(" ")[0]) if journal.lines else 0
        chance = random.Random(f"{orders.seed} {me.name} {len(journal.lines)}")
        while True:
            try:
                with Caller(orders.port) as caller:
                    caller.prove(me)
                    while True:
                        # Read before the fetch: what was acknowledged by then can be fetched.
                        may_end = orders.stop.exists()
                        limit = chance.choice((1, 5_000, 100_000, LARGEST_FETCH))
                        mail = caller.fetch(me.client_id, ack, 0 if may_end else _WAIT, limit)
                        if not mail and may_end:
                            return
                        if mail:
                            journal.write([f"{one.number} {parse_content(one.content) or 'damaged'}" for one in mail])
                            journal.sync()
                            ack = mail[-1].number
            except (OSError, Refused) as error:
                _wait_after(error)


def _wait_after(error: OSError | Refused) -> None:
    """Wait a moment. Raises a refusal that says anything but that a part of the server is away."""
    if isinstance(error, Refused) and error.reason != RefusalReason.UNAVAILABLE:
        raise error
    time.sleep(_CONNECT_AGAIN)


def attempted_in(journal: Path) -> list[DrillMessage]:
    """Return what a sender ever began to send."""
    return [parse_line(line[2:]) for line in read_journal(journal) if line.startswith("A ")]


def acknowledged_in(journal: Path) -> list[DrillMessage]:
    """Return what a sender knows to be accepted."""
    return [parse_line(line[2:]) for line in read_journal(journal) if line.startswith("K ")]


def refused_in(journal: Path) -> list[DrillMessage]:
    """Return what a sender was told was not done."""
    return [parse_line(line[2:]) for line in read_journal(journal) if line.startswith("R ")]


def count_acknowledged(journal: Path) -> int:
    """How many these are, for whoever asks often: a long drill's journals have a great many."""
    return count_lines(journal, "K ")


def received_in(journal: Path) -> list[DrillMessage]:
    """Return what a receiver got, in order; a damaged one counts as a message that nobody sent."""
    lines = [line.partition(" ")[2] for line in read_journal(journal)]
    return [DrillMessage("damaged", "damaged", 0) if line == "damaged" else parse_line(line) for line in lines]


def judge_journals(senders: Sequence[Path], receivers: Mapping[str, Path], *, drained: bool = True) -> Verdict:
    """The checker over all journals of a drill."""
    # In this order: a journal may still grow, and attempts precede acknowledgements.
    got = {name: received_in(journal) for name, journal in receivers.items()}
    acknowledged = [message for journal in senders for message in acknowledged_in(journal)]
    attempted = [message for journal in senders for message in attempted_in(journal)]
    refused = {message for journal in senders for message in refused_in(journal)}
    return judge(attempted, acknowledged, got, refused=refused, drained=drained)


class Actor:
    """One role, played by one process after another."""

    def __init__(self, play: Callable[..., None], *arguments: Any) -> None:
        self._play = play
        self._arguments = arguments
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Begin, or continue after a kill. Forked, because a new Python for each would cost more
        than the drill itself.
        """
        self._process = multiprocessing.get_context("fork").Process(target=self._play, args=self._arguments)
        self._process.start()

    @property
    def process(self) -> BaseProcess:
        """The current process, or the last one."""
        assert self._process is not None, "never started"
        return self._process

    def kill(self) -> None:
        """SIGKILL, if it has not ended by itself."""
        self.process.kill()
        self.process.join()

    def ended_well(self, seconds: float) -> bool:
        """Wait for it to have nothing left to do."""
        self.process.join(seconds)
        return self.process.exitcode == 0
