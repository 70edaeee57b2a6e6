"""The gateway's composition root: arguments, signals, wiring.

Owns: the process. Promises: exit code 0 after an orderly stop, 78 where starting again won't help,
each failure with one clear last line. SIGTERM and SIGINT end it within 5 seconds: mail whose
delivery ended cleanly is settled, the rest waits again.
Exposure: the operator's arguments and files.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from common import server_packages  # noqa: F401 - ends the program where they are missing
from common.data_folder import data_folder, link_endpoint
from common.errors import InfoFileError, SettingRejected
from common.info_files import DEFAULT_PORT, read_port
from common.process_limits import forbid_core_dumps, raise_open_files
from common.server_log import begin_log
from gateway.connection.context import SessionContext
from gateway.errors import GatewaySuperseded, SlotInUse
from gateway.event_loop import EventLoop, SignalReceiver
from gateway.listener import Listener, is_reached_by_others, open_listener, shown
from gateway.options import OWN_FILES, checked, connections_that_fit, parse
from gateway.settings import Settings
from gateway.slot_lock import gateway_lock
from gateway.storage.link import StorageLink

log = logging.getLogger("gateway")

EXIT_DONT_RESTART: Final = 78
_LAST_WORDS_TIME: Final = 0.5


def _port(path: Path) -> int:
    try:
        return read_port(path)
    except InfoFileError as error:
        log.warning("%s; using port %d", error, DEFAULT_PORT)
        return DEFAULT_PORT


def _stop_in_order(loop: EventLoop, context: SessionContext, link: StorageLink, listener: Listener) -> None:
    """Answer what was asked, settle what ended cleanly, release the rest; bounded in time."""
    listener.close()
    for session in list(context.sessions):
        session.stop()
    deadline = time.monotonic() + context.settings.stop_time
    while (context.sessions or not link.idle) and time.monotonic() < deadline:
        loop.turn(max(0.0, deadline - time.monotonic()))
    for session in list(context.sessions):
        session.abort()
    deadline = time.monotonic() + _LAST_WORDS_TIME
    link.resume_output()
    while not link.idle and time.monotonic() < deadline:
        loop.turn(max(0.0, deadline - time.monotonic()))


def run(options: argparse.Namespace) -> None:
    """Serve until a signal comes. Raises `SettingRejected`, `SlotInUse`, `GatewaySuperseded`."""
    checked(options)
    environment = dict(os.environ)
    if options.data_folder is not None:
        environment["MESSAGEU_DATA"] = str(options.data_folder)
    folder = data_folder(environment, Path.cwd())
    # Before it listens: that the port is taken, too, is only what follows from the other one.
    with gateway_lock(folder, options.slot):
        _serve(options, link_endpoint(folder))


def _say_where(host: str, port: int, *, is_open: bool) -> None:
    log.info("listening on %s", shown(host, port))
    if is_open:
        log.warning(
            "other machines reach %s, and there is no TLS: anybody between sees who writes to whom and can alter it; "
            "docs/security.md says what to put in front",
            host,
        )


def _serve(options: argparse.Namespace, endpoint: str) -> None:
    connections = connections_that_fit(options.connections, raise_open_files(options.connections + OWN_FILES))
    settings = Settings(largest_content=options.largest_message, connections=connections)
    port: int = _port(options.port_file) if options.port is None else options.port
    listening = open_listener(options.host, port)
    loop = EventLoop(time.monotonic)
    SignalReceiver(loop)
    context = SessionContext(
        loop,
        lambda listener: StorageLink(loop, endpoint, options.slot, lambda: os.urandom(16), listener),
        settings,
        os.urandom,
    )
    link = context.link
    listener = Listener(listening, context)
    _say_where(options.host, port, is_open=is_reached_by_others(listening))
    try:
        loop.run()
        log.info("stopping, %d connections open", len(context.sessions))
        _stop_in_order(loop, context, link, listener)
    finally:
        link.close()


def main(argv: list[str] | None = None) -> int:
    """Run the gateway; the process's exit code."""
    options = parse(argv)
    begin_log(options.log_level, os.environ)
    forbid_core_dumps()
    try:
        run(options)
    except (SettingRejected, SlotInUse, GatewaySuperseded) as error:
        log.error("the gateway ends: %s", error)
        return EXIT_DONT_RESTART
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
