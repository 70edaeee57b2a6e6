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
    for it, and there was one in use. `only_decrypts`: and it does not take that one's place.
    """

    unasked: bool = False
    only_decrypts: bool = False


class Text(NamedTuple):
    """A text (type 3)."""

    text: str


class SavedFile(NamedTuple):
    """A file, saved at `path`. `caption`: what its sender wrote to it."""

    path: Path
    caption: str = ""


class Renewed(NamedTuple):
    """The sender's home was restored from a copy, or ours was: it could not open `unopened`
    messages of ours. `again` of them are sent again, and `lost` can't be.
    """

    unopened: int
    again: int
    lost: int = 0


class Unreadable(NamedTuple):
    """Content that can't be decrypted. It is kept, and received again once its key is there;
    `lost`: no key will help. `advice`: the next step, if it is a special one.
    """

    problem: str
    lost: bool = False
    advice: str = ""


class UnknownKind(NamedTuple):
    """A message of a type, or of a kind within cipher suite 1, that this version does not know.
    `text`: what its sender wants shown instead.
    """

    kind: int
    text: str = ""


Content = KeyRequested | KeyReceived | Text | SavedFile | Renewed | Unreadable | UnknownKind


class Received(NamedTuple):
    """A message for this user.

    `number` grows from message to message of this home. `late`: it was received before as
    `Unreadable`, and its key has arrived since. `repeated`: it may have been received before,
    because something failed at that moment. Times are Unix milliseconds: `received_at` by our
    clock, `accepted_at` by the server's, if known. `sender_proven`: the server says that the sender
    was authenticated. `sender_verified`: you compared the sender's keys, and nobody else can have
    written it; of the published suite that is so of notes to oneself alone. `message_id`: the id
    that the server gave its sender, as in `Sent`. `suite`: the cipher suite, 0 for the published
    one. Under suite 1, `missing` says how many messages before it did not come, `overtaken` that a
    later one was received before it, `new_session` that its sender has begun new sessions with it,
    as the ones before could not be used any more.
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
    suite: int = 0
    missing: int = 0
    overtaken: bool = False
    new_session: bool = False


class Sent(NamedTuple):
    """The server has stored a message. `suite`: the cipher suite, 0 for the published one."""

    recipient: Contact
    message_id: int
    suite: int = 0


class SentMessage(NamedTuple):
    """A text or file of ours. `stored_at`: the server has it; `waiting`: it is in the outbox;
    `problem`: it was refused. If none of the three is set, it is unknown whether the server has it.
    `lost`: possibly; the server had it, and was restored to an earlier state since. `outbox`: its
    number there, if it went through the outbox. `after`: the number of the newest message received
    by then. `damaged`: its row in the store is damaged, so text, path and problem are missing.
    `suite`: the cipher suite, 0 for the published one.
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
    suite: int = 0


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
