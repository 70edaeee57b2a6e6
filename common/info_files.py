"""myport.info and server.info: text <-> values.

Owns: the two one-line files beside the programs.
Promises: a file that can't be used is an `InfoFileError` that names file and line; nothing is
guessed here.
Exposure: written by hand by whoever runs the programs.

Source: docs/client-protocol.md, "Files beside the programs".
"""

from pathlib import Path
from typing import Final

from common.errors import InfoFileError, ValueRejected
from common.server_address import ServerAddress, parse_address, parse_addresses, parse_port, shown

__all__ = ["DEFAULT_PORT", "SERVER_INFO", "ServerAddress", "parse_address", "read_port", "read_server_address"]

DEFAULT_PORT: Final = 1357
SERVER_INFO: Final = "server.info"
_LONGEST_FILE: Final = 4096


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_FILE)
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InfoFileError(path, 1, "is not text") from error
    return text.splitlines()[0] if text.strip("\r\n") else ""


def read_port(path: Path) -> int:
    """The port in myport.info, decimal, on the first line. Raises `InfoFileError`."""
    line = _first_line(path)
    port = parse_port(line)
    if port is None:
        raise InfoFileError(path, 1, f"expected a port from 1 to 65535, found {line[:40]!r}")
    return port


def read_server_address(path: Path) -> ServerAddress:
    """The `address:port`, several of them with commas, or the link, on the first line of
    server.info. Raises `InfoFileError`.
    """
    line = _first_line(path)
    try:
        return parse_addresses(line)
    except ValueRejected as error:
        raise InfoFileError(path, 1, f"expected address:port or a link, found {shown(line)}: {error}") from error
