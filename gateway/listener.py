"""Accepting connections.

Owns: one listening socket. Promises: every connection becomes one Session, over plain TCP or TLS;
if it comes from a proxy that the options name, once the proxy has named its client. One beyond the
share of its address (`gateway.limits`) is closed, with a line in the log that has no address and a
limited rate. Past `Settings.connections`, or without free descriptors, another one is closed to
make room (`gateway.connection.capacity`); if none may be, new ones wait in the kernel's queue.
Exposure: anybody who reaches the address.
"""

import errno
import ipaddress
import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from common.errors import SettingRejected
from common.rare_log import RareLog
from gateway.addresses import Network, Place
from gateway.audit import limit_refused
from gateway.connection.context import SessionContext
from gateway.connection.openings import network_of
from gateway.connection.proxy_header import ProxyHeader
from gateway.connection.session import Session
from gateway.connection.sharded_session import ShardedSession
from gateway.connection.tls_transport import ServerTls, TlsTransport
from gateway.connection.transport import TcpTransport
from gateway.event_loop import READABLE
from gateway.settings import Limited
from gateway.spare_descriptor import SpareDescriptor
from gateway.storage.shard_links import ShardLinks

log = logging.getLogger("gateway.listener")
_rarely: Final = RareLog(log)

_BACKLOG: Final = 1024
_ACCEPT_AT_ONCE: Final = 16
_TRY_AGAIN_AFTER: Final = 0.5
_SAY_AGAIN_AFTER: Final = 60.0
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
_USER_TIMEOUT_MS: Final = 120_000


def open_listener(
    host: str, port: int, *, loopback_only: bool = False, handed_over: list[socket.socket] | None = None
) -> socket.socket:
    """A listening TCP socket. Accepted connections inherit its options on Linux. If one of
    `handed_over` listens at this address already, it is removed from that list and used.

    `::` accepts connections to every IPv4 address too. Raises `SettingRejected` if the address
    can't be used, and, with `loopback_only`, if other machines could reach it.
    """
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = _taken_out(handed_over or [], family, address)
        listener = found or socket.socket(family, kind, protocol)
        try:
            if found is None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                listener.bind(address)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            if loopback_only and is_reached_by_others(listener):
                raise _reached_in_plain(host, port)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except (OSError, SettingRejected):
            listener.close()
            raise
    except OSError as error:
        raise SettingRejected(f"can't listen on {shown(host, port)}: {error.strerror}") from error
    return listener


def _taken_out(
    handed_over: list[socket.socket], family: socket.AddressFamily, address: tuple[object, ...]
) -> socket.socket | None:
    """Remove and return the one that listens at this address."""
    for number, sock in enumerate(handed_over):
        if sock.family == family and sock.getsockname()[:2] == address[:2]:
            return handed_over.pop(number)
    return None


def open_listeners(
    places: Iterable[Place], *, allow_plain: bool, handed_over: Iterable[socket.socket] = ()
) -> list[tuple[Place, socket.socket]]:
    """Open all listeners, or none. `allow_plain`: other machines may reach those without TLS.
    `handed_over`: sockets that listen already; each has to be at one of the places.

    Raises `SettingRejected`.
    """
    left = list(handed_over)
    opened: list[tuple[Place, socket.socket]] = []
    try:
        for place in places:
            loopback_only = not (place.tls or allow_plain)
            sock = open_listener(place.host, place.port, loopback_only=loopback_only, handed_over=left)
            opened.append((place, sock))
        if left:
            at = ", ".join(shown(*sock.getsockname()[:2]) for sock in left)
            raise SettingRejected(f"the service manager hands over {at}, where no option says to listen")
    except SettingRejected:
        for sock in (*left, *(sock for _place, sock in opened)):
            sock.close()
        raise
    return opened


def _reached_in_plain(host: str, port: int) -> SettingRejected:
    place = shown(host, port)
    return SettingRejected(
        f"other machines would reach {place} without TLS: `--tls-listen {place}` encrypts; `--allow-plain` "
        "permits it, for when something in front encrypts"
    )


def shown(host: str, port: int) -> str:
    """An address as in `server.info`: IPv6 is written in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_reached_by_others(listener: socket.socket) -> bool:
    """Whether it listens beyond this machine's loopback."""
    return not _address(listener.getsockname()[0]).is_loopback


