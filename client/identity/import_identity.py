"""An identity of another MessageU program, imported into a new home. Owns: telling such a file from
an export, and which files are written for it. Promises: the home has neither identity nor store
before; after, it has the whole identity, or nothing. The file is read and never changed. An
encrypted private key stays encrypted, under the same passphrase, which is checked.
Exposure: reads a file that another program, or somebody else, wrote.

Source: docs/client-protocol.md, "Files beside the programs"; docs/coming-from-another-client.md.
"""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from client.errors import CipherError
from client.identity import identity_files
from client.identity.home import moving_in, refuse_a_home_in_use
from client.identity.identity_files import ME_INFO, MY_INFO, Ask, Identity
from common.errors import InfoFileError
from common.filesystem import writing
from common.info_files import SERVER_INFO, read_server_address
from common.server_address import ServerAddress

_LOOK_AT: Final = 64 * 1024
"""Bytes; identity files are shorter."""
_ID_LINE: Final = re.compile(rb"[0-9A-Fa-f]{32}")


class ImportedIdentity(NamedTuple):
    """What was imported; `server` if a server.info lay beside it and the home had none."""

    identity: Identity
    server: ServerAddress | None


def is_identity_file(path: Path) -> bool:
    """Whether a file is meant to be an identity: by its name, or because its second line is an id.
    An export is neither.
    """
    if path.name in {ME_INFO, MY_INFO}:
        return True
    try:
        with path.open("rb") as file:
            beginning = file.read(_LOOK_AT)
    except OSError:
        # The next step opens it too, and reports why it fails.
        return False
    lines = beginning.splitlines()
    return len(lines) > 1 and _ID_LINE.fullmatch(lines[1].strip()) is not None


def import_identity(home: Path, source: Path, ask: Ask) -> ImportedIdentity:
    """Make a home out of an identity file. `ask` gives the private key's passphrase, if it has one.

    Raises `AlreadyRegistered`, `HomeInUse`, `InfoFileError`, `FileUnwritten`, `PassphraseNeeded`,
    `PassphraseWrong`; then nothing was imported.
    """
    refuse_a_home_in_use(home)
    identity, text = identity_files.read_foreign(source, ask)
    try:
        identity.private_key.public_key()
    except CipherError as error:
        raise InfoFileError(source, 3, f"the private key can't be used: {error}; nothing was imported") from error
    beside = source.with_name(SERVER_INFO)
    takes_server = beside.is_file() and not (home / SERVER_INFO).exists()
    server = read_server_address(beside) if takes_server else None
    with moving_in(home):
        try:
            with writing(home):
                if server is not None:
                    shutil.copyfile(beside, home / SERVER_INFO)
            # This one file has the whole identity: once it is written, the import is done.
            identity_files.write_whole(home / MY_INFO, text)
        except BaseException:
            if server is not None:
                with contextlib.suppress(OSError):
                    (home / SERVER_INFO).unlink(missing_ok=True)
            raise
    return ImportedIdentity(identity, server)
