"""The drill of the lying server sees what is accepted, and what is not in its place."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from client.errors import KeysWithheld
from client.messenger import Received, Text
from common.values import ClientId
from torture import lying_server
from torture.checker import Verdict
from torture.drill import Place
from torture.drill_messages import DrillMessage
from torture.lies_in_mail import is_silently_out_of_order
from torture.lying_server import FIRST, KINDS, UNPROTECTED
from torture.lying_stage import Count, Stage, perform
from torture.middleman import Claimed
from torture.people import Finding, Judgement, Person
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def shown(*places: tuple[int, int, bool]) -> list[Finding]:
    """Messages with their number, how many they say are missing, and whether overtaken."""
    found = []
    for number, missing, overtaken in places:
        received = Received(
            1, ClientId(bytes(16)), "alice", Text(""), 0, None, sender_proven=True, late=False, repeated=False,
            suite=1, missing=missing, overtaken=overtaken,
        )  # fmt: skip
        found.append(Finding(Judgement.HONEST, received, DrillMessage("alice", "bob", number)))
    return found


def test_order_is_judged_by_what_each_message_says() -> None:
    assert not is_silently_out_of_order(shown((7, 0, False), (8, 0, False)), 7)
    assert not is_silently_out_of_order(shown((9, 2, False), (7, 0, True), (8, 0, True), (10, 0, False)), 7)
    assert is_silently_out_of_order(shown((8, 0, False), (7, 0, False)), 7)
    assert is_silently_out_of_order(shown((8, 1, False), (7, 0, False)), 7)
    assert is_silently_out_of_order(shown((9, 1, False)), 7)
    assert is_silently_out_of_order(shown((7, 0, True)), 7)
    # What could not be opened has a place of its own.
    unopened = shown((7, 0, False))[0]._replace(judgement=Judgement.NAMED, message=None)
    assert not is_silently_out_of_order([unopened, *shown((7, 0, False))], 7)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("lying")
    with Server(folder / "server").start() as server, Stage(folder, server.port, random.Random(1)) as made:
        yield made


def test_an_attack_is_accepted_told_or_without_effect(stage: Stage) -> None:
    bob, alice, way = stage.bob, stage.alice, stage.ways["bob"]

    def with_a_lie(outcome: bool | None) -> bool | None:
        way.told += 1
        return outcome

    assert stage.attack(lambda: with_a_lie(outcome=True), bob, alice) == Count(1, 1, 0)
    assert stage.attack(lambda: with_a_lie(outcome=False), bob, alice) == Count(1, 0, 1)
    assert stage.attack(lambda: with_a_lie(outcome=None), bob, alice) == Count(1, 0, 0)

    def told() -> bool:
        way.told += 1
        raise KeysWithheld("no keys")

    assert stage.attack(told, bob, alice) == Count(1, 0, 1)
    with pytest.raises(AssertionError, match="nobody heard the lie"):
        stage.attack(lambda: True, bob, alice)


def test_what_leaves_under_the_published_suite_or_for_the_attacker_is_accepted(stage: Stage) -> None:
    eve = stage.newcomer("eve")

    def writes(person: Person) -> None:
        person.send(eve)

    stage.ways["bob"].claim = lambda _subject, _said: None
    assert stage.attack(lambda: writes(stage.bob), stage.bob, eve) == Count(1, 1, 0)
    mallory, subject = stage.mallory, eve.client_id
    stage.ways["carol"].claim = lambda _subject, _said: Claimed(mallory.bundle(subject), mallory.one_time_key(subject))
    assert stage.attack(lambda: writes(stage.carol), stage.carol, eve) == Count(1, 1, 0)
    for way in stage.ways.values():
        way.be_honest()
    stage.leave(eve)


def test_every_kind_is_attacked_as_often_as_it_is_asked_for(stage: Stage) -> None:
    for name, kind in KINDS.items():
        found = perform(stage, "test", name, kind, 3)
        assert (found.attacks, found.accepted) == (3, 0), name


def test_the_control_sees_something_of_each_kind(tmp_path: Path) -> None:
    row = lying_server.run_control(Place(tmp_path, 1, 1.0, quick=True))
    assert row.passed, row.note
    assert row.counted
    accepted = Counter(attack.recipient for attack in row.verdict.unexpected)
    assert set(accepted) == {*UNPROTECTED, *FIRST}
    assert all(f"{name} {number} of " in row.note for name, number in accepted.items())
    assert row.verdict.received == accepted.total() > 0
    assert row.verdict.acknowledged == row.verdict.attempted == sum(map(int, re.findall(r" of (\d+)", row.note)))


def test_the_row_of_the_control_has_the_counts_of_its_kinds() -> None:
    verdict = lying_server.verdict_of({"replayed": Count(8, 2, 1), "cut": Count(3, 0, 3)})
    assert verdict == Verdict(11, 11, 2, unexpected=[DrillMessage("server", "replayed", number) for number in (1, 2)])
    assert not lying_server.verdict_of({"cut": Count(3, 0, 3)}).unexpected
