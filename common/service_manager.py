"""What a program tells the service manager that started it, by systemd's notification protocol.

Owns: the datagrams to `NOTIFY_SOCKET`. Promises: nothing is sent unless the environment asks for
it. A beat never waits; ready and stopping wait for at most a second. If sending fails, the program
continues, with one line in the log until it works again. The watchdog is answered by the program's
own loop, so that a loop that is stuck is noticed.
Exposure: the environment that the service manager gives. What is sent has no value of a user.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final, Self

from common.errors import SettingRejected

log = logging.getLogger("service_manager")

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"
_PATIENCE: Final = 1.0


class ServiceManager:
    """`address`: of a datagram socket, a path or, after an @, a name of the abstract namespace;
    None: there is no service manager. `period`: seconds within which a watchdog wants a beat, or
    None. `clock` gives monotonic seconds.
    """

    def __init__(self, address: str | None, period: float | None, clock: Callable[[], float]) -> None:
        self._address = None if address is None else os.fsencode(address)
        self._period = None if address is None else period
        self._clock = clock
        self._is_heard = True
        self._beat_at = clock()
        if self._address is not None and self._address.startswith(b"@"):
            self._address = b"\0" + self._address[1:]

    @classmethod
    def named_in(cls, environment: Mapping[str, str], process: int, clock: Callable[[], float]) -> Self:
        """The service manager that the environment names, or none. `process`: the id of this
        process, because a watchdog may be meant for another one. Raises `SettingRejected`.
        """
        address = environment.get(SOCKET_VARIABLE) or None
        if address is not None and (address[0] not in "/@" or len(address) == 1):
            raise SettingRejected(
                f"{SOCKET_VARIABLE} is {address!r}: neither an absolute path nor @ followed by a name"
            )
        period = environment.get(WATCHDOG_VARIABLE) or None
        if period is not None and not (period.isascii() and period.isdigit() and int(period)):
            raise SettingRejected(f"{WATCHDOG_VARIABLE} is {period!r}: not a number of microseconds")
        is_meant = environment.get(WATCHDOG_PID_VARIABLE, str(process)) == str(process)
        return cls(address, int(period) / 1e6 if period is not None and is_meant else None, clock)

    @property
    def wants_beats(self) -> bool:
        """Whether there is a watchdog."""
        return self._period is not None

    def ready(self) -> None:
        """The program serves."""
        self._tell(b"READY=1", _PATIENCE)

    def stopping(self) -> None:
        """The program was asked to end."""
        self._tell(b"STOPPING=1", _PATIENCE)

    def beat(self) -> None:
        """Called in each turn of the loop. Sends at most twice per period; a loop turns once a
        second at least (`common.status_server.BEAT`), so that periods of 3 seconds or more are
        kept.
        """
        now = self._clock()
        if self._period is not None and now - self._beat_at >= self._period / 2:
            self._beat_at = now
            self._tell(b"WATCHDOG=1", 0.0)

    def _tell(self, what: bytes, patience: float) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(patience)
                sock.sendto(what, self._address)
        except OSError as error:
            if self._is_heard:
                log.warning("the service manager could not be told %s: %s", what.decode(), error)
            self._is_heard = False
        else:
            self._is_heard = True
