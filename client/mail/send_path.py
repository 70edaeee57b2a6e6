"""Sending one message: through the outbox, or, with the published protocol, straight to the server.
Owns: which of the two paths a message takes, and what is noted of it. Promises: on an authenticated
connection a message goes through the outbox: what can't be sent now is kept, and the error says so.
With the published protocol it is sent or not, and if the answer is lost it is unknown which.
Exposure: believes the server when it says that a message is stored.

Source: docs/client-protocol.md; docs/guarantees.md.
"""

from collections.abc import Callable, Iterator
from typing import Final

from client.client_context import ClientContext
from client.connection.handshake import Tell
from client.connection.patience import Patience
from client.connection.retry import Retry
from client.connection.server_errors import refused, unexpected
from client.connection.server_link import Progress
from client.errors import (
    ClientError,
    FileUnreadable,
    OutcomeUnknown,
    ServerAnsweredError,
    ServerUnreachable,
    StoreUnusable,
    WrongServer,
)
from client.mail.outbox import Outbox
from client.messages import Sent
from client.store.sent import Outgoing
from client.trust.contacts import Contact, Contacts
from common.client_protocol.requests import LargeSendRequest, RequestCode, SendRequest
from common.client_protocol.responses import ErrorResponse, StoredResponse
from common.client_protocol.versions import Feature
from common.values import MessageKind

_KEPT: Final = "The message is kept; it is sent, once, before anything else that you send."
_KEY_KEPT: Final = "The symmetric key is kept, and sent before anything else; what you were sending is not."


class SendPath:
    """The two paths to the server."""

    def __init__(
        self,
        context: ClientContext,
        contacts: Contacts,
        outbox: Outbox,
        retry: Retry,
        tell: Tell,
        now: Callable[[], int],
    ) -> None:
        self._account, self._store, self._link, self._greeting = context
        self._contacts = contacts
        self._outbox = outbox
        self._retry = retry
        self._tell = tell
        self._now = now

    def catch_up(self, progress: Progress | None = None) -> ClientError | None:
        """Connect, and send what waits in the outbox: it goes before anything new.

        Returns the failure if the server can't be reached and that is no reason to give up:
        messages of an account that has signed in wait in the outbox.
        """
        me = self._account.identity().client_id
        try:
            self._link.connect()
            if self._greeting.offers(Feature.SEND_ONCE):
                self._outbox.flush(me, None, progress)
        except (ServerUnreachable, OutcomeUnknown) as error:
            if not self._greeting.has_signed_in:
                raise
            return error
        return None

    def goes_through_the_outbox(self, offline: ClientError | None) -> bool:
        """Whether what is sent now is kept until the server has it; `offline` is the result of
        `catch_up`.
        """
        return offline is not None or self._greeting.offers(Feature.SEND_ONCE)

    def send(
        self,
        contact: Contact,
        kind: MessageKind,
        content: bytes,
        offline: ClientError | None,
        key: int | None = None,
        *,
        under: int | None = None,
        outgoing: Outgoing | None = None,
    ) -> Sent:
        """Send content that is in memory; `key` is the number of the shared key in it, `under` that
        of the key around it.
        """
        if self.goes_through_the_outbox(offline):
            return self.send_once(
                contact, kind, len(content), content, offline, key=key, under=under, outgoing=outgoing
            )
        request = SendRequest(self._account.identity().client_id, contact.client_id, kind, content)
        if key is None:
            return self.noted(contact, kind, outgoing, lambda: self.ask_to_store(contact, request, iter(())))
        try:
            sent = self.ask_to_store(contact, request, iter(()))
        except (ServerUnreachable, WrongServer, ServerAnsweredError):
            # It definitely never arrived. After any other failure it may have: then messages under
            # it must be readable, but encrypting with it would be risky.
            self._store.keys.drop(key)
            raise
        self._store.keys.confirm(key)
        return sent

    def noted(self, contact: Contact, kind: int, outgoing: Outgoing | None, ask: Callable[[], Sent]) -> Sent:
        """Send without the outbox, and note the result in the history, unless it is a key or a
        request for one.
        """
        if outgoing is None:
            return ask()
        number = self._store.sent.add(contact.client_id, kind, outgoing, self._now())
        try:
            sent = ask()
        except (ServerUnreachable, WrongServer, ServerAnsweredError, FileUnreadable) as error:
            self._store.sent.failed(number, str(error))
            raise
        self._store.sent.stored(number, sent.message_id, self._now())
        return sent

    def ask_to_store(self, contact: Contact, request: SendRequest | LargeSendRequest, body: Iterator[bytes]) -> Sent:
        """Send a message without the outbox. Raises `OutcomeUnknown` if it is unknown whether it
        was stored.
        """
        try:
            answer = self._link.ask(request, body)
            patience = Patience(self._link.rest, self._tell)
            # Large content comes from a file, and can't be read a second time.
            while isinstance(request, SendRequest) and isinstance(answer, ErrorResponse) and patience.suffices(answer):
                patience.wait(answer)
                answer = self._link.ask(request)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"{error} Whether the message was stored is unknown.",
                f"Ask {self._contacts.shown(contact)} before you send it again: it might come twice.",
            ) from error
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.SEND, answer)
        if not isinstance(answer, StoredResponse) or answer.recipient != contact.client_id:
            raise unexpected(answer)
        return Sent(contact, answer.message_id)

    def send_once(
        self,
        contact: Contact,
        kind: MessageKind,
        size: int,
        content: bytes | str,
        offline: ClientError | None,
        *,
        key: int | None = None,
        under: int | None = None,
        progress: Progress | None = None,
        outgoing: Outgoing | None = None,
    ) -> Sent:
        """Send through the outbox; `content` is the content or the name of its spool file."""
        number = self._outbox.put(contact.client_id, kind, size, content, key, outgoing, under)
        if key is not None:
            # The outbox keeps the order: whatever is encrypted from now on comes after it.
            self._store.keys.confirm(key)
        return self.send_kept(contact, number, offline, progress, is_key=key is not None)

    def send_kept(
        self,
        contact: Contact,
        number: int,
        offline: ClientError | None,
        progress: Progress | None = None,
        *,
        is_key: bool = False,
    ) -> Sent:
        """Send what is in the outbox under a number, after all that is before it."""
        if offline is not None:
            raise _kept(offline) from offline
        try:
            me = self._account.identity().client_id
            message_id = self._retry.do(lambda watch: self._outbox.flush(me, number, watch), progress)
        except (ServerUnreachable, OutcomeUnknown, StoreUnusable) as error:
            raise _kept(error) from error
        except ClientError as error:
            error.kept = self._store.outbox.is_waiting(number)
            raise
        except KeyboardInterrupt:
            # For a key: the message to be sent under it is not stored here yet.
            self._tell(_KEY_KEPT if is_key else _KEPT)
            raise
        sent = self._store.sent.by_outbox(number)
        return Sent(contact, message_id, int(sent is not None and sent.payload_id is not None))


def _kept(error: ClientError) -> ClientError:
    """The same failure, marked for a message that waits in the outbox."""
    kept = type(error)(str(error), f"{error.advice} {_KEPT}")
    kept.kept = True
    return kept
