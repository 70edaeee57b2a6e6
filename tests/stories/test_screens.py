"""Screens on a small terminal, light and dark: what is seen there, and that its colours
can be told apart.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
import zxingcpp

from tests.stories.runner import messageu
from tests.stories.terminals import Terminal
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIGHT, DARK = 255, 0
SHADES = {"000000": 0, "ffffff": 255}
"""The only colours that a program of ours names. All else is the terminal's own."""
PLAIN = {("default", "default")}
UPPER, LOWER = {"▀", "█"}, {"▄", "█"}
PIXELS = 4
"""Of a module, in both directions."""


@pytest.fixture
def people(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as server:
        server.start()
        for name in ("alice", "bob"):
            assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
        yield server


def photograph(cells: list[list[tuple[str, str, str]]], background: int) -> memoryview:
    """The screen of a terminal with this background, as a camera sees it; of its letters
    only the blocks.
    """
    rows = []
    for row in cells:
        for part in (UPPER, LOWER):
            shades = [
                SHADES.get(ink, 255 - background) if letter in part else SHADES.get(paper, background)
                for letter, ink, paper in row
            ]
            line = b"".join(bytes([shade]) * PIXELS for shade in shades)
            rows += [line] * PIXELS
    return memoryview(b"".join(rows)).cast("B", [len(rows), len(rows[0])])


def test_the_code_can_be_scanned_on_light_and_on_dark(tmp_path: Path, people: Server) -> None:
    words = ["verify", "bob", "--qr"]
    for columns, rows in ((80, 24), (120, 40)):
        with Terminal(tmp_path / "alice", people.port, *words, columns=columns, rows=rows) as terminal:
            terminal.until("Does bob see the same number? [y/N]")
            # Beside the code, so that nothing has scrolled away.
            seen = re.findall(r"   ((?: [0-9]{5}){4})$", "\n".join(terminal.lines), re.MULTILINE)
            number = "".join(seen).replace(" ", "")
            assert len(number) == 60
            for background in (LIGHT, DARK):
                code = zxingcpp.read_barcode(photograph(terminal.cells, background), try_invert=False)
                assert code is not None, f"not readable on {background}"
                assert code.text == number
    # Where no colours are wanted there are none.
    without = {**os.environ, "MESSAGEU_SERVER": f"127.0.0.1:{people.port}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    command = [sys.executable, "-P", "-m", "client", "--home", "alice", *words]
    with Terminal(tmp_path / "alice", command=command, environment=without, columns=80, rows=24) as terminal:
        terminal.until("[y/N]")
        assert colours(terminal) == PLAIN
        # Light on dark, on a dark screen; most cameras know both.
        for background in (LIGHT, DARK):
            assert zxingcpp.read_barcode(photograph(terminal.cells, background)) is not None


def test_progress_has_the_terminals_own_colours_and_fits(tmp_path: Path, people: Server) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(3_000_000))
    words = ["send", "bob", "--file", "film.mp4"]
    with Terminal(tmp_path / "alice", people.port, *words, columns=80, rows=24) as terminal:
        assert terminal.ends() == 0
        assert colours(terminal) == PLAIN
        encrypting, sending = (line for line in terminal.lines if "━" in line)
        # At the same place in both, whatever the numbers beside it.
        for line, what in ((encrypting, "Encrypting"), (sending, "Sending   ")):
            assert re.fullmatch(rf"{what} ━{{30}} [ 0-9./]{{11}} MB .{{10}} [0-9:-]{{7}}", line), line
    with Terminal(tmp_path / "alice", people.port, "chat", "bob", columns=80, rows=24) as terminal:
        terminal.until("connected")
        assert colours(terminal) == PLAIN


def colours(terminal: Terminal) -> set[tuple[str, str]]:
    return {(ink, paper) for row in terminal.cells for _, ink, paper in row}
