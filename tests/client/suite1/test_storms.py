"""Two homes through storms: lost, repeated and overtaken messages, homes put back from copies,
publications without an answer, clocks that jump, an empty shelf. Whatever happened, no text is
shown twice or altered, and when it is calm again both sides read each other within a few messages.
"""

from __future__ import annotations

import random

import pytest

from client.suite1 import messages, own_keys, payloads, peers
from client.suite1.messages import Opened
from client.suite1.payloads import About, Text
from client.suite1.values import HOUR, BundleFailure, BundleRefused, OpenFailure, Pair
from tests.client.suite1.two_homes import ALICE, BOB, Home, World, days

OTHER = {ALICE: BOB, BOB: ALICE}


class Storm:
    """Two homes, what is on its way to each, and what each has shown."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(dice=random.Random(seed))
        self.homes = {client_id: Home(self.world, client_id) for client_id in OTHER}
        self.waiting: dict[bytes, list[tuple[str, bytes]]] = {ALICE: [], BOB: []}
        self.shown: dict[bytes, set[str]] = {ALICE: set(), BOB: set()}
        self.copies: dict[bytes, tuple[tuple[bytes, dict[bytes, bytes]], set[str]]] = {}
        self.sent = 0

    def send(self, me: bytes) -> bool:
        """Send a text as a client does; False: nothing could be sent, and the client says so."""
        home, other, now = self.homes[me], OTHER[me], self.world.now
        try:
            peer = home.peer(other)
            if peers.claim_due(peer, now) is not None:
                home.keep(other, peers.claimed(home.keys, peer, home.claim(other, first=False), now))
        except BundleRefused as refused:
            # Nothing but an old bundle of a home that was put back.
            assert refused.failure is BundleFailure.OLDER
            if home.peer(other).sending is None:
                return False
        self.sent += 1
        text = str(self.sent)
        payload = payloads.encoded(Text(About(self.sent.to_bytes(16, "big"), now), text))
        sealed = messages.seal(home.keys, home.peer(other), Pair(me, other), payload)
        home.keep(other, sealed.peer)
        self.waiting[other].append((text, sealed.envelope))
        return True

    def fetch(self, me: bytes) -> list[bool]:
        """Open what has come; return what was opened and what was not."""
        home, results = self.homes[me], []
        for text, content in self.waiting[me]:
            result = home.open(OTHER[me], content)
            results.append(isinstance(result, Opened))
            if isinstance(result, Opened):
                payload = payloads.decoded(result.payload)
                assert isinstance(payload, Text)
                assert payload.text == text
                assert text not in self.shown[me]
                self.shown[me].add(text)
            elif own_keys.replacement_due(home.keys, result.failure, self.world.now):
                home.keys = own_keys.replaced(home.keys, self.world.now, self.world.random_bytes)
            if not isinstance(result, Opened):
                assert result.failure not in {OpenFailure.OTHER_IDENTITY, OpenFailure.WRONG_IDS, OpenFailure.WRONG_KEYS}
        self.waiting[me].clear()
        home.keys = own_keys.without_expired(home.keys, self.world.now)
        return results

    def publish(self, me: bytes) -> None:
        if own_keys.publication_due(self.homes[me].keys, self.world.now):
            self.homes[me].publish()

    def step(self) -> None:
        me = self.dice.choice((ALICE, BOB))
        home, waiting = self.homes[me], self.waiting[me]
        match self.dice.choice(
            ["send"] * 8 + ["fetch"] * 5 + ["publish"] * 2
            + ["lose", "repeat", "reorder", "copy", "put back", "no answer", "empty shelf", "hours", "days", "back"]
        ):  # fmt: skip
            case "send":
                self.send(me)
            case "fetch":
                self.fetch(me)
            case "publish":
                self.publish(me)
            case "lose" if waiting:
                waiting.pop(self.dice.randrange(len(waiting)))
            case "repeat" if waiting:
                waiting.append(self.dice.choice(waiting))
            case "reorder":
                self.dice.shuffle(waiting)
            case "copy":
                self.copies[me] = home.copy(), set(self.shown[me])
            case "put back" if me in self.copies:
                copy, shown = self.copies[me]
                home.put_back(copy)
                self.shown[me] = set(shown)
                if self.dice.random() < 0.5:
                    # The home knows it: it was imported.
                    home.keys = own_keys.replaced(home.keys, self.world.now, self.world.random_bytes)
                    if OTHER[me] in copy[1]:
                        home.keep(OTHER[me], peers.restored(home.peer(OTHER[me])))
            case "no answer":
                home.keys, publication = own_keys.prepare_publication(
                    home.keys, me, self.world.now, self.world.random_bytes
                )
                if self.dice.random() < 0.5:
                    self.world.shelves[me].take(publication)
            case "empty shelf":
                self.world.shelves[me].one_time_keys.clear()
            case "hours":
                self.world.now += self.dice.randint(1, 24) * HOUR
            case "days":
                self.world.now += days(self.dice.randint(1, 20))
            case "back":
                self.world.now -= self.dice.randint(1, 3) * HOUR
            case _:
                pass

    def calm(self, pause: int) -> int:
        """Count the rounds until each side opens all that the other sends; `pause` before each."""
        for number in range(1, 40):
            # A home that is opened: it publishes, fetches, and answers.
            self.world.now += pause
            good = True
            for me in (ALICE, BOB):
                self.publish(me)
                good = all(self.fetch(me)) and good
                self.publish(me)
                good = self.send(me) and good
            if good and number > 1:
                return number
        raise AssertionError("they read nothing of each other any more")


@pytest.mark.parametrize("seed", range(10))
def test_after_a_storm_both_sides_read_each_other(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(120):
        storm.step()
    # Renewals are one an hour, replacements of all keys one a day.
    assert storm.calm(pause=days(1) if seed % 2 else 2 * HOUR) <= (8 if seed % 2 else 16)
