"""What is in a terminal's queue: input that nobody has read yet.

Owns: looking at the queue, without taking anything out of it.
Promises: the terminal's settings are afterwards what they were before.
Exposure: none; how much is there is all that is learned.

Source: docs/client.md, "The numbered console".
"""

import select
import termios
from typing import Final, TextIO

_LOCAL_MODES: Final = 3
_CHARACTERS: Final = 6
"""Their places in what `termios.tcgetattr` gives."""


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
        # No terminal, or one that has gone: whoever reads from it finds that out.
        return False
