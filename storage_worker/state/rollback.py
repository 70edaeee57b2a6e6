"""Undoing what a rolled back transaction did to memory.

Owns: the list of steps that take memory back to the last commit.
Promises: after `roll_back` everything that was noted is undone, last first; after `commit` it is
final.
Exposure: none.
"""

from collections.abc import Callable


class Rollback:
    """The steps back to the state of the last commit."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def note(self, step: Callable[[], object]) -> None:
        """Remember how to undo what was just done."""
        self._steps.append(step)

    def commit(self) -> None:
        """Keep what was done."""
        self._steps.clear()

    def roll_back(self) -> None:
        """Undo everything since the last commit."""
        while self._steps:
            self._steps.pop()()
