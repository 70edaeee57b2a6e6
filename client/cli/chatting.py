"""A conversation with one user, in a terminal: chat.

Owns: what a chat needs before it can begin, the question with whom, and what is printed after it.
Promises: if the screen can't be shown, that is a failure that names the alternative; messages that
were typed and not yet stored are counted at the end.
Exposure: lists names that strangers chose, made visible.

Source: docs/client.md.
"""

import os
import sys
import time

from client.chat.conversation import HISTORY, Conversation
from client.chat.screen import Screen, Signs, can_be_shown
from client.chat.workers import Receiver, Sender
from client.cli import exit_codes
from client.cli.output import Output
from client.errors import ClientError
from client.messages import ConversationSummary
from client.open_home import OpenHome
from common.errors import SettingRejected

__all__ = ["Signs", "chat"]

_GOODBYE = 2.0
"""Seconds that the threads have to end."""
_MOST_LISTED = 30


def chat(home: OpenHome, output: Output, name: str | None, answer: str, signs: Signs) -> int:
    """Chat with a user until `/quit`, Ctrl-D or Ctrl-C; without a name, ask for one."""
    _check_terminal(output)
    home.account.identity()
    chosen = _choose(home, output) if name is None else name
    if not chosen:
        return exit_codes.DONE
    contact = home.directory.meet(chosen)
    home.link.close()
    newest = home.inbox.last_seen()
    # One more than is shown, to know whether there is more.
    past = home.history.recent(contact.client_id, HISTORY + 1)
    waiting = home.history.waiting(contact.client_id)
    own = home.account.identity().client_id
    conversation = Conversation(
        contact, lambda: int(time.time() * 1000), time.monotonic, with_oneself=contact.client_id == own
    )
    screen = Screen(home, conversation, answer, signs)
    sender = Sender(chosen, home.another, screen.post)
    receiver = Receiver(newest, contact.client_id, home.another, screen.post, sender.wake)
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
    if conversation.is_broken:
        output.say("A part of this chat stopped with an unexpected error; start the chat again.")
        return exit_codes.UNEXPECTED
    return exit_codes.DONE


def _check_terminal(output: Output) -> None:
    """Raise `SettingRejected` if the screen can't be shown: it goes to standard output."""
    if output.as_json or not sys.stdin.isatty():
        raise SettingRejected("chat needs a terminal; for scripts there are `messageu send`, `recv` and `watch`.")
    if not sys.stdout.isatty():
        raise SettingRejected(
            "chat needs a terminal: standard output is none here. `messageu history NAME` prints earlier "
            "messages, `messageu watch` new ones."
        )
    if not can_be_shown():
        raise SettingRejected(
            f"This terminal (TERM={os.environ['TERM']}) can't show the screen of a chat; use `messageu send`, `recv` "
            "and `watch`."
        )


def _choose(home: OpenHome, output: Output) -> str | None:
    """List the conversations and ask for one, by its number or by any user's name; None: nobody."""
    try:
        home.receiving.fetch()
        # First-time senders have names too.
        home.directory.users()
    except ClientError as error:
        # Another process receives, or there is no server: what is already here is listed anyway.
        output.say(f"{error} What has arrived so far is listed.")
    found = home.history.conversations()
    listed = found[:_MOST_LISTED]
    for number, one in enumerate(listed, start=1):
        output.data("conversation", f"{number:>3}  {_described(home, one)}")
    if len(found) > len(listed):
        output.say(f"{len(found) - len(listed)} older ones are not listed; give their names.")
    if not found:
        output.say("There are no conversations yet; `messageu users` lists who is registered.")
    answer = output.ask("Chat with (number or name):" if listed else "Chat with (name):")
    numbered = {str(number): one.contact.name for number, one in enumerate(listed, start=1)}
    return None if answer is None else numbered.get(answer, answer)


def _described(home: OpenHome, one: ConversationSummary) -> str:
    return f"{home.contacts.shown(one.contact)}{f' ({one.unread} unread)' if one.unread else ''}"
