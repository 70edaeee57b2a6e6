"""The gateway's command line, and which options it can serve with.

Owns: the options and their bounds; how many connections fit under the limit of open files.
Promises: the gateway can serve with what `checked` accepts; anything else is refused before
anything is opened, with a sentence that names the option.
Exposure: whoever starts the gateway.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.client_protocol.responses import LARGEST_CONTENT
from common.data_folder import link_endpoint
from common.errors import SettingRejected, ValueRejected
from common.info_files import DEFAULT_PORT
from common.link_address import LinkAddress, parse_link
from common.link_keys import GATEWAY, LinkKeys, load
from common.options import SIZES, Bound, add_log_format, check_bounds, fitting, folder_path, number, size
from common.shards import NUMBERS_OF_SHARDS
from common.status_server import add_status_options
from common.version import VERSION
from gateway.addresses import ProxiesOfPlace, network, plain_place, public_address, tls_place
from gateway.settings import Limited, Rate, Settings
from gateway.storage.shard_links import Target

OWN_FILES: Final = 64
"""What the gateway has open besides its connections, with room to spare."""
_MOST_CONNECTIONS: Final = 1_000_000
_LAST_SLOT: Final = 0xFFFF
_LAST_PORT: Final = 0xFFFF
_LONGEST_HOST: Final = 253
_STATUS_PORT: Final = 9357
_DEFAULT_HOST: Final = "127.0.0.1"
_RATE: Final = re.compile(r"([0-9]{1,12}[KMGT]?)\+([0-9]{1,12}[KMGT]?)/([0-9]{0,6})s", re.IGNORECASE)
_LIMITS: Final = "Limits: 6+1/30s is 6 at once, and 1 more every 30 seconds."


def rate(text: str) -> Rate:
    """For argparse: how much is allowed at once, and how much more in how many seconds."""
    found = _RATE.fullmatch(text)
    given = Rate(0, 0, 0) if found is None else Rate(size(found[1]), size(found[2]), int(found[3] or 1))
    if not all(given):
        raise argparse.ArgumentTypeError(f"{text!r} is not a limit, such as 60+1/s or 6+1/30s")
    return given


def worker_address(text: str) -> LinkAddress | Path:
    """For argparse: where a storage worker takes gateways of other machines, or the data folder of
    one on this machine.
    """
    if "://" not in text:
        return folder_path(text)
    try:
        return parse_link(text)
    except ValueRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def targets(options: argparse.Namespace, folder: Path) -> list[Target]:
    """The workers, in the order of their shards. Raises `SettingRejected`."""
    return [_target(address, folder) for address in options.workers or [folder]]


def _target(address: LinkAddress | Path, folder: Path) -> Target:
    if isinstance(address, Path):
        if not address.is_dir():
            raise SettingRejected(f"--worker {address} is no folder: start the worker of that data folder first")
        return Target(link_endpoint(address.resolve()))
    if address.key is None:
        if not address.is_of_this_machine:
            raise SettingRejected(
                f"--worker {address.endpoint} is on another machine and names no key: somebody on the way could read "
                "and alter everything. It is tcp://KEY@HOST:PORT; on that machine `messageu-admin link-key worker` "
                "shows the key"
            )
        return Target(address.endpoint)
    own = load(folder, GATEWAY)
    if own is None:
        raise SettingRejected(
            f"--worker {address.endpoint} names the worker's key, and this gateway has none: `messageu-admin link-key "
            "gateway` makes one"
        )
    return Target(address.endpoint, LinkKeys(address.key, own))


def shown_rate(rate: Rate) -> str:
    """A rate as `rate` reads it."""
    return f"{rate.burst}+{rate.amount}/{rate.seconds if rate.seconds > 1 else ''}s"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. Ends the program with code 2 if an option is unknown, or is not a
    number where one is needed.
    """
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="messageu-gateway",
        description="The TCP side of a MessageU server; needs a storage worker beside it.",
        allow_abbrev=False,
        epilog=f"{SIZES} {_LIMITS}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument(
        "--host", default=_DEFAULT_HOST, help="address to listen on, plain TCP (default: %(default)s); see --listen"
    )
    ports = parser.add_mutually_exclusive_group()
    ports.add_argument(
        "--port",
        type=number,
        metavar="N",
        help=(
            "port to listen on, instead of reading --port-file (default: the port in --port-file). The "
            "clients' server.info names the same port"
        ),
    )
    ports.add_argument(
        "--port-file",
        type=Path,
        default=Path("myport.info"),
        metavar="PATH",
        help="file that holds the port (default: %(default)s); not together with --port",
    )
    parser.add_argument(
        "--tls-listen",
        dest="places",
        action="append",
        type=tls_place,
        metavar="HOST:PORT",
        help=(
            "listen for TLS at this address, in addition to plain TCP at --host and --port; may be repeated. "
            "The log shows the address for clients, with the certificate's pin"
        ),
    )
    parser.add_argument(
        "--listen",
        dest="places",
        action="append",
        type=plain_place,
        metavar="HOST:PORT",
        help="listen for plain TCP at this address, instead of --host and --port; may be repeated",
    )
    parser.add_argument(
        "--no-plain",
        action="store_true",
        help="listen for TLS only: not at --host and --port; not together with --listen",
    )
    parser.add_argument(
        "--allow-plain",
        action="store_true",
        help="allow a plain address that other machines can reach, for when something in front of it encrypts",
    )
    parser.add_argument(
        "--proxy-protocol-from",
        action=ProxiesOfPlace,
        type=network,
        metavar="ADDRESS[/BITS]",
        help=(
            "connections from this address begin with a PROXY protocol header, version 2; others do not. "
            "Applies to the listener named before it"
        ),
    )
    parser.add_argument(
        "--public-address",
        type=public_address,
        metavar="HOST[:PORT]",
        help=(
            "the address that clients connect to, if it differs from --tls-listen's (default: that one; if it"
            " listens on every address of the machine, the machine's name)"
        ),
    )
    parser.add_argument(
        "--data-folder", type=folder_path, help="the server's data folder (default: $MESSAGEU_DATA or data/)"
    )
    parser.add_argument(
        "--worker",
        dest="workers",
        action="append",
        metavar="ADDRESS",
        type=worker_address,
        help="a storage worker: its data folder on this machine, or tcp://KEY@HOST:PORT on another one, by the keys of "
        "`messageu-admin link-key`. Repeated, for the shards of a store in their order (default: the worker of this "
        "gateway's data folder)",
    )
    parser.add_argument("--slot", type=number, default=0, help="this gateway's slot at the worker (default: 0)")
    parser.add_argument(
        "--largest-message", type=size, default=defaults.largest_content, metavar="SIZE", help="default: 1G"
    )
    parser.add_argument(
        "--connections",
        type=number,
        default=defaults.connections,
        help="most open connections (default: %(default)s)",
    )
    _add_limits(parser, defaults)
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: %(default)s"
    )
    add_log_format(parser)
    add_status_options(parser, _STATUS_PORT)
    parser.set_defaults(default_proxies=())
    return parser.parse_args(arguments)


