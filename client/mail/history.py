"""What was received and sent, for the user to look up.

Owns: the order of received and sent messages, and the form of a sent one.
Promises: asks no server and changes nothing. A note to oneself is listed once, as it was sent.
Exposure: as the store.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from client import paths
from client.mail.inbox import Inbox
from client.messages import ConversationSummary, Received, SavedFile, SentMessage, Text
from client.store.home_store import Store
from client.store.sent import SentRow
from client.trust.contacts import Contact, Contacts
from common.values import ClientId, MessageKind

_KINDS: Final = {Text: MessageKind.TEXT, SavedFile: MessageKind.FILE}


class History:
    """The history of one home."""

    def __init__(self, store: Store, contacts: Contacts, inbox: Inbox) -> None:
        self._store = store
        self._contacts = contacts
        self._inbox = inbox

    def all(self) -> list[Received | SentMessage]:
        """Return what was received and sent, in the order in which it happened at this home."""
        sent = [self._sent_message(row) for row in self._store.sent.all()]
        return sorted([*self._but_notes(self._inbox.seen(0), sent), *sent], key=_place_of)

    def recent(self, client_id: ClientId, most: int) -> list[Received | SentMessage]:
        """Return the newest messages from and to one user, in the order of `all`; without what
        waits in the outbox. Reads at most twice as many.
        """
        sent = [self._sent_message(row) for row in self._store.sent.recent(client_id, most)]
        received = self._but_notes(self._inbox.recent(client_id, most), sent)
        both: list[Received | SentMessage] = [*received, *sent]
        return sorted(both, key=_place_of)[-most:]

    def _but_notes(self, received: Iterable[Received], sent: list[SentMessage]) -> Iterator[Received]:
        notes = {
            (MessageKind.FILE if one.text is None else MessageKind.TEXT, one.message_id)
            for one in sent
            if self._store.settings.is_own(one.recipient.client_id)
        }
        for message in received:
            is_known = (_KINDS.get(type(message.content)), message.message_id) in notes
            if not (is_known and self._store.settings.is_own(message.sender)):
                yield message

    def waiting(self, client_id: ClientId) -> list[SentMessage]:
        """Return what waits in the outbox for one user, oldest first."""
        return [self._sent_message(row) for row in self._store.sent.waiting(client_id)]

    def by_outbox(self, number: int) -> SentMessage | None:
        """Return the message with an outbox number, whatever has become of it."""
        row = self._store.sent.by_outbox(number)
        return None if row is None else self._sent_message(row)

    def conversations(self) -> list[ConversationSummary]:
        """Return everybody to whom something was sent, or who sent something, latest first.

        Users whom the server never listed have no name, can't be written to, and are left out.
        """
        unread: dict[ClientId, int] = {}
        last: dict[ClientId, int] = {}
        # Under whichever id they were known at the time.
        for recipient, when in self._store.sent.by_recipient():
            present = self._contacts.present_id(recipient)
            last[present] = max(when, last.get(present, when))
        for sender, count, received_at in self._store.inbox.by_sender():
            present = self._contacts.present_id(sender)
            unread[present] = unread.get(present, 0) + count
            last[present] = max(received_at, last.get(present, received_at))
        found = [
            ConversationSummary(Contact(one, name), unread.get(one, 0), when)
            for one, when in last.items()
            if (name := self._contacts.name_of(one)) is not None
        ]
        return sorted(found, key=lambda one: (-one.last, one.contact.name))

    def _sent_message(self, row: SentRow) -> SentMessage:
        return SentMessage(
            row.number, Contact(row.recipient, self._contacts.name_of(row.recipient) or row.recipient.hex()),
            row.text, None if row.path is None else paths.from_kept(row.path), row.queued_at, row.stored_at,
            row.message_id, row.problem, row.waiting, row.outbox, row.after,
            row.lost, row.damaged, int(row.payload_id is not None),
        )  # fmt: skip


def _place_of(message: Received | SentMessage) -> tuple[int, int, int]:
    """A sent message comes after what had been received when it was queued; no clock is used."""
    if isinstance(message, SentMessage):
        return message.after, 1, message.number
    return message.number, 0, 0
