"""Every message, once, as it arrives: watch.

Owns: the loop that receives, or follows another process of the home that does; the cursor; what is
set aside.
Promises: the cursor moves past a message when it was printed, when the command that got it exited
with 0, or when the message was set aside because the command had failed too often; until then that
message is handed out again, and none after it. Of several watches of a home, one hands out at a
time. If the server goes away, watch waits for it.
Exposure: as `client.cli.hook`.

Source: docs/client.md.
"""

import contextlib
import time
from typing import Final

from client.cli import exit_codes, message_lines
from client.cli.hook import Failure, Hook
from client.cli.output import Output
from client.errors import HomeInUse, OutcomeUnknown, ServerAnsweredError, ServerUnreachable
from client.mail.message_iterator import POLL
from client.messages import KeyRequested, Received
from client.open_home import OpenHome
from client.terminal.sanitize import visible_name
from common.errors import SettingRejected

FOLLOW: Final = 1.0
"""Seconds between two checks for what another process received."""
LONGEST_PAUSE: Final = 30.0
TRIES: Final = 10
"""How often a message is handed to a command by default: some three minutes, with the pauses."""
SERVER_WAIT: Final = 60.0
"""Seconds that one request to the server may take."""


class NotTaken(Exception):
    """The command failed."""


class Taker:
    """Handles messages: prints them, or hands them to a command, and sets aside one on which the
    command fails `tries` times.
    """

    def __init__(self, home: OpenHome, output: Output, hook: Hook | None, tries: int = TRIES) -> None:
        self._home = home
        self._output = output
        self._hook = hook
        self._tries = tries

    def hand(self, message: Received) -> None:
        """Handle a message, or set it aside. Raises `NotTaken` if it is to be handed out again."""
        failure = self.try_once(message)
        if failure is None:
            self._home.watch_cursor.was_taken(message.number)
            return
        if not failure.its_own:
            raise NotTaken(f"{_sentence(message, failure)}.")
        tries = self._home.watch_cursor.count_failed_try(message.number)
        if tries < self._tries:
            raise NotTaken(f"{_sentence(message, failure)} (try {tries} of {self._tries}).")
        self._home.watch_cursor.set_aside(message.number)
        self._output.set_aside(
            f"{_sentence(message, failure)}, {tries} times; it is set aside.",
            "`messageu watch --set-aside` lists such messages, `messageu watch --retry --exec CMD` hands them out.",
            number=message.number, name=message.sender_name, id=message.sender.hex(), tries=tries,
        )  # fmt: skip

    def try_once(self, message: Received) -> Failure | None:
        """Print a message, or hand it to the command once; return why the command failed,
        or None.
        """
        if self._hook is None:
            message_lines.show_received(self._output, message)
            return None
        return self._hook.run(message_lines.as_json(message).encode("utf-8") + b"\n")


def watch(home: OpenHome, output: Output, hook: Hook | None, tries: int, answer: str) -> int:
    """Hand out message after message until Ctrl-C."""
    home.account.identity()
    home.watch_cursor.position()
    taker = Taker(home, output, hook, tries)
    pause = FOLLOW
    told = ""
    while True:
        began = time.monotonic()
        try:
            hand_out(home, taker)
            got = _receive(home, output, taker, answer)
        except NotTaken as problem:
            output.say(f"{problem} It is handed out again in {pause:g} s.")
            pause = _sleep(pause)
            continue
        except HomeInUse:
            _sleep(FOLLOW)
            got = True
        except (ServerUnreachable, OutcomeUnknown, ServerAnsweredError) as error:
            if str(error) != told:
                output.say(f"{error} Trying again.")
                told = str(error)
            pause = _sleep(pause)
            continue
        pause, told = FOLLOW, ""
        if not got and time.monotonic() - began < 1.0:
            # A server that can't hold the request open.
            _sleep(POLL)


def set_aside(home: OpenHome, output: Output) -> int:
    """List the messages that were set aside, and change nothing."""
    shown = 0
    for message in home.watch_cursor.messages_set_aside():
        message_lines.show_received(output, message)
        shown += 1
    if not shown:
        output.say("No message is set aside.")
    return exit_codes.DONE


def retry(home: OpenHome, output: Output, hook: Hook | None) -> int:
    """Hand out each message that was set aside once more; one that fails again stays set aside."""
    taker = Taker(home, output, hook)
    left = 0
    with home.watch_cursor.handing_out():
        for message in home.watch_cursor.messages_set_aside():
            failure = taker.try_once(message)
            if failure is None:
                home.watch_cursor.was_taken(message.number)
            else:
                output.say(f"{_sentence(message, failure)}; it stays set aside.")
                left += 1
    return exit_codes.UNEXPECTED if left else exit_codes.DONE


def hook_of(command: str | None, timeout: float | None, tries: int | None) -> Hook | None:
    """Return the command that the options name. Raises `SettingRejected`."""
    if command is not None:
        return Hook(command, timeout)
    if timeout is not None or tries is not None:
        raise SettingRejected("--timeout and --tries are for a command; name it with --exec.")
    return None


def _receive(home: OpenHome, output: Output, taker: Taker, answer: str) -> bool:
    """Fetch pending messages into the store; return whether any came.

    A message that was handed out as unreadable, and can be read now, is handed out once more.
    Raises `NotTaken`.
    """
    got = False
    requests: dict[str, Received] = {}
    with contextlib.closing(home.receiving.receive(SERVER_WAIT)) as received:
        for message in received:
            got = True
            if home.blocking.is_silent(message.sender):
                continue
            if message.late and message.number <= home.watch_cursor.position():
                # If this fails, it counts as not received, and comes again.
                taker.hand(message)
            if isinstance(message.content, KeyRequested) and message.sender_name is not None:
                requests[message.sender_name] = message
    for request in requests.values():
        message_lines.answer_request(home, output, request, answer)
    return got


def hand_out(home: OpenHome, taker: Taker) -> None:
    """Hand out what follows the cursor. Raises `NotTaken`."""
    with home.watch_cursor.handing_out():
        for message in home.inbox.seen(home.watch_cursor.position()):
            if not home.blocking.is_silent(message.sender):
                taker.hand(message)
            home.watch_cursor.move(message.number)


def _sentence(message: Received, failure: Failure) -> str:
    """Return a sentence: on which message the command failed, and why."""
    name = "an unknown user" if message.sender_name is None else visible_name(message.sender_name)
    return f"Message {message.number} from {name} was not taken: {failure.reason}"


def _sleep(pause: float) -> float:
    time.sleep(pause)
    return min(pause * 2, LONGEST_PAUSE)
