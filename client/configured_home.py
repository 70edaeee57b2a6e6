"""The home that the user's settings name, opened for a program.

Owns: how a program's arguments and the settings of the command `messageu` become one open home.
Promises: the same home, server and folder as the command would use in this folder and environment;
an argument replaces the setting of that name. The environment is not changed.
Exposure: none of its own.

Source: docs/client.md, "Settings"; docs/library.md.
"""

import os
from os import PathLike
from pathlib import Path

from client.connection.handshake import Consent, Tell
from client.identity.passphrase_source import PassphraseSource
from client.open_home import OpenHome
from client.settings import Flags, Settings, this_folder
from common.server_address import ServerAddress


def open_configured(
    home: str | PathLike[str] | None,
    server: ServerAddress | str | None,
    save_dir: str | PathLike[str] | None,
    published_only: bool | None,
    consent: Consent,
    tell: Tell,
) -> OpenHome:
    """Open the home; None stands for what the settings say.

    Raises what `OpenHome.open` raises, and `SettingRejected` or `InfoFileError` for a setting that
    can't be used.
    """
    flags = Flags(
        home=None if home is None else Path(home),
        server=server.link if isinstance(server, ServerAddress) else server,
        save_dir=None if save_dir is None else Path(save_dir),
        published_only=published_only,
    )
    environment = dict(os.environ)
    settings = Settings(flags, environment, this_folder())
    return OpenHome.open(
        settings.home, settings.server(), settings.save_dir(), published_only=settings.published_only(),
        consent=consent, tell=tell, passphrase=PassphraseSource(settings, environment),
        remember_server=settings.remembers_server(),
    )  # fmt: skip
