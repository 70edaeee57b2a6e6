"""Lies about keys, for the drill `lying-server`: swapped, replayed, withheld and used up.

Owns: what a user does while they are told, and those of a first contact that nothing protects from.
Promises: between the lies the server is honest often enough that every message can arrive.
Exposure: none.
"""

from collections.abc import Callable
from itertools import count as numbered
from typing import Final

from client.trust.user_link import UserLink
from common.client_protocol.responses import ResponseCode
from common.client_protocol.versions import Feature
from common.values import ClientId, RefusalReason
from torture.lies_in_mail import deliver
from torture.lying_stage import HOUR, Ask, Count, Stage
from torture.middleman import Claimed, Letter
from torture.people import Judgement, Person, of

Lie = Callable[[Claimed], Claimed | None]
"""Of what the server says of somebody's keys; None: there are none."""
_CLAIMS: Final = 10
"""Attacks between two times at which the server is honest."""
_AT_A_LINK: Final = 40
"""Attacks at the first contact with one user."""
_WEEK: Final = 8 * 24.0
_REMEMBERED: Final = 400


def _asks(stage: Stage) -> list[Ask]:
    """All in which Bob needs keys of Alice's."""
    bob, alice = stage.bob, stage.alice

    def looks() -> bool:
        return not bob.messenger.fetch_public_key("alice").changed

    def renews() -> bool:
        bob.messenger.send_key("alice")
        return True

    def renews_and_writes() -> bool:
        bob.home.key_exchange.keep_key("alice")
        bob.send(alice)
        return True

    def writes_late() -> None:
        # Her outer key is beyond its time; nothing but another identity is a reason not to use it.
        stage.clock.pass_hours(_WEEK)
        bob.send(alice)

    return [looks, renews, renews_and_writes, writes_late]


def _on_claims(stage: Stage, wanted: int, lie: Lie) -> Count:
    """Lie to Bob about Alice's keys."""
    way, subject = stage.ways["bob"], stage.alice.client_id
    asks = _asks(stage)
    found = Count()
    while found.attacks < wanted:
        for _ in range(min(_CLAIMS, wanted - found.attacks)):
            way.claim = lambda of_whom, said: lie(said) if of_whom == subject else said
            found = found.plus(stage.attack(stage.chance.choice(asks), stage.bob, stage.alice))
            way.be_honest()
            if stage.bob.is_warned_of(stage.alice):
                # The truth makes good what another identity was noted for.
                stage.bob.messenger.fetch_public_key("alice")
        stage.settle()
    return found


def swapped_identity(stage: Stage, wanted: int) -> Count:
    """An identity of the server's own."""
    subject = stage.alice.client_id
    return _on_claims(stage, wanted, lambda said: stage.mallory.other_identity(subject, said))


def swapped_keys(stage: Stage, wanted: int) -> Count:
    """The right identity, with keys of the server's own or altered ones."""
    subject = stage.alice.client_id
    return _on_claims(stage, wanted, lambda said: stage.mallory.other_keys(subject, said))


def anothers_bundle(stage: Stage, wanted: int) -> Count:
    """True keys of Carol's, or of Bob's own."""
    way = stage.ways["alice"]
    known: dict[ClientId, Claimed] = {}

    def remember(subject: ClientId, said: Claimed) -> Claimed:
        known[subject] = said
        return said

    way.claim = remember
    for name in ("bob", "carol"):
        stage.alice.messenger.fetch_public_key(name)
    way.be_honest()

    def lie(said: Claimed) -> Claimed:
        others = stage.chance.choice(list(known.values()))
        return stage.chance.choice((others, Claimed(others.bundle), Claimed(said.bundle, others.one_time_key)))

    return _on_claims(stage, wanted, lie)


def old_bundle(stage: Stage, wanted: int) -> Count:
    """Alice's own bundle of some weeks before; its private outer key was stolen since."""
    way, old = stage.ways["bob"], []

    def remember(_subject: ClientId, said: Claimed) -> Claimed:
        old.append(said)
        return said

    for _ in range(3):
        stage.mallory.stolen += [secret for secret in stage.alice.keys().outer if secret not in stage.mallory.stolen]
        way.claim = remember
        stage.bob.messenger.fetch_public_key("alice")
        stage.clock.pass_hours(_WEEK)
        stage.settle()
    stage.bob.messenger.fetch_public_key("alice")

    def lie(said: Claimed) -> Claimed:
        before = stage.chance.choice(old)
        return before._replace(one_time_key=stage.chance.choice((before.one_time_key, said.one_time_key, b"")))

    try:
        return _on_claims(stage, wanted, lie)
    finally:
        stage.mallory.stolen.clear()


def withheld_keys(stage: Stage, wanted: int) -> Count:
    """There are no keys, or no suite 1, or no answer, from somebody who has shown keys."""
    bob, alice, way = stage.bob, stage.alice, stage.ways["bob"]
    looks, renews, renews_and_writes, writes_late = _asks(stage)

    def writes() -> bool:
        return bob.send(alice) is None

    def hidden(features: Feature) -> None:
        way.hides = features
        bob.reconnect()

    lies_told: list[tuple[Callable[[], None], tuple[Ask, ...]]] = [
        (lambda: setattr(way, "claim", lambda _subject, _said: None), (looks, renews, renews_and_writes, writes_late)),
        (lambda: way.cuts.add(ResponseCode.KEY_CLAIMED), (looks, renews, renews_and_writes, writes_late)),
        (lambda: hidden(Feature.KEYS), (writes, renews, renews_and_writes)),
        (lambda: hidden(Feature.KEYS | Feature.SEND_ONCE), (writes,)),
        (lambda: hidden(~Feature(0)), (writes,)),
        (lambda: way.refuses.update({ResponseCode.STORED: RefusalReason.NO_KEYS}), (writes,)),
        (lambda: way.cuts.add(ResponseCode.STORED), (writes,)),
    ]
    found = Count()
    while found.attacks < wanted:
        for _ in range(min(_CLAIMS, wanted - found.attacks)):
            begin, asks = stage.chance.choice(lies_told)
            begin()
            found = found.plus(stage.attack(stage.chance.choice(asks), bob, alice))
            is_greeted_anew = bool(way.hides)
            way.be_honest()
            if is_greeted_anew:
                bob.reconnect()
        stage.settle()
    return found


