"""Whatever was spoilt, and whichever home was put back: two people talk again after two rounds, and
in one session.

Messages arrive in order and once, as the server promises; a spoilt one is not opened. A home that
is put back is one of which nobody said that it is an old copy. What is not opened is never taken
for a repeat, which is shown to nobody.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field

import pytest

from tests.suite1_second import bundles, payloads, talk
from tests.suite1_second.people import NOW, bundle_of, met, new_home, one_time_of
from tests.suite1_second.primitives import Refused

TEXT = payloads.encode(1, NOW, bytes(16), text="hello")


@dataclass
class Person:
    """A home, what it knows of the other one, the mail that waits for it, and an old copy of it."""

    home: talk.Home
    peer: talk.Peer
    mail: list[bytes] = field(default_factory=list)
    copy: tuple[talk.Home, talk.Peer] | None = None

    def writes(self, other: Person) -> None:
        if self.peer.sending is None or self.peer.renew:
            given = one_time_of(other.home) if other.home.one_time else b""
            claim = bundles.checked(bundle_of(other.home), given, other.home.id, NOW, self.peer.identity)
            talk.start(self.home, self.peer, claim)
        other.mail.append(talk.seal(self.home, self.peer, TEXT))

    def reads(self) -> bool:
        """Whether the oldest message opens."""
        try:
            return talk.opened(self.home, self.peer, self.mail.pop(0)).payload == TEXT
        except Refused as refused:
            assert refused.failure != "repeated"
            return False

    def happens(self, event: str, other: Person, chosen: random.Random) -> None:
        match event:
            case "writes":
                self.writes(other)
            case "reads" if self.mail:
                self.reads()
            case "spoilt" if self.mail:
                place = chosen.randrange(len(self.mail))
                self.mail[place] = self.mail[place][:-1] + bytes([self.mail[place][-1] ^ 1])
            case "copied":
                self.copy = copy.deepcopy((self.home, self.peer))
            case "put back" if self.copy is not None:
                self.home, self.peer = copy.deepcopy(self.copy)


EVENTS = {"writes": 10, "reads": 8, "spoilt": 1, "copied": 1, "put back": 1}


@pytest.mark.parametrize("seed", range(12))
def test_two_people_talk_again(seed: int) -> None:
    chosen = random.Random(seed)
    one, other = new_home(b"alice's id 12345"), new_home(b"bob's id 1234567")
    alice, bob = Person(one, met(one, other)), Person(other, met(other, one))
    for event in chosen.choices(list(EVENTS), list(EVENTS.values()), k=40):
        who, whom = chosen.choice([(alice, bob), (bob, alice)])
        who.happens(event, whom, chosen)
    for person in (alice, bob):
        while person.mail:
            person.reads()
    opened = []
    for _ in range(12):
        alice.writes(bob)
        opened.append(bob.reads())
        bob.writes(alice)
        opened.append(alice.reads())
    assert all(opened[-4:]), opened
    one_session, others_session = alice.peer.sending, bob.peer.sending
    assert one_session is not None
    assert others_session is not None
    assert one_session.session.session_id == others_session.session.session_id
