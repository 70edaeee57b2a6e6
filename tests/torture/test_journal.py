"""Written lines are found again, and half a line is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torture.journal import Journal, count_lines, read_journal

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_are_found_again_and_more_go_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_journal(path) == []
    with Journal(path) as journal:
        assert journal.lines == []
        journal.write(["one", "two"])
        journal.sync()
    with Journal(path) as journal:
        assert journal.lines == ["one", "two"]
        journal.write(["three"])
    assert read_journal(path) == ["one", "two", "three"]


def test_half_a_line_is_cut_off_before_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"one\nha")
    assert read_journal(path) == ["one"]
    with Journal(path) as journal:
        assert journal.lines == ["one"]
        journal.write(["two"])
    assert path.read_bytes() == b"one\ntwo\n"


def test_whole_lines_are_counted_by_how_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert count_lines(path, "K ") == 0
    path.write_bytes(b"K 1\nA K 2\nK 3\nKK 4\nA 5\nK 6")
    assert count_lines(path, "K ") == 2
    assert count_lines(path, "A ") == 2
