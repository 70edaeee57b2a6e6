"""What the command lines of gateway and storage worker have in common.

Owns: how sizes, folders and users' names are written, and the sentences for values out of bounds.
Promises: a text that is not a number is reported by argparse (exit code 2); a number out of bounds
is a `SettingRejected` that names the option.
Exposure: whoever starts the programs.
"""

import argparse
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from common.errors import SettingRejected
from common.names import normal_form

SIZES: Final = "Sizes are bytes, or a number with K, M, G or T: 1K is 1024 bytes, 1M is 1024K, and so on."
"""For `--help`."""
_SIZE: Final = re.compile(r"([+-]?[0-9]{1,40})([KMGT]?)", re.IGNORECASE)
_UNITS: Final = " KMGT"

log = logging.getLogger("settings")


class Bound(NamedTuple):
    """An option, its value, and the smallest and largest allowed value."""

    option: str
    value: int
    least: int
    most: int


def size(text: str) -> int:
    """For argparse: a number of bytes, as `SIZES` has it. Its sign is left for
    `check_bounds` to judge.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: bytes, or a number with K, M, G or T")
    number, unit = int(found[1]), found[2]
    for _ in range(_UNITS.index(unit.upper()) if unit else 0):
        number *= 1024
    return number


def number(text: str) -> int:
    """For argparse: a decimal number in ASCII digits, which is what the info files take too."""
    if not re.fullmatch(r"[+-]?[0-9]{1,40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def folder_path(text: str) -> Path:
    """For argparse: a folder's path.

    An empty one, as from an unset variable in a script, would mean the working folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: name a folder")
    return Path(text)


def user_name(text: str) -> str:
    """For argparse: a user's name, however it is typed. Users are registered in normal form."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("a name has no bytes that are not characters") from error
    return normal_form(text)


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Add the option for the log's format, which both programs have."""
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="format of the log on stderr; json is one object per line (default: %(default)s). SIGHUP is ignored",
    )


def check_bounds(bounds: Iterable[Bound]) -> None:
    """Raise `SettingRejected` for the first value that is out of its bounds."""
    for option, value, least, most in bounds:
        if not least <= value <= most:
            raise SettingRejected(f"{option} is {least} to {most}, not {value}")


def fitting(wanted: int, what: str, open_files: int, own_files: int, program: str) -> int:
    """How many of the `wanted` things that need an open file each fit under the limit of open
    files, besides the program's `own_files`.

    Fewer than wanted are a warning in the log. Raises `SettingRejected` for none.
    """
    if open_files <= own_files:
        raise SettingRejected(
            f"the system allows {open_files} open files, and the {program} needs at least {own_files + 1}: "
            "raise the limit (ulimit -n)"
        )
    found = min(wanted, open_files - own_files)
    if found < wanted:
        log.warning("the system allows %d open files: at most %d %s", open_files, found, what)
    return found
