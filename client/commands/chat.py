"""A conversation with one user, in a terminal: chat.

Owns: what has to be there before a chat can begin, and what is said after it.
Promises: without a terminal it is a failure that names the commands for scripts; what was typed and not yet stored is
counted at the end.

Source: docs/client.md.
"""

import time

from client import exit_codes
from client.chat.conversation import HISTORY, Conversation
from client.chat.screen import Screen
from client.chat.workers import Receiver, Sender
from client.commands.output import Output
from client.messenger import Messenger
from common.errors import SettingRejected

_GOODBYE = 2.0
"""Seconds that the threads have to end."""


def chat(messenger: Messenger, output: Output, name: str, answer: str) -> int:
    """Talk with a user until `/quit`, Ctrl-D or Ctrl-C."""
    if output.as_json or not output.terminal:
        raise SettingRejected("chat needs a terminal; for scripts there are `messageu send`, `recv` and `watch`.")
    messenger.identity()
    contact = messenger.meet(name)
    messenger.hang_up()
    newest = messenger.last_seen()
    # One more than is shown, to know whether there is more.
    past = messenger.recent(contact, HISTORY + 1)
    waiting = messenger.waiting(contact)
    conversation = Conversation(contact, lambda: int(time.time() * 1000), time.monotonic)
    screen = Screen(messenger, conversation, answer)
    sender = Sender(name, messenger.another, screen.post)
    receiver = Receiver(newest, messenger.another, screen.post, sender.wake)
    workers = (sender, receiver)

    def begin() -> None:
        for worker in workers:
            worker.start()

    try:
        screen.run(sender.give, begin, conversation.history(past), waiting)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join(_GOODBYE)
        farewell = conversation.farewell()
        if farewell is not None:
            output.say(farewell)
    return exit_codes.DONE
