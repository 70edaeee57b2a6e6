"""The worker's command line, and which settings it can serve with.

Owns: the options, their defaults and their bounds.
Promises: the worker can serve with what `checked` accepts; anything else is refused before the data
folder is touched, with a sentence that names the option. `check_min_free_bytes` checks the folder's
disk before anything is opened there.
Exposure: whoever starts the worker.
"""

import argparse
import ipaddress
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.data_folder import DATA_VARIABLE
from common.errors import SettingRejected, ValueRejected
from common.link_address import LinkAddress, parse_link
from common.options import SIZES, Bound, add_log_format, check_bounds, fitting, folder_path, number, size
from common.shards import NUMBERS_OF_SHARDS
from common.status_server import add_status_options
from common.storage_protocol.administration import LONGEST_EXPIRY
from common.storage_protocol.message_format import ENTRY_HEAD
from common.values import Registration
from common.version import VERSION
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from storage_worker.state.sender_usage import NO_SHARE

LARGEST_CONTENT: Final = 2**32 - 1 - ENTRY_HEAD.size
"""The most that a size field of the client protocol can hold: see docs/client-protocol.md,
"Limits and time-outs".
"""
LONGEST_ABOUT: Final = 4096
"""Bytes that 2148 has room for."""
OWN_FILES: Final = 64
"""What the worker has open besides unfinished uploads, with room to spare: the link's library ends
the program where it finds no descriptor for a gateway that comes."""
_STATUS_PORT: Final = 9358
_SCHEMES: Final = ("postgresql://", "postgres://")
_SHARD: Final = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_MOST: Final = 2**62
SMALLEST_JOURNAL: Final = 64 * 1024
_LARGEST_JOURNAL: Final = 1024**3
_MOST_MESSAGES: Final = 10**9
_MOST_UPLOADS: Final = 100_000


