"""Blocking and muting senders.

Owns: the order: the home first, then the server.
Promises: it takes effect in this home at once, whatever the server does; the server is told now if
possible, otherwise at the next sign-in (`client.connection.handshake`).
Exposure: none of its own.

Source: docs/client.md, "Blocking and muting".
"""

from enum import Enum, auto
from typing import NamedTuple

from client.client_context import ClientContext
from client.errors import ClientError
from client.store.silenced import SilencedRow
from client.trust.contacts import Contact, Contacts
from client.trust.directory import Directory
from common.client_protocol.versions import Feature
from common.values import ClientId


class Told(Enum):
    """What the server has been told."""

    YES = auto()
    LATER = auto()
    """It could not be reached."""
    REFUSED = auto()
    """It refuses it now: it does not know that id, or the list is full."""
    NEVER = auto()
    """It has no such request."""


class Silenced(NamedTuple):
    """A sender's state: blocked, muted, both or neither. `server_refuses`: the server knows of the
    block, and keeps their messages away.
    """

    contact: Contact
    blocked: bool
    muted: bool
    server_refuses: bool


class Blocking:
    """The senders whom this user has blocked or muted."""

    def __init__(self, context: ClientContext, contacts: Contacts, directory: Directory) -> None:
        self._account, self._store, self._link, self._greeting = context
        self._contacts = contacts
        self._directory = directory

    def block(self, name: str, *, blocked: bool = True) -> tuple[Contact, Told]:
        """Block a sender, or let them write again; return the contact, and what the server was
        told.

        Raises `NameUnknown`, and what asking for the list of users raises if the name is new.
        """
        contact = self._directory.known(name)
        self._store.silenced.block(contact.client_id, blocked=blocked)
        return contact, self._tell(contact)

    def mute(self, name: str, *, muted: bool = True) -> Contact:
        """Stop or resume announcing a sender's messages. Raises what `block` raises."""
        contact = self._directory.known(name)
        self._store.silenced.mute(contact.client_id, muted=muted)
        return contact

    def is_silent(self, client_id: ClientId) -> bool:
        """Whether a sender's messages are not announced: the sender is muted or blocked."""
        return self._store.silenced.is_silent(client_id)

    def all(self) -> list[Silenced]:
        """Return the senders who are blocked or muted, by name."""
        found = [self._shown(row) for row in self._store.silenced.all()]
        return sorted(found, key=lambda one: one.contact.name)

    def state(self, contact: Contact) -> Silenced:
        """Return a sender's state."""
        return self._shown(self._store.silenced.of_id(contact.client_id))

    def _shown(self, row: SilencedRow) -> Silenced:
        name = self._contacts.name_of(row.client_id) or row.client_id.hex()
        refused = row.blocked and not self._is_owed(row.client_id)
        return Silenced(Contact(row.client_id, name), row.blocked, row.muted, refused)

    def _is_owed(self, client_id: bytes) -> bool:
        server = self._store.server.known()
        return server is None or any(row.client_id == client_id for row in self._store.silenced.owed(server.generation))

    def _tell(self, contact: Contact) -> Told:
        # A new sign-in tells the server; an earlier one does not count.
        self._link.close()
        try:
            self._link.connect()
        except ClientError:
            return Told.LATER
        if not self._greeting.offers(Feature.BLOCKING):
            return Told.NEVER
        return Told.REFUSED if self._is_owed(contact.client_id) else Told.YES
