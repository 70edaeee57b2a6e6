"""Received and sent messages, as values.

Owns: the types that the library returns. Promises: no behaviour; each value has everything that is
needed to show it.

Source: docs/client-protocol.md, "Types of messages".
"""

from pathlib import Path
from typing import NamedTuple

from client.trust.contacts import Contact
from common.values import ClientId


class KeyRequested(NamedTuple):
    """The sender asks for a symmetric key (type 1)."""


class KeyReceived(NamedTuple):
    """The sender shared a symmetric key (type 2).

    It is the one in use now; with a verified sender it only decrypts. `unasked`: nobody had asked
    for it, and there was one in use.
    """

    unasked: bool = False


class Text(NamedTuple):
    """A text (type 3)."""

    text: str


class SavedFile(NamedTuple):
    """A file, saved at `path` (type 4)."""

    path: Path


class Unreadable(NamedTuple):
    """Content that can't be decrypted. It is kept, and received again once its key is there;
    `lost`: no key will help.
    """

    problem: str
    lost: bool = False


class UnknownKind(NamedTuple):
    """A message of a type that the protocol does not define."""

    kind: int


Content = KeyRequested | KeyReceived | Text | SavedFile | Unreadable | UnknownKind


class Received(NamedTuple):
    """A message for this user.

    `number` grows from message to message of this home. `late`: it was received before as
    `Unreadable`, and its key has arrived since. `repeated`: it may have been received before,
    because something failed at that moment. Times are Unix milliseconds: `received_at` by our
    clock, `accepted_at` by the server's, if known. `sender_proven`: the server says that the sender
    was authenticated. `message_id`: the id that the server gave its sender, as in `Sent`.
    """

    number: int
    sender: ClientId
    sender_name: str | None
    content: Content
    received_at: int
    accepted_at: int | None
    sender_proven: bool
    late: bool
    repeated: bool
    sender_verified: bool = False
    message_id: int = 0


class Sent(NamedTuple):
    """The server has stored a message."""

    recipient: Contact
    message_id: int


class SentMessage(NamedTuple):
    """A text or file of ours. `stored_at`: the server has it; `waiting`: it is in the outbox;
    `problem`: it was refused. If none of the three is set, it is unknown whether the server has it.
    `lost`: possibly; the server had it, and was restored to an earlier state since. `outbox`: its
    number there, if it went through the outbox. `after`: the number of the newest message received
    by then. `damaged`: its row in the store is damaged, so text, path and problem are missing.
    """

    number: int
    recipient: Contact
    text: str | None
    path: Path | None
    queued_at: int
    stored_at: int | None
    message_id: int | None
    problem: str | None
    waiting: bool
    outbox: int | None = None
    after: int = 0
    lost: bool = False
    damaged: bool = False


class Resent(NamedTuple):
    """The result of sending possibly lost messages again.

    `messages`: the texts and files among the `sent` ones; the others are symmetric keys and
    requests for them. `waiting`: how many are in the outbox; `left`: how many are still marked;
    `problems`: why some can't be sent again.
    """

    messages: list[SentMessage]
    sent: int
    waiting: int
    left: int
    problems: list[str]


class ConversationSummary(NamedTuple):
    """Somebody to whom something was sent, or who sent something. `unread`: how many messages
    nobody has seen yet.

    `last`: when the newest one was queued or received, Unix milliseconds by our clock.
    """

    contact: Contact
    unread: int
    last: int


class FetchedKey(NamedTuple):
    """A contact's public key was fetched. `changed`: it is not the known one, which stays
    in use.
    """

    contact: Contact
    changed: bool


class Failed(NamedTuple):
    """A message that the server refused for good; it is kept, and not sent again. `text`: only of a
    text.
    """

    recipient: ClientId
    recipient_name: str | None
    kind: int
    queued_at: int
    problem: str
    text: str | None
