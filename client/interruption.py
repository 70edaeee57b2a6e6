"""Ctrl-C that is never swallowed.

Owns: what SIGINT does in the client's programs.
Promises: it ends in a `KeyboardInterrupt` that somebody hears of. Python ignores one that is raised while an object is
being finalized (it prints a traceback and goes on), so there it waits until that is over.
Exposure: none.
"""

import signal
import threading
from types import FrameType
from typing import Final

_MOMENT: Final = 0.01
"""Seconds."""


def install() -> None:
    """Take over from Python's own handler; one that somebody chose, or that ignores the signal, stays."""
    at_home = threading.current_thread() is threading.main_thread()
    if at_home and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def over() -> None:
    """The exit code is settled: a further Ctrl-C, of an impatient person, changes nothing any more."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            # It comes again a moment later, and again, until nothing is being finalized.
            again = threading.Timer(_MOMENT, signal.pthread_kill, (threading.main_thread().ident, number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
