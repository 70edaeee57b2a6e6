"""A home in one file, for another machine: export, import.

Owns: what these commands print, and how the two kinds of importable files are told apart.
Promises: the passphrase is that of the exported file; the home's own, if it has one, goes with the
home.

Source: docs/client.md, "Export and import".
"""

from pathlib import Path

from client.cli.identity_lines import show_identity
from client.cli.output import Output
from client.connection import server_file
from client.errors import PassphraseNeeded
from client.identity import archive, import_identity, passphrase_source
from client.identity.home import convert, require_somebody
from common.server_address import ServerAddress

_OPTION = "--passphrase-file"


def export_home(output: Output, home: Path, target: Path, given: str | None, *, may_be_weak: bool = False) -> int:
    """Write the whole home into one encrypted file."""
    require_somebody(home)
    archive.refuse_export(target)
    chosen = passphrase_source.chosen(given, "Passphrase for the file: ", _OPTION, may_be_weak=may_be_weak)
    convert(home, output.say, to_read=True)
    archive.export_home(home, target, chosen)
    output.say(f"All of {home} is in {target}, encrypted. Use one of the two homes from now on, not both.")
    return 0


def import_home(output: Output, home: Path, source: Path, given: str | None) -> int:
    """Make a home out of an exported file, or out of another client's identity."""
    if import_identity.is_identity_file(source):
        return _import_identity(output, home, source, given)
    archive.refuse_import(home, source)
    if given is None and not passphrase_source.can_ask():
        raise PassphraseNeeded("There is no terminal to ask for the passphrase.", f"Use {_OPTION} PATH.")
    archive.import_home(home, source, given or passphrase_source.ask("Passphrase of the file: "))
    output.say(f"{source} is restored in {home}. Use one of the two homes from now on, not both.")
    return 0


def remember_server(output: Output, home: Path, server: ServerAddress) -> None:
    """Make the imported home use the server that the command line named. Raises `FileUnwritten`."""
    sentence = server_file.remember(home, server)
    if sentence is not None:
        output.say(sentence)


def _import_identity(output: Output, home: Path, source: Path, given: str | None) -> int:
    def ask() -> str:
        if given is not None:
            return given
        if not passphrase_source.can_ask():
            raise PassphraseNeeded(
                "The private key is encrypted, and nothing gives its passphrase.", f"Use {_OPTION} PATH."
            )
        return passphrase_source.ask("Passphrase of the private key: ")

    identity, server = import_identity.import_identity(home, source, ask)
    output.say(f"The identity in {source} is imported into {home}: name, id and private key.")
    if server is not None:
        output.say(f"Its server.info is imported too: {server}.")
    output.say("Contacts, keys and mail are not in such a file; each of two clients fetches a part of the mail.")
    show_identity(output, identity, proven=False)
    return 0
