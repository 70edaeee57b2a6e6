"""What settles a lease and what does not, told in looks at a connection."""

import pytest

from common.storage_protocol.operations import Release, Settle
from gateway.delivery.evidence import Evidence, Lease, SegmentsIn

ALICE = b"a" * 16
FIRST = Lease(1, ALICE, False, 4, 6)
SECOND = Lease(2, ALICE, True, 7, 9)
SETTLED = Settle(1, ALICE, False, 4, 6)


def evidence_of(*leases: Lease) -> Evidence:
    evidence = Evidence()
    for lease in leases:
        evidence.written(lease)
    return evidence


def wants(evidence: Evidence) -> bool:
    return evidence.wanted


def probe(evidence: Evidence, *, unacknowledged: int = 0, input_empty: bool = True, segments: int = 5) -> None:
    evidence.probe(unacknowledged=unacknowledged, input_empty=input_empty, segments=SegmentsIn(segments, segments))


def test_nothing_is_open_at_first() -> None:
    evidence = Evidence()
    assert not evidence.open
    assert not wants(evidence)
    assert not evidence.request_came()
    assert not evidence.ended()
    assert not evidence.broken()


def test_a_request_behind_an_acknowledgement_settles() -> None:
    evidence = evidence_of(FIRST)
    assert evidence.open
    assert wants(evidence)
    probe(evidence)
    assert not wants(evidence)
    assert evidence.request_came() == [SETTLED]
    assert not evidence.open


@pytest.mark.parametrize(("unacknowledged", "input_empty"), [(1, True), (0, False), (1, False)])
def test_a_look_that_shows_bytes_on_their_way_proves_nothing(unacknowledged: int, input_empty: bool) -> None:
    evidence = evidence_of(FIRST)
    probe(evidence, unacknowledged=unacknowledged, input_empty=input_empty)
    assert wants(evidence)
    assert evidence.request_came() == []
    assert evidence.open


def test_a_request_proves_what_was_acknowledged_before_and_no_more() -> None:
    evidence = evidence_of(FIRST)
    probe(evidence)
    evidence.written(SECOND)
    assert evidence.request_came() == [SETTLED]
    assert evidence.request_came() == []
    probe(evidence)
    assert evidence.request_came() == [Settle(2, ALICE, True, 7, 9)]


@pytest.mark.parametrize(
    ("unacknowledged", "segments", "proves"),
    [
        (0, SegmentsIn(6, 6), True),
        # The acknowledgement came in a segment of its own, or the request in several.
        (0, SegmentsIn(7, 6), False),
        (0, SegmentsIn(7, 7), False),
        (3, SegmentsIn(6, 6), False),
    ],
)
def test_one_segment_that_acknowledges_and_asks_proves(unacknowledged: int, segments: SegmentsIn, proves: bool) -> None:
    evidence = evidence_of(FIRST)
    probe(evidence, unacknowledged=10)
    evidence.first_input(unacknowledged=unacknowledged, segments=segments)
    assert evidence.request_came() == ([SETTLED] if proves else [])


def test_input_that_was_there_at_the_look_is_no_first_input() -> None:
    evidence = evidence_of(FIRST)
    probe(evidence, unacknowledged=10, input_empty=False)
    evidence.first_input(unacknowledged=0, segments=SegmentsIn(6, 6))
    assert evidence.request_came() == []


def test_a_response_that_was_written_since_takes_the_look_back() -> None:
    evidence = evidence_of(FIRST)
    probe(evidence, unacknowledged=10)
    evidence.written(SECOND)
    evidence.first_input(unacknowledged=0, segments=SegmentsIn(6, 6))
    assert evidence.request_came() == []


def test_a_look_counts_for_one_input() -> None:
    evidence = evidence_of(FIRST)
    probe(evidence, unacknowledged=10)
    evidence.first_input(unacknowledged=3, segments=SegmentsIn(6, 6))
    evidence.first_input(unacknowledged=0, segments=SegmentsIn(6, 6))
    assert evidence.request_came() == []


def test_a_clean_end_settles_all_and_once() -> None:
    evidence = evidence_of(FIRST, SECOND)
    assert evidence.ended() == [SETTLED, Settle(2, ALICE, True, 7, 9)]
    assert not evidence.ended()
    assert not evidence.broken()


def test_a_break_releases_all_and_once() -> None:
    evidence = evidence_of(FIRST, SECOND)
    probe(evidence)
    assert evidence.broken() == [Release(1), Release(2)]
    assert not evidence.request_came()
    assert not evidence.broken()
