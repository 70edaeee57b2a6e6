"""The worker's command line, and which settings it can serve with.

Owns: the options, their defaults and their bounds.
Promises: what `checked` lets pass can serve; anything else is refused before the data folder is touched, with a
sentence that names the option.
Exposure: whoever starts the worker.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.data_folder import DATA_VARIABLE
from common.entries import ENTRY_HEAD
from common.errors import SettingRejected
from common.version import VERSION
from storage_worker.post_office import Limits

log = logging.getLogger("storage_worker")

LARGEST_CONTENT: Final = 2**32 - 1 - ENTRY_HEAD.size
"""The most that a size of the client protocol can tell: see docs/client-protocol.md, "Limits and time-outs"."""
OWN_FILES: Final = 64
"""What the worker has open besides unfinished uploads, with room to spare: the link's library ends the program where it
finds no descriptor for a gateway that comes."""
_MOST: Final = 2**62
_SMALLEST_JOURNAL: Final = 64 * 1024
_LARGEST_JOURNAL: Final = 1024**3
_MOST_MESSAGES: Final = 10**9
_MOST_UPLOADS: Final = 100_000


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. Ends the program with code 2 where an option is unknown, or no number where one is due."""
    parser = argparse.ArgumentParser(
        prog="messageu-storage-worker",
        description="Keeps MessageU's users and mail; a gateway is the way to it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument("--data-folder", type=Path, help=f"where the mail is kept (${DATA_VARIABLE}, else data/)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--free-space-mark", type=int, default=64 * 1024**2, help="bytes of free disk below which mail is refused"
    )
    parser.add_argument("--journal", type=int, default=16 * 1024**2, help="bytes of the journal before the database")
    defaults = Limits()
    parser.add_argument("--largest-message", type=int, default=defaults.largest_message, help="bytes")
    parser.add_argument("--mailbox-messages", type=int, default=defaults.mailbox_messages, help="messages that wait")
    parser.add_argument("--mailbox-bytes", type=int, default=defaults.mailbox_bytes, help="their contents together")
    parser.add_argument("--uploads", type=int, default=defaults.uploads, help="unfinished uploads at a time")
    parser.add_argument("--uploads-of-user", type=int, default=defaults.uploads_of_user, help="those of one sender")
    # For tests: a limit that needs no small disk.
    parser.add_argument("--size-limit", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def checked(options: argparse.Namespace) -> Limits:
    """Give the limits. Raises `SettingRejected` where the worker could not serve with these options."""
    for option, value, least, most in (
        ("--free-space-mark", options.free_space_mark, 0, _MOST),
        ("--journal", options.journal, _SMALLEST_JOURNAL, _LARGEST_JOURNAL),
        ("--largest-message", options.largest_message, 1, LARGEST_CONTENT),
        ("--mailbox-messages", options.mailbox_messages, 1, _MOST_MESSAGES),
        ("--mailbox-bytes", options.mailbox_bytes, 1, _MOST),
        ("--uploads", options.uploads, 1, _MOST_UPLOADS),
        ("--uploads-of-user", options.uploads_of_user, 1, _MOST_UPLOADS),
        ("--size-limit", options.size_limit or 0, 0, _MOST),
    ):
        if not least <= value <= most:
            raise SettingRejected(f"{option} is {least} to {most}, not {value}")
    if options.largest_message > options.mailbox_bytes:
        raise SettingRejected(
            f"--largest-message ({options.largest_message}) is more than --mailbox-bytes ({options.mailbox_bytes}), so "
            "that it would fit into no mailbox"
        )
    return Limits(
        options.largest_message,
        options.mailbox_messages,
        options.mailbox_bytes,
        options.uploads,
        options.uploads_of_user,
    )


def uploads_that_fit(wanted: int, open_files: int) -> int:
    """How many of the wanted uploads fit under a limit of open files. Raises `SettingRejected` for none."""
    if open_files <= OWN_FILES:
        raise SettingRejected(
            f"the system allows {open_files} open files, and the worker needs at least {OWN_FILES + 1}: "
            "raise the limit (ulimit -n)"
        )
    fitting = min(wanted, open_files - OWN_FILES)
    if fitting < wanted:
        log.warning("the system allows %d open files: at most %d unfinished uploads", open_files, fitting)
    return fitting
