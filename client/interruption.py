"""Signals that end the program: Ctrl-C is never swallowed, and who is ended cleans up first.

Owns: what SIGINT, SIGTERM and SIGHUP do in the client's programs.
Promises: SIGINT ends in a `KeyboardInterrupt` that somebody hears of, the others in an `Ended`: what is half written is
removed, and then the program dies of that very signal, as whoever sent it expects. Python ignores an exception that is
raised while an object is being finalized (it prints a traceback and goes on), so there a signal waits until that is
over.
Exposure: none.
"""

import os
import signal
import threading
from types import FrameType
from typing import Final

_MOMENT: Final = 0.01
"""Seconds."""
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """Somebody ends the program with a signal. A `SystemExit`, so that no event loop keeps it to itself."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def install() -> None:
    """Take Ctrl-C over from Python's own handler; one that somebody chose, or that ignores the signal, stays."""
    if _at_home() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def install_end() -> None:
    """Have SIGTERM and SIGHUP raise `Ended`; a handler that somebody chose, or that ignores the signal, stays."""
    for number in _ENDING if _at_home() else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def over() -> None:
    """The exit code is settled: a further Ctrl-C, of an impatient person, changes nothing any more."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def die_of(number: int) -> None:
    """End the program by the signal that it was sent, everything being cleaned up."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _at_home() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(number: int, frame: FrameType | None) -> None:
    if _finalizing(frame):
        _again(number)
        return
    # A second one must not break off the cleaning up.
    for one in _ENDING:
        signal.signal(one, signal.SIG_IGN)
    raise Ended(number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _finalizing(frame):
        _again(number)
        return
    raise KeyboardInterrupt


def _finalizing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _again(number: int) -> None:
    """Have the signal come again a moment later, and again, until nothing is being finalized."""
    again = threading.Timer(_MOMENT, signal.pthread_kill, (threading.main_thread().ident, number))
    again.daemon = True
    again.start()
