"""How the server is reached: its address, and the pins that the home remembers.

Owns: the address that commands show, and the command `address`. Promises: asks no server and
changes nothing. An address to give to others has every pin that the home knows, or is not shown.
Elsewhere an unusable store counts as having no pin; `doctor` says what is wrong with it.

Source: docs/client.md, "The server".
"""

import contextlib
import os
import sys
from pathlib import Path

from client.cli.output import Output, Value
from client.connection.server_pins import read_pins
from client.errors import ClientError
from client.identity.home import convert, open_store
from client.settings import Settings
from client.store.database import told
from client.store.home_store import STORE_FILE
from common.errors import MessageUError
from common.qr_code import painted, qr_lines, takes_colours
from common.server_address import MOST_PINS, Pin, ServerAddress, pin_text


def pinned_address(settings: Settings) -> ServerAddress:
    """Return the server's address with the pins that count, without an invitation.

    Raises `SettingRejected`, `InfoFileError`.
    """
    pins: tuple[Pin, ...] = ()
    with contextlib.suppress(ClientError, OSError):
        pins = _remembered(settings.home)
    return _with_pins(settings.server(), pins)


def _with_pins(address: ServerAddress, pins: tuple[Pin, ...]) -> ServerAddress:
    # A link that is new to this home decides from now on which server it is.
    if pins and not (address.pins and set(address.pins).isdisjoint(pins)):
        address = address._replace(pins=pins[:MOST_PINS])
    return address._replace(invitation=None)


def fields(settings: Settings) -> dict[str, Value]:
    """Return what `--json` says of it; only nulls if no address is named."""
    try:
        address = pinned_address(settings)
    except MessageUError:
        return {"server": None, "transport": None, "pins": []}
    return fields_of(address)


def fields_of(address: ServerAddress) -> dict[str, Value]:
    """Return what `--json` says of an address."""
    return {
        "server": address.place,
        "transport": "tls" if address.pins else "plain",
        "pins": [pin_text(one) for one in address.pins],
    }


def show_address(settings: Settings, output: Output, *, qr: bool) -> int:
    """Show the address to give to others."""
    with contextlib.suppress(ClientError, OSError):
        # An unusable store ends the command below.
        convert(settings.home, output.say, to_read=True)
    address = _with_pins(settings.server(), _remembered(settings.home))
    lines = [str(address)]
    if qr and not output.as_json:
        code = qr_lines(str(address))
        lines += ["", *(painted(code) if sys.stdout.isatty() and takes_colours(dict(os.environ)) else code)]
    output.data("address", "\n".join(lines), address=str(address), **fields(settings))
    is_here = all(host.startswith("127.") or host in {"localhost", "::1"} for host, _ in address.places)
    if not address.pins and not is_here:
        output.say("It has no pin: connections to it are not encrypted.")
    return 0


def _remembered(home: Path) -> tuple[Pin, ...]:
    """Return the pins that the home knows. Raises `StoreUnusable`."""
    with told(home):
        if not (home / STORE_FILE).exists():
            return ()
    store = open_store(home, to_read=True)
    try:
        return read_pins(store)
    finally:
        store.close()
