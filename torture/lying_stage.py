"""The stage of the drill `lying-server`: users behind middlemen, and what an attack comes to.

Owns: who is there, times at which the server is honest, the count of a kind of attack.
Promises: a lie that nobody heard counts as nothing, and breaks the drill off; so do users who come
to no end when the server is honest.
Exposure: 127.0.0.1 only.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

from client.errors import ClientError
from common.client_protocol.versions import Feature
from common.values import TOKEN_SIZE, MessageKind
from torture.drill import say
from torture.lies import Mallory
from torture.middleman import Middleman, Overheard
from torture.people import Clock, Finding, Judge, Judgement, Person, of

HOUR: Final = 1.02
"""Hours; a little more than one, after which sessions may be renewed again."""
_ROUNDS: Final = 12
"""At most so many times everybody looks for mail until all has arrived."""


class Count(NamedTuple):
    """Attacks: those that were accepted, and those of which the user was told. The others had no
    effect.
    """

    attacks: int = 0
    accepted: int = 0
    named: int = 0

    def plus(self, other: Self) -> "Count":
        """The sum of both."""
        return Count(self.attacks + other.attacks, self.accepted + other.accepted, self.named + other.named)


class Stage:
    """Alice, Bob and Carol, each behind a middleman, who have written to each other."""

    def __init__(self, folder: Path, port: int, chance: random.Random, *, suite_1: bool = True) -> None:
        self.chance = chance
        self.clock = Clock()
        self.judge = Judge(int(suite_1))
        self.wrong: list[Finding] = []
        """What somebody was shown as something that it is not."""
        self.mallory = Mallory(chance, lambda: int(self.clock() * 1000))
        self._folder, self._port, self._suite_1 = folder, port, suite_1
        self._open = ExitStack()
        self._people: list[Person] = []
        self.ways: dict[str, Middleman] = {}

    def __enter__(self) -> Self:
        self.alice, self.bob, self.carol = (self.newcomer(name) for name in ("alice", "bob", "carol"))
        for sender in self._people:
            for recipient in self._people:
                if sender is not recipient:
                    sender.send(recipient)
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def newcomer(self, name: str) -> Person:
        """Somebody registers."""
        way = self.ways[name] = self._open.enter_context(Middleman(self._port))
        person = Person(self._folder, way.port, name, self.clock, self.judge, suite_1=self._suite_1)
        self._open.callback(person.close)
        self._people.append(person)
        person.register()
        return person

    def leave(self, person: Person) -> None:
        """Nobody waits for somebody's mail any more."""
        self._people.remove(person)

    def receive(self, person: Person) -> list[Finding]:
        """Somebody receives what there is."""
        found = person.receive()
        self.wrong += of(found, Judgement.WRONG)
        return found

    def settle(self) -> None:
        """The server is honest, until all that was sent has arrived, and nobody has anything to say
        to it any more.
        """
        self.clock.pass_hours(HOUR)
        for way in self.ways.values():
            way.be_honest()
            way.overheard.clear()
        for person in self._people:
            person.reconnect()
        for _ in range(_ROUNDS):
            is_quiet = not any(person.waiting() for person in self._people)
            found = [finding for person in self._people for finding in self.receive(person)]
            if is_quiet and not found and not any(person.waiting() for person in self._people):
                return
        raise AssertionError("they do not come to an end")

    def attack(self, ask: "Ask", victim: Person, peer: Person) -> Count:
        """What comes of one lie, told while somebody asks for something or writes to `peer`."""
        way = self.ways[victim.name]
        told, since = way.told, len(way.overheard)
        try:
            outcome = ask()
        except ClientError:
            outcome = False
        assert way.told > told, "nobody heard the lie"
        left = [message for message in way.overheard[since:] if message.recipient == peer.client_id]
        accepted = outcome is True or any(self._is_open(message, victim) for message in left)
        return Count(1, int(accepted), int(outcome is False and not accepted))

    def _is_open(self, message: Overheard, sender: Person) -> bool:
        """Whether the attacker can read it, or it is under the published suite."""
        return message.kind != MessageKind.SEALED or self.mallory.reads(message, sender.keys().identity)

    def token(self) -> bytes:
        """Return a token as of another message."""
        return self.chance.randbytes(TOKEN_SIZE)

    @contextmanager
    def hiding(self, person: Person, features: Feature) -> Iterator[None]:
        """For a while, the server does not offer these to somebody."""
        self.ways[person.name].hides = features
        person.reconnect()
        yield
        self.ways[person.name].hides = Feature(0)
        person.reconnect()


Ask = Callable[[], bool | None]
"""What a user does while the server lies. True: it was done, and should not have been; False: the
user was told; None: it may be done. A `ClientError` is as False.
"""
Kind = Callable[[Stage, int], Count]
"""Attacks a number of times in one way."""


def perform(stage: Stage, drill: str, name: str, kind: Kind, wanted: int) -> Count:
    """Attack in one way, and count what was accepted at any time."""
    before = len(stage.wrong)
    found = kind(stage, wanted)
    found = found._replace(accepted=found.accepted + len(stage.wrong) - before)
    say(f"  {drill}: {name}: {found.attacks} attacks, {found.accepted} accepted, {found.named} named")
    for finding in stage.wrong[before : before + 3]:
        say(f"    shown in {finding.received.sender_name}'s name: {finding.received.content!r:.200}")
    return found
