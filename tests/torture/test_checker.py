"""The checker reports each kind of fault, and nothing if there is none."""

from __future__ import annotations

import pytest

from torture.checker import Verdict, judge
from torture.drill_messages import DrillMessage, parse_content, parse_line

ONE, TWO, THREE = (DrillMessage("alice", "bob", number) for number in (1, 2, 3))
OTHER = DrillMessage("carol", "bob", 1)
ELSEWHERE = DrillMessage("alice", "dave", 1)
ALL = [ONE, TWO, THREE, OTHER, ELSEWHERE]
RIGHT = {"bob": [ONE, OTHER, TWO, THREE], "dave": [ELSEWHERE]}


def test_all_right_is_spotless() -> None:
    verdict = judge(ALL, ALL, RIGHT)
    assert verdict.spotless
    assert (verdict.attempted, verdict.acknowledged, verdict.received) == (5, 5, 5)


def test_what_was_acknowledged_and_never_came_is_lost() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, OTHER, THREE], "dave": []})
    assert sorted(verdict.lost) == [TWO, ELSEWHERE]
    assert not verdict.spotless
    assert not (verdict.duplicated or verdict.unexpected or verdict.out_of_order)


def test_a_recipient_that_got_nothing_at_all_lost_everything() -> None:
    assert sorted(judge(ALL, ALL, {}).lost) == sorted(ALL)


def test_what_was_attempted_and_not_acknowledged_may_be_there_or_not() -> None:
    assert judge(ALL, [], RIGHT).spotless
    assert judge(ALL, [], {}).spotless
    assert judge(ALL, [ONE], {"bob": [ONE]}).spotless


def test_what_came_again_is_duplicated_each_time() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, OTHER, ONE, TWO, THREE, ONE], "dave": [ELSEWHERE]})
    assert verdict.duplicated == [ONE, ONE]
    assert not verdict.spotless
    assert not (verdict.lost or verdict.unexpected or verdict.out_of_order)


def test_what_was_not_acknowledged_must_not_come_twice_either() -> None:
    assert judge([ONE], [], {"bob": [ONE, ONE]}).duplicated == [ONE]


def test_what_nobody_sent_is_unexpected() -> None:
    verdict = judge([ONE], [ONE], {"bob": [ONE, TWO]})
    assert verdict.unexpected == [TWO]
    assert not verdict.spotless


def test_what_came_to_somebody_else_is_unexpected_and_lost_to_its_recipient() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, OTHER, TWO, THREE, ELSEWHERE], "dave": []})
    assert (verdict.unexpected, verdict.lost) == ([ELSEWHERE], [ELSEWHERE])


def test_an_earlier_message_after_a_later_one_is_out_of_order() -> None:
    verdict = judge(ALL, ALL, {"bob": [THREE, OTHER, ONE, TWO], "dave": [ELSEWHERE]})
    assert verdict.out_of_order == [ONE, TWO]
    assert not verdict.spotless
    assert not (verdict.lost or verdict.duplicated or verdict.unexpected)


def test_the_order_counts_for_each_sender_alone_and_gaps_are_no_disorder() -> None:
    assert judge(ALL, [], {"bob": [OTHER, ONE, THREE]}).out_of_order == []
    assert judge(ALL, [], {"bob": [THREE, OTHER]}).out_of_order == []


def test_what_was_refused_has_lost_its_place_and_nothing_else_has() -> None:
    late = {"bob": [THREE, OTHER, ONE, TWO], "dave": [ELSEWHERE]}
    verdict = judge(ALL, ALL, late, refused={ONE})
    assert verdict.out_of_order == [TWO]
    assert judge(ALL, ALL, {"bob": [THREE, OTHER, TWO], "dave": [ELSEWHERE]}, refused={ONE}).lost == [ONE]


def test_a_repeat_of_an_earlier_message_is_a_duplicate_and_no_disorder() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, OTHER, TWO, THREE, ONE], "dave": [ELSEWHERE]})
    assert (verdict.duplicated, verdict.out_of_order) == ([ONE], [])


def test_an_acknowledgement_of_what_nobody_attempted_is_the_drills_own_mistake() -> None:
    with pytest.raises(AssertionError, match="nobody attempted"):
        judge([], [ONE], {})


def test_what_may_wait_when_a_drill_breaks_off_is_not_counted_as_lost() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, OTHER], "dave": []}, drained=False)
    assert sorted(verdict.not_fetched) == [TWO, THREE, ELSEWHERE]
    assert verdict.lost == []
    assert judge(ALL, ALL, {"bob": [ONE, OTHER], "dave": []}).not_fetched == []


def test_what_is_missing_before_a_later_message_is_lost_even_where_a_drill_broke_off() -> None:
    verdict = judge(ALL, ALL, {"bob": [ONE, THREE]}, drained=False)
    assert verdict.lost == [TWO]
    assert sorted(verdict.not_fetched) == [ELSEWHERE, OTHER]


def test_verdicts_add_up() -> None:
    together = judge([ONE], [ONE], {}).combined(judge([TWO], [TWO], {"bob": [TWO, TWO, THREE]}))
    assert together == Verdict(2, 2, 3, [ONE], [TWO], [THREE], [], [])


@pytest.mark.parametrize("size", [0, 1, 40, 100_000])
def test_a_message_is_read_back_from_its_content(size: int) -> None:
    content = TWO.content(size)
    assert len(content) >= size
    assert parse_content(content) == TWO
    assert parse_line(str(TWO)) == TWO


@pytest.mark.parametrize("damage", ["cut", "flipped", "mixed", "longer"])
def test_a_damaged_content_is_no_message(damage: str) -> None:
    content = TWO.content(200)
    damaged = {
        "cut": content[:-1],
        "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "mixed": THREE.content(200)[:20] + content[20:],
        "longer": content + b"\0",
    }[damage]
    assert damaged != content
    assert parse_content(damaged) is None


@pytest.mark.parametrize("content", [b"", b"|", b"alice bob 1", b"alice bob x|", b"alice bob|", b"\xff\xff 1|"])
def test_what_is_no_message_is_none(content: bytes) -> None:
    assert parse_content(content) is None
