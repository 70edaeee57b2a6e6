"""The storage link over TCP, for gateways on other machines: who may connect.

Owns: the bind at a TCP address, its CURVE options, and the answers to ZeroMQ's question whether a
key is allowed.
Promises: with keys, nothing of a connection whose key is not allowed reaches the worker, and a line
of the log says why; the list is looked at again for each connection. Without keys only an address
of this machine's loopback is bound. What was bound before stays as it was.
Exposure: whoever reaches the port. A stranger costs a handshake, which ZeroMQ's thread does.

Source: RFC 26/CURVEZMQ and RFC 27/ZAP (rfc.zeromq.org);
docs/security.md, "The link between machines".
"""

import logging
from collections.abc import Callable, Collection
from typing import Final

import zmq
from zmq.utils import z85

from common.errors import SettingRejected
from common.link_address import LinkAddress, key_text
from common.link_keys import KeyPair
from common.rare_log import RareLog

log = logging.getLogger("storage_worker")
rarely: Final = RareLog(log)

_ZAP: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"messageu-link"
_FAILURES: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_HANDSHAKE_MS: Final = 5_000
HEARTBEAT_MS: Final = 3_000
"""How often a side asks whether the other one is there: a machine that is cut off sends nothing."""
GONE_AFTER_MS: Final = 10_000
_ZAP_PARTS: Final = 7
"""Of a request about CURVE: version, number, domain, address, routing id, mechanism, key."""


def new_pair() -> KeyPair:
    """A new key pair, from libsodium's randomness. The text of its public key does not begin as an
    option of a command does.
    """
    while True:
        pair = KeyPair(*map(z85.decode, zmq.curve_keypair()))
        if not key_text(pair.public).startswith("-"):
            return pair


class TcpLink:
    """Binds `router` at `address` too. `keys`: the worker's pair, or None for none. `allowed` gives
    the gateways' public keys, or raises `SettingRejected`. Raises it too where the address can't be
    bound, or would be open to others without keys.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        router: "zmq.Socket[bytes]",
        address: LinkAddress,
        keys: KeyPair | None,
        allowed: Callable[[], Collection[bytes]],
    ) -> None:
        if keys is None and not address.is_of_this_machine:
            raise SettingRejected(
                f"--link {address.endpoint}: other machines could reach it, and this worker has no key to know them "
                "by. `messageu-admin link-key worker` makes one"
            )
        self._allowed = allowed
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._router = router
        self._monitor = router.get_monitor_socket(_FAILURES)
        self.sockets = (self._zap, self._monitor)
        """What to wait for; `look` serves them."""
        try:
            self._zap.bind(_ZAP)
            router.setsockopt(zmq.IPV6, int(":" in address.host))
            router.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
            router.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            router.setsockopt(zmq.HEARTBEAT_TIMEOUT, GONE_AFTER_MS)
            if keys is not None:
                router.setsockopt(zmq.CURVE_SERVER, 1)
                router.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
                router.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
            router.bind(address.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SettingRejected(f"--link {address.endpoint} can't be bound: {error}") from error

    def look(self) -> None:
        """Decide about those that connect, and log those that could not."""
        while self._zap.poll(0):
            self._zap.send_multipart(self._judged(self._zap.recv_multipart()))
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            # Either side may be the first that finds the other one wrong.
            rarely.write(
                logging.WARNING,
                "a connection to --link was refused: it knows another key of this worker, or none, or it broke off",
            )

    def _judged(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        is_curve = len(request) == _ZAP_PARTS and request[2] == _DOMAIN and request[5] == b"CURVE"
        try:
            is_allowed = is_curve and request[6] in self._allowed()
        except SettingRejected as error:
            rarely.write(logging.ERROR, "no gateway is let in: %s", error)
            is_allowed = False
        if is_allowed:
            name = key_text(request[6])
            log.info("a gateway connects over --link, key %s", name)
            return [b"1.0", number, b"200", b"OK", name.encode(), b""]
        rarely.write(
            logging.WARNING,
            "a connection to --link was refused: its key %s is not allowed; `messageu-admin link-key allow` allows one",
            key_text(request[6]) if is_curve else "of another kind",
        )
        return [b"1.0", number, b"400", b"the key is not allowed", b"", b""]

    def close(self) -> None:
        """Let go of its sockets; the router's own are its owner's."""
        self._router.disable_monitor()
        self._monitor.close(0)
        self._zap.close(0)
