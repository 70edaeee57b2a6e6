"""The account at its server: account delete, account recover.

Owns: what these commands ask and say.
Promises: nothing is deleted without a word of the user's, given twice; in a script `--yes` is that
word. A key that waits for the operator is not lost by asking again.

Source: docs/client.md.
"""

import base64

from client.cli import exit_codes
from client.cli.identity_lines import whoami
from client.cli.output import Output
from client.identity.registration import KeyToHandOver
from client.open_home import OpenHome
from client.settings import Settings
from client.terminal.sanitize import command
from common.errors import SettingRejected


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
