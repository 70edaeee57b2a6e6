"""Texts and files on their way out, at once or in two steps.

Owns: what is encrypted, under which key, and what the history keeps of it.
Promises: what is kept is on disk when `keep_text` and `keep_file` return; a file that changes while it is sent is not.
Exposure: reads the files that the user names.

Source: docs/client-protocol.md; docs/guarantees.md.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from client import ciphers, paths
from client.agreement import Agreement
from client.contacts import Contact, Contacts
from client.directory import Directory
from client.dispatch import Dispatch
from client.history import History
from client.insistence import Insistence
from client.line import Line
from client.mail import Sent, SentMessage
from client.outbox import Outbox
from client.outgoing_file import bytes_to_send, encrypted_file, file_to_send, spooled
from client.server_link import Progress
from client.tables.keys import KeyRow
from client.tables.sent import Outgoing
from common.errors import ClientError, FileUnreadable, ServerUnreachable, ValueRejected
from common.values import MessageKind
from common.wire.codes import Feature
from common.wire.fields import LARGEST_CONTENT, SEND_HEAD
from common.wire.requests import LargeSendRequest


class Sending:
    """What a user sends."""

    def __init__(
        self,
        line: Line,
        contacts: Contacts,
        directory: Directory,
        agreement: Agreement,
        dispatch: Dispatch,
        outbox: Outbox,
        history: History,
        insistence: Insistence,
    ) -> None:
        self._account, self._store, self._link, self._greeting = line
        self._contacts = contacts
        self._directory = directory
        self._agreement = agreement
        self._dispatch = dispatch
        self._outbox = outbox
        self._history = history
        self._insistence = insistence

    def send_text(self, name: str, text: str) -> Sent:
        """Send a text under the shared key (150). Raises `NoSharedKey`, `ValueRejected` (no Unicode)."""
        contact = self._directory.contact(name)
        plain = plain_text(text)
        had_key = self._contacts.has_sending_key(contact)
        offline = self._dispatch.catch_up()
        key = self._key_after_catching_up(contact, offline, had_key=had_key)
        content = ciphers.encrypt(key.key, plain)
        return self._dispatch.send(
            contact, MessageKind.TEXT, content, offline, under=key.number, outgoing=Outgoing(text, None)
        )

    def send_file(
        self, name: str, path: Path, progress: Progress | None = None, preparing: Progress | None = None
    ) -> Sent:
        """Send a file's bytes under the shared key (153).

        Through the outbox they are encrypted first, which `preparing` is told of. A large file starts over by itself
        when the connection breaks. Raises `FileUnreadable`, `NoSharedKey`.
        """
        outgoing = Outgoing(None, paths.kept(path.absolute()))
        return self._send_contents(name, path, file_to_send(path), outgoing, progress, preparing)

    def send_bytes(
        self, name: str, data: bytes, progress: Progress | None = None, preparing: Progress | None = None
    ) -> Sent:
        """Send the contents of a file that is nowhere but in memory, as `send_file` does; the history has no path."""
        return self._send_contents(
            name, Path("the data"), bytes_to_send(data), Outgoing(None, None), progress, preparing
        )

    def _send_contents(
        self,
        name: str,
        path: Path,
        opening: AbstractContextManager[tuple[int, int]],
        outgoing: Outgoing,
        progress: Progress | None,
        preparing: Progress | None,
    ) -> Sent:
        contact = self._directory.contact(name)
        had_key = self._contacts.has_sending_key(contact)
        offline = self._dispatch.catch_up(progress)
        key = self._key_after_catching_up(contact, offline, had_key=had_key)
        with opening as (descriptor, plain_size):
            size = ciphers.encrypted_size(plain_size)
            self._check_size(size)
            if not self._dispatch.goes_through_the_outbox(offline):
                request = LargeSendRequest(
                    self._account.identity().client_id, contact.client_id, MessageKind.FILE, size
                )

                def ask(watch: Progress) -> Sent:
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    parts = encrypted_file(descriptor, path, plain_size, key.key, watch)
                    return self._dispatch.ask_to_store(contact, request, parts)

                # Where all of it was out and no answer came, nobody knows whether the server has it.
                again = (ServerUnreachable,)
                return self._dispatch.noted(
                    contact, request.kind, outgoing, lambda: self._insistence.do(ask, progress, again)
                )
            self._outbox.check_room()
            parts = encrypted_file(descriptor, path, plain_size, key.key, preparing)
            content = spooled(self._store.spools, parts, size)
        return self._dispatch.send_once(
            contact, MessageKind.FILE, size, content, offline, under=key.number, progress=progress, outgoing=outgoing
        )

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, behind a new symmetric key where there is none to send under.

        It is on disk when this returns. Raises `NoPublicKey`, `KeyChanged`, `OutboxFull`, `ValueRejected`.
        """
        assert self._greeting.has_proven
        contact = self._directory.contact(name)
        plain = plain_text(text)
        key = self._agreement.key_at_hand(contact)
        content = ciphers.encrypt(key.key, plain)
        return self._keep(contact, MessageKind.TEXT, len(content), content, Outgoing(text, None), key.number)

    def keep_file(self, name: str, path: Path, progress: Progress | None = None) -> SentMessage:
        """Put a file into the outbox, encrypted, as `keep_text` does a text. Raises `FileUnreadable` too."""
        assert self._greeting.has_proven
        contact = self._directory.contact(name)
        with file_to_send(path) as (descriptor, plain_size):
            size = ciphers.encrypted_size(plain_size)
            self._check_size(size)
            key = self._agreement.key_at_hand(contact)
            content = spooled(self._store.spools, encrypted_file(descriptor, path, plain_size, key.key, progress), size)
        outgoing = Outgoing(None, paths.kept(path.absolute()))
        return self._keep(contact, MessageKind.FILE, size, content, outgoing, key.number)

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits, the oldest first. Raises what `ServerLink.ask` raises; `ServerAnsweredError` where the
        server does not take `watched` now, or ever.
        """
        me = self._account.identity().client_id
        self._link.connect()
        if self._greeting.offers(Feature.SEND_ONCE):
            self._outbox.flush(me, None if watched is None else watched.outbox, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Give the present state of a message that went through the outbox."""
        found = None if message.outbox is None else self._history.by_outbox(message.outbox)
        return message if found is None else found

    def _key_after_catching_up(self, contact: Contact, offline: ClientError | None, *, had_key: bool) -> KeyRow:
        """A key to send under; a new one where the one that waited was set aside meanwhile. Raises `NoSharedKey`."""
        if had_key and self._dispatch.goes_through_the_outbox(offline):
            return self._agreement.key_at_hand(contact)
        return self._contacts.sending_key(contact)

    def _keep(
        self, contact: Contact, kind: MessageKind, size: int, content: bytes | str, outgoing: Outgoing, under: int
    ) -> SentMessage:
        number = self._outbox.put(contact.client_id, kind, size, content, None, outgoing, under)
        kept = self._history.by_outbox(number)
        assert kept is not None
        return kept

    def _check_size(self, size: int) -> None:
        session = self._greeting.session
        largest = LARGEST_CONTENT if session is None else min(LARGEST_CONTENT, session.max_payload - SEND_HEAD.size)
        if size > largest:
            raise FileUnreadable(
                "The file is too large for this server; nothing was sent.",
                f"It takes {largest:,} bytes, and encrypted the file has {size:,}.",
            )


def plain_text(text: str) -> bytes:
    """Give a text as it is encrypted. Raises `ValueRejected`."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueRejected("The text is not valid Unicode; nothing was sent.") from error
