"""The table at the end of a run.

Owns: its columns. Promises: every drill that ran is in it, the failed ones say so, and the sums are
those of the rows. One that broke off has no numbers, which would read as if it had lost nothing.
Exposure: none.
"""

from collections.abc import Sequence

from torture.drill import Row

HEAD = ("drill", "kills", "acknowledged", "lost", "duplicated", "unexpected", "out of order", "")


def cells(row: Row) -> tuple[str, ...]:
    """One row as text."""
    verdict = row.verdict
    wrongs = (verdict.lost, verdict.duplicated, verdict.unexpected, verdict.out_of_order)
    numbers = (row.kills, verdict.acknowledged, *map(len, wrongs))
    shown = [f"{number:,}" if row.counted else "-" for number in numbers]
    return (row.drill, *shown, "passed" if row.passed else "FAILED")


def table(rows: Sequence[Row]) -> str:
    """All rows, in columns, with what each has to say beneath."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = [
        "  ".join(
            cell.ljust(width) if column in {0, len(HEAD) - 1} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    shown.insert(1, "-" * len(shown[0]))
    notes = [f"{row.drill}: {row.note}" for row in rows if row.note]
    return "\n".join([*shown, "", *notes]) + "\n"
