"""Lies in mail, for the drill `lying-server`: messages that are repeated, reordered, spoiled,
forged or another's.

Owns: how a user's mail is changed on its way, and the judgement of its order.
Promises: what is cut or altered comes whole in the end, or is asked for.
Exposure: none.
"""

from collections.abc import Callable
from typing import Final

from client.suite1.values import Pair
from common.client_protocol.versions import Feature
from common.values import CLIENT_ID_SIZE, ClientId, MessageKind
from torture import lies
from torture.lying_stage import Count, Stage
from torture.middleman import Letter, Rewrite
from torture.people import Finding, Judgement, Person, of

_LETTERS: Final = 20
"""Messages that are attacked between two times at which the server is honest."""
_BATCH: Final = 5
_LONG_BATCH: Final = 60
"""More than the keys that Olm keeps of what was overtaken."""
_REMEMBERED: Final = 400


def _send(stage: Stage, how_many: int, *, as_files: bool = False) -> None:
    """Alice writes to Bob."""
    for _ in range(how_many):
        stage.alice.send(stage.bob, as_file=as_files, size=stage.chance.choice((100, 300, 2_000)))


def _is_alices(stage: Stage, letter: Letter) -> bool:
    return letter.sender == stage.alice.client_id


def deliver(stage: Stage, person: Person, rewrite: Rewrite, *, by_604: bool) -> list[Finding]:
    """Deliver somebody's mail with changes: in the answer to one 643, or as it is, and what is
    added to it by a 604, in which an honest server gives nothing of suite 1.
    """
    way = stage.ways[person.name]
    if not by_604:
        way.rewrite = rewrite
        return stage.receive(person)
    came: list[Letter] = []

    def remember(letters: list[Letter]) -> list[Letter]:
        came.extend(letters)
        return letters

    way.rewrite = remember
    shown = stage.receive(person)
    added = rewrite(came)
    for letter in came:
        added.remove(letter)
    with stage.hiding(person, Feature.FETCH):
        for letter in added:
            way.inject(letter.sender, letter.kind, letter.content, letter.token)
        return shown + stage.receive(person)


def _on_mail(
    stage: Stage,
    wanted: int,
    rewrite: Callable[[list[Letter], int], tuple[list[Letter], int]],
    *,
    by_604: bool = False,
    as_files: bool = False,
) -> Count:
    """Change Bob's mail: `rewrite` is given the letters and how many attacks are wanted at most,
    and returns what is delivered, and how many were made.
    """
    found = Count()
    while found.attacks < wanted:
        left, made = wanted - found.attacks, 0
        _send(stage, _LETTERS, as_files=as_files)

        def changed(letters: list[Letter], left: int = left) -> list[Letter]:
            nonlocal made
            given, made = rewrite(letters, left)
            return given

        shown = deliver(stage, stage.bob, changed, by_604=by_604 and stage.chance.randrange(3) == 0)
        assert made, "no mail was fetched"
        found = found.plus(Count(made, 0, min(made, len(of(shown, Judgement.NAMED)))))
        stage.settle()
    return found


def replayed(stage: Stage, wanted: int) -> Count:
    """Messages come again: in this mail or a later one, under their token or another one."""
    before: list[Letter] = []

    def rewrite(letters: list[Letter], left: int) -> tuple[list[Letter], int]:
        given, made = list(letters), min(left, 2 * _LETTERS)
        before.extend(letters)
        for _ in range(made):
            copy = stage.chance.choice(before[-_REMEMBERED:])
            if stage.chance.randrange(4):
                copy = copy._replace(token=stage.token())
            given.insert(stage.chance.randrange(len(given) + 1), copy)
        return given, made

    return _on_mail(stage, wanted, rewrite, by_604=True)


def reordered(stage: Stage, wanted: int) -> Count:
    """Messages come in another order. Accepted: one that comes too early or late and does not say
    so.
    """
    chance, found = stage.chance, Count()
    while found.attacks < wanted:
        for _ in range(min(_LETTERS, wanted - found.attacks)):
            is_long = chance.randrange(100) == 0
            batch = len(stage.judge.sent)
            _send(stage, _LONG_BATCH if is_long else _BATCH)
            numbers = [message.number for message in list(stage.judge.sent)[batch:]]

            def rewrite(letters: list[Letter]) -> list[Letter]:
                given = list(letters)
                while given == letters:
                    chance.shuffle(given)
                return given

            stage.ways["bob"].rewrite = rewrite
            shown = stage.receive(stage.bob)
            silent = is_silently_out_of_order(shown, numbers[0])
            found = found.plus(Count(1, int(silent), int(not silent)))
            if is_long:
                stage.settle()
        stage.settle()
    return found


