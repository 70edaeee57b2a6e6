"""Processes that talk under cipher suite 1 in both directions, with the client of this project, and
may be killed at any instant.

Owns: what such a process notes, and a tap on what leaves it.
Promises: what was attempted is noted before, what the library has taken after; an envelope is noted
before its first byte leaves. Several processes may have one home; one of them receives.
Exposure: none.

    a line begins with   it means
    ──────────────────   ──────────────────────────────────────────────────────
    A                    attempted
    K                    the library has taken it: sent, or kept
    R                    shown to the user
    U                    shown, and can't be read: from whom, and why
    N                    somebody's home has begun anew: from whom
    T                    told to the user
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from client.errors import ClientError, StoreUnusable
from client.identity.home import open_store
from client.messenger import KeyReceived, Messenger, Received, Renewed, SavedFile, Text, Unreadable
from client.open_home import OpenHome
from client.suite1.values import MESSAGE_TYPE, Pair
from common.client_protocol.requests import LargeSendRequest, SendRequest
from common.server_address import ServerAddress
from torture import unbound_ratchet
from torture.drill_messages import DrillMessage, parse_content, parse_line
from torture.journal import Journal, read_journal
from torture.olm_messages import Envelope

_TEXTS: Final = (0, 100, 1_000)
_FILES: Final = (300, 5_000, 100_000)
"""The largest is not kept in the store, but in a file beside it."""
_FILE_ONE_IN: Final = 5
_PAUSE: Final = 0.03


class Orders(NamedTuple):
    """What a talker has to know."""

    port: int
    folder: Path
    """For homes, files, journals."""
    user: str
    role: str
    """Of the processes of one home."""
    epoch: int
    """Counts how often homes and servers were put back: the order of messages holds within one."""
    others: tuple[str, ...]
    receives: bool
    stop: Path
    ahead: float = 0.0
    """Seconds by which the client's clock is ahead."""
    resends: bool = False
    """Whether it sends again what is possibly lost."""
    is_bound: bool = True
    """Whether its ratchet is in the transaction of the message."""

    @property
    def home(self) -> Path:
        """Its home, which other processes may have too."""
        return self.folder / self.user

    @property
    def name(self) -> str:
        """As a sender."""
        return f"{self.user}-{self.role}.{self.epoch}"

    @property
    def journal(self) -> Path:
        """What it notes."""
        return self.folder / f"{self.user}-{self.role}.journal"

    @property
    def wire(self) -> Path:
        """The envelopes that left it."""
        return self.folder / f"{self.user}-{self.role}.wire"

    def file_of(self, message: DrillMessage) -> Path:
        """The file that is sent as this message."""
        return self.folder / "files" / f"{message.sender}-{message.number}"


class Talker:
    """One process of a home."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._journal = Journal(orders.journal)
        self._wire = Journal(orders.wire)
        self._known = set(self._journal.lines)
        self._told_last = ""
        self._number = sum(line.startswith("A ") for line in self._journal.lines)
        self._chance = random.Random(f"{orders.name} {len(self._journal.lines)}")
        self.messenger = Messenger(_open(orders, self._tell))
        _tap(self.messenger, self._wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.messenger.close()
        self._journal.__exit__()
        self._wire.__exit__()

    def _tell(self, sentence: str) -> None:
        self._told_last = sentence
        self._journal.write([f"T {sentence}".replace("\n", " ")])

    def send(self) -> None:
        """Send a text or a file to somebody."""
        orders = self._orders
        self._number += 1
        message = DrillMessage(orders.name, self._chance.choice(orders.others), self._number)
        self._journal.write([f"A {message}"])
        sending = self.messenger.home.sending
        try:
            if self._chance.randrange(_FILE_ONE_IN):
                sending.send_text(message.recipient, message.content(self._chance.choice(_TEXTS)).decode("latin-1"))
            else:
                path = orders.file_of(message)
                path.write_bytes(message.content(self._chance.choice(_FILES)))
                sending.send_file(message.recipient, path)
        except ClientError as error:
            if not error.kept:
                time.sleep(_PAUSE)
                return
        self._journal.write([f"K {message}"])

    def receive(self) -> int:
        """Note what comes, and return how much; what comes again has to say so."""
        came = 0
        try:
            for received in self.messenger.receive():
                came += 1
                line = _line(received)
                # Killed between the note and the library's: given again, and marked.
                if not (received.repeated and line in self._known):
                    self._journal.write([line])
                    self._known.add(line)
        except ClientError:
            time.sleep(_PAUSE)
        return came

    def resend(self) -> list[str]:
        """Send again what is possibly lost; return why some of it can't be."""
        resent = self.messenger.resend()
        left = f"{resent.left} stay marked as possibly lost, {resent.waiting} wait; told last: {self._told_last}"
        return resent.problems or [left] * bool(resent.left)

    def finish(self) -> int:
        """Send what waits, and return how much does still."""
        with suppress(ClientError):
            self.messenger.send_waiting()
        return self.messenger.home.outbox.waiting_count()


