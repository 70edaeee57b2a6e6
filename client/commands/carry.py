"""Carrying a home to another machine: export, import.

Owns: where the passphrase comes from.
Promises: without a terminal it comes from a file, or it is a failure.

Source: docs/client.md, "Export and import".
"""

import getpass
from pathlib import Path

from client import archive
from client.commands.output import Output
from client.store import STORE_FILE
from common.errors import InfoFileError, SettingRejected


def export_home(output: Output, home: Path, target: Path, passphrase_file: Path | None) -> int:
    """Write all of the home into one encrypted file."""
    if not (home / STORE_FILE).exists():
        raise SettingRejected(f"There is nothing to export in {home}.")
    archive.export_home(home, target, _passphrase(output, passphrase_file, twice=True))
    output.say(f"All of {home} is in {target}, encrypted. Use one of the two homes from now on, not both.")
    return 0


def import_home(output: Output, home: Path, source: Path, passphrase_file: Path | None) -> int:
    """Make a home out of an exported file."""
    archive.import_home(home, source, _passphrase(output, passphrase_file, twice=False))
    output.say(f"{source} is restored in {home}. Use one of the two homes from now on, not both.")
    return 0


def _passphrase(output: Output, file: Path | None, *, twice: bool) -> str:
    if file is not None:
        try:
            found = file.expanduser().read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise InfoFileError(file, None, f"can't be read ({error})") from error
    elif output.terminal:
        found = getpass.getpass("Passphrase: ")
        if twice and getpass.getpass("The same again: ") != found:
            raise SettingRejected("These were two different passphrases; nothing was written.")
    else:
        raise SettingRejected("There is no terminal to ask for the passphrase: use --passphrase-file PATH.")
    if not found:
        raise SettingRejected("The passphrase is empty.")
    return found
