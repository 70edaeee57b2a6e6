"""Listening sockets that the service manager opened and hands over (socket activation).

Owns: what the environment says about them. Promises: each is a listening TCP socket, and is not
inherited by other programs.
Exposure: the environment that the service manager gives.

Source: sd_listen_fds(3).
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from common.errors import SettingRejected

PROCESS_VARIABLE: Final = "LISTEN_PID"
COUNT_VARIABLE: Final = "LISTEN_FDS"
FIRST: Final = 3
"""The first descriptor that is handed over."""
_MOST: Final = 1024


def handed_over(environment: Mapping[str, str], process: int, first: int = FIRST) -> list[socket.socket]:
    """The sockets that are meant for this process, whose id is `process`. Raises
    `SettingRejected`.
    """
    if environment.get(PROCESS_VARIABLE) != str(process):
        return []
    text = environment.get(COUNT_VARIABLE, "")
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST):
        raise SettingRejected(f"{COUNT_VARIABLE} is {text!r}: not a number of sockets")
    return [_listening(descriptor) for descriptor in range(first, first + int(text))]


def _listening(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SettingRejected(
            f"descriptor {descriptor}, of {COUNT_VARIABLE}, is no socket: {error.strerror}"
        ) from error
    is_tcp = sock.family in {socket.AF_INET, socket.AF_INET6} and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise SettingRejected(f"descriptor {descriptor}, of {COUNT_VARIABLE}, is not a listening TCP socket")
    return sock
