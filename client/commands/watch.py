"""Every message, once, as it comes: watch.

Owns: the loop that receives, or follows another process of the home that does; the cursor.
Promises: the cursor moves behind a message when it was printed, or when the command that got it ended with 0; until
then that message is handed out again, and nothing behind it. Of several watches of a home one hands out at
a time. A server that goes away is waited for. A command that runs when the watch is ended is ended too, with SIGTERM.
Exposure: hands texts that strangers chose to a command, as JSON on its standard input and never as part of a command
line.

Source: docs/client.md.
"""

import contextlib
import shlex
import subprocess
import time
from typing import Final

from client.commands import letters
from client.commands.output import Output
from client.messages import POLL
from client.messenger import KeyRequested, Messenger, Received
from common.errors import HomeInUse, ServerAnsweredError, ServerSilent, ServerUnreachable, SettingRejected

FOLLOW: Final = 1.0
"""Seconds between two looks at what another process received."""
LONGEST_PAUSE: Final = 30.0
GRACE: Final = 5.0
"""Seconds that a command has to end when the watch ends."""
SERVER_WAIT: Final = 60.0
"""Seconds that one question to the server may take."""


class _NotTaken(Exception):
    """The command failed."""


def watch(messenger: Messenger, output: Output, command: str | None, answer: str) -> int:
    """Hand out message after message until Ctrl-C."""
    try:
        words = None if command is None else shlex.split(command)
    except ValueError as error:
        raise SettingRejected(f"--exec takes a command, not {command!r} ({error}).") from error
    if words == []:
        raise SettingRejected("--exec takes a command, not an empty text.")
    messenger.identity()
    messenger.watch_cursor()
    pause = FOLLOW
    told = ""
    while True:
        began = time.monotonic()
        try:
            _hand_out(messenger, output, words)
            got = _receive(messenger, output, words, answer)
        except _NotTaken:
            output.say(f"The command failed; the message is handed to it again in {pause:g} s.")
            pause = _sleep(pause)
            continue
        except HomeInUse:
            _sleep(FOLLOW)
            got = True
        except (ServerUnreachable, ServerSilent, ServerAnsweredError) as error:
            if str(error) != told:
                output.say(f"{error} Trying again by itself.")
                told = str(error)
            pause = _sleep(pause)
            continue
        pause, told = FOLLOW, ""
        if not got and time.monotonic() - began < 1.0:
            # A server that can't let us wait.
            _sleep(POLL)


def _receive(messenger: Messenger, output: Output, words: list[str] | None, answer: str) -> bool:
    """Bring what waits into the store; whether anything came.

    What could not be read before, and was handed out so, is handed out here once more. Raises `_NotTaken`.
    """
    got = False
    requests: dict[str, Received] = {}
    with contextlib.closing(messenger.receive(SERVER_WAIT)) as received:
        for message in received:
            got = True
            if message.late and message.number <= messenger.watch_cursor() and not _hand(output, words, message):
                # It counts as not received, and comes again.
                raise _NotTaken
            if isinstance(message.content, KeyRequested) and message.sender_name is not None:
                requests[message.sender_name] = message
    for request in requests.values():
        letters.answer_request(messenger, output, request, answer)
    return got


def _hand_out(messenger: Messenger, output: Output, words: list[str] | None) -> None:
    """Hand out what lies behind the cursor. Raises `_NotTaken`."""
    with messenger.handing_out():
        for message in messenger.seen(messenger.watch_cursor()):
            if not _hand(output, words, message):
                raise _NotTaken
            messenger.move_watch_cursor(message.number)


def _hand(output: Output, words: list[str] | None, message: Received) -> bool:
    if words is None:
        letters.show_received(output, message)
        return True
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE)
    except OSError as error:
        output.say(f"{words[0]} can't be started ({error.strerror}).")
        return False
    with process:
        try:
            process.communicate(letters.as_json(message).encode("utf-8") + b"\n")
        except BaseException:
            _end(process)
            raise
    return process.returncode == 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the command as we are ended, and without its consent where it takes too long over that."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _sleep(pause: float) -> float:
    time.sleep(pause)
    return min(pause * 2, LONGEST_PAUSE)
