"""A command that is started for each message, and that ends when this program ends.

Owns: starting it, its standard input, its time limit, and ending it with everything that it
started.
Promises: it runs in a session of its own, so that what it started is ended with it; a signal that
ends this program, or the time limit, ends it: SIGTERM, and SIGKILL for what is left after some
seconds. A signal that comes while it is being started is held until it can be ended. It has no
access to our terminal.
Exposure: hands over texts that strangers chose, on standard input and never in a command line.

Source: docs/client.md, "watch".
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from typing import Final, NamedTuple

from client.cli.shell_words import words_of
from client.terminal import sigint
from common.errors import SettingRejected

GRACE: Final = 5.0
"""Seconds that a command has to end when it is asked to."""
_LOOK: Final = 0.02
"""Seconds between two checks whether everything that it started has ended."""
_FOR_NOW: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Why the system can't start a command at this moment; anything else is a fault of the command."""


class Failure(NamedTuple):
    """Why the command did not take what it was given; `its_own`: the command failed, rather than
    the system that could not start it.
    """

    reason: str
    its_own: bool = True


class Hook:
    """A command, split into words. `timeout` in seconds, None for as long as it takes."""

    def __init__(self, command: str, timeout: float | None) -> None:
        """Raises `SettingRejected` if there is no such command."""
        try:
            self._words = words_of(command)
        except ValueError as error:
            raise SettingRejected(f"--exec takes a command, not {command!r} ({error}).") from error
        if not self._words:
            raise SettingRejected("--exec takes a command, not an empty text.")
        if shutil.which(self._words[0]) is None:
            raise SettingRejected(f"--exec: there is no command {self._words[0]}, or it can't be run.")
        self._timeout = timeout

    def run(self, given: bytes) -> Failure | None:
        """Run it with something on its standard input; None if it ended with 0.

        Raises `SettingRejected` if it can't be started any more.
        """
        process: subprocess.Popen[bytes] | None = None
        try:
            # A signal that ends us now would not end it.
            with sigint.held():
                process = subprocess.Popen(self._words, stdin=subprocess.PIPE, start_new_session=True)
            process.communicate(given, self._timeout)
        except subprocess.TimeoutExpired:
            assert process is not None
            _end(process)
            return Failure(f"the command took longer than {self._timeout:g} s")
        except OSError as error:
            if process is not None:
                _end(process)
                raise
            if error.errno in _FOR_NOW:
                return Failure(f"the command can't be started now ({error.strerror})", its_own=False)
            raise SettingRejected(f"--exec: {self._words[0]} can't be started ({error.strerror}).") from error
        except BaseException:
            if process is not None:
                _end(process)
            raise
        code = process.returncode
        if code < 0:
            return Failure(f"the command was ended by {signal.Signals(-code).name}")
        return Failure(f"the command ended with code {code}") if code else None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started; with SIGKILL if that takes too long, or there is no time."""
    end = time.monotonic() + GRACE
    try:
        _send(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        while _send(process, 0) and time.monotonic() < end:
            time.sleep(_LOOK)
    finally:
        _send(process, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It may run as another user by now, whose processes we may not signal.
            process.wait(GRACE)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _send(process: "subprocess.Popen[bytes]", number: int) -> bool:
    """Send a signal to all that is left of it; return whether anything is."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