_names: Final = numbered(1)


def withheld_from_a_link(stage: Stage, wanted: int) -> Count:
    """The first contact with somebody whose link Bob has: no keys, or others, or no suite 1."""
    bob, way, found = stage.bob, stage.ways["bob"], Count()
    while found.attacks < wanted:
        eve = stage.newcomer(f"eve-{next(_names)}")
        link = eve.home.directory.own_link()
        assert link is not None
        true: list[Claimed] = []

        def compares(link: UserLink = link) -> bool:
            return bool(bob.home.directory.compare_link(link))

        def looks(eve: Person = eve) -> bool:
            return not bob.messenger.fetch_public_key(eve.name).changed

        def writes(eve: Person = eve) -> bool:
            return bob.send(eve) is None

        def lie(of_whom: ClientId, said: Claimed, eve: Person = eve, true: list[Claimed] = true) -> Claimed | None:
            if of_whom != eve.client_id:
                true.append(said)
                return said
            others = [None, stage.mallory.other_identity(of_whom, said), stage.mallory.other_keys(of_whom, said), *true]
            return stage.chance.choice(others)

        way.claim = lie
        bob.messenger.fetch_public_key("carol")
        asks: list[Ask] = [compares]
        for _ in range(min(_AT_A_LINK, wanted - found.attacks)):
            ask = stage.chance.choice(asks)
            way.claim = lie
            if ask is not looks and stage.chance.randrange(3) == 0:
                with stage.hiding(bob, Feature.KEYS):
                    found = found.plus(stage.attack(ask, bob, eve))
            else:
                found = found.plus(stage.attack(ask, bob, eve))
            asks = [compares, looks, writes]
        way.be_honest()
        assert compares()
        bob.send(eve)
        stage.settle()
        stage.leave(eve)
    return found


def exhausted_keys(stage: Stage, wanted: int) -> Count:
    """No one-time key is left; first messages, whose fallback key works again, come again."""
    bob, alice, found = stage.bob, stage.alice, Count()
    first: list[Letter] = []

    def again(letters: list[Letter]) -> list[Letter]:
        copies = [letter._replace(token=stage.token()) for letter in [*letters, *first[-_REMEMBERED:]]]
        first.extend(letters)
        return [*letters, *stage.chance.sample(copies, stage.chance.randint(1, min(4, len(copies))))]

    while found.attacks < wanted:
        for _ in range(min(_CLAIMS, wanted - found.attacks)):
            stage.clock.pass_hours(HOUR)
            stage.ways["bob"].claim = lambda _subject, said: Claimed(said.bundle)
            bob.messenger.send_key("alice")
            bob.send(alice)
            shown = deliver(stage, alice, again, by_604=bool(stage.chance.randrange(2)))
            found = found.plus(Count(1, 0, int(bool(of(shown, Judgement.NAMED)))))
        stage.settle()
    return found


def swapped_at_first(stage: Stage, wanted: int) -> Count:
    """An identity of the server's own, at a first contact without a link."""

    def lie(eve: Person) -> Lie:
        made = Claimed(stage.mallory.bundle(eve.client_id), stage.mallory.one_time_key(eve.client_id))
        return lambda _said: made

    return _at_first(stage, wanted, lie)


def withheld_at_first(stage: Stage, wanted: int) -> Count:
    """No keys, at a first contact without a link."""
    return _at_first(stage, wanted, lambda _eve: lambda _said: None)


def old_at_first(stage: Stage, wanted: int) -> Count:
    """A bundle whose private outer key was stolen since, at a first contact."""

    def lie(eve: Person) -> Lie:
        stage.mallory.stolen += eve.keys().outer
        old: list[Claimed] = []

        def remember(_subject: ClientId, said: Claimed) -> Claimed:
            old.append(said)
            return said

        stage.ways["carol"].claim = remember
        stage.carol.messenger.fetch_public_key(eve.name)
        stage.clock.pass_hours(_WEEK)
        stage.settle()
        return lambda _said: old[0]

    try:
        return _at_first(stage, wanted, lie)
    finally:
        stage.mallory.stolen.clear()


def _at_first(stage: Stage, wanted: int, lie_about: Callable[[Person], Lie]) -> Count:
    """Lie to Bob about somebody whom he writes to for the first time."""
    found = Count()
    for _ in range(wanted):
        eve = stage.newcomer(f"eve-{next(_names)}")
        lie = lie_about(eve)

        def writes(eve: Person = eve) -> None:
            stage.bob.send(eve)

        stage.ways["bob"].claim = lambda _subject, said, lie=lie: lie(said)
        found = found.plus(stage.attack(writes, stage.bob, eve))
        stage.ways["bob"].be_honest()
        stage.leave(eve)
    return found