def is_silently_out_of_order(shown: list[Finding], first: int) -> bool:
    """Whether a message of a batch, whose first one has this number, is not marked as its place
    among the others asks for.
    """
    expected = first
    for finding in of(shown, Judgement.HONEST):
        assert finding.message is not None
        number, received = finding.message.number, finding.received
        if received.overtaken != (number < expected) or received.missing != max(0, number - expected):
            return True
        expected = max(expected, number + 1)
    return False


def _spoiled(stage: Stage, wanted: int, spoil: Callable[[bytes], bytes], *, as_files: bool = False) -> Count:
    """Alice's messages are spoiled. Half of them come whole after it, and so do those that nobody
    asks for again.
    """

    def rewrite(letters: list[Letter], left: int) -> tuple[list[Letter], int]:
        given, made = [], 0
        for letter in letters:
            if not _is_alices(stage, letter) or made == left:
                given.append(letter)
                continue
            spoiled = letter._replace(content=spoil(letter.content))
            given.append(spoiled)
            made += 1
            if stage.chance.randrange(2) or lies.is_broken_outside(spoiled.content):
                given.append(letter if stage.chance.randrange(2) else letter._replace(token=stage.token()))
        return given, made

    return _on_mail(stage, wanted, rewrite, as_files=as_files)


def cut(stage: Stage, wanted: int) -> Count:
    """The beginning of a message comes, then all of it."""
    return _spoiled(stage, wanted, lambda content: lies.cut(stage.chance, content))


def altered(stage: Stage, wanted: int) -> Count:
    """A bit of a text or a file is changed, anywhere."""
    files = wanted // 3
    found = _spoiled(stage, files, lambda content: lies.flipped(stage.chance, content), as_files=True)
    return found.plus(_spoiled(stage, wanted - files, lambda content: lies.altered(stage.chance, content)))


def altered_inside(stage: Stage, wanted: int) -> Count:
    """A bit within the outer layer is changed, by one who has Bob's private outer keys."""
    pair = Pair(stage.alice.client_id, stage.bob.client_id)

    def spoil(content: bytes) -> bytes:
        return lies.altered_inside(stage.chance, content, stage.bob.keys(), pair)

    return _spoiled(stage, wanted, spoil)


def anothers_message(stage: Stage, wanted: int) -> Count:
    """Messages come in another's name, or to another than they were sealed for."""
    people = (stage.alice, stage.bob, stage.carol)
    ids = {person.client_id: person for person in people}

    def rewrite(letters: list[Letter], left: int) -> tuple[list[Letter], int]:
        heard = [
            message
            for way in stage.ways.values()
            for message in way.overheard
            if message.kind == MessageKind.SEALED and message.sender in ids
        ]
        given, made = list(letters), min(left, 2 * _LETTERS)
        for _ in range(made):
            message = stage.chance.choice(heard)
            names = [one for one in ids if one != message.sender or message.recipient != stage.bob.client_id]
            names.append(ClientId(stage.chance.randbytes(CLIENT_ID_SIZE)))
            letter = Letter(stage.chance.choice(names), MessageKind.SEALED, message.content, stage.token())
            given.insert(stage.chance.randrange(len(given) + 1), letter)
        return given, made

    found = Count()
    while found.attacks < wanted:
        for sender in people:
            for recipient in people:
                if sender is not recipient:
                    sender.send(recipient)
        found = found.plus(_on_mail(stage, min(2 * _LETTERS, wanted - found.attacks), rewrite, by_604=True))
    return found


def downgraded(stage: Stage, wanted: int) -> Count:
    """Messages of the published suite come in Alice's or Carol's name."""
    victim = stage.bob.home.account.me()[1]

    def rewrite(letters: list[Letter], left: int) -> tuple[list[Letter], int]:
        given, made = list(letters), 0
        while made < min(left, 2 * _LETTERS):
            sender = stage.chance.choice((stage.alice, stage.carol)).client_id
            forged = stage.mallory.forgeries(victim, sender)[: left - made]
            at = stage.chance.randrange(len(given) + 1)
            given[at:at] = forged
            made += len(forged)
        return given, made

    return _on_mail(stage, wanted, rewrite, by_604=True)


def altered_unauthenticated(stage: Stage, wanted: int) -> Count:
    """A bit of a file of the published suite is changed. A text is seldom a text then."""
    return _spoiled(stage, wanted, lambda content: lies.flipped(stage.chance, content), as_files=True)
