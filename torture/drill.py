"""The input and the result of every drill.

Owns: the row of the table, and the folder, chance and size of a drill.
Promises: the same seed makes the same choices; their outcome depends on the system.
Exposure: none.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torture.checker import Verdict

_EXAMPLES = 5


class Row(NamedTuple):
    """One line of the table. `kills`: processes that died by SIGKILL. `note` says what
    the numbers don't. `counted`: whether there are numbers.
    """

    drill: str
    kills: int
    verdict: Verdict
    passed: bool
    note: str = ""
    counted: bool = True


class Place(NamedTuple):
    """Where, and how large: `share` 1 is the long run of ten minutes; `quick` is as small
    as makes sense. `rounds`: of drills that count rounds, where a person asked for a number.
    """

    folder: Path
    seed: int
    share: float
    quick: bool
    rounds: int | None = None

    def chance(self, drill: str) -> random.Random:
        """Randomness of a drill's own."""
        return random.Random(f"{self.seed} {drill}")

    def sized(self, full: int, quick: int) -> int:
        """How often something is done."""
        return quick if self.quick else max(quick, round(full * self.share))

    def rounds_of(self, full: int, quick: int) -> int:
        """The rounds of a drill that counts them."""
        return self.rounds or self.sized(full, quick)

    def folder_of(self, drill: str) -> Path:
        """A folder of a drill's own, made."""
        folder = self.folder / drill
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def broken_off(drill: str, why: str) -> Row:
    """The row of a drill that did not come to its end: what was lost is not known."""
    return Row(drill, 0, Verdict(), passed=False, note=f"broke off, and is not counted: {why}", counted=False)


def must_lose(row: Row) -> Row:
    """The row of a control: it passes if something was lost and the checker saw it."""
    lost = bool(row.verdict.lost)
    found = "it must lose, and the checker says so" if lost else "THE CHECKER SAW NO LOSS"
    return row._replace(passed=lost, note="; ".join(part for part in (row.note, found) if part))


Drill = Callable[[Place], Row]


def say(line: str) -> None:
    """Report progress on stderr; only the table goes to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def examples(verdict: Verdict) -> str:
    """The first messages of each kind of wrong, for the log."""
    kinds = {
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "unexpected": verdict.unexpected,
        "out of order": verdict.out_of_order,
    }
    return "; ".join(
        f"{kind}: {', '.join(map(str, messages[:_EXAMPLES]))}" for kind, messages in kinds.items() if messages
    )
