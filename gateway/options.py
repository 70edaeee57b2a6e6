"""The gateway's command line, and which options it can serve with.

Owns: the options and their bounds; how many connections fit under the limit of open files.
Promises: what `checked` lets pass can serve; anything else is refused before anything is opened,
with a sentence that names the option.
Exposure: whoever starts the gateway.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.client_protocol.responses import LARGEST_CONTENT
from common.errors import SettingRejected
from common.info_files import DEFAULT_PORT
from common.options import SIZES, Bound, check_bounds, fitting, folder_path, number, size
from common.version import VERSION
from gateway.settings import Settings

OWN_FILES: Final = 64
"""What the gateway has open besides its connections, with room to spare."""
_MOST_CONNECTIONS: Final = 1_000_000
_LAST_SLOT: Final = 0xFFFF
_LAST_PORT: Final = 0xFFFF
_LONGEST_HOST: Final = 253


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. Ends the program with code 2 where an option is unknown, or
    no number where one is due.
    """
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="messageu-gateway",
        description="The TCP side of a MessageU server; needs a storage worker beside it.",
        allow_abbrev=False,
        epilog=SIZES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    ports = parser.add_mutually_exclusive_group()
    ports.add_argument(
        "--port",
        type=number,
        metavar="N",
        help="port to listen on; no port file is read then (default: what --port-file says). The clients' server.info "
        "names the same port",
    )
    ports.add_argument(
        "--port-file",
        type=Path,
        default=Path("myport.info"),
        metavar="PATH",
        help="file that holds the port (default: %(default)s); not together with --port",
    )
    parser.add_argument(
        "--data-folder", type=folder_path, help="the server's data folder (default: $MESSAGEU_DATA or data/)"
    )
    parser.add_argument("--slot", type=number, default=0, help="this gateway's slot at the worker (default: 0)")
    parser.add_argument(
        "--largest-message", type=size, default=defaults.largest_content, metavar="SIZE", help="default: 1G"
    )
    parser.add_argument(
        "--connections",
        type=number,
        default=defaults.connections,
        help="open connections at most (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: %(default)s"
    )
    return parser.parse_args(arguments)


def checked(options: argparse.Namespace) -> None:
    """Raise `SettingRejected` where the gateway could not serve with these options."""
    check_bounds(
        (
            Bound("--largest-message", options.largest_message, 1, LARGEST_CONTENT),
            Bound("--connections", options.connections, 1, _MOST_CONNECTIONS),
            Bound("--slot", options.slot, 0, _LAST_SLOT),
            Bound("--port", DEFAULT_PORT if options.port is None else options.port, 1, _LAST_PORT),
        )
    )
    if not _is_host(options.host):
        raise SettingRejected(f"--host {options.host!r} is neither an address nor a name")


def _is_host(text: str) -> bool:
    # An empty one would mean every address of the machine.
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return 1 <= len(text) <= _LONGEST_HOST and text.isprintable() and " " not in text


def connections_that_fit(wanted: int, open_files: int) -> int:
    """How many of the wanted connections fit under a limit of open files. Raises
    `SettingRejected` for none.
    """
    return fitting(wanted, "connections", open_files, OWN_FILES, "gateway")
