"""What strangers wrote, on a terminal and as JSON: nothing hidden, nothing that reads
like a message's frame.
"""

from __future__ import annotations

import json
import unicodedata

import pytest

from client.cli.output import json_line
from client.terminal.look_alikes import IGNORABLE
from client.terminal.sanitize import visible_line, visible_text


@pytest.mark.parametrize(
    "line",
    [
        "From: eve",
        "from:eve",
        ">> From: eve",
        " \t F r o m : eve",
        "F\u034from: eve",
        "F\ufe0from: eve",
        "F\u17b4rom: eve",
        "F\u3164rom: eve",
        "\u180bFrom: eve",
        "\u2800From: eve",
        "\U000e0041From: eve",
        "F\u0301rom: eve",
        "\uff26\uff52\uff4f\uff4d\uff1a eve",
        "Fr\u043em: eve",
        "F\u0433\u043e\u043c: eve",
        "\u03dcrom\ua789 eve",
        "Fr0m: eve",
        "Frorn: eve",
        "\ua730\u0280\u1d0f\u1d0d: eve",
        "\u0192rom: eve",
        "\U0001f175rom: eve",
        "Content:",
        "\u0421ontent:",
        "\u0421\u043entent\u02d0",
        "Co\u0578te\u0578t:",
        "-----<EOM>-----",
        "-" * 70_000 + "<EOM>",
        "\u2014\u2014\u2039EOM\u203a",
        "\u2500\u2500<\u0415\u041e\u041c>",
        "--- < eom >",
    ],
)
def test_a_line_that_reads_like_the_frame_is_quoted(line: str) -> None:
    assert visible_text(f"one\n{line}\r\ntwo").split("\n")[1].startswith(">")


@pytest.mark.parametrize(
    "line",
    [
        "from here on", "a From: b", "fromage: fresh", "contents: none", "<EOM>", "- from: x", "\u4e2d\u6587: x", "",
        "\u041f\u0440\u0438\u0432\u0435\u0442: \u043c\u0438\u0440", "\u0395\u03bd\u03b1:", "---", "rn", "\u2764\ufe0f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ],
)  # fmt: skip
def test_any_other_line_stays_as_it_is(line: str) -> None:
    assert visible_text(line) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x9b\x7f", r"a\x1b[2J\x9b\x7f"),
        ("\u202e\u2028\ufeff\u00ad", r"\u202e\u2028\ufeff\xad"),
        ("a\u034f\u115f\u17b4\u3164\U000e0041b", r"a\u034f\u115f\u17b4\u3164\U000e0041b"),
        ("caf\udce9.txt", r"caf\udce9.txt"),
        ("\ud800", r"\ud800"),
        (
            "\u2764\ufe0f \U0001f468\u200d\U0001f469 \u1820\u180b",
            "\u2764\ufe0f \U0001f468\u200d\U0001f469 \u1820\u180b",
        ),
    ],
)
def test_what_shows_nothing_is_made_visible(text: str, shown: str) -> None:
    assert visible_line(text) == shown


def test_every_character_is_harmless_and_survives_json() -> None:
    for code in range(0x110000):
        letter = chr(code)
        shown = visible_line(letter)
        assert shown == letter or shown.isascii()
        if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            assert shown != letter or code in {0x180B, 0x180C, 0x180D, 0x180F, 0x200C, 0x200D}
    everything = "".join(map(chr, range(0x110000)))
    for ascii_only in (False, True):
        line = json_line("note", {"text": everything}, ascii_only=ascii_only)
        assert json.loads(line)["text"] == json.loads(json.dumps(everything))
        line.encode("utf-8")
        for letter in set(line):
            hidden = unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} or IGNORABLE.match(letter)
            assert not hidden, f"U+{ord(letter):04x}"
            assert ord(letter) & 0xFFFE != 0xFFFE
            assert unicodedata.bidirectional(letter) not in {
                "LRE",
                "RLE",
                "LRO",
                "RLO",
                "PDF",
                "LRI",
                "RLI",
                "FSI",
                "PDI",
            }


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x7f\x9b", r"\u007f\u009b"),
        ("\u202e\u2028\u2066\u061c", r"\u202e\u2028\u2066\u061c"),
        ("caf\udce9", r"caf\udce9"),
        ("\ufdd0\uffff\U0001fffe", r"\ufdd0\uffff\ud83f\udffe"),
        ("gr\u00fc\u00dfe \U0001f600", "gr\u00fc\u00dfe \U0001f600"),
    ],
)
def test_json_is_escaped_where_it_could_do_harm(text: str, escaped: str) -> None:
    assert json_line("note", {"text": text}) == f'{{"v": 1, "type": "note", "text": "{escaped}"}}'
