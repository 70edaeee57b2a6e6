"""Users of the client's library for drills: real homes, a clock of their own, and what each of them
was shown.

Owns: opening a home behind a middleman; the judgement of everything that a user is shown.
Promises: nothing that is shown is passed over: it is a message that its sender sent to this user
and that was not shown before, or says itself that it is not to be believed, or it is `WRONG`.
Exposure: 127.0.0.1 only.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final, NamedTuple

from client.errors import ClientError
from client.identity.home import open_store
from client.messenger import (
    KeyReceived,
    KeyRequested,
    Messenger,
    Received,
    Renewed,
    SavedFile,
    Text,
    Unreadable,
)
from client.open_home import OpenHome
from client.suite1.own_keys import OwnKeys
from common.server_address import ServerAddress
from common.values import ClientId
from torture.drill_messages import DrillMessage, parse_content

_START: Final = 1_800_000_000.0
_HOUR: Final = 3600.0


class Clock:
    """One clock for everybody, which stands still until somebody moves it."""

    def __init__(self) -> None:
        self._now = _START

    def __call__(self) -> float:
        """Unix time in seconds."""
        return self._now

    def pass_hours(self, hours: float) -> None:
        """Move it."""
        self._now += hours * _HOUR


class Judgement(Enum):
    """What something is that a user was shown."""

    HONEST = auto()
    """A message, for the first time, as it was sent."""
    NAMED = auto()
    """Something that says of itself that it can't be opened, or is not believed."""
    OF_KEYS = auto()
    """A message about keys and sessions, of the suite that the two have."""
    WRONG = auto()
    """Anything else: shown as if it were what it is not."""


class Finding(NamedTuple):
    """Something that was shown, and what it is."""

    judgement: Judgement
    received: Received
    message: DrillMessage | None = None


class Judge:
    """Knows what was sent, and what was shown already. `suite`: that of everybody's messages."""

    def __init__(self, suite: int = 1) -> None:
        self.sent: dict[DrillMessage, None] = {}
        self.shown: dict[str, dict[DrillMessage, None]] = {}
        """By the name of who was shown it."""
        self._suite = suite
        self._numbers: Counter[tuple[str, str]] = Counter()

    def message(self, sender: str, recipient: str) -> DrillMessage:
        """Return the next message of somebody to somebody, which is sent now."""
        self._numbers[sender, recipient] += 1
        message = DrillMessage(sender, recipient, self._numbers[sender, recipient])
        self.sent[message] = None
        return message

    def look(self, recipient: str, received: Received) -> Finding:
        """Judge what somebody was shown."""
        message: DrillMessage | None = None
        match received.content:
            case Unreadable():
                return Finding(Judgement.NAMED, received)
            case Text(text):
                with suppress(UnicodeEncodeError):
                    message = parse_content(text.encode("latin-1"))
            case SavedFile(path):
                message = parse_content(path.read_bytes())
                path.unlink()
            case KeyReceived() | KeyRequested() | Renewed() if received.suite == self._suite:
                return Finding(Judgement.OF_KEYS, received)
            case _:
                pass
        shown = self.shown.setdefault(recipient, {})
        is_sent = message is not None and message in self.sent
        if message is None or not is_sent or message in shown or received.suite != self._suite:
            return Finding(Judgement.WRONG, received, message)
        shown[message] = None
        is_theirs = (message.sender, message.recipient) == (received.sender_name, recipient)
        return Finding(Judgement.HONEST if is_theirs else Judgement.WRONG, received, message)

    def missing(self) -> list[DrillMessage]:
        """Return what was sent, and shown to nobody."""
        return [message for message in self.sent if message not in self.shown.get(message.recipient, ())]


class Person:
    """A user with a home at a server's `port`."""

    def __init__(self, folder: Path, port: int, name: str, clock: Clock, judge: Judge, *, suite_1: bool = True) -> None:
        self.name = name
        self.told: list[str] = []
        """All that the client told of itself."""
        self._judge = judge
        home = folder / name
        home.mkdir(parents=True)
        saved, self._files = home / "received", home / "sent"
        saved.mkdir()
        self._files.mkdir()
        self.home = OpenHome(
            home, ServerAddress("127.0.0.1", port), open_store(home), save_dir=saved, tell=self.told.append,
            clock=clock, pauses=(), suite_1=suite_1,
        )  # fmt: skip
        self.messenger = Messenger(self.home)

    def register(self) -> None:
        """Become a user of the server."""
        self.messenger.register(self.name)

    @property
    def client_id(self) -> ClientId:
        """The id at the server."""
        return self.home.account.identity().client_id

    def keys(self) -> OwnKeys:
        """The keys of suite 1, with their private halves."""
        keys = self.home.suite_keys.own()
        assert keys is not None
        return keys

    def is_warned_of(self, other: "Person") -> bool:
        """Whether the server has named another identity for somebody, who gets nothing since."""
        peer = self.home.store.peers.of_id(other.client_id)
        return peer is not None and peer.offered is not None

    def waiting(self) -> bool:
        """Whether anything waits to be sent."""
        return next(iter(self.home.store.outbox.waiting()), None) is not None

    def reconnect(self) -> None:
        """Be greeted anew with the next request: what the server offers is heard again, and keys
        that are due are published.
        """
        self.home.link.close()

    def send(self, other: "Person", *, as_file: bool = False, size: int = 100) -> DrillMessage:
        """Send the next message. Raises what `Messenger.send` raises; if it was not even kept then,
        it counts as never sent.
        """
        message = self._judge.message(self.name, other.name)
        content = message.content(size)
        file = self._files / f"{message}"
        if as_file:
            file.write_bytes(content)
        try:
            self.messenger.send(other.name, file if as_file else content.decode("latin-1"))
        except ClientError as error:
            if not error.kept:
                del self._judge.sent[message]
            raise
        return message

    def receive(self) -> list[Finding]:
        """Receive what there is, and judge it. Raises what `Messenger.receive` raises."""
        return [self._judge.look(self.name, received) for received in self.messenger.receive()]

    def close(self) -> None:
        """Close the home."""
        self.messenger.close()


def of(findings: Sequence[Finding], judgement: Judgement) -> list[Finding]:
    """Those with a judgement."""
    return [finding for finding in findings if finding.judgement is judgement]
