"""myport.info and server.info: text <-> values.

Owns: the two one-line files beside the programs.
Promises: a file that can't be used is an `InfoFileError` that names file and line; nothing is
guessed here.
Exposure: written by hand by whoever runs the programs.

Source: docs/client-protocol.md, "Files beside the programs".
"""

from pathlib import Path
from typing import Final, NamedTuple

from common.errors import InfoFileError

DEFAULT_PORT: Final = 1357
SERVER_INFO: Final = "server.info"
_LONGEST_FILE: Final = 4096


class ServerAddress(NamedTuple):
    """Where a server listens: a host name or address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_port(text: str) -> int | None:
    """A TCP port, 1 to 65535, in plain decimal digits; None for anything else."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None
    port = int(digits)
    return port if 1 <= port <= 65535 else None


def parse_address(text: str) -> ServerAddress | None:
    """`address:port`, with an IPv6 address in brackets; None for anything else."""
    host, colon, port_text = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    port = parse_port(port_text)
    if not colon or port is None or not host or not host.isprintable() or " " in host:
        return None
    return ServerAddress(host, port)


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
    """The `address:port` on the first line of server.info. Raises `InfoFileError`."""
    line = _first_line(path)
    address = parse_address(line)
    if address is None:
        raise InfoFileError(path, 1, f"expected address:port, found {line[:60]!r}")
    return address
