"""The commands for the gateway's certificates: `tls show`, `tls next`, `tls switch`, `address`.

Owns: these commands of `scripts/admin`. Promises: they work while the server runs, and while it
does not; no key is shown. The gateway uses a new certificate only from its next start on.
Exposure: whoever may read the data folder.

Source: docs/client-protocol.md, "TLS"; docs/security.md, "TLS: the server's certificate".
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import SettingRejected, ValueRejected
from common.qr_code import painted, qr_lines, takes_colours
from common.server_address import ServerAddress, parse_address, pin, pin_text
from gateway import certificate
from storage_worker.admin_output import Say, show


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    tls = commands.add_parser("tls", help="the server's certificate: show its pin, make the next one, switch to it")
    tls.add_argument(
        "step",
        choices=("show", "next", "switch"),
        help="show: the pins. next: make the next certificate; clients learn its pin when they "
        "connect. switch: use it from the gateway's next start on",
    )
    address = commands.add_parser("address", help="show the address for clients, with the certificate's pin")
    address.add_argument(
        "place", nargs="?", metavar="HOST:PORT", help="where clients reach it (default: as in the log)"
    )
    address.add_argument("--qr", action="store_true", help="show it as a QR code too")


def tls(step: str, folder: Path, say: Say, *, as_json: bool) -> int:
    """Run one of the steps; the object has the pins as they are after it. Raises
    `SettingRejected`.
    """
    sentences: tuple[str, ...] = ()
    if step == "next":
        made = certificate.make_next(folder, datetime.now(UTC))
        sentences = (
            f"The next pin is {_pin(made)}. Clients learn it the next time they connect; keep both in the address",
            "that you give out (`address`). Once they have had the time, run `tls switch` and restart the gateway.",
        )
    elif step == "switch":
        used = certificate.switch(folder)
        sentences = (
            f"From the gateway's next start, the pin is {_pin(used)}. Whoever did not connect since",
            "`tls next` needs the new address.",
        )
    current, following = _known(folder)
    pins = (_pin(current), None if following is None else _pin(following))
    if step == "show":
        sentences = (f"pin       {pins[0]}", f"next pin  {pins[1] or 'none'}")
    show(say, {"type": "tls", "pin": pins[0], "next_pin": pins[1]}, *sentences, as_json=as_json)
    return 0


def address(place: str | None, folder: Path, say: Say, *, qr: bool, as_json: bool) -> int:
    """Print each address on a line. Raises `SettingRejected`."""
    for whole in addresses(place, folder):
        pins = [pin_text(one) for one in whole.pins]
        show(
            say,
            {"type": "address", "address": whole.link, "server": whole.place, "transport": "tls", "pins": pins},
            whole.link,
            as_json=as_json,
        )
        if qr:
            say_picture(whole.link, say)
    return 0


def addresses(place: str | None, folder: Path) -> list[ServerAddress]:
    """The addresses of the server for clients, with its pins. `place`: replaces those that the
    gateway stored. Raises `SettingRejected`.
    """
    current, following = _known(folder)
    pins = tuple(pin(one.digest) for one in (current, following) if one is not None)
    found: list[ServerAddress] = []
    for text in [place] if place is not None else certificate.kept_addresses(folder):
        try:
            address = parse_address(text)
        except ValueRejected as error:
            raise SettingRejected(str(error)) from error
        found.append(ServerAddress(address.host, address.port, pins))
    return found


def say_picture(link: str, say: Say) -> None:
    """Print a link as a QR code."""
    lines = qr_lines(link)
    coloured = sys.stdout.isatty() and takes_colours(dict(os.environ))
    for line in painted(lines) if coloured else lines:
        say(line)


def _known(folder: Path) -> tuple[certificate.Certificate, certificate.Certificate | None]:
    if not certificate.is_in_use(folder):
        raise SettingRejected("there is no certificate: the gateway makes one when it starts with --tls-listen")
    return certificate.current(folder, datetime.now(UTC)), certificate.following(folder)


def _pin(one: certificate.Certificate) -> str:
    return pin_text(pin(one.digest))
