"""One call of a command: its options, its output, and the home that it opens.

Owns: which settings a command runs with, and opening the home for it.
Promises: in a folder that is no home yet, only `register` and `import` leave anything behind; what
a command does not need is not read.

Source: docs/client.md.
"""

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from client.cli.output import Output
from client.settings import Flags, Settings, taken_over, this_folder
from common.info_files import DEFAULT_PORT
from common.server_address import ServerAddress

if TYPE_CHECKING:
    from client.identity.passphrase_source import PassphraseSource
    from client.open_home import OpenHome


class Call:
    """What a command runs with."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self.options = options
        self.output = output

    @cached_property
    def _environment(self) -> Mapping[str, str]:
        return taken_over(os.environ)

    @cached_property
    def settings(self) -> Settings:
        """The settings, the command line's first. Raises `SettingRejected`."""
        return Settings(Flags.of(self.options), self._environment, this_folder())

    @cached_property
    def passphrase(self) -> "PassphraseSource":
        """Where the home's passphrase comes from."""
        from client.identity.passphrase_source import PassphraseSource

        return PassphraseSource(self.settings, self._environment)

    def given_passphrase(self) -> str | None:
        """Read the passphrase that the command line itself names; None if it names none."""
        from client.identity import passphrase_source

        return passphrase_source.named(self.options.passphrase_file, self.options.passphrase_command)

    def registering(self) -> "contextlib.AbstractContextManager[OpenHome]":
        """Open a home that may have no identity yet."""
        return self._opened(asks_server=True, registers=True)

    def reading(self) -> "contextlib.AbstractContextManager[OpenHome]":
        """Open the home, to read: on a full or read-only disk too. No server is asked."""
        return self._opened(asks_server=False, to_read=True)

    def open_home(
        self, *, asks_server: bool = True, at: ServerAddress | None = None
    ) -> "contextlib.AbstractContextManager[OpenHome]":
        """Open the home. `at`: its server has this address, whatever the settings say."""
        return self._opened(asks_server=asks_server, at=at)

    @contextlib.contextmanager
    def _opened(
        self, *, asks_server: bool, registers: bool = False, to_read: bool = False, at: ServerAddress | None = None
    ) -> "Iterator[OpenHome]":
        from client.identity.home import require_somebody
        from client.open_home import OpenHome

        settings, output = self.settings, self.output
        if not registers:
            # A mistyped name must not make a new home.
            require_somebody(settings.home)
        # For commands that ask no server: an address that is never used.
        address = at or (settings.server() if asks_server else ServerAddress("localhost", DEFAULT_PORT))
        with OpenHome.open(
            settings.home,
            address,
            settings.save_dir(),
            published_only=settings.published_only() if asks_server else None,
            consent=output.may_prove,
            tell=output.say,
            passphrase=self.passphrase,
            remember_server=registers and settings.remembers_server(),
            to_read=to_read,
        ) as home:
            if home.conversion is not None:
                output.say(home.conversion)
            yield home