def link_address(text: str) -> LinkAddress:
    """For argparse: where the worker takes gateways of other machines."""
    try:
        found = parse_link(text)
        ipaddress.ip_address(found.host)
    except ValueRejected as error:
        raise argparse.ArgumentTypeError(f"{error}; here without a KEY") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} names no address of this machine, such as 10.0.0.5") from error
    if found.key is not None:
        raise argparse.ArgumentTypeError("the worker knows its own key: tcp://ADDRESS:PORT")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. Ends the program with code 2 if an option is unknown, or is not a
    number where one is needed.
    """
    parser = argparse.ArgumentParser(
        prog="messageu-storage-worker",
        description="Keeps MessageU's users and mail. Clients reach it through a gateway.",
        allow_abbrev=False,
        epilog=SIZES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument(
        "--data-folder", type=folder_path, help=f"where the mail is kept (${DATA_VARIABLE}, else data/)"
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="keep users and mail in this PostgreSQL database (postgresql://…) and not in the data folder; needs "
        "messageu[postgres], and `messageu-admin store create` before the first start",
    )
    add_shard_options(parser)
    parser.add_argument(
        "--link",
        metavar="tcp://ADDRESS:PORT",
        type=link_address,
        help="take gateways of other machines at this address too, by the keys of `messageu-admin link-key`; without "
        "keys an address of the loopback alone",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    add_log_format(parser)
    add_status_options(parser, _STATUS_PORT)
    parser.add_argument(
        "--free-space-mark",
        dest="min_free_bytes",
        type=size,
        default=64 * 1024**2,
        metavar="SIZE",
        help="refuse mail when the disk has less than this free (default: 64M)",
    )
    parser.add_argument(
        "--journal",
        type=size,
        default=16 * 1024**2,
        metavar="SIZE",
        help="size of the journal in front of the database (default: 16M)",
    )
    defaults = Limits()
    parser.add_argument(
        "--largest-message", type=size, metavar="SIZE", help="default: 1G, or --mailbox-bytes if that is less"
    )
    parser.add_argument(
        "--mailbox-messages",
        type=number,
        default=defaults.mailbox_messages,
        help="pending messages of one user (default: %(default)s)",
    )
    parser.add_argument(
        "--mailbox-bytes",
        type=size,
        default=defaults.mailbox_bytes,
        metavar="SIZE",
        help="total size of the pending messages of one user (default: 4G)",
    )
    parser.add_argument(
        "--uploads", type=number, default=defaults.uploads, help="unfinished uploads at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--uploads-of-user",
        type=number,
        default=defaults.uploads_of_user,
        help="unfinished uploads of one sender (default: %(default)s)",
    )
    parser.add_argument(
        "--sender-share",
        type=number,
        default=defaults.sender_share,
        help=(
            "percent of a mailbox that one sender may fill once it is more than half full; 100: no limit "
            "(default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--registration",
        choices=[one.name.lower() for one in Registration],
        default=Registration.OPEN.name.lower(),
        help=(
            "who may register: anyone, anyone with an invitation from `messageu-admin invite`, or nobody "
            "(default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--about",
        default="",
        metavar="TEXT",
        help="text about this server that users see when they register, such as who runs it and whom to ask",
    )
    parser.add_argument(
        "--expire-days",
        type=number,
        default=0,
        metavar="N",
        help="delete mail that was not fetched for N days; 0: never (default: %(default)s)",
    )
    parser.add_argument(
        "--inactive-days",
        type=number,
        default=0,
        metavar="N",
        help="delete users who were not seen while this program ran for so many days; 0: never (default: %(default)s)",
    )
    # For tests: a limit that needs no small disk.
    parser.add_argument("--size-limit", type=size, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def checked(options: argparse.Namespace) -> Limits:
    """The limits. Raises `SettingRejected` if the worker could not serve with these options."""
    largest: int | None = options.largest_message
    if largest is None:
        # Who sets a small mailbox alone does not contradict themselves.
        largest = max(min(Limits().largest_message, options.mailbox_bytes), 1)
    check_bounds(
        (
            Bound("--free-space-mark", options.min_free_bytes, 0, _MOST),
            Bound("--journal", options.journal, SMALLEST_JOURNAL, _LARGEST_JOURNAL),
            Bound("--largest-message", largest, 1, LARGEST_CONTENT),
            Bound("--mailbox-messages", options.mailbox_messages, 1, _MOST_MESSAGES),
            Bound("--mailbox-bytes", options.mailbox_bytes, 1, _MOST),
            Bound("--uploads", options.uploads, 1, _MOST_UPLOADS),
            Bound("--uploads-of-user", options.uploads_of_user, 1, _MOST_UPLOADS),
            Bound("--sender-share", options.sender_share, 1, NO_SHARE),
            Bound("--expire-days", options.expire_days, 0, LONGEST_EXPIRY),
            Bound("--inactive-days", options.inactive_days, 0, LONGEST_EXPIRY),
            Bound("--size-limit", options.size_limit or 0, 0, _MOST),
        )
    )
    check_directory(options.directory, place_of(options.store, options.shard)[0])
    if largest > options.mailbox_bytes:
        raise SettingRejected(
            f"--largest-message ({largest}) is more than --mailbox-bytes ({options.mailbox_bytes}), so no "
            "mailbox could hold it"
        )
    return Limits(
        largest,
        options.mailbox_messages,
        options.mailbox_bytes,
        options.uploads,
        options.uploads_of_user,
        options.sender_share,
    )


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """The options that name a part of a store in PostgreSQL."""
    parser.add_argument(
        "--shard", metavar="K/N", help="with --store: which one of how many parts, from 0 (default: 0/1)"
    )
    parser.add_argument(
        "--directory",
        metavar="URL",
        help="with --shard: the database that has part 0, postgresql://…, if it is not that of --store",
    )


def check_directory(directory: str | None, number: int) -> None:
    """Raise `SettingRejected` for a --directory that can't be one, or that part `number` has no use
    for.
    """
    if directory is None:
        return
    if not directory.startswith(_SCHEMES):
        raise SettingRejected("--directory begins with postgresql://, as --store does")
    if not number:
        raise SettingRejected("--directory is for the parts beside part 0, which is the directory")


def place_of(store: str | None, shard: str | None) -> tuple[int, int]:
    """Which part of how many a store is. Raises `SettingRejected`, also for a store that can't be
    one.
    """
    if store is None:
        if shard is not None:
            raise SettingRejected("--shard is for --store: the embedded store has one part")
        return 0, 1
    if not store.startswith(_SCHEMES):
        # Not shown: it may have a password in it.
        raise SettingRejected("--store begins with postgresql://, as PostgreSQL's connection strings do")
    found = _SHARD.fullmatch(shard or "0/1")
    if found is None:
        raise SettingRejected(f"--shard is K/N, such as 0/1, not {shard}")
    number, shards = int(found[1]), int(found[2])
    if shards not in NUMBERS_OF_SHARDS:
        raise SettingRejected(f"--shard {shard}: the number of shards is a power of two up to {NUMBERS_OF_SHARDS[-1]}")
    if number >= shards:
        raise SettingRejected(f"--shard {shard}: the last of {shards} is {shards - 1}/{shards}")
    return number, shards


def account_settings(options: argparse.Namespace) -> AccountSettings:
    """Who may register, and what clients are told about the server. Raises `SettingRejected`."""
    try:
        about = options.about.encode()
    except UnicodeEncodeError as error:
        raise SettingRejected("--about is not UTF-8") from error
    control = next((letter for letter in options.about if _is_control(letter)), None)
    if control is not None:
        raise SettingRejected(f"--about has the control character U+{ord(control):04X}; it takes text, in lines")
    if len(about) > LONGEST_ABOUT:
        raise SettingRejected(f"--about has at most {LONGEST_ABOUT} bytes, not {len(about)}")
    return AccountSettings(
        Registration[options.registration.upper()], about, options.expire_days, options.inactive_days
    )


def _is_control(letter: str) -> bool:
    """Whether a letter may do something to a terminal; lines and tabs are text."""
    return unicodedata.category(letter) == "Cc" and letter not in "\n\t"


def uploads_that_fit(wanted: int, open_files: int) -> int:
    """How many of the wanted uploads fit under a limit of open files. Raises
    `SettingRejected` for none.
    """
    return fitting(wanted, "unfinished uploads", open_files, OWN_FILES, "worker")


def check_min_free_bytes(min_free_bytes: int, folder: Path) -> None:
    """Raise `SettingRejected` where the minimum of free space, in bytes, is more than the
    folder's disk can ever have.
    """
    status = os.statvfs(folder)
    most = (status.f_blocks - status.f_bfree + status.f_bavail) * status.f_frsize
    if min_free_bytes > most:
        raise SettingRejected(
            f"--free-space-mark ({min_free_bytes}) is more than the disk of {folder} has in all ({most}), so that "
            "no mail would ever be accepted"
        )
