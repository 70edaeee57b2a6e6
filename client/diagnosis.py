"""Facts about the state of a home, which `doctor` judges.

Owns: looking at the store, the files with keys, the clock and the server's features.
Promises: changes nothing at the server; in the home no more than a greeting does.
Exposure: what the server says about itself and the time is only shown.

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
from client.suite1.own_keys import OwnKeys
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


class SuiteState(NamedTuple):
    """Our keys of cipher suite 1: how many one-time keys the server keeps, None if it has none of
    our keys yet; whether what is published is out of date.
    """

    kept: int | None
    out_of_date: bool


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
        """Why only a copy of the home's store could be opened, to be read; None if it is the store
        itself.
        """
        return self._store.unwritable

    def check_store(self) -> None:
        """Check every page of the store. Raises `StoreUnusable` if it is damaged."""
        self._store.check()

    def damaged_rows(self) -> list[str]:
        """Return the names of the rows whose sealed content was altered or is damaged."""
        return self._store.sealing.damaged_rows()

    def key_protection(self) -> KeyProtection:
        """Return what the passphrase of the home protects. Raises `InfoFileError`."""
        return KeyProtection(
            self._store.sealing.has_passphrase,
            identity_files.with_encrypted_keys(self._home),
            identity_files.with_plain_keys(self._home),
        )

    def changed_keys(self) -> list[Contact]:
        """Return the contacts for whom the server named another key or account than is known."""
        changed = {pin.client_id: pin.name for pin in self._store.pins.changed()}
        for client_id in self._store.peers.changed():
            pin = self._store.pins.of_id(client_id)
            changed.setdefault(client_id, client_id.hex() if pin is None else pin.name)
        return [Contact(client_id, name) for client_id, name in changed.items()]

    def suite_1(self) -> SuiteState | None:
        """Return the state of cipher suite 1 in this home; None before it has keys. Raises
        `StoreUnusable`, `CipherError`.
        """
        row = self._store.own_keys.get()
        if row is None:
            return None
        keys = OwnKeys.from_bytes(row.state)
        return SuiteState(keys.kept, keys.outer[-1].valid_until < self._now())

    def server_features(self) -> list[str]:
        """Connect, and return the names of the extension's features; none with the published
        protocol alone.

        A server that was silent before is asked again.
        """
        self._greeting.ask_again()
        self._link.connect()
        session = self._greeting.session
        if session is None:
            return []
        return [(feature.name or "").lower().replace("_", " ") for feature in Feature if feature & session.features]

    def server_about(self) -> AboutResponse | None:
        """What the server says of itself, or None. Raises what `server_features` raises."""
        return about.ask(self._link, self._greeting)

    def clock_behind(self) -> int | None:
        """Return by how many milliseconds our clock is surely behind the server's, now; None if it
        is not known.

        That is so if the server accepted a message at a time that is still to come here. The clock
        at the message's arrival does not count: it may have been corrected since.
        """
        accepted_at = self._store.inbox.newest_accepted_at()
        if accepted_at is None or local_time.local(accepted_at) is None:
            return None
        return accepted_at - self._now()
