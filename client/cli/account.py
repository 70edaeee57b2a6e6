"""The account at its server: account delete, account recover, account move.

Owns: what these commands ask and say. Promises: nothing is deleted unless the user confirms twice,
and nothing is moved unless the user confirms once; in a script, `--yes` confirms. A key that waits
for the operator is not lost by running the command again.

Source: docs/client.md.
"""

import base64
from collections.abc import Sequence
from typing import Final

from client import moving
from client.cli import exit_codes
from client.cli.identity_lines import show_identity, whoami
from client.cli.output import Output
from client.cli.server_route import fields_of
from client.errors import ClientError
from client.identity.registration import KeyToHandOver
from client.moving import Wanted
from client.open_home import OpenHome
from client.settings import Settings
from client.terminal.sanitize import command, visible_name
from common.errors import SettingRejected
from common.server_address import ServerAddress

_NAMED: Final = 8
"""The most names in one sentence; of further ones, only their number."""


def delete(home: OpenHome, output: Output, *, yes: bool) -> int:
    """Delete the account at the server."""
    name = home.account.identity().name
    place = home.link.address.place
    if not yes and not _is_meant(home, output, name, place):
        output.say("Nothing was deleted.")
        return exit_codes.UNEXPECTED
    home.leaving.delete()
    output.say(
        f"The account {name} at {place} is deleted: what waited for you there is gone, and nobody can send to it any "
        "more. The name stays taken. This home keeps what was sent and received; remove its folder to delete that too."
    )
    return 0


def _is_meant(home: OpenHome, output: Output, name: str, place: str) -> bool:
    if not output.terminal:
        raise SettingRejected("`account delete` asks twice, and nobody is there to answer: give --yes.")
    waiting = home.outbox.waiting_count()
    unsent = f" {waiting} of your messages are not sent yet, and never will be." if waiting else ""
    first = output.confirm(
        f"Delete the account {name} at {place}? What waits for you there is deleted with it, your contacts can't "
        f"write to you any more, and the name can't be registered again.{unsent}"
    )
    return bool(first) and bool(output.confirm(f"There is no way back. Delete {name} for good?"))


def recover(home: OpenHome, output: Output, name: str, settings: Settings) -> int:
    """Come back to an account whose home is lost, with the operator's help."""
    found = home.registration.recover(name)
    if isinstance(found, KeyToHandOver):
        text = base64.b64encode(found.public_key).decode("ascii")
        output.data("recovery", text, name=name, public_key=text)
        output.say(
            f"This is the public key of this new home. Give it to the operator of {home.link.address.place}, in a way "
            f"in which the operator knows that it is you; `re-key` is the operator's command. Then repeat "
            f"{command('account recover', name)} here."
        )
        return exit_codes.SERVER_REFUSED
    output.say(f"{found.name} is your account again. Your contacts are told that your key has changed.")
    return whoami(home, output, settings)


def move(home: OpenHome, output: Output, wanted: Wanted, *, yes: bool) -> ServerAddress | None:
    """Move the account to another server; return its address there, None if the user declines."""
    if moving.is_there_already(home, wanted.address):
        output.say(f"The account is at {wanted.address.place} already.")
        return wanted.address._replace(invitation=None)
    moving.check(home, wanted)
    loses = ""
    if moving.loses_encryption(home, wanted.address):
        loses = (
            f"{wanted.address.place} is named without a pin: connections to it are not encrypted, as those to "
            f"{home.link.address.place} are. A link of the new server's operator has its pin."
        )
    if not yes and not _is_to_move(home, output, wanted, loses):
        output.say("Nothing was moved.")
        return None
    if yes and loses:
        output.say(loses)
    moved = moving.move(home, wanted, output.say)
    output.say(f"The account is at {moved.address.place} from now on, as {visible_name(moved.identity.name)}.")
    return moved.address


def _is_to_move(home: OpenHome, output: Output, wanted: Wanted, loses: str) -> bool:
    if not output.terminal:
        raise SettingRejected("`account move` asks once, and nobody is there to answer: give --yes.")
    name, place = home.account.identity().name, home.link.address.place
    renamed = "" if wanted.name is None else f", as {visible_name(wanted.name)}"
    old = "is deleted, and its name stays taken" if wanted.delete_old else "stays, and nobody reads what comes there"
    return bool(
        output.confirm(
            f"Move the account {name} from {place} to {wanted.address.place}{renamed}? You reach those who are "
            f"registered there too, and nobody else. The account at {place} {old}.{loses and f' {loses}'}"
        )
    )


def moved_in(home: OpenHome, output: Output, *, delete_old: bool) -> int:
    """Find out which contacts are at the new server, delete the old account if asked, and print the
    identity.
    """
    try:
        _meet_again(home, output)
    except ClientError as error:
        output.say(f"Which of your contacts are here shows when you write to them: {error}")
    if delete_old:
        left = moving.delete_left_account(home, output.say)
        if left is not None:
            output.say(
                f"The account {visible_name(left.name)} at {left.address.place} is deleted; its name stays taken."
            )
    fields = fields_of(home.link.address)
    show_identity(output, home.account.identity(), proven=home.greeting.has_signed_in, link=None, **fields)
    return exit_codes.DONE


def _meet_again(home: OpenHome, output: Output) -> None:
    met = home.directory.meet_again()
    if met.missing:
        output.say(f"Not at this server: {_listed(met.missing)}.")
    for name in met.changed:
        output.say(
            f"{visible_name(name)} has another key here than the one you know: nothing is sent there until you accept "
            f"it. {command('verify', name)} shows both numbers."
        )
    silenced = [one.contact.name for one in home.blocking.all() if not home.directory.is_listed(one.contact)]
    if silenced:
        output.say(
            f"Blocked or muted at the server of before alone: {_listed(silenced)}. Who has such a name here may be "
            "somebody else."
        )


def _listed(names: Sequence[str]) -> str:
    shown = [visible_name(name) for name in names[:_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
