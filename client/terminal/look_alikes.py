"""Look-alike and invisible characters: what a line reads like to a person.

Owns: which characters are invisible, and which look like the letters of a message's frame.
Promises: `reads_like` returns the same for two beginnings that a person can't tell apart on a
screen, as far as Unicode's own data goes; its cost does not depend on how long a line is.
Exposure: gets texts that strangers chose.

Sources: Default_Ignorable_Code_Point of DerivedCoreProperties.txt; confusables.txt (Unicode
Technical Standard 39), those of the frame's letters which the rules of `_looks` do not find by
themselves.
"""

import functools
import re
import unicodedata
from typing import Final

IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Code points that are invisible if they are not supported."""
_ALIKE: Final = {
    "f": (
        "\u017f\u03dc\u0584\u15b4\u1e9d\ua4dd\uab35\U00010287\U000102a5\U00010525\U000118a2\U000118c2"
        "\U0001d213\U0001d7ca"
    ),
    "r": "\u01a6\u0433\u13a1\u13d2\u1587\u1d26\u2c85\ua4e3\uab47\uab48\uab81\U000104b4\U00016f35\U0001d216",
    "o": (
        "0\u039f\u03bf\u03c3\u0555\u0585\u05e1\u0647\u0665\u06be\u06c1\u06d5\u06f5\u07c0\u0966\u09e6\u0a66"
        "\u0ae6\u0b20\u0b66\u0be6\u0c02\u0c66\u0c82\u0ce6\u0d02\u0d20\u0d66\u0d82\u0e50\u0ed0\u101d\u1040"
        "\u10ff\u12d0\u1d11\u2d54\u3007\uab3d\ufba6\ufba7\ufba8\ufba9\ufbaa\ufbab\ufbac\ufbad\ufee9\ufeea"
        "\ufeeb\ufeec\U00010292\U00010404\U0001042c\U000114d0\U000118b5\U000118c8\U000118d7\U000118e0"
        "\U0001d6b6\U0001d6d0\U0001d6d4\U0001d6f0\U0001d70a\U0001d70e\U0001d72a\U0001d744\U0001d748\U0001d764"
        "\U0001d77e\U0001d782\U0001d79e\U0001d7b8\U0001d7bc\U0001d7ce\U0001d7d8\U0001d7e2\U0001d7ec\U0001d7f6"
        "\U0001ee24\U0001ee64\U0001ee84\U0001fbf0"
    ),
    "m": (
        "\u039c\u03fa\u041c\u13b7\u15f0\u16d6\u2c98\ua4df\U000102b0\U00010311\U0001d6b3\U0001d6ed\U0001d727"
        "\U0001d761\U0001d79b"
    ),
    "c": (
        "\u03f2\u03f9\u0421\u0441\u13df\u2ca4\u2ca5\ua4da\uabaf\U000102a2\U00010302\U00010415\U0001043d"
        "\U0001051c\U000118e9\U000118f2\U0001f74c"
    ),
    "n": "\u039d\u0578\u057c\u2c9a\ua4e0\U00010513\U0001d6b4\U0001d6ee\U0001d728\U0001d762\U0001d79c",
    "t": (
        "\u03a4\u0422\u13a2\u22a4\u27d9\u2ca6\ua4d4\U000102b1\U00010315\U000118bc\U00016f0a\U0001d6bb"
        "\U0001d6f5\U0001d72f\U0001d769\U0001d7a3\U0001f768"
    ),
    "e": (
        "\u0395\u0415\u0435\u04bd\u13ac\u212e\u22ff\u2d39\uab32\U00010286\U000118a6\U000118ae\U0001d6ac"
        "\U0001d6e6\U0001d720\U0001d75a\U0001d794"
    ),
    ":": "\u02d0\u02f8\u0589\u05c3\u0703\u0704\u0903\u0a83\u16ec\u1803\u1809\u205a\u2236\ua4fd\ua789\ufe30",
    "-": "\u02d7\u06d4\u2010\u2011\u2012\u2013\u2043\u2212\u2500\u2501\u2796\u2cba\u30fc\u4e00\ufe58",
    "<": "\xab\u02c2\u1438\u16b2\u2039\u276e\u27e8\u3008\u300a\U0001d236",
    ">": "\xbb\u02c3\u1433\u203a\u276f\u27e9\u3009\u300b\U00016f3f\U0001d237",
}
_PROTOTYPES: Final = {letter: prototype for prototype, letters in _ALIKE.items() for letter in letters}
_NAMED: Final = re.compile(r"(?:.* )?LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?")
"""A letter of any script, size or ornament that has a Latin letter's name, such as Cyrillic o."""
_BLANK: Final = "\u2800"
"""Braille without a dot: a letter that is invisible."""


def reads_like(line: str, most: int) -> str:
    """Return the first `most` characters of a line as a person reads them.

    Look-alikes become small Latin letters; invisible characters, accents and spaces are dropped;
    several dashes become one, and a leading `>` is dropped.
    """
    read = ""
    for letter in line:
        for seen in _looks(letter):
            if (seen == ">" and not read) or (seen == "-" and read.endswith("-")):
                continue
            read += seen
        # Two letters that look like one.
        read = read.replace("rn", "m")
        if len(read) >= most:
            break
    return read


@functools.lru_cache(4096)
def _looks(letter: str) -> str:
    """Return what a letter looks like; empty if it is invisible."""
    return "".join([_prototype(part) for part in unicodedata.normalize("NFKD", letter)])


def _prototype(letter: str) -> str:
    known = _PROTOTYPES.get(letter) or _PROTOTYPES.get(letter.upper())
    if known is not None:
        return known
    category = unicodedata.category(letter)
    if letter.isspace() or letter == _BLANK or category in {"Mn", "Me", "Cc", "Cf"} or IGNORABLE.match(letter):
        return ""
    if category == "Pd":
        return "-"
    named = None if letter.isascii() else _NAMED.fullmatch(unicodedata.name(letter, ""))
    return named[1].casefold() if named is not None else letter.casefold()
