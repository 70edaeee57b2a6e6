"""A terminal's input queue: input that has not been read yet.

Owns: looking at the queue, without taking anything out of it.
Promises: the terminal's settings are the same afterwards. Exposure: none; only the amount of input
is learned.

Source: docs/client.md, "The numbered console".
"""

import select
import termios
from typing import Final, TextIO

_LOCAL_MODES: Final = 3
_CHARACTERS: Final = 6
"""Their positions in the result of `termios.tcgetattr`."""


def is_queued(source: TextIO, patience: float) -> bool:
    """Whether there is input at a terminal, or comes within `patience` seconds; False if it is no
    terminal.
    """
    try:
        descriptor = source.fileno()
        before = termios.tcgetattr(descriptor)
        changed = termios.tcgetattr(descriptor)
        # Half a line counts too, and is echoed by whoever reads it.
        changed[_LOCAL_MODES] &= ~(termios.ICANON | termios.ECHO)
        changed[_CHARACTERS][termios.VMIN] = 1
        changed[_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(descriptor, termios.TCSANOW, changed)
        try:
            return bool(select.select([descriptor], [], [], patience)[0])
        finally:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
    except (OSError, ValueError, termios.error):
        # Not a terminal, or one that has gone: reading from it reports that.
        return False
