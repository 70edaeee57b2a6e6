"""What can be found out about the state of a home, for `doctor` to judge.

Owns: looking at the store, the files with keys, the clock and the server's features.
Promises: changes nothing at the server; in the home no more than a greeting does.
Exposure: what the server says of itself and of the time is believed no further than its sentence.

Source: docs/client.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from client.connection import about
from client.connection.handshake import Greeting
from client.connection.server_link import ServerLink
from client.errors import StoreUnwritable
from client.identity import identity_files
from client.store.home_store import Store
from client.terminal import local_time
from client.trust.contacts import Contact
from common.client_protocol.responses import AboutResponse
from common.client_protocol.versions import Feature


class KeyProtection(NamedTuple):
    """Whether the store has a passphrase, and the names of the files that hold a private
    key encrypted, and in the clear.
    """

    store_is_sealed: bool
    encrypted: list[str]
    plain: list[str]


class Diagnosis:
    """Looks at one home."""

    def __init__(self, home: Path, store: Store, link: ServerLink, greeting: Greeting, now: Callable[[], int]) -> None:
        self._home = home
        self._store = store
        self._link = link
        self._greeting = greeting
        self._now = now

    @property
    def unwritable(self) -> StoreUnwritable | None:
        """Why only a copy of the home's store could be opened, to be read; None where it
        is the store itself.
        """
        return self._store.unwritable

    def check_store(self) -> None:
        """Look at every page of the store. Raises `StoreUnusable` where it is damaged."""
        self._store.check()

    def damaged_rows(self) -> list[str]:
        """Name the rows of the store whose sealed content was altered or is broken."""
        return self._store.sealing.damaged_rows()

    def key_protection(self) -> KeyProtection:
        """Say what the passphrase of the home protects. Raises `InfoFileError`."""
        return KeyProtection(
            self._store.sealing.has_passphrase,
            identity_files.with_encrypted_keys(self._home),
            identity_files.with_plain_keys(self._home),
        )

    def changed_keys(self) -> list[Contact]:
        """Give those for whom the server named another key or account than is known."""
        return [Contact(pin.client_id, pin.name) for pin in self._store.pins.changed()]

    def server_features(self) -> list[str]:
        """Connect, and give the names of the extension's features; none with the published protocol
        alone.

        A server that was silent before is asked again.
        """
        self._greeting.ask_again()
        self._link.connect()
        session = self._greeting.session
        if session is None:
            return []
        return [(feature.name or "").lower().replace("_", " ") for feature in Feature if feature & session.features]

    def server_about(self) -> AboutResponse | None:
        """What the server says of itself, or None. Raises as `server_features`."""
        return about.ask(self._link, self._greeting)

    def clock_behind(self) -> int | None:
        """Say by how many milliseconds our clock is surely behind the server's, now; None where it
        is not known.

        It is where the server accepted a message later than it is here. How it was when that came
        does not count: the clock may have been set right since.
        """
        accepted_at = self._store.inbox.newest_accepted_at()
        if accepted_at is None or local_time.local(accepted_at) is None:
            return None
        return accepted_at - self._now()
