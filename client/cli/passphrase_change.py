"""The home's passphrase: passphrase set, change, remove.

Owns: what these commands print.
Promises: the new passphrase is asked for only if the old one was right.

Source: docs/client.md.
"""

from pathlib import Path

from client.cli.output import Output
from client.identity import passphrase, passphrase_source
from client.identity.home import convert, require_somebody
from client.identity.passphrase_source import PassphraseSource
from common.errors import SettingRejected

_OPTION = "--new-passphrase-file"


def passphrase_command(
    output: Output,
    home: Path,
    what: str,
    source: PassphraseSource,
    new_file: Path | None,
    new_command: str | None,
    *,
    may_be_weak: bool,
) -> int:
    """Set, change or remove the passphrase."""
    require_somebody(home)
    convert(home, output.say)
    if what == "remove":
        if new_file is not None or new_command is not None:
            raise SettingRejected("`passphrase remove` takes no new passphrase.")
        done = passphrase.remove_passphrase(home, source)
        output.say(f"{home} has no passphrase any more: its private key and its store are not encrypted.")
    else:
        known = passphrase.has_passphrase(home)
        if what == "set" and known:
            raise SettingRejected(f"{home} has a passphrase already: `messageu passphrase change` changes it.")
        if what == "change":
            passphrase.check_passphrase(home, source)
        new = passphrase_source.chosen(
            passphrase_source.named(new_file, new_command),
            f"New passphrase of {home}: ",
            _OPTION,
            may_be_weak=may_be_weak,
        )
        if what == "set":
            done = passphrase.set_passphrase(home, new, source)
            output.say(
                f"The private key and the store of {home} are encrypted. Nobody can read them without the passphrase."
            )
        else:
            done = passphrase.change_passphrase(home, new, source)
            output.say(f"{home} has another passphrase now.")
    if not done:
        output.say("Earlier content may still be in the free space of store.db; the next start erases it.")
    return 0
