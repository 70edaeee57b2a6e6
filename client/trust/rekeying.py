"""Messages in the outbox for users who were verified in the meantime.

Owns: the change of the key under which a waiting text or file is encrypted.
Promises: messages to a verified contact leave only under a key that was made here and sealed to the
pinned public key, and that key is sent first; what can't be encrypted again is not sent. A message
keeps its token, so that the server stores it once.
Exposure: decrypts our own messages with keys that came from outside.

Source: docs/security.md, "Safety numbers, and what verified covers".
"""

from collections.abc import Callable, Iterator
from typing import Final

from client.crypto import ciphers
from client.crypto.ciphers import SymmetricKey
from client.errors import CipherError
from client.store.home_store import Store
from client.store.outbox import OutboxRow
from client.trust.contacts import Contact, Contacts
from common.values import MessageKind

CHUNK: Final = 256 * 1024


class Rekeying:
    """Puts the outbox's messages under the right keys."""

    def __init__(self, store: Store, contacts: Contacts, put_new_key: Callable[[Contact], None]) -> None:
        self._store = store
        self._contacts = contacts
        self._put_new_key = put_new_key

    def fit(self, row: OutboxRow) -> Iterator[OutboxRow]:
        """Return what may be sent for a waiting message: a key if necessary, then the message under
        it.

        Raises `CipherError` if it can't be sent at all.
        """
        shown = self._contacts.shown_id(row.recipient)
        if row.kind == MessageKind.KEY and not self._contacts.may_leave(row.recipient, row.carries):
            raise CipherError(f"it was sealed to another public key than the one of {shown} that is compared now")
        if row.kind not in {MessageKind.TEXT, MessageKind.FILE} or self._contacts.may_leave(row.recipient, row.under):
            yield row
            return
        contact = Contact(row.recipient, self._contacts.name_of(row.recipient) or row.recipient.hex())
        if not self._contacts.has_sending_key(contact):
            self._put_new_key(contact)
        key = self._contacts.sending_key(contact)
        ahead = self._store.outbox.carrying(key.number)
        if ahead is not None:
            yield ahead
        try:
            body = self._encrypted_anew(row, key.key)
        except CipherError as error:
            problem = (
                f"{shown} was verified after it was encrypted, and it can't be encrypted again ({error}); send it anew"
            )
            raise CipherError(problem) from error
        yield self._store.outbox.encrypted_anew(row, body, key.number)

    def _encrypted_anew(self, row: OutboxRow, key: SymmetricKey) -> bytes | str:
        """Return content, or its spool file's name, of the same size under another key."""
        sent = self._store.sent.by_outbox(row.number)
        if row.kind == MessageKind.TEXT and sent is not None and sent.text is not None:
            return ciphers.encrypt(key, sent.text.encode("utf-8"))
        old = self._contacts.key_numbered(row.recipient, row.under)
        if old is None:
            raise CipherError("its key is not known")
        if row.spool is None:
            return ciphers.encrypt(key, ciphers.decrypt(old, row.content or b""))
        decryptor, encryptor = ciphers.Decryptor(old), ciphers.Encryptor(key)
        spool = self._store.spools.new()
        try:
            for part in self._store.spools.read(row.spool, CHUNK):
                spool.write(encryptor.update(decryptor.update(part)))
            spool.write(encryptor.update(decryptor.finish()) + encryptor.finish())
            return spool.keep()
        except BaseException:
            spool.discard()
            raise
