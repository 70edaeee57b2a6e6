"""Signals that end the program: Ctrl-C is never lost, and an ended program cleans up first.

Owns: what SIGINT, SIGTERM and SIGHUP do in the client's programs.
Promises: SIGINT raises a `KeyboardInterrupt` that reaches the program, the others an `Ended`:
half-written files are removed, and then the program dies of that very signal, as its sender
expects. Python ignores an exception that is raised in a finalizer, or in the callback of a weak
reference, such as each import has, and continues. There the signal is sent again a moment later,
until it gets through.
Exposure: none.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_MOMENT: Final = 0.01
"""Seconds."""
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """The program is ended by a signal. A `SystemExit`, so that no event loop swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def install() -> None:
    """Replace Python's own handler of Ctrl-C; a handler that was chosen, or that ignores the
    signal, stays.
    """
    if _at_home() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        _hear_what_is_ignored()


def install_end() -> None:
    """Make SIGTERM and SIGHUP raise `Ended`; a handler that was chosen, or that ignores the signal,
    stays.
    """
    if _at_home():
        _hear_what_is_ignored()
    for number in _ENDING if _at_home() else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Defer Ctrl-C and the other signals that we handle until the end of the block, where the first
    one that came is raised.
    """
    ours = [number for number in (signal.SIGINT, *_ENDING) if signal.getsignal(number) in {_interrupt, _end}]
    came: list[int] = []
    for number in ours:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _interrupt if number == signal.SIGINT else _end)
        if came:
            signal.raise_signal(came[0])


def over() -> None:
    """The exit code is decided: from now on a further Ctrl-C changes nothing."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def die_of(number: int) -> None:
    """End the program by the signal that it was sent, after everything was cleaned up."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _at_home() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the cleaning up.
    for one in _ENDING:
        signal.signal(one, signal.SIG_IGN)
    raise Ended(number)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _hear_what_is_ignored() -> None:
    """Make Python's hook for ignored exceptions, `sys.unraisablehook`, send a signal again that
    ended there.
    """
    before = sys.unraisablehook
    if getattr(before, "__module__", None) == __name__:
        return

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        match ignored.exc_value:
            case KeyboardInterrupt():
                _again(signal.SIGINT)
            case Ended(number=number):
                signal.signal(number, _end)
                _again(number)
            case _:
                before(ignored)

    sys.unraisablehook = hook


def _again(number: int) -> None:
    """Send the signal again a moment later: Python is still in its own code."""
    again = threading.Timer(_MOMENT, signal.pthread_kill, (threading.main_thread().ident, number))
    again.daemon = True
    again.start()