def _add_limits(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    parser.add_argument(
        "--limits",
        type=Limited,
        choices=tuple(Limited),
        default=defaults.limited,
        help=(
            "which clients the limits below apply to: auto: those on other machines; on: those on this "
            "machine too; off: none (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--limit-connections",
        type=number,
        default=defaults.limit_connections,
        metavar="N",
        help="open connections of one address (default: %(default)s)",
    )
    for option, default, what in (
        ("--limit-handshakes", defaults.limit_handshakes, "TLS handshakes of one address"),
        ("--limit-registrations", defaults.limit_registrations, "registrations from one address"),
        ("--limit-messages", defaults.limit_messages, "messages of one user, or of one address without a proof"),
        ("--limit-bytes", defaults.limit_bytes, "the same, bytes of contents above 64K"),
        ("--limit-requests", defaults.limit_requests, "the same, other requests; 1M of an answer counts as one more"),
        ("--limit-claims", defaults.limit_claims, "one-time keys that one user gets of others"),
        ("--limit-claimed", defaults.limit_claimed, "one-time keys that others get of one user's"),
    ):
        parser.add_argument(
            option, type=rate, default=default, metavar="LIMIT", help=f"{what} (default: {shown_rate(default)})"
        )


def settings_of(options: argparse.Namespace, connections: int) -> Settings:
    """The chosen settings, with as many connections as fit."""
    return Settings(
        largest_content=options.largest_message,
        connections=connections,
        limited=options.limits,
        limit_connections=options.limit_connections,
        limit_handshakes=options.limit_handshakes,
        limit_registrations=options.limit_registrations,
        limit_messages=options.limit_messages,
        limit_bytes=options.limit_bytes,
        limit_requests=options.limit_requests,
        limit_claims=options.limit_claims,
        limit_claimed=options.limit_claimed,
    )


def checked(options: argparse.Namespace) -> None:
    """Raise `SettingRejected` where the gateway could not serve with these options."""
    check_bounds(
        (
            Bound("--largest-message", options.largest_message, 1, LARGEST_CONTENT),
            Bound("--connections", options.connections, 1, _MOST_CONNECTIONS),
            Bound("--limit-connections", options.limit_connections, 1, _MOST_CONNECTIONS),
            Bound("--slot", options.slot, 0, _LAST_SLOT),
            Bound("--port", DEFAULT_PORT if options.port is None else options.port, 1, _LAST_PORT),
        )
    )
    if options.no_plain and (not options.places or any(not place.tls for place in options.places)):
        raise SettingRejected("--no-plain needs --tls-listen, and does not go with --listen")
    if not has_default_place(options) and (
        options.host != _DEFAULT_HOST or options.port is not None or options.default_proxies
    ):
        raise SettingRejected("--listen and --no-plain do not go with --host and --port")
    if options.workers is not None and len(options.workers) not in NUMBERS_OF_SHARDS:
        raise SettingRejected(
            f"--worker is given {len(options.workers)} times: the number of shards is a power of two up to "
            f"{NUMBERS_OF_SHARDS[-1]}"
        )
    if not _is_host(options.host):
        raise SettingRejected(f"--host {options.host!r} is neither an address nor a name")


def has_default_place(options: argparse.Namespace) -> bool:
    """Whether the gateway also listens at --host and --port."""
    return not options.no_plain and all(place.tls for place in options.places or ())


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
