"""Exchange of symmetric keys: asking for one, making one, and ensuring one to send under.

Owns: when a key is made.
Promises: nothing is encrypted under a key before its message has been sent or queued; a key that
definitely never left is forgotten.
Exposure: seals to the public keys that are pinned, which were trusted at first sight if they were
not compared.

Source: docs/client-protocol.md, "Cryptography".
"""

from client.connection.handshake import Greeting
from client.errors import ClientError, OutcomeUnknown, ServerAnsweredError, ServerUnreachable
from client.mail.outbox import Outbox
from client.mail.send_path import SendPath
from client.mail.suite_choice import SuiteChoice
from client.messages import Sent
from client.store.home_store import Store
from client.store.keys import KeyRow
from client.trust.contacts import Contact, Contacts
from client.trust.directory import Directory
from common.values import MessageKind


class KeyExchange:
    """The keys that are shared with others."""

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        directory: Directory,
        send_path: SendPath,
        outbox: Outbox,
        greeting: Greeting,
        choice: SuiteChoice,
    ) -> None:
        self._choice = choice
        self._store = store
        self._contacts = contacts
        self._directory = directory
        self._send_path = send_path
        self._outbox = outbox
        self._greeting = greeting

    def request_key(self, name: str) -> Sent:
        """Ask a user for a symmetric key (151); under cipher suite 1, for a new session."""
        contact = self._directory.contact(name)
        if self._choice.is_known(contact.client_id):
            offline = self._send_path.catch_up()
            self._outbox.check_room()
            number = self._outbox.sealing.keep_wish(contact.client_id)
            return self._send_path.send_kept(contact, number, offline, is_key=True)
        sent = self._send_path.send(contact, MessageKind.KEY_REQUEST, b"", self._send_path.catch_up())
        self._store.keys.ask(contact.client_id)
        return sent

    def agree_on_key(self, name: str) -> bool:
        """Make sure that there is a symmetric key to send under; return whether one had to be made
        and sent, after fetching the public key.

        One is made, too, if the user has asked for one since: they may have lost the one that is in
        use.

        If that can't be done now, and the account has signed in, the key waits in the outbox
        (`waiting_count`), if the user is known: what is sent under it waits after it, or fails with
        a reason. A failure's `kept` is false: only the key may be kept.
        """
        try:
            return self._agree_on_key(name)
        except ClientError as error:
            error.kept = False
            raise

    def _agree_on_key(self, name: str) -> bool:
        contact = self._directory.contact(name)
        if self._choice.uses_now(contact.client_id):
            # Its keys are made and renewed by themselves.
            return False
        if self._contacts.has_sending_key(contact) and not self._contacts.is_asked_for_key(contact):
            return False
        try:
            self._directory.fetch_published_key(name)
            # If the server names another key than is known, this refuses.
            self.send_key(name)
        except (ServerUnreachable, OutcomeUnknown, ServerAnsweredError) as error:
            if not self._contacts.has_sending_key(contact) or self._contacts.is_asked_for_key(contact):
                offline = self._greeting.has_signed_in and not isinstance(error, ServerAnsweredError)
                if not offline or self._store.pins.of_id(contact.client_id) is None:
                    raise
                self._outbox.put_new_key(contact)
        return True

    def send_key(self, name: str) -> Sent:
        """Make a symmetric key and send it to a user whose public key is here (152); under cipher
        suite 1, begin a new session. Raises `NoPublicKey`.
        """
        contact = self._directory.contact(name)
        if self._choice.is_known(contact.client_id):
            offline = self._send_path.catch_up()
            self._outbox.check_room()
            number = self._outbox.sealing.keep_new_session(contact.client_id)
            return self._send_path.send_kept(contact, number, offline, is_key=True)
        self._contacts.public_key(contact)
        offline = self._send_path.catch_up()
        self._outbox.check_room()
        number, sealed = self._outbox.make_key(contact)
        return self._send_path.send(contact, MessageKind.KEY, sealed, offline, number)

    def keep_key(self, name: str) -> None:
        """Make a symmetric key and put it into the outbox. Raises `NoPublicKey`,
        `KeyChanged`, `OutboxFull`.
        """
        assert self._greeting.has_signed_in
        contact = self._directory.contact(name)
        if self._choice.is_known(contact.client_id):
            self._outbox.check_room()
            self._outbox.sealing.keep_new_session(contact.client_id)
        else:
            self._outbox.put_new_key(contact)

    def key_at_hand(self, contact: Contact) -> KeyRow:
        """Return a key to send under; if there was none, or one was asked for, a new one that is
        put into the outbox.
        """
        if not self._contacts.has_sending_key(contact) or self._contacts.is_asked_for_key(contact):
            self._outbox.put_new_key(contact)
        return self._contacts.sending_key(contact)