def _address(numeric: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as a value; an IPv4-mapped IPv6 address becomes IPv4."""
    # A scope, as in fe80::1%eth0, is not part of the address.
    address = ipaddress.ip_address(numeric.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Listener:
    """A `Handler` of the loop. `tls`: what to present in a handshake; without it, plain TCP.
    `proxies`: addresses that have to name their client first, by the PROXY protocol; all others are
    clients themselves.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: SessionContext,
        tls: ServerTls | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._sock = sock
        self._context = context
        self._tls = tls
        self._proxies = proxies
        self._opens_slowly = tls is not None or bool(proxies)
        self._open = True
        self._spare = SpareDescriptor()
        self._say_again_at = 0.0
        context.loop.register(sock.fileno(), self, READABLE)

    def ready(self, events: int) -> None:
        """Connections wait to be accepted."""
        places = self._context.places
        for number in range(_ACCEPT_AT_ONCE):
            if number and places.crowded:
                # Whether another one waits the loop tells, and nobody goes for one that does not.
                return
            if not places.has_one():
                self._rest(f"the limit of {self._context.settings.connections} connections is reached")
                return
            if self._opens_slowly and not self._context.openings.has_room():
                self._pause()
                return
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # Others concern the connection that came, which has failed already, or this machine
                # for a while: accept(2) names many, and none of them ends those that are there.
                if error.errno in _NO_ROOM and self._accept_without_descriptors():
                    continue
                self._rest(f"can't accept connections ({error.strerror})")
                return
            self._came(sock, address[0])

    def _accept_without_descriptors(self) -> bool:
        """Close an idle connection for the one that waits, unless that one is refused. Returns
        whether there is one that may be closed.
        """
        places = self._context.places
        if not places.can_free_one():
            return False
        with self._spare.lent():
            try:
                sock, address = self._sock.accept()
            except OSError:
                # It was not for want of a descriptor of this process.
                return places.free_one()
            self._came(sock, address[0], frees_one=True)
        return True

    def _came(self, sock: socket.socket, peer: str, *, frees_one: bool = False) -> None:
        self._context.counts.accepted += 1
        if self._proxies and self._is_proxy(peer):
            # It takes a place once it is known whose it is.
            self._make_room(frees_one=frees_one)
            self._wait_for_header(sock, peer)
        else:
            self._begin(sock, peer, frees_one=frees_one)

    def _make_room(self, *, frees_one: bool) -> None:
        """Close others if one more needs room. `frees_one`: for its descriptor."""
        if frees_one:
            self._context.places.free_one()
        if self._opens_slowly:
            self._context.openings.make_room()

    def _is_proxy(self, peer: str) -> bool:
        address = _address(peer)
        return any(address in network for network in self._proxies)

    def _wait_for_header(self, sock: socket.socket, peer: str) -> None:
        context = self._context
        ProxyHeader(
            sock,
            context.loop,
            context.openings,
            network_of(peer),
            lambda same, client: self._begin(same, client or peer),
        )

    def _begin(self, sock: socket.socket, client: str, *, frees_one: bool = False) -> None:
        """A client at the address `client` is connected."""
        if not self._open:
            sock.close()
            return
        context = self._context
        allowance = None
        if self._is_limited(client):
            with_handshake = self._tls is not None
            allowance = context.rates.connected(network_of(client), context.loop.now, with_handshake=with_handshake)
            if allowance is None:
                context.counts.limited += 1
                limit_refused("connections", None, 1)
                _rarely.write(
                    logging.WARNING, "a connection is closed: its address has too many, or opens them too fast"
                )
                sock.close()
                return
        # Not before: who is refused costs nobody a connection.
        self._make_room(frees_one=frees_one)
        if not context.places.make_one():
            # It came through a proxy, and the last place was taken while it said who it is.
            context.counts.no_place += 1
            if allowance is not None:
                allowance.ended()
            sock.close()
            return
        if self._tls is None:
            transport = TcpTransport(sock, context.loop)
        else:
            transport = TlsTransport(sock, context.loop, self._tls, context.openings, network_of(client))
        link = context.link
        if isinstance(link, ShardLinks):
            context.places.taken(ShardedSession(transport, context, link, allowance))
        else:
            context.places.taken(Session(transport, context, allowance))

    def _is_limited(self, client: str) -> bool:
        match self._context.settings.limited:
            case Limited.NOBODY:
                return False
            case Limited.OTHER_MACHINES:
                return not _address(client).is_loopback
            case Limited.EVERYBODY:
                return True

    def _rest(self, reason: str) -> None:
        now = self._context.loop.now
        if now >= self._say_again_at:
            self._say_again_at = now + _SAY_AGAIN_AFTER
            log.warning("%s; new connections wait", reason)
        self._context.when_a_place_is_free(self._resume)
        self._wait()

    def _pause(self) -> None:
        """Accept no more for now: enough are being opened."""
        self._context.openings.when_there_is_room(self._resume)
        self._wait()

    def _wait(self) -> None:
        self._context.counts.no_place += 1
        self._context.loop.modify(self._sock.fileno(), 0)
        self._context.loop.call_at(self._context.loop.now + _TRY_AGAIN_AFTER, self._resume)

    def _resume(self) -> None:
        if self._open:
            self._context.loop.modify(self._sock.fileno(), READABLE)

    def close(self) -> None:
        """Accept nothing more."""
        if self._open:
            self._open = False
            self._context.loop.unregister(self._sock.fileno())
            self._sock.close()
            self._spare.close()
