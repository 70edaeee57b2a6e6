"""Lines that are broken at spaces for a terminal."""

from __future__ import annotations

import io
import os

from hypothesis import given
from hypothesis import strategies as st

from client.terminal.text_wrap import columns_of, width, wrapped


def test_long_lines_are_broken_at_spaces_and_go_on_indented() -> None:
    assert wrapped("one two three", 8) == "one two\n    three"
    assert wrapped("one two three", 13) == "one two three"
    assert wrapped("short\none two three", 8, indent="") == "short\none two\nthree"


def test_what_fits_keeps_its_spaces() -> None:
    assert wrapped("  a   b  ", 9) == "  a   b  "
    assert wrapped("", 9) == ""


def test_a_word_that_fits_nowhere_is_left_whole() -> None:
    path = "/a/very/long/path"
    assert wrapped(f"see {path} and go on", 10) == f"see\n    {path}\n    and go\n    on"


def test_letters_are_as_wide_as_terminals_show_them() -> None:
    assert width("abc") == 3
    assert width("中文") == 4
    assert width("e\u0301") == 1
    assert wrapped("中文 中文 中文", 9, indent="") == "中文 中文\n中文"


def test_without_a_terminal_nothing_is_broken() -> None:
    assert wrapped("one two three", None) == "one two three"
    assert columns_of(io.StringIO()) is None


def test_a_terminal_that_does_not_tell_its_width_has_80_columns() -> None:
    leader, follower = os.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal:
        assert columns_of(terminal) == 80


@given(st.text(alphabet="ab 中\n", max_size=60), st.integers(min_value=6, max_value=20))
def test_nothing_but_spaces_is_lost_and_only_long_words_are_too_wide(text: str, columns: int) -> None:
    broken = wrapped(text, columns)
    assert "".join(broken.split()) == "".join(text.split())
    for row in broken.split("\n"):
        assert width(row) <= columns or " " not in row.strip() or row in text.split("\n")
