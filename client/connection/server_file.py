"""The home's server.info: the server that this home's commands use if nothing else names one.

Owns: writing it at a registration, and when the server's pins have changed. Promises: it is written
whole or not at all. A replaced address is returned, so that the user is told. Exposure: the old
file may have been written by hand. An address proves nothing: which server an account belongs to is
in the store (`client.connection.handshake`).

Source: docs/client.md, "Settings"; docs/decisions/0012-where-the-home-is.md.
"""

from pathlib import Path

from client.identity.identity_files import write_whole
from common.errors import InfoFileError
from common.info_files import SERVER_INFO, read_server_address
from common.server_address import Pin, ServerAddress


def remember(home: Path, address: ServerAddress) -> str | None:
    """Write this address into the home's server.info; return a sentence if it replaced another one,
    or an unusable file.

    Raises `FileUnwritten`.
    """
    path = home / SERVER_INFO
    sentence = None
    if path.exists() or path.is_symlink():
        try:
            before = read_server_address(path)
        except InfoFileError:
            sentence = f"{path} could not be used; it names {address} now."
        else:
            if before == address._replace(invitation=None):
                return None
            sentence = f"{path} named {before}; it names {address} now."
    write_whole(path, f"{address}\n")
    return sentence


def renew(home: Path, address: ServerAddress, pins: tuple[Pin, ...], known: set[Pin]) -> None:
    """Write these pins into the home's server.info, if it names this host and port with pins that
    are all known.

    Raises `InfoFileError`.
    """
    path = home / SERVER_INFO
    if not path.exists():
        return
    before = read_server_address(path)
    after = before._replace(pins=pins)
    if before.place == address.place and before.pins and known.issuperset(before.pins) and after != before:
        write_whole(path, f"{after}\n")
