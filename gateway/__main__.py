"""The gateway's composition root: arguments, signals, wiring.

Owns: the process. Promises: exit code 0 after an orderly stop, 78 where a restart won't help, and
one clear last line for each failure. SIGTERM and SIGINT end it within 5 seconds: mail whose
delivery ended cleanly is settled, the rest is pending again.
Exposure: the operator's arguments and files.
"""

import argparse
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from common import server_packages  # noqa: F401 - ends the program where they are missing
from common.data_folder import data_folder
from common.errors import InfoFileError, SettingRejected
from common.info_files import DEFAULT_PORT, read_port
from common.metrics import metrics_text
from common.process_limits import forbid_core_dumps, raise_open_files
from common.server_log import begin_log, fields
from common.service_manager import ServiceManager
from common.status_server import StatusServer, ask_health, text_page
from gateway.addresses import Place, addresses_of, all_places, own_name, show, with_pins
from gateway.certificate import Pins, current, keep_addresses, server_context
from gateway.connection.context import SessionContext
from gateway.connection.tls_transport import ServerTls
from gateway.errors import GatewaySuperseded, SlotInUse, WrongWorker
from gateway.event_loop import EventLoop, SignalReceiver
from gateway.handed_over import handed_over
from gateway.health import Health
from gateway.listener import Listener, is_reached_by_others, open_listeners
from gateway.metrics import series_of
from gateway.options import (
    OWN_FILES,
    checked,
    connections_that_fit,
    has_default_place,
    parse,
    settings_of,
    targets,
)
from gateway.orders import Orders
from gateway.slot_lock import gateway_lock
from gateway.storage.link import StorageLink
from gateway.storage.mail_waiters import MailWaiters
from gateway.storage.shard_links import ShardLinks, Target

log = logging.getLogger("gateway")

EXIT_DONT_RESTART: Final = 78
_LAST_WORDS_TIME: Final = 0.5


def port_of(path: Path) -> int:
    """The port that a file names, or the published one, with a warning."""
    try:
        return read_port(path)
    except InfoFileError as error:
        log.warning("%s; using port %d", error, DEFAULT_PORT)
        return DEFAULT_PORT


def _stop_in_order(
    loop: EventLoop, context: SessionContext, link: StorageLink | ShardLinks, listeners: list[Listener]
) -> None:
    """Answer open requests, settle deliveries that ended cleanly, and release the rest, within a
    bounded time.
    """
    for listener in listeners:
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
    """Serve until a signal comes. Raises `SettingRejected`, `SlotInUse`, `GatewaySuperseded` and
    `WrongWorker`.
    """
    checked(options)
    service_manager = ServiceManager.named_in(os.environ, os.getpid(), time.monotonic)
    environment = dict(os.environ)
    if options.data_folder is not None:
        environment["MESSAGEU_DATA"] = str(options.data_folder)
    folder = data_folder(environment, Path.cwd())
    # Before it listens: that the port is taken, too, is only what follows from the other one.
    with gateway_lock(folder, options.slot):
        serve(options, folder, service_manager)


def say_where(place: Place, *, is_open: bool) -> None:
    """Log where the gateway listens. `is_open`: whether other machines reach it."""
    log.info(
        "listening on %s%s",
        place,
        ", TLS" if place.tls else "",
        extra=fields(address=str(place), transport="tls" if place.tls else "tcp"),
    )
    if is_open and not place.tls:
        log.warning(
            (
                "other machines can reach %s without TLS: anybody on the way sees who writes to whom, and can"
                " alter it; docs/security.md says what to put in front of it"
            ),
            place.host,
        )


def _begin_tls(folder: Path) -> tuple[ServerTls, Pins]:
    """The TLS context for handshakes. Raises `SettingRejected`."""
    used = current(folder, datetime.now(UTC))
    return ServerTls(server_context(used), used.digest), Pins(folder, used)


def _link_to(workers: list[Target], loop: EventLoop, slot: int, waiters: MailWaiters) -> StorageLink | ShardLinks:
    def new_incarnation() -> bytes:
        return os.urandom(16)

    if len(workers) > 1:
        return ShardLinks(loop, workers, slot, new_incarnation, waiters)
    [(endpoint, keys)] = workers
    return StorageLink(loop, endpoint, slot, new_incarnation, waiters, keys)


def serve(options: argparse.Namespace, folder: Path, service_manager: ServiceManager) -> None:
    """Listen, and serve until a signal comes."""
    workers = targets(options, folder)
    connections = connections_that_fit(options.connections, raise_open_files(options.connections + OWN_FILES))
    settings = settings_of(options, connections)
    port: int | None = None
    if has_default_place(options):
        port = port_of(options.port_file) if options.port is None else options.port
    listening = open_listeners(
        all_places(options, port),
        allow_plain=options.allow_plain,
        handed_over=handed_over(os.environ, os.getpid()),
    )
    with_tls = any(place.tls for place, _sock in listening)
    tls, pins = _begin_tls(folder) if with_tls else (None, tuple)
    loop = EventLoop(time.monotonic)
    signals = SignalReceiver(loop)
    context = SessionContext(
        loop,
        lambda waiters: _link_to(workers, loop, options.slot, waiters),
        settings,
        os.urandom,
    )
    context.certificates = pins
    link = context.link
    Orders(loop, link)
    listeners = [Listener(sock, context, tls if place.tls else None, place.proxies) for place, sock in listening]
    health = Health(loop, link, service_manager.beat)
    status = None
    if options.metrics is not None:
        pages = {**health.pages(), "/metrics": text_page(metrics_text(series_of(context)))}
        status = StatusServer(options.metrics, pages)
    for place, sock in listening:
        say_where(place, is_open=is_reached_by_others(sock))
    if with_tls:
        addresses = addresses_of([place for place, _sock in listening], options.public_address, own_name())
        keep_addresses(folder, [address.place for address in addresses])
        show([with_pins(address, pins()) for address in addresses], os.environ)
    service_manager.ready()
    try:
        loop.run()
        service_manager.stopping()
        connected = len(context.sessions)
        log.info("stopping, %d connections open", connected, extra=fields(connections=connected))
        _stop_in_order(loop, context, link, listeners)
    finally:
        if status is not None:
            status.close()
        link.close()
        signals.close()


def main(argv: list[str] | None = None) -> int:
    """Run the gateway; the process's exit code."""
    options = parse(argv)
    if options.health:
        is_ready, sentence = ask_health(options)
        sys.stdout.write(f"{sentence}\n")
        return int(not is_ready)
    begin_log(options.log_level, os.environ, options.log_format)
    forbid_core_dumps()
    try:
        run(options)
    except (SettingRejected, SlotInUse, GatewaySuperseded, WrongWorker) as error:
        log.error("the gateway ends: %s", error)
        return EXIT_DONT_RESTART
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
