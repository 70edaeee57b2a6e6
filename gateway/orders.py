"""Orders that an operator gives the gateway through the storage worker: another log level, or to
drain.

Owns: how each is obeyed. Promises: draining is what SIGTERM does: open requests are answered within
the time that a stop has, and the program ends with code 0. A repeated order changes nothing.
Exposure: the storage worker, which passes on orders from anyone who may use its socket.

Source: docs/storage-protocol.md, "Administration".
"""

import logging

from common.storage_protocol.frames import Drain, LogLevel
from gateway.event_loop import EventLoop
from gateway.storage.link import StorageLink
from gateway.storage.shard_links import ShardLinks

log = logging.getLogger("gateway.orders")


class Orders:
    """Obeys the orders that `link` has received, at the end of each turn of `loop`."""

    def __init__(self, loop: EventLoop, link: StorageLink | ShardLinks) -> None:
        self._loop = loop
        self._link = link
        self._stops = False
        loop.at_turn_end(self.obey)

    def obey(self) -> None:
        """Obey the orders that came since the last turn."""
        orders = self._link.orders
        if not orders:
            return
        for order in orders:
            match order:
                case LogLevel(level):
                    logging.getLogger().setLevel(level.upper())
                    log.log(logging.getLogger().level, "the log level is %s now", level)
                case Drain():
                    if not self._stops:
                        log.info("draining, as the operator asked")
                    self._stops = True
                    self._loop.stop()
        orders.clear()