def _open(orders: Orders, tell: Callable[[str], None]) -> OpenHome:
    address = ServerAddress("127.0.0.1", orders.port)
    orders.home.mkdir(mode=0o700, exist_ok=True)
    store = open_store(orders.home)
    sweep = store.sweep
    # The times of files are of the machine's clock.
    setattr(store, "sweep", lambda now: sweep(now - round(orders.ahead * 1000)))  # noqa: B010
    received = orders.folder / f"{orders.user}.received"
    received.mkdir(exist_ok=True)
    return OpenHome(orders.home, address, store, save_dir=received, tell=tell, clock=lambda: time.time() + orders.ahead)


def _tap(messenger: Messenger, wire: Journal) -> None:
    """Note each envelope before it leaves."""
    link = messenger.home.link
    ask = link.ask

    def noted(request: Any, body: Iterable[bytes] = ()) -> Any:
        if isinstance(request, SendRequest | LargeSendRequest) and request.kind == MESSAGE_TYPE:
            content = request.content if isinstance(request, SendRequest) else next(parts := iter(body))
            wire.write([str(Envelope(Pair(request.requester, request.recipient), content))])
            if isinstance(request, LargeSendRequest):
                body = chain([content], parts)
        return ask(request, body)

    setattr(link, "ask", noted)  # noqa: B010 - the link of this process alone


def _line(received: Received) -> str:
    content = received.content
    match content:
        case Text(text):
            with suppress(UnicodeEncodeError):
                return f"R {parse_content(text.encode('latin-1')) or 'damaged'}"
        case SavedFile(path):
            return f"R {parse_content(path.read_bytes()) or 'damaged'}"
        case Unreadable(problem):
            return f"U {received.sender_name} {received.number} {problem}"
        case Renewed() | KeyReceived():
            return f"N {received.sender_name} {received.number}"
    return "R damaged"


def talk(orders: Orders) -> None:
    """Send and receive until the file that stops it is there."""
    if not orders.is_bound:
        unbound_ratchet.switch_off()
    with _started(orders) as talker:
        if orders.resends:
            with suppress(ClientError):
                talker.resend()
        while not orders.stop.exists():
            talker.send()
            if orders.receives:
                talker.receive()
            time.sleep(_PAUSE)


def _started(orders: Orders) -> Talker:
    while True:
        try:
            return Talker(orders)
        except StoreUnusable:
            # Busy: others of this home were killed within their transactions.
            time.sleep(_PAUSE)


def count_acknowledged(orders: Orders) -> int:
    """Return how many messages the library has taken of one process, without reading them."""
    return orders.journal.read_bytes().count(b"\nK ") if orders.journal.exists() else 0


class Notes(NamedTuple):
    """What the processes of all homes noted."""

    attempted: list[DrillMessage]
    acknowledged: list[DrillMessage]
    received: dict[str, list[DrillMessage]]
    unreadable: list[str]
    """Who could not read it, from whom, and why."""
    renewed: list[str]
    """Who was told so, and whose home it is."""
    told: list[str]


def read_notes(all_orders: Iterable[Orders]) -> Notes:
    """Read all journals."""
    notes = Notes([], [], {}, [], [], [])
    for orders in all_orders:
        got = notes.received.setdefault(orders.user, [])
        for line in read_journal(orders.journal):
            kind, _, rest = line.partition(" ")
            match kind:
                case "A":
                    notes.attempted.append(parse_line(rest))
                case "K":
                    notes.acknowledged.append(parse_line(rest))
                case "R":
                    got.append(DrillMessage("damaged", "damaged", 0) if rest == "damaged" else parse_line(rest))
                case "U":
                    notes.unreadable.append(f"{orders.user} {rest}")
                case "N":
                    notes.renewed.append(f"{orders.user} {rest}")
                case _:
                    notes.told.append(f"{orders.user} {rest}")
    return notes


def sent_envelopes(all_orders: Iterable[Orders]) -> Iterator[Envelope]:
    """Read what left the homes."""
    for orders in all_orders:
        yield from map(Envelope.parsed, read_journal(orders.wire))
