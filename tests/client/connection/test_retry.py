"""Long transfers: what is done again, how often, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.connection.retry import LONG, LONGEST_PATIENCE, Patience, Retry
from client.errors import OutcomeUnknown, ServerUnreachable
from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason

if TYPE_CHECKING:
    from client.connection.server_link import Progress


class Work:
    """Fails as it is told, then succeeds."""

    def __init__(self, size: int, *failures: Exception) -> None:
        self.failures = list(failures)
        self.size = size

    def __call__(self, progress: Progress) -> str:
        progress(1, self.size)
        if self.failures:
            raise self.failures.pop(0)
        return "done"


BROKE, SILENT = ServerUnreachable("It broke."), OutcomeUnknown("No answer.")


def test_long_work_starts_over() -> None:
    rests: list[float] = []
    told: list[str] = []
    moved: list[tuple[int, int]] = []
    retry = Retry(rests.append, told.append, (1.0, 2.0))
    work = Work(LONG, BROKE, SILENT)
    assert retry.do(work, lambda done, total: moved.append((done, total))) == "done"
    assert rests == [1.0, 2.0]
    assert told == ["It broke. Starting over in 1 s.", "No answer. Starting over in 2 s."]
    assert moved == [(1, LONG)] * 3


@pytest.mark.parametrize(
    ("size", "failures", "left"),
    [(LONG - 1, [BROKE], 0), (LONG, [BROKE, BROKE, BROKE], 0), (LONG, [SILENT, BROKE], 1)],
    ids=["short", "for ever", "of unknown outcome"],
)
def test_what_is_given_up(size: int, failures: list[Exception], left: int) -> None:
    work = Work(size, *failures)
    with pytest.raises((ServerUnreachable, OutcomeUnknown)):
        Retry(lambda _: None, lambda _: None, (0.0, 0.0)).do(work, None, (ServerUnreachable,))
    assert len(work.failures) == left


def test_what_is_too_fast_is_waited_for_a_minute_in_all_and_said_once() -> None:
    rests: list[float] = []
    told: list[str] = []
    patience = Patience(rests.append, told.append)
    for seconds in (1, 40, LONGEST_PATIENCE - 41):
        answer = ErrorResponse(RefusalReason.TOO_FAST, seconds)
        assert patience.suffices(answer)
        patience.wait(answer)
    assert rests == [1, 40, 19]
    assert told == ["The server was asked too much in a short time; this goes on by itself in 1 s."]
    assert not patience.suffices(ErrorResponse(RefusalReason.TOO_FAST, 1))


@pytest.mark.parametrize(
    "answer",
    [
        ErrorResponse(),
        ErrorResponse(RefusalReason.TOO_FAST, 0),
        ErrorResponse(RefusalReason.TOO_FAST, LONGEST_PATIENCE + 1),
        ErrorResponse(RefusalReason.TOO_FAST, 0xFFFFFFFF),
        ErrorResponse(RefusalReason.STORAGE_FULL, 1),
    ],
)
def test_nothing_else_is_waited_for(answer: ErrorResponse) -> None:
    assert not Patience(lambda _seconds: None, lambda _line: None).suffices(answer)
