"""Users, ids and public keys, as the server names them and as they are pinned.

Owns: asking the server about users, and comparing its answers with the pins.
Promises: while the server names another key or account for somebody who is known, no `Contact` of
that name is given. The own name means this account, with the key that this home holds, whatever the
server says of it.
Exposure: all of it comes from a server that may lie; `client.trust.trust` judges it.

Source: docs/client-protocol.md; docs/security.md.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from client.connection.server_errors import refused, unexpected
from client.connection.server_link import ServerLink
from client.crypto import ciphers
from client.errors import (
    CipherError,
    ClientError,
    InvalidServerResponse,
    KeyChanged,
    NameUnknown,
    OutcomeUnknown,
    ServerUnreachable,
)
from client.identity.account import Account
from client.mail.intake import check_list
from client.mail.suite_choice import SuiteChoice
from client.messages import FetchedKey
from client.store.home_store import Store
from client.suite1 import identity_numbers
from client.trust.contacts import Contact, Contacts
from client.trust.trust import Trust, Verification, number_differs
from client.trust.user_link import UserLink
from common.client_protocol.client_connection import ListBegins
from common.client_protocol.requests import ListUsersRequest, PublicKeyRequest, RequestCode
from common.client_protocol.responses import USER, ErrorResponse, PublicKeyResponse, ResponseCode, UserListed
from common.names import normal_form

MOST_USERS: Final = 2_000_000
"""The most users of a list that is accepted; the format has room for 15 million."""


class MetAgain(NamedTuple):
    """Names of known users: those at the server with the same key, with another key, and not there
    at all.
    """

    here: list[str]
    changed: list[str]
    missing: list[str]


class Directory:
    """The users of the server, as this home knows them."""

    def __init__(
        self,
        account: Account,
        store: Store,
        link: ServerLink,
        contacts: Contacts,
        trust: Trust,
        choice: SuiteChoice,
    ) -> None:
        self._choice = choice
        self._account = account
        self._store = store
        self._link = link
        self._contacts = contacts
        self._trust = trust

    def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered, in its order."""
        me = self._account.identity().client_id
        users: list[Contact] = []

        def kept() -> Iterator[Contact]:
            for user in self._listed():
                users.append(user)
                yield user

        self._contacts.take_list(kept())
        # Some servers also list the user who asks.
        return [user for user in users if user.client_id != me]

    def _take_list(self) -> None:
        """As `users`, for callers that only read the store afterwards."""
        self._contacts.take_list(self._listed())

    def _listed(self) -> Iterator[Contact]:
        for event in self._link.ask_list(ListUsersRequest(self._account.identity().client_id)):
            match event:
                case UserListed(client_id, name):
                    yield Contact(client_id, name)
                case _:
                    check_list(event, RequestCode.LIST_USERS, ResponseCode.USERS)
                    if isinstance(event, ListBegins) and event.payload_size > MOST_USERS * USER.size:
                        raise InvalidServerResponse(
                            f"The server lists {event.payload_size // USER.size:,} users, and this program takes "
                            f"{MOST_USERS:,} at most.",
                            "Check that server.info leads to a MessageU server.",
                        )

    def contact(self, name: str) -> Contact:
        """Find a user by name, asking the server if the name is new.

        The own name is this account: what is sent to it is a note to oneself. Raises `NameUnknown`,
        and `KeyChanged` if the server names another key or account than is known.
        """
        if self._is_own(name):
            return self._meet_self()
        found = self._find(name)
        if self._trust.moved(found.client_id, found.name):
            self._take_public_key(found)
        self._trust.check(found.client_id, found.name)
        return found

    def known(self, name: str) -> Contact:
        """Find another user by name, whoever has the name now. Raises `NameUnknown`."""
        return self._find(name)

    def _find(self, name: str) -> Contact:
        """Find somebody else by name."""
        if self._is_own(name):
            raise NameUnknown("That is your own name.", "Name somebody else.")
        found = self._contacts.listed(name)
        if found is None:
            self._take_list()
            found = self._contacts.listed(name)
        if found is None:
            raise self._unknown(name)
        return found

    def _unknown(self, name: str) -> NameUnknown:
        unknown = self._contacts.unknown(name)
        if name.casefold() != "me":
            return unknown
        own = self._account.identity().name
        return NameUnknown(str(unknown), f"{unknown.advice} Your own name is {own}.", unknown.nearest)

    def _is_own(self, name: str) -> bool:
        return self._account.identity().name in {name, normal_form(name)}

    def _meet_self(self) -> Contact:
        """Pin this account under the key of this home. No server is asked."""
        identity = self._account.identity()
        own = Contact(identity.client_id, identity.name)
        self._trust.meet_self(own.client_id, own.name, identity.private_key.public_key())
        return own

    def fetch_public_key(self, name: str) -> FetchedKey:
        """Ask the server for a user's public key; it is trusted if it is the first one.

        Raises `CipherError` if it is not a usable key.
        """
        contact, changed = self.fetch_published_key(name)
        if self._is_own(name):
            return FetchedKey(contact, changed)
        return FetchedKey(contact, self._take_suite_keys(contact) or changed)

    def fetch_published_key(self, name: str) -> FetchedKey:
        """As `fetch_public_key`, without asking for keys of cipher suite 1."""
        if self._is_own(name):
            return FetchedKey(self._meet_self(), changed=False)
        contact = self._find(name)
        return FetchedKey(contact, self._take_public_key(contact))

    def pin(self, contact: Contact) -> None:
        """Remember the account that a name means, if it is new: another one is noticed from then
        on. Raises what `fetch_public_key` raises.
        """
        if self._store.pins.of_id(contact.client_id) is None:
            self._take_public_key(contact)
            self._trust.check(contact.client_id, contact.name)

    def _take_suite_keys(self, contact: Contact) -> bool:
        """Ask for a user's keys of cipher suite 1, if this connection has it; return whether they
        are others than are known.
        """
        client_id = contact.client_id
        try:
            if self._choice.is_on() and self._choice.is_known(client_id):
                self._choice.claim(client_id)
            else:
                self._choice.uses(client_id, again=True)
        except KeyChanged:
            return True
        return False

    def _take_public_key(self, contact: Contact) -> bool:
        """Fetch a public key; return whether it is another one than is known."""
        answer = self._link.ask(PublicKeyRequest(self._account.identity().client_id, contact.client_id))
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.PUBLIC_KEY, answer)
        if not isinstance(answer, PublicKeyResponse) or answer.client_id not in {None, contact.client_id}:
            raise unexpected(answer)
        try:
            ciphers.check_public_key(answer.public_key)
        except CipherError as error:
            raise CipherError(
                f"The public key that {self._contacts.shown(contact)} registered can't be used: {error}.",
                "Its owner has to register with another program.",
            ) from error
        return self._trust.meet(contact.client_id, contact.name, answer.public_key)

    def meet(self, name: str) -> Contact:
        """Find a user and their public key, asking the server for what is not known yet. Afterwards
        `keep_text` and `keep_file` need no server. Raises what `contact` and `fetch_public_key`
        raise.
        """
        contact = self.contact(name)
        if self._store.pins.of_id(contact.client_id) is None:
            self._take_public_key(contact)
        with suppress(ServerUnreachable, OutcomeUnknown):
            self._choice.uses_now(contact.client_id)
        return contact

    def verification(self, name: str) -> Verification:
        """Return the safety number with a user, after asking the server for their key."""
        self._take_list()
        self.fetch_public_key(name)
        return self._verification(name)

    def _verification(self, name: str) -> Verification:
        contact = self._find(name)
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(contact.client_id)
        assert pin is not None
        peer = self._trust.peer(pin.client_id)
        number, offered = self._trust.number(pin), self._trust.offered_number(pin)
        if peer is None or peer.is_undecided:
            since = pin.offered_since if peer is None else peer.offered_since
            return Verification(pin.name, pin.client_id, number, pin.since, pin.verified_at, offered, since)
        changed_at = peer.offered_since or pin.offered_since
        return Verification(pin.name, pin.client_id, number, peer.since, peer.verified_at, offered, changed_at, suite=1)

    def accept_new_key(self, name: str, number: str | None = None) -> Verification:
        """Pin what the server names now. Earlier symmetric keys are no longer used for sending.

        With `number`, the one that was shown, raises `SafetyNumberDiffers` if the server has named
        a third key since.
        """
        contact = self._find(name)
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(contact.client_id)
        if pin is not None:
            if number is not None and self._trust.offered_number(pin) != number:
                raise number_differs(name)
            self._trust.accept(pin, name)
        return self._verification(name)

    def mark_verified(self, name: str, number: str | None = None) -> Verification:
        """Note that both sides saw the same safety number. Raises `KeyChanged`.

        With `number`, the one that was compared, raises `SafetyNumberDiffers` if another process
        has changed it since.
        """
        pin = self._trust.pin(self.contact(name).name)
        assert pin is not None
        if number is not None and self._trust.number(pin) != number:
            raise number_differs(name)
        self._trust.verify(pin)
        return self._verification(name)

    def compare_link(self, link: UserLink) -> Verification:
        """Compare a user's keys of suite 1 with the fingerprint in a link of theirs: if they match,
        the user is verified. Of somebody who is not known by keys yet, no others are believed from
        now on.

        Raises `SafetyNumberDiffers`, `KeysWithheld`, and what `contact` raises.
        """
        contact = self._find(link.name)
        self._take_public_key(contact)
        with suppress(KeyChanged):
            self._choice.expect(contact.client_id, link.fingerprint)
        if not self._trust.verify_fingerprint(contact.client_id, link.fingerprint):
            raise number_differs(link.name)
        return self._verification(link.name)

    def own_link(self) -> UserLink | None:
        """Return the link that lets others verify this account; None before it has keys of suite
        1.
        """
        own = self._trust.own_identity()
        if own is None:
            return None
        return UserLink(self._account.identity().name, identity_numbers.fingerprint(*own))

    def suite_of(self, contact: Contact) -> int:
        """Return the cipher suite of what is sent to a user, as far as is known: 0 is the published
        one.
        """
        return int(self._choice.is_known(contact.client_id))

    def meet_again(self) -> "MetAgain":
        """Find out which known users are at a server that is new to this home, and under which
        keys. A user with the same name and key is the same person, with all that is known of them.
        """
        self._take_list()
        met = MetAgain([], [], [])
        own = self._account.identity().client_id
        for pin in self._store.pins.all():
            found = self._contacts.listed(pin.name)
            if pin.client_id == own or self._store.settings.is_own(pin.client_id):
                continue
            if found is None:
                met.missing.append(pin.name)
            elif self._take_public_key(found):
                met.changed.append(pin.name)
            else:
                met.here.append(pin.name)
        return met

    def is_listed(self, contact: Contact) -> bool:
        """Whether a user is on the server's last list."""
        row = self._store.contacts.of_id(contact.client_id)
        return row is not None and row.listed

    def is_verified_name(self, name: str) -> bool:
        """Whether the key that is pinned for a name was compared, and the server names no
        other one.
        """
        pin = self._trust.pin(name) or self._trust.pin(normal_form(name))
        return pin is not None and self._trust.is_verified(pin.client_id)

    def is_verified(self, contact: Contact) -> bool:
        """Whether a user's key was compared, and the server names no other one."""
        return self._trust.is_verified(contact.client_id)

    def fingerprint(self, name: str) -> str:
        """Return the SHA-256 of a contact's public key, in hex. Raises `NoPublicKey`."""
        return hashlib.sha256(self._contacts.public_key(self.contact(name))).hexdigest()

    def own_fingerprint(self) -> str:
        """Return the SHA-256 of our own public key, in hex. Raises `NotRegistered`."""
        return hashlib.sha256(self._account.identity().private_key.public_key()).hexdigest()

    def look_up_names(self) -> None:
        """Fetch the list of users, if the server can be asked."""
        with suppress(ClientError):
            # Without the list, a message is shown with its sender's id.
            self._take_list()
