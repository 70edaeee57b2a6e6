"""Where the gateway listens, and the addresses that clients are given.

Owns: the listeners that the options name, and the address line of each TLS listener.
Promises: pure but for `show`, which writes to the log, and draws a QR code if it is a terminal.
Exposure: whoever starts the gateway.

Source: docs/client-protocol.md, "TLS".
"""

import argparse
import ipaddress
import logging
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from common.errors import ValueRejected
from common.qr_code import painted, qr_lines, takes_colours
from common.server_address import ServerAddress, parse_address, pin

log = logging.getLogger("gateway.addresses")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TLS: Final = "TLS"
PLAIN: Final = "plain TCP"


class Place(NamedTuple):
    """One listener, as the options have it. `proxies`: see `gateway.listener.Listener`."""

    tls: bool
    host: str
    port: int
    proxies: tuple[Network, ...] = ()

    def __str__(self) -> str:
        return ServerAddress(self.host, self.port).place


def _place(text: str, *, tls: bool) -> Place:
    try:
        found = parse_address(text)
    except ValueRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if found.pins:
        raise argparse.ArgumentTypeError("HOST:PORT, without a pin")
    return Place(tls, found.host, found.port)


def plain_place(text: str) -> Place:
    """For argparse: HOST:PORT, an IPv6 address in brackets."""
    return _place(text, tls=False)


def tls_place(text: str) -> Place:
    """The same, for TLS."""
    return _place(text, tls=True)


def network(text: str) -> Network:
    """For argparse: an address, or a network as 10.0.0.0/8."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def public_address(text: str) -> tuple[str, int | None]:
    """For argparse: HOST or HOST:PORT."""
    try:
        found = parse_address(text)
    except ValueRejected:
        return _place(f"{text}:1", tls=True).host, None
    return found.host, found.port


class ProxiesOfPlace(argparse.Action):
    """`--proxy-protocol-from`: belongs to the listener before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        """Add a network to the last listener named, or to that of --host and --port."""
        assert isinstance(values, ipaddress.IPv4Network | ipaddress.IPv6Network)
        places: list[Place] = namespace.places or []
        if places:
            places[-1] = places[-1]._replace(proxies=(*places[-1].proxies, values))
        else:
            namespace.default_proxies = (*namespace.default_proxies, values)


def all_places(options: argparse.Namespace, default_port: int | None) -> list[Place]:
    """Every listener. `default_port`: the port of the default listener; None: there is none."""
    places: list[Place] = list(options.places or [])
    if default_port is not None:
        places.insert(0, Place(False, options.host, default_port, options.default_proxies))
    return places


def addresses_of(places: Iterable[Place], public: tuple[str, int | None] | None, host_name: str) -> list[ServerAddress]:
    """How clients reach the listeners with TLS, without pins.

    `host_name` replaces an address that means all addresses of the machine.
    """
    found = []
    for place in places:
        if place.tls:
            host, port = public or (host_name if _is_any(place.host) else place.host, None)
            found.append(ServerAddress(host, port or place.port))
    return list(dict.fromkeys(found))


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_unspecified
    except ValueError:
        return False


def with_pins(address: ServerAddress, digests: Sequence[bytes]) -> ServerAddress:
    """The address with its pins."""
    return address._replace(pins=tuple(pin(digest) for digest in digests))


def own_name() -> str:
    """This machine's own name."""
    return socket.gethostname()


def show(addresses: Iterable[ServerAddress], environment: Mapping[str, str]) -> None:
    """Log the address to give to clients; at a terminal, show it as a QR code too."""
    for address in addresses:
        log.info("clients connect to %s", address)
        if sys.stderr.isatty():
            lines = qr_lines(address.link)
            shown = painted(lines) if takes_colours(dict(environment)) else lines
            sys.stderr.write("".join([f"{line}\n" for line in shown]))
