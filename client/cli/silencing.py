"""Whose messages are not wanted, or not announced: block, unblock, mute, unmute, blocked.

Owns: what these commands print.
Promises: exit code 0 means that it is in effect in this home, whatever the server answered.

Source: docs/client.md, "Blocking and muting".
"""

from typing import Final

from client.cli import exit_codes
from client.cli.output import Output
from client.open_home import OpenHome
from client.trust.blocking import Silenced, Told
from client.trust.contacts import Contact

_BLOCKED: Final = {
    Told.YES: "The server keeps what they send from your mailbox, and does not tell them.",
    Told.LATER: "The server is told at the next sign-in; until then, their messages are dropped here.",
    Told.REFUSED: "The server has no room for more blocked senders. Their messages are dropped here.",
    Told.NEVER: "This server can't block senders: their messages are dropped here.",
}
_UNBLOCKED: Final = {
    Told.YES: "What they sent meanwhile is gone.",
    Told.LATER: "The server is told at the next sign-in, and drops what they send until then.",
    Told.REFUSED: "The server did not take it yet, and is told again.",
    Told.NEVER: "What they sent meanwhile is gone.",
}


def block(home: OpenHome, output: Output, name: str, *, blocked: bool) -> int:
    """Block a sender, or let them write again."""
    home.account.identity()
    contact, told = home.blocking.block(name, blocked=blocked)
    output.say((_BLOCKED if blocked else _UNBLOCKED)[told])
    return _show_state(home, output, contact)


def mute(home: OpenHome, output: Output, name: str, *, muted: bool) -> int:
    """Stop or resume announcing a sender's messages."""
    home.account.identity()
    return _show_state(home, output, home.blocking.mute(name, muted=muted))


def show_all(home: OpenHome, output: Output) -> int:
    """List who is blocked or muted."""
    home.account.identity()
    found = home.blocking.all()
    for one in found:
        _show(home, output, one)
    if not found:
        output.say("Nobody is blocked or muted.")
    return exit_codes.DONE


def _show_state(home: OpenHome, output: Output, contact: Contact) -> int:
    _show(home, output, home.blocking.state(contact))
    return exit_codes.DONE


def _show(home: OpenHome, output: Output, one: Silenced) -> None:
    words = [word for word, holds in (("blocked", one.blocked), ("muted", one.muted)) if holds]
    output.data(
        "silenced",
        f"{home.contacts.shown(one.contact)}: {' and '.join(words) or 'neither blocked nor muted'}",
        name=one.contact.name,
        id=one.contact.client_id.hex(),
        blocked=one.blocked,
        muted=one.muted,
        server_refuses=one.server_refuses,
    )
