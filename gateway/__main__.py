"""The gateway's composition root: arguments, signals, wiring.

Owns: the process. Promises: exit code 0 after an orderly stop, 78 where starting again won't help, each failure
with one clear last line. SIGTERM and SIGINT end it within 5 seconds: mail whose delivery ended cleanly is settled,
the rest waits again.
Exposure: the operator's arguments and files.
"""

import argparse
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Final

from common.data_folder import data_folder, gateway_lock, link_endpoint
from common.errors import GatewaySuperseded, InfoFileError, SettingRejected, SlotInUse
from common.info_files import DEFAULT_PORT, read_port
from common.version import VERSION
from common.wire.fields import LARGEST_CONTENT
from gateway.listener import Listener, open_listener
from gateway.loop import EventLoop, SignalDoor
from gateway.session_context import SessionContext
from gateway.settings import Settings
from gateway.storage_link import StorageLink

log = logging.getLogger("gateway")

EXIT_DONT_RESTART: Final = 78
_SPARE_DESCRIPTORS: Final = 64
_LAST_WORDS_TIME: Final = 0.5


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="messageu-gateway", description="The TCP side of a MessageU server; needs a storage worker beside it."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port-file", type=Path, default=Path("myport.info"), help="file that holds the port (default: %(default)s)"
    )
    parser.add_argument("--data-folder", type=Path, help="the server's data folder (default: $MESSAGEU_DATA or data/)")
    parser.add_argument("--slot", type=int, default=0, help="this gateway's slot at the worker (default: 0)")
    parser.add_argument(
        "--largest-message", type=int, default=defaults.largest_content, metavar="BYTES", help="default: %(default)s"
    )
    parser.add_argument(
        "--connections", type=int, default=defaults.connections, help="open connections at most (default: %(default)s)"
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: %(default)s"
    )
    return parser.parse_args(argv)


def _port(path: Path) -> int:
    try:
        return read_port(path)
    except InfoFileError as error:
        log.warning("%s; using port %d", error, DEFAULT_PORT)
        return DEFAULT_PORT


def _room_for_connections(wanted: int) -> int:
    """Raise the limit of open descriptors as far as allowed; the connections that fit under it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + _SPARE_DESCRIPTORS
    limit = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < enough:
        log.warning("the system allows %d open files: at most %d connections", limit, limit - _SPARE_DESCRIPTORS)
    return min(wanted, limit - _SPARE_DESCRIPTORS)


def _stop_in_order(loop: EventLoop, context: SessionContext, link: StorageLink, listener: Listener) -> None:
    """Answer what was asked, settle what ended cleanly, release the rest; bounded in time."""
    listener.close()
    for session in list(context.sessions):
        session.stop()
    deadline = time.monotonic() + context.settings.stop_time
    while (context.sessions or not link.idle) and time.monotonic() < deadline:
        loop.turn(max(0.0, deadline - time.monotonic()))
    for session in list(context.sessions):
        session.break_off()
    deadline = time.monotonic() + _LAST_WORDS_TIME
    link.pump()
    while not link.idle and time.monotonic() < deadline:
        loop.turn(max(0.0, deadline - time.monotonic()))


def run(options: argparse.Namespace) -> None:
    """Serve until a signal comes. Raises `SettingRejected`, `SlotInUse`, `GatewaySuperseded`."""
    if not 1 <= options.largest_message <= LARGEST_CONTENT:
        raise SettingRejected(f"--largest-message is 1 to {LARGEST_CONTENT} bytes")
    if not 0 <= options.slot <= 0xFFFF:
        raise SettingRejected("--slot is 0 to 65535")
    environment = dict(os.environ)
    if options.data_folder is not None:
        environment["MESSAGEU_DATA"] = str(options.data_folder)
    folder = data_folder(environment, Path.cwd())
    # Before it listens: that the port is taken, too, is only what follows from the other one.
    with gateway_lock(folder, options.slot):
        _serve(options, link_endpoint(folder))


def _serve(options: argparse.Namespace, endpoint: str) -> None:
    connections = _room_for_connections(options.connections)
    settings = Settings(largest_content=options.largest_message, connections=connections)
    port = _port(options.port_file)
    listening = open_listener(options.host, port)
    loop = EventLoop(time.monotonic)
    SignalDoor(loop)
    link = StorageLink(loop, endpoint, options.slot, lambda: os.urandom(16))
    context = SessionContext(loop, link, settings, os.urandom)
    listener = Listener(listening, context)
    log.info("listening on %s:%d", options.host, port)
    try:
        loop.run()
        log.info("stopping, %d connections open", len(context.sessions))
        _stop_in_order(loop, context, link, listener)
    finally:
        link.close()


def main(argv: list[str] | None = None) -> int:
    """Run the gateway; the process's exit code."""
    options = _arguments(argv)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        run(options)
    except (SettingRejected, SlotInUse, GatewaySuperseded) as error:
        log.error("the gateway ends: %s", error)
        return EXIT_DONT_RESTART
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
