"""Sending texts and files, in one step or two.

Owns: what is encrypted, under which key, and what the history keeps of it.
Promises: what is kept is on disk when `keep_text` and `keep_file` return; a file that changes while
it is sent is not.
Exposure: reads the files that the user names.

Source: docs/client-protocol.md; docs/guarantees.md.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path

from client import paths
from client.client_context import ClientContext
from client.connection.retry import Retry
from client.connection.server_link import Progress
from client.crypto import ciphers
from client.crypto.ciphers import SymmetricKey
from client.errors import ClientError, FileUnreadable, ServerUnreachable
from client.mail.history import History
from client.mail.outbox import Outbox
from client.mail.outgoing_file import (
    ToSend,
    bytes_to_send,
    check_file,
    encrypted_file,
    encrypted_stream,
    file_to_send,
    inherited,
    spooled,
)
from client.mail.send_path import SendPath
from client.mail.suite_choice import SuiteChoice
from client.mail.suite_files import read_parts
from client.messages import Sent, SentMessage
from client.store.keys import KeyRow
from client.store.sent import Outgoing
from client.suite1 import file_stream
from client.trust.contacts import Contact, Contacts
from client.trust.directory import Directory
from client.trust.key_exchange import KeyExchange
from common.client_protocol.requests import SEND_HEAD, LargeSendRequest
from common.client_protocol.responses import LARGEST_CONTENT
from common.client_protocol.versions import Feature
from common.errors import ValueRejected
from common.values import MessageKind


class Sending:
    """A user's texts and files."""

    def __init__(
        self,
        context: ClientContext,
        contacts: Contacts,
        directory: Directory,
        key_exchange: KeyExchange,
        send_path: SendPath,
        outbox: Outbox,
        history: History,
        retry: Retry,
        choice: SuiteChoice,
    ) -> None:
        self._account, self._store, self._link, self._greeting = context
        self._contacts = contacts
        self._directory = directory
        self._key_exchange = key_exchange
        self._send_path = send_path
        self._outbox = outbox
        self._history = history
        self._retry = retry
        self._choice = choice
        self._read_already: set[int] = set()

    def send(
        self,
        name: str,
        content: str | PathLike[str] | bytes,
        progress: Progress | None = None,
        preparing: Progress | None = None,
    ) -> Sent:
        """Send a text, a file by its path, or bytes as a file, after a symmetric key if none is
        shared yet.

        Content that surely can't be sent is refused first, before a key is sent. See
        `Messenger.send`.
        """
        if content == "":
            raise ValueRejected("There is no text to send.")
        if isinstance(content, bytes):
            self._key_exchange.agree_on_key(name)
            return self.send_bytes(name, content, progress, preparing)
        if isinstance(content, str):
            plain_text(content)
            self._key_exchange.agree_on_key(name)
            return self.send_text(name, content)
        path = Path(content)
        check_file(path)
        self._key_exchange.agree_on_key(name)
        return self.send_file(name, path, progress, preparing)

    def send_text(self, name: str, text: str) -> Sent:
        """Send a text under cipher suite 1, or the shared key (150). Raises `NoSharedKey`,
        `ValueRejected` (no Unicode).
        """
        contact = self._directory.contact(name)
        plain = plain_text(text)
        had_key = self._contacts.has_sending_key(contact)
        offline = self._send_path.catch_up()
        if self._goes_under_suite_1(contact, offline):
            self._outbox.check_room()
            number = self._outbox.sealing.keep_text(contact.client_id, text)
            return self._send_path.send_kept(contact, number, offline)
        key = self._key_after_catching_up(contact, offline, had_key=had_key)
        content = ciphers.encrypt(key.key, plain)
        return self._send_path.send(
            contact, MessageKind.TEXT, content, offline, under=key.number, outgoing=Outgoing(text, None)
        )

    def send_file(
        self,
        name: str,
        path: Path,
        progress: Progress | None = None,
        preparing: Progress | None = None,
        called: str | None = None,
    ) -> Sent:
        """Send a file under cipher suite 1, or its bytes under the shared key (153); the history
        shows the path, or the name `called`.

        Through the outbox they are encrypted first, which is reported to `preparing`. So are those
        of unknown size, with the published protocol too: a pipe can't be read again. A large file
        starts over by itself when the connection breaks. Raises `FileUnreadable`, `NoSharedKey`,
        `StoreUnusable` (no room).
        """
        outgoing = Outgoing(None, paths.kept(path.absolute()) if called is None else paths.plain(called))
        return self._send_contents(name, path, file_to_send(path), outgoing, progress, preparing)

    def send_bytes(
        self, name: str, data: bytes, progress: Progress | None = None, preparing: Progress | None = None
    ) -> Sent:
        """Send bytes in memory as a file, as `send_file` does; the history has no path."""
        return self._send_contents(
            name, Path("the data"), bytes_to_send(data), Outgoing(None, None), progress, preparing
        )

    def _send_contents(
        self,
        name: str,
        path: Path,
        opening: AbstractContextManager[ToSend],
        outgoing: Outgoing,
        progress: Progress | None,
        preparing: Progress | None,
    ) -> Sent:
        contact = self._directory.contact(name)
        had_key = self._contacts.has_sending_key(contact)
        offline = self._send_path.catch_up(progress)
        if self._goes_under_suite_1(contact, offline):
            with opening as file:
                number = self._keep_sealed(contact, file, path, outgoing.path, preparing)
            return self._send_path.send_kept(contact, number, offline, progress)
        key = self._key_after_catching_up(contact, offline, had_key=had_key)
        through_the_outbox = self._send_path.goes_through_the_outbox(offline)
        with opening as (descriptor, plain_size):
            if plain_size is not None and not through_the_outbox:
                size = ciphers.encrypted_size(plain_size)
                self._check_size(size)

                def parts(watch: Progress) -> Iterator[bytes]:
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    return encrypted_file(descriptor, path, plain_size, key.key, watch)

                return self._send_published(contact, size, parts, outgoing, progress)
            if through_the_outbox:
                self._outbox.check_room()
            content, size = self._encrypted(ToSend(descriptor, plain_size), path, key.key, preparing)
        if through_the_outbox:
            return self._send_path.send_once(
                contact, MessageKind.FILE, size, content, offline, under=key.number, progress=progress,
                outgoing=outgoing,
            )  # fmt: skip
        try:
            return self._send_published(
                contact, size, lambda watch: self._outbox.body(content, size, watch), outgoing, progress
            )
        finally:
            if isinstance(content, str):
                self._store.spools.forget(content)

    def _send_published(
        self,
        contact: Contact,
        size: int,
        parts: Callable[[Progress], Iterator[bytes]],
        outgoing: Outgoing,
        progress: Progress | None,
    ) -> Sent:
        """Send a file by 603; `parts` gives its encrypted content, once for each attempt."""
        me = self._account.identity().client_id
        request = LargeSendRequest(me, contact.client_id, MessageKind.FILE, size)

        def ask(watch: Progress) -> Sent:
            return self._send_path.ask_to_store(contact, request, parts(watch))

        # If all of it was sent and no answer came, it is unknown whether the server has it.
        again = (ServerUnreachable,)
        return self._send_path.noted(contact, request.kind, outgoing, lambda: self._retry.do(ask, progress, again))

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, after a new symmetric key if there is none to send under.

        It is on disk when this returns. Raises `NoPublicKey`, `KeyChanged`, `OutboxFull`,
        `ValueRejected`.
        """
        assert self._greeting.has_signed_in
        contact = self._directory.contact(name)
        plain = plain_text(text)
        if self._choice.is_known(contact.client_id):
            self._outbox.check_room()
            return self._kept(self._outbox.sealing.keep_text(contact.client_id, text))
        key = self._key_exchange.key_at_hand(contact)
        content = ciphers.encrypt(key.key, plain)
        return self._keep(contact, MessageKind.TEXT, len(content), content, Outgoing(text, None), key.number)

    def keep_file(self, name: str, path: Path, progress: Progress | None = None) -> SentMessage:
        """Put a file into the outbox, encrypted, as `keep_text` does a text. Raises
        `FileUnreadable` too.
        """
        assert self._greeting.has_signed_in
        contact = self._directory.contact(name)
        with file_to_send(path) as file:
            if self._choice.is_known(contact.client_id):
                return self._kept(self._keep_sealed(contact, file, path, paths.kept(path.absolute()), progress))
            if file.size is not None:
                # Checked before a key is made.
                self._check_size(ciphers.encrypted_size(file.size))
            key = self._key_exchange.key_at_hand(contact)
            content, size = self._encrypted(file, path, key.key, progress)
        outgoing = Outgoing(None, paths.kept(path.absolute()))
        return self._keep(contact, MessageKind.FILE, size, content, outgoing, key.number)

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits, oldest first. Raises `ServerUnreachable`, `OutcomeUnknown`,
        `InvalidServerResponse`; `ServerAnsweredError` if the server refuses `watched`, for now or
        for good.
        """
        me = self._account.identity().client_id
        self._link.connect()
        if self._greeting.offers(Feature.SEND_ONCE):
            self._outbox.flush(me, None if watched is None else watched.outbox, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Return the current state of a message that went through the outbox."""
        found = None if message.outbox is None else self._history.by_outbox(message.outbox)
        return message if found is None else found

    def _key_after_catching_up(self, contact: Contact, offline: ClientError | None, *, had_key: bool) -> KeyRow:
        """A key to send under; a new one if the one that waited was set aside meanwhile. Raises
        `NoSharedKey`.
        """
        if had_key and self._send_path.goes_through_the_outbox(offline):
            return self._key_exchange.key_at_hand(contact)
        return self._contacts.sending_key(contact)

    def _keep(
        self, contact: Contact, kind: MessageKind, size: int, content: bytes | str, outgoing: Outgoing, under: int
    ) -> SentMessage:
        return self._kept(self._outbox.put(contact.client_id, kind, size, content, None, outgoing, under))

    def _goes_under_suite_1(self, contact: Contact, offline: ClientError | None) -> bool:
        """Whether a message does. Raises `KeysWithheld`, if it would have to and this connection
        keeps nothing until the server has it.
        """
        if offline is not None:
            return self._choice.is_known(contact.client_id)
        if not self._choice.uses(contact.client_id):
            return False
        if not self._send_path.goes_through_the_outbox(offline):
            raise self._outbox.sealing.not_offered(contact.client_id)
        self._directory.pin(contact)
        return True

    def _keep_sealed(
        self, contact: Contact, file: ToSend, path: Path, kept_path: str | None, preparing: Progress | None
    ) -> int:
        """Put a file into the outbox, for suite 1; returns its number there."""
        self._outbox.check_room()
        if file.size is not None:
            self._check_size(file_stream.sealed_size(file.size))
        else:
            self._refuse_second_reading(path)
        parts = read_parts(file, path, preparing)
        return self._outbox.sealing.keep_file(contact.client_id, parts, kept_path, self._check_size)

    def _kept(self, number: int) -> SentMessage:
        kept = self._history.by_outbox(number)
        assert kept is not None
        return kept

    def _encrypted(
        self, file: ToSend, path: Path, key: SymmetricKey, preparing: Progress | None
    ) -> tuple[bytes | str, int]:
        """Return a file's encrypted content, in memory or, if it is large, as the name of a file on
        disk; and its size.
        """
        if file.size is not None:
            self._check_size(ciphers.encrypted_size(file.size))
            parts = encrypted_file(file.descriptor, path, file.size, key, preparing)
        else:
            self._refuse_second_reading(path)
            parts = encrypted_stream(file.descriptor, key)
        return spooled(self._store.spools, parts, self._check_size)

    def _refuse_second_reading(self, path: Path) -> None:
        """Raise `FileUnreadable` for what was read from before, and has nothing left."""
        number = inherited(path)
        if number is not None:
            if number in self._read_already:
                raise FileUnreadable(
                    f"{path} was sent already, and can't be read twice; nothing was sent.",
                    "Write it to a file first, and send that one.",
                )
            self._read_already.add(number)

    def _check_size(self, size: int) -> None:
        """Raise `FileUnreadable` for what is larger than the server takes; for a pipe, `size` is
        what has been read so far.
        """
        session = self._greeting.session
        largest = LARGEST_CONTENT if session is None else min(LARGEST_CONTENT, session.max_payload - SEND_HEAD.size)
        if size > largest:
            raise FileUnreadable(
                "The file is too large for this server; nothing was sent.",
                f"It takes {largest:,} bytes, and encrypted the file has {size:,}.",
            )


def plain_text(text: str) -> bytes:
    """Return the bytes of a text that are encrypted. Raises `ValueRejected`."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueRejected("The text is not valid Unicode; nothing was sent.") from error
