"""Known users: names, ids, public keys, shared keys.

Owns: which id a name means, which names are similar to a mistyped one, which key encrypts and which
may decrypt. Promises: a name means the user to whom the server's last list assigns it; a shared key
is kept for decrypting. Exposure: names come from the server and are not checked; in sentences they
are sanitized.

Source: docs/client-protocol.md, "Cryptography".
"""

import difflib
from collections.abc import Iterable
from typing import Final, NamedTuple

from client.crypto.ciphers import SymmetricKey
from client.errors import NameUnknown, NoPublicKey, NoSharedKey
from client.store.home_store import Store
from client.store.keys import KeyRow
from client.terminal.sanitize import marked, visible_name
from common.names import normal_form
from common.values import ClientId, PublicKey

_NEAREST: Final = 3
_LOOKED_AT: Final = 1_000
"""The most similar names on each side of a mistyped one, and the most keys of a contact that are
tried for a file.
"""
_LIST_USERS: Final = "`messageu users`, or 120 in the console, lists everybody the server knows."


class Contact(NamedTuple):
    """A user of the server."""

    client_id: ClientId
    name: str


class Contacts:
    """The store's contacts, by name and by id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take_list(self, users: Iterable[Contact]) -> None:
        """Take over the server's list."""
        self._store.contacts.replace_list(users)

    def listed(self, name: str) -> Contact | None:
        """Return who has this name by the server's last list; None if nobody has, or more than one.
        The name need not be typed in its normal form.
        """
        for spelling in dict.fromkeys((name, normal_form(name))):
            found = self._store.contacts.listed_as(spelling)
            if found:
                return Contact(found[0], spelling) if len(found) == 1 else None
        return None

    def unknown(self, name: str) -> NameUnknown:
        """Make the error for an unknown name, with similar names."""
        if len(self._store.contacts.listed_as(name)) > 1:
            return NameUnknown(
                "The server lists this name more than once.", "It can't be used until the server is repaired."
            )
        # In a very long list, the names near it in the alphabet, in this or the usual spellings.
        spellings = dict.fromkeys((name, name.lower(), name.upper(), name.capitalize()))
        names = sorted({near for one in spellings for near in self._store.contacts.names_near(one, _LOOKED_AT)})
        other_case = [known for known in names if known.casefold() == name.casefold()]
        close = difflib.get_close_matches(name, names, n=_NEAREST)
        nearest = tuple(dict.fromkeys(other_case + close))[:_NEAREST]
        meant = [self._shown_name(near) for near in nearest]
        advice = f"Did you mean {' or '.join(meant)}?" if nearest else _LIST_USERS
        return NameUnknown("The server knows nobody of that name.", advice, nearest)

    def _shown_name(self, name: str) -> str:
        found = self.listed(name)
        return visible_name(name) if found is None else self.shown(found)

    def name_of(self, client_id: ClientId) -> str | None:
        """Return the name behind an id, also of somebody who is not listed any more."""
        pin = self._store.pins.of_id(client_id)
        if pin is not None:
            # Whatever name the server gives them now.
            return pin.name
        row = self._store.contacts.of_id(client_id)
        if self.present_id(client_id) != client_id:
            # An id that they had before.
            return None if row is None else row.name
        if row is not None and self._store.pins.of_name(row.name) is not None:
            return f"{row.name} (not the one you know, {client_id.hex()[:8]})"
        return None if row is None else row.name

    def present_id(self, client_id: ClientId) -> ClientId:
        """Return the id that somebody has now, who had this one before, under the same name and
        key; else the same.
        """
        row = self._store.contacts.of_id(client_id)
        pin = None if row is None or row.public_key is None else self._store.pins.of_name(row.name)
        return pin.client_id if pin is not None and row is not None and pin.public_key == row.public_key else client_id

    def shown(self, contact: Contact) -> str:
        """Return a name for a sentence: sanitized, with a mark if the user was verified."""
        pin, peer = self._store.pins.of_id(contact.client_id), self._store.peers.of_id(contact.client_id)
        changed = (pin is not None and pin.offered_key is not None) or (peer is not None and peer.offered is not None)
        if peer is None or peer.is_undecided:
            compared = pin is not None and pin.verified_at is not None
        else:
            compared = peer.verified_at is not None
        return marked(contact.name, ("was verified" if changed else "verified") if compared else None)

    def shown_id(self, client_id: ClientId) -> str:
        """As `shown`, by the id."""
        return self.shown(Contact(client_id, self.name_of(client_id) or client_id.hex()))

    def public_key(self, contact: Contact) -> PublicKey:
        """Return a contact's public key. Raises `NoPublicKey`."""
        pin = self._store.pins.of_id(contact.client_id)
        if pin is None:
            raise NoPublicKey(
                f"The public key of {self.shown(contact)} is not here yet.", "Ask the server for it, with 130."
            )
        return pin.public_key

    def sending_key(self, contact: Contact) -> KeyRow:
        """Return the newest key that the contact is known to have. Raises `NoSharedKey`.

        For a verified contact only one that was made here and sealed to the pinned public key.
        """
        row = self._sending_row(contact)
        if row is not None:
            return row
        raise NoSharedKey(
            f"No symmetric key is shared with {self.shown(contact)}.",
            "Ask for one with 151, or make and send one with 152.",
        )

    def is_asked_for_key(self, contact: Contact) -> bool:
        """Whether the contact has asked for a key since the current one was made: they may have
        lost it.
        """
        row = self._sending_row(contact)
        return row is not None and self._store.keys.asked_since(contact.client_id, row.number)

    def has_sending_key(self, contact: Contact) -> bool:
        """Whether there is a key that the contact is known to have."""
        return self._sending_row(contact) is not None

    def _sending_row(self, contact: Contact) -> KeyRow | None:
        pin = self._store.pins.of_id(contact.client_id)
        sealed_to = None if pin is None or pin.verified_at is None else pin.public_key
        return self._store.keys.newest_usable(contact.client_id, sealed_to)

    def may_leave(self, client_id: ClientId, key: int | None) -> bool:
        """Whether what is encrypted under, or carries, a key with this number may be sent to
        somebody now.

        For a verified contact, only a key that was made here and sealed to the pinned public key.
        None: the key is unknown, in a store of an earlier version.
        """
        pin = self._store.pins.of_id(client_id)
        if pin is None or pin.verified_at is None:
            return True
        row = None if key is None else self._store.keys.numbered(client_id, key)
        return row is not None and row.made and row.sealed_to == pin.public_key

    def key_numbered(self, client_id: ClientId, number: int | None) -> SymmetricKey | None:
        """Return the key with a number that is shared with somebody."""
        row = None if number is None else self._store.keys.numbered(client_id, number)
        return None if row is None else row.key

    def copied_key(self, old: ClientId, number: int | None, new: ClientId) -> int | None:
        """Return the number of a key of somebody's former id among those of the present one."""
        key = self.key_numbered(old, number)
        return next((row.number for row in self._store.keys.of(new) if row.key == key), None)

    def decrypting_keys(self, client_id: ClientId, message: int) -> list[SymmetricKey]:
        """Return the keys that a message with this inbox number may be under, the
        likeliest first.
        """
        return [row.key for row in self._store.keys.near(client_id, message)]

    def file_keys(self, client_id: ClientId) -> list[SymmetricKey]:
        """Return the keys that a file of this sender may be under: the newest of each direction,
        the likelier one first.

        Each side of two that verified each other sends under a key of its own; of others, keys of
        both sides may have crossed on the way, and then each side holds the other's for the newest.
        """
        rows = self._store.keys.newest(client_id, _LOOKED_AT)
        pin = self._store.pins.of_id(client_id)
        newest = [row for made in (False, True) for row in [row for row in rows if row.made == made][:1]]
        if pin is None or pin.verified_at is None:
            newest.sort(key=lambda row: row.number, reverse=True)
        return [row.key for row in newest]
