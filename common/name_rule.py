"""Which names may be registered beyond ASCII, and which names look alike.

Owns: the rule, and the looks of a name.
Promises: pure; the same name has the same looks under every version of Python, because the table is
our own (`common.name_table`) and unassigned characters are not allowed. Two names with a common
look can hardly be told apart, or differ only in case.
Exposure: fed with names of strangers, of at most 254 bytes.

Sources: docs/client-protocol.md, "Names beyond ASCII"; RFC 8265 (UsernameCasePreserved); Unicode
Technical Standard 39, "Confusable Detection", "Restriction-Level Detection", "Mixed-Number
Detection".
"""

import unicodedata
from bisect import bisect_right
from typing import Final

import precis_i18n

from common.errors import ValueRejected
from common.name_table import PROTOTYPES, SCRIPTS
from common.names import any_username
from common.values import Username

_MARKS_TOGETHER: Final = 4
"""Marks on one letter; of more, no writing has need."""
_TOGETHER: Final = ({"Latn", "Hani", "Hira", "Kana"}, {"Latn", "Hani", "Bopo"}, {"Latn", "Hani", "Hang"})
"""Scripts that are written beside each other: Japanese, Chinese, Korean (the standard's "highly
restrictive")."""
_ANY: Final = frozenset({"Zyyy", "Zinh"})
"""What the table calls characters that go with every script."""

_profile: Final = precis_i18n.get_profile("UsernameCasePreserved")


def _ranges() -> tuple[list[int], list[tuple[int, frozenset[str]]]]:
    """The table by code points: where ranges begin; their ends and scripts."""
    found: list[tuple[int, int, frozenset[str]]] = []
    for scripts, text in SCRIPTS.items():
        for one in text.split():
            first, _, last = one.partition("-")
            found.append((int(first, 16), int(last or first, 16), frozenset(scripts.split())))
    found.sort(key=lambda one: one[0])
    return [first for first, _, _ in found], [(last, scripts) for _, last, scripts in found]


def _prototypes() -> dict[int, str]:
    lines = [[int(code, 16) for code in line.split()] for line in PROTOTYPES.split("\n") if line]
    return {code: "".join(map(chr, looks)) for code, *looks in lines}


_BEGINNINGS, _ENDS = _ranges()
_LOOKS_LIKE: Final = _prototypes()


def registrable(text: str) -> Username:
    """Check a name that somebody wants to register. Raises `ValueRejected` that says why not.

    In ASCII the rule is that of the published protocol.
    """
    name = any_username(text)
    if name.isascii():
        return name
    for part in name.split(" "):
        _check_part(part)
    _check_scripts(name)
    if len({ord(letter) - unicodedata.decimal(letter) for letter in name if letter.isdecimal()}) > 1:
        raise ValueRejected("a name has digits of one kind")
    marks = 0
    for letter in unicodedata.normalize("NFD", name):
        marks = marks + 1 if unicodedata.category(letter) in {"Mn", "Me"} else 0
        if marks > _MARKS_TOGETHER:
            raise ValueRejected(f"a name has at most {_MARKS_TOGETHER} marks on a letter")
    return name


def _check_part(part: str) -> None:
    if not part:
        raise ValueRejected("a name beyond ASCII has single spaces")
    if unicodedata.category(part[0]).startswith("M"):
        raise ValueRejected("no word of a name may begin with a combining mark")
    try:
        enforced = _profile.enforce(part)
    except UnicodeEncodeError as error:
        why = error.reason.rpartition("/")[2].replace("_", " ")
        raise ValueRejected(f"a name can't have {part[error.start : error.end]!a} there ({why})") from error
    if enforced != part:
        raise ValueRejected("a name is written in its normal form")


def _check_scripts(name: str) -> None:
    seen: list[frozenset[str]] = []
    for letter in name:
        scripts = _scripts_of(letter)
        if scripts is None:
            raise ValueRejected(f"a name can't have {letter!a}, which is not in general use")
        if not scripts & _ANY:
            seen.append(scripts)
    if seen and not frozenset.intersection(*seen) and not any(all(one & group for one in seen) for group in _TOGETHER):
        raise ValueRejected("a name has letters of one script")


def _scripts_of(letter: str) -> frozenset[str] | None:
    """The scripts that a character is used in; None where it may be in no name."""
    if letter.isascii():
        return frozenset({"Latn"}) if letter.isalpha() else _ANY
    code = ord(letter)
    index = bisect_right(_BEGINNINGS, code) - 1
    last, scripts = _ENDS[index]
    return scripts if index >= 0 and code <= last else None


def looks(name: str) -> tuple[str, ...]:
    """What a name looks like, in one or two spellings: as it is, and in lower case.

    I looks like l, and is another case of i: both spellings are needed for both.
    """
    return tuple(dict.fromkeys((_skeleton(name).casefold(), _skeleton(name.casefold()).casefold())))


def _skeleton(text: str) -> str:
    """The skeleton of Unicode Technical Standard 39."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).translate(_LOOKS_LIKE))
