r"""Making harmless what strangers wrote, before it reaches a terminal.

Owns: which characters are shown as escapes.
Promises: no control or invisible format character passes.
Exposure: fed with names and texts that strangers chose.

What is made visible: control characters (C0, C1, DEL, so every escape sequence), and characters
that show nothing, bidirectional controls among them, as \x1b, \u202e; a path's byte E9 that is not
UTF-8, as \udce9. What is needed to write a language or an emoji (joiners, variation selectors)
stays. A text keeps its line feeds (CRLF becomes one) and tabs. A text can't pretend to end its
message and begin another one: a line in it that reads like the frame's `From:`, `Content:` or
`-----<EOM>-----`, in whatever letters (`client.terminal.look_alikes`), gets a `>` in front, as mail
programs do.

Source: docs/client-protocol.md, "The console".
"""

import re
import shlex
import unicodedata
from typing import Final

from client.terminal.look_alikes import IGNORABLE, reads_like

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_WRITTEN: Final = re.compile("[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""They show nothing by themselves, and are needed to write Persian or Mongolian, or one
emoji out of several.
"""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9.+@'_-]+")
_FRAME_LINE: Final = re.compile(r"from:|content:|-<eom>")
_LONGEST_FRAME_LINE: Final = len("content:")


def visible_line(text: str) -> str:
    """Return a text for one line of the terminal: no control or format character stays."""
    if text.isprintable() and not IGNORABLE.search(text):
        return text
    return "".join([_visible(letter) for letter in text])


def visible_name(name: str) -> str:
    """Return a name that others chose, as it is shown where marks and text of ours follow on the
    same line.

    A name may hold spaces, brackets and colons: one that holds more than letters, digits and
    `.+@'_-` is shown in quotes, so that nobody's name reads like another one's with a mark behind
    it, or like a message.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible_line(escaped)}"'


def marked(name: str, mark: str | None) -> str:
    """Return a name with what is to be known of it behind, such as `verified`."""
    return visible_name(name) if mark is None else f"{visible_name(name)} [{mark}]"


def command(verb: str, name: str, option: str = "") -> str:
    """Return a command about a name as a person may type it, or paste it, whatever the name makes
    of a shell.
    """
    words = ["messageu", verb, *([option] if option else [])]
    argument = shlex.quote(visible_line(name))
    # Behind `--` nothing is an option.
    words = [*words, "--", argument] if name.startswith("-") else [*words[:2], argument, *words[2:]]
    return f"`{' '.join(words)}`"


def visible_text(text: str) -> str:
    """Return a text for several lines of the terminal, none of which looks like a
    message's frame.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join([_quote(line) + "\t".join([visible_line(part) for part in line.split("\t")]) for line in lines])


def _visible(letter: str) -> str:
    if (letter.isprintable() and not IGNORABLE.match(letter)) or _WRITTEN.match(letter):
        return letter
    code = ord(letter)
    if unicodedata.category(letter) not in _HIDDEN and not IGNORABLE.match(letter):
        # Unusual spaces, letters of a newer Unicode.
        return letter
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _quote(line: str) -> str:
    """Return what precedes a line of a text."""
    return ">" if _FRAME_LINE.match(reads_like(line, _LONGEST_FRAME_LINE)) else ""
