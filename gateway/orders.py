"""What an operator asks of the gateway by way of the storage worker: another level of the log, or
to drain.

Owns: how each is obeyed. Promises: to drain is what SIGTERM does: what was asked is answered within
the time that a stop has, and the program ends with code 0. Hearing it again changes nothing.
Exposure: the storage worker, which passes on what whoever may use its socket asks.

Source: docs/storage-protocol.md, "Administration".
"""

import logging

from common.storage_protocol.frames import Drain, LogLevel
from gateway.event_loop import EventLoop
from gateway.storage.link import StorageLink

log = logging.getLogger("gateway.orders")


class Orders:
    """Obeys what `link` has heard, at the end of each turn of `loop`."""

    def __init__(self, loop: EventLoop, link: StorageLink) -> None:
        self._loop = loop
        self._link = link
        self._stops = False
        loop.at_turn_end(self.obey)

    def obey(self) -> None:
        """Do what came since the last turn."""
        orders = self._link.orders
        if not orders:
            return
        for order in orders:
            match order:
                case LogLevel(level):
                    logging.getLogger().setLevel(level.upper())
                    log.log(logging.getLogger().level, "the log begins with level %s now", level)
                case Drain():
                    if not self._stops:
                        log.info("draining, as the operator asks")
                    self._stops = True
                    self._loop.stop()
        orders.clear()
