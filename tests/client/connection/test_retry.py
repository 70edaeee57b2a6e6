"""Long transfers: what is repeated, how often, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.connection.retry import LONG, Retry
from client.errors import OutcomeUnknown, ServerUnreachable

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
