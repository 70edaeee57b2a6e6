r"""Sanitizing what strangers wrote, before it reaches a terminal.

Owns: which characters are shown as escapes.
Promises: no control or invisible format character passes.
Exposure: gets names and texts that strangers chose. Made visible are control characters (C0, C1,
DEL, so every escape sequence), and invisible characters, bidirectional controls among them, as
\x1b, \u202e; a path's byte E9 that is not UTF-8, as \udce9. Characters that are needed to write a
language or an emoji (joiners, variation selectors) stay. A text keeps its line feeds (CRLF becomes
one) and tabs. A text can't pretend to end its message and begin another one: a line in it that
reads like the frame's `From:`, `Content:` or `-----<EOM>-----`, in whatever letters
(`client.terminal.look_alikes`), gets a `>` in front, as mail programs do.

Source: docs/client-protocol.md, "The console".
"""

import re
import shlex
import unicodedata
from typing import Final

from client.terminal.look_alikes import IGNORABLE, reads_like

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_WRITTEN: Final = re.compile("[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Invisible by themselves, but needed to write Persian or Mongolian, or to join several emoji into
one.
"""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9.+@'_-]+")
_FRAME_LINE: Final = re.compile(r"from:|content:|-<eom>")
_LONGEST_FRAME_LINE: Final = len("content:")


def visible_line(text: str) -> str:
    """Return a text for one line of the terminal, without control or format characters."""
    if text.isprintable() and not IGNORABLE.search(text):
        return text
    return "".join([_visible(letter) for letter in text])


def visible_name(name: str) -> str:
    """Return a name that others chose, in the form for a line on which our own marks and text
    follow.

    A name may hold spaces, brackets and colons: one that holds more than letters, digits and
    `.+@'_-` is shown in quotes, so that no name reads like another one with a mark after it, or
    like a message.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible_line(escaped)}"'


def marked(name: str, mark: str | None) -> str:
    """Return a name followed by a mark, such as `verified`."""
    return visible_name(name) if mark is None else f"{visible_name(name)} [{mark}]"


def command(verb: str, name: str, option: str = "") -> str:
    """Return a command about a name, safe to type or paste into a shell whatever the name
    contains.
    """
    words = ["messageu", verb, *([option] if option else [])]
    argument = shlex.quote(visible_line(name))
    # After `--` nothing is an option.
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
    """Return the prefix of a line of a text."""
    return ">" if _FRAME_LINE.match(reads_like(line, _LONGEST_FRAME_LINE)) else ""
