"""Outgoing messages over the extension: on disk first, then sent until the server has answered.

Owns: the order of sending, and what becomes of a message that was refused.
Promises: a message is on disk, with its token, before it is sent, and gone once the server has it;
the oldest goes first, before anything new; the server stores none of them twice, however often a
connection breaks. What the server refuses as too fast is waited for, a minute at most, if somebody
waits for the message that is sent. A message to somebody who was verified in the meantime leaves
under a key of our own (`client.trust.rekeying`), and one to somebody who uses cipher suite 1 under
that (`client.mail.suite_sealing`). What was acknowledged, and is possibly lost since,
goes again under its own token (`client.mail.resending`); a message is sent after the key that it is
encrypted under, which is sent again first if it is possibly lost.
Exposure: believes the server when it says that a message is stored.

    state     means                                        leaves when
    ───────   ──────────────────────────────────────────   ─────────────────────────────────────────────
    waiting   to be sent, or sent and not answered         2103 → gone; refused for good → failed
    failed    refused, or too old to be sent once more     never; it is kept for the user to see
    again     waiting, acknowledged before a backup was    2103, or the server has it already → gone;
              put back                                     refused for good → possibly lost, as before

Source: docs/client-protocol.md, "642, send once"; docs/guarantees.md.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from client import paths
from client.connection.handshake import Tell
from client.connection.patience import Patience
from client.connection.server_errors import refused
from client.connection.server_link import Progress, ServerLink
from client.crypto import ciphers
from client.crypto.ciphers import RandomBytes
from client.errors import (
    CipherError,
    ClientError,
    FileUnreadable,
    InvalidServerResponse,
    KeyChanged,
    KeysWithheld,
    OutboxFull,
    ServerAnsweredError,
)
from client.mail.outgoing_file import (
    can_be_read_again,
    can_be_sent,
    encrypted_file,
    encrypted_stream,
    file_to_send,
    spooled,
)
from client.mail.suite_files import SealedFile
from client.mail.suite_sealing import SuiteSealing
from client.messages import Failed
from client.store.acknowledged import AcknowledgedRow
from client.store.home_store import Store
from client.store.keys import MOST_BEFORE
from client.store.outbox import OutboxRow
from client.store.sent import Outgoing
from client.terminal import local_time
from client.trust.contacts import Contact, Contacts
from client.trust.rekeying import Rekeying
from common import fail_points
from common.client_protocol.requests import LargeSendRequest, RequestCode, SendRequest
from common.client_protocol.responses import ErrorResponse, StoredResponse
from common.fail_points import FailPoint
from common.values import TOKEN_SIZE, ClientId, MessageKind, RefusalReason, token

MOST_WAITING: Final = 256
"""The server keeps the newest 1,024 tokens of a sender; with no more than this unanswered, it
forgets none of them.
"""
LONGEST_WAIT: Final = 6 * 24 * 3600 * 1000
"""Milliseconds since it first left without an answer. The server keeps tokens for 7 days; what is
sent again after that might be stored twice. A message that never left, or was definitely refused,
may wait for ever."""
CHUNK: Final = 256 * 1024
_OF_MAILBOX: Final = frozenset({RefusalReason.MAILBOX_FULL, RefusalReason.SENDER_SHARE, RefusalReason.NO_KEYS})
"""Refusals that concern only one recipient: messages for others may be sent."""
_LATER: Final = _OF_MAILBOX | {
    RefusalReason.TOO_FAST,
    RefusalReason.STORAGE_FULL,
    RefusalReason.DAMAGED,
    RefusalReason.DISABLED,
    RefusalReason.UNAVAILABLE,
}
"""Refusals that may pass with time: the message is kept and sent again."""
_KINDS: Final = {
    MessageKind.KEY_REQUEST: "key request",
    MessageKind.KEY: "symmetric key",
    MessageKind.TEXT: "text",
    MessageKind.FILE: "file",
    MessageKind.SEALED: "message about keys",
}


def is_for_later(error: ClientError) -> bool:
    """Whether it is a refusal that may pass with time."""
    return isinstance(error, ServerAnsweredError) and error.reason in _LATER


class Outbox:
    """The store's outgoing messages, and the link that sends them."""

    def __init__(
        self,
        store: Store,
        link: ServerLink,
        contacts: Contacts,
        tell: Tell,
        now: Callable[[], int],
        random_bytes: RandomBytes,
        sealing: SuiteSealing,
    ) -> None:
        self.sealing = sealing
        self._told: set[tuple[ClientId, str]] = set()
        """Why messages to somebody wait, as it was told already."""
        self._store = store
        self._link = link
        self._contacts = contacts
        self._tell = tell
        self._now = now
        self._random_bytes = random_bytes
        self._rekeying = Rekeying(store, contacts, functools.partial(self.put_new_key, though_full=True))

    def waiting_count(self) -> int:
        """Return how many messages wait to be sent."""
        return self._store.outbox.waiting_count()

    def check_room(self) -> None:
        """Raise `OutboxFull` if no further message is accepted."""
        if self._store.outbox.waiting_count() >= MOST_WAITING:
            raise OutboxFull(
                f"{MOST_WAITING} messages wait to be sent already; this one was not accepted.",
                "Wait until the server is back, or the recipients have fetched.",
            )

    def put(
        self,
        recipient: ClientId,
        kind: MessageKind,
        size: int,
        body: bytes | str,
        carries: int | None = None,
        outgoing: Outgoing | None = None,
        under: int | None = None,
        *,
        though_full: bool = False,
    ) -> int:
        """Write a message to disk: its content, or the name of the spool file that holds it.

        `carries` is the number of the key in it, `under` of the one it is encrypted under,
        `outgoing` what the history keeps of it. `though_full`: accept it even if the outbox is
        full, because messages in it can't be sent without it.

        Raises `OutboxFull`.
        """
        if not though_full:
            self.check_room()
        key = None if under is None else self._store.acknowledged.lost_carrying(under)
        if key is not None:
            # Without the key nobody can read this message. If the key can't be made again, `resend`
            # reports that.
            with contextlib.suppress(CipherError, FileUnreadable):
                self.put_again(key)
        new_token = token(self._random_bytes(TOKEN_SIZE))
        return self._store.outbox.add(recipient, kind, size, body, new_token, carries, self._now(), outgoing, under)

    def put_again(self, row: AcknowledgedRow) -> bool:
        """Write a possibly lost message to disk, to be sent again; return whether it is a large
        one.

        Raises `CipherError` and `FileUnreadable` if its content can't be made again.
        """
        recipient = self._contacts.present_id(row.recipient)
        if row.kind == MessageKind.SEALED:
            payload, spool = self._payload_again(row)
            self._store.outbox.add_payload_again(row, recipient, payload, spool, self._now())
            return spool is not None
        body = self._made_again(row)
        if recipient != row.recipient:
            carries, under = (
                self._contacts.copied_key(row.recipient, number, recipient) for number in (row.carries, row.under)
            )
            row = row._replace(carries=carries, under=under)
        self._store.outbox.add_again(row, recipient, body, self._now())
        return isinstance(body, str)

    def _payload_again(self, row: AcknowledgedRow) -> tuple[bytes, str | None]:
        """A payload of suite 1 as it was, and the spool file with what follows it."""
        sent = self._store.sent.by_outbox(row.number)
        if sent is None:
            raise CipherError("what this home has of it is damaged")

        def same(sealed: SealedFile) -> None:
            if sealed.digest != row.digest:
                raise FileUnreadable("the file has changed", f"{sent.path} has another content.")

        if sent.text is None and sent.path is None and not sent.damaged:
            raise FileUnreadable("no copy of its bytes was kept", "Send them as a new message.")
        return self.sealing.again(sent, same)

    def _made_again(self, row: AcknowledgedRow) -> bytes | str:
        """The content as it was sent, or the name of its spool file."""
        if row.content is not None:
            return row.content
        sent = self._store.sent.by_outbox(row.number)
        key = self._contacts.key_numbered(row.recipient, row.under)
        is_text = row.kind == MessageKind.TEXT
        if sent is not None and not is_text and not sent.damaged and sent.path is None:
            raise FileUnreadable("no copy of its bytes was kept", "Send them as a new message.")
        if sent is None or key is None or (sent.text if is_text else sent.path) is None:
            raise CipherError("what this home has of it is damaged")
        if is_text:
            content = ciphers.encrypt(key, (sent.text or "").encode("utf-8"))
            if len(content) != row.size:
                raise CipherError("the history has another text")
            return content
        path = paths.from_kept(sent.path or "")
        if can_be_sent(path) and not can_be_read_again(path):
            raise FileUnreadable("no copy of its bytes was kept", f"{path} is no file. Send them as a new message.")
        digest = _Digest()

        def same_size(came_to: int) -> None:
            if came_to > row.size:
                raise FileUnreadable("the file has changed", f"{path} has another size.")

        with file_to_send(path) as (descriptor, size):
            if size is None:
                encrypted = encrypted_stream(descriptor, key)
            else:
                if ciphers.encrypted_size(size) != row.size:
                    raise FileUnreadable("the file has changed", f"{path} has another size.")
                encrypted = encrypted_file(descriptor, path, size, key, None)
            body, _ = spooled(self._store.spools, _hashed(encrypted, digest), same_size)
        if row.digest is None or digest.of(row.size) != row.digest:
            if isinstance(body, str):
                self._store.spools.forget(body)
            raise FileUnreadable("the file has changed", f"{path} has another content.")
        return body

    def make_key(self, contact: Contact) -> tuple[int, bytes]:
        """Make a symmetric key; its number, and the content of the message that carries
        it. Raises `NoPublicKey`.
        """
        public_key = self._contacts.public_key(contact)
        key = ciphers.symmetric_key(self._random_bytes(ciphers.SYMMETRIC_KEY_SIZE))
        sealed = ciphers.seal_key(key, public_key, self._random_bytes)
        return self._store.keys.add_made(contact.client_id, key, self._now(), public_key), sealed

    def put_new_key(self, contact: Contact, *, though_full: bool = False) -> None:
        """Make a symmetric key and write it to disk, to be used from now on.

        `though_full` as for `put`. Raises `NoPublicKey`, `OutboxFull`; then none was made.
        """
        if not though_full:
            self.check_room()
        key, sealed = self.make_key(contact)
        self.put(contact.client_id, MessageKind.KEY, len(sealed), sealed, carries=key, though_full=True)
        # The order is kept: whatever is encrypted from now on comes after it.
        self._store.keys.confirm(key)

    def flush(
        self,
        me: ClientId,
        watched: int | None = None,
        progress: Progress | None = None,
        *,
        wait: bool = True,
        told: bool = True,
    ) -> int:
        """Send all that waits, oldest first; the message id that the server gave to number
        `watched`, or 0.

        If the server asks to wait, that is done for `watched` (`client.connection.retry`). What
        becomes of the others is told, but without `told` not that they are sent. One process of a
        home does this at a time: with `wait` the others wait for it, and without they leave it to
        that one. Raises what `ServerLink.ask` raises, and `ServerAnsweredError` for `watched`.
        """
        with self._store.sender(wait=wait) as mine:
            if not mine:
                return 0
            try:
                return self._flush(me, watched, progress, told=told)
            finally:
                self._store.database.erase_replaced()

    def _flush(self, me: ClientId, watched: int | None, progress: Progress | None, *, told: bool) -> int:
        message_id: int | None = None
        refusal: ClientError | None = None
        held_back: ErrorResponse | None = None
        blocked: dict[ClientId, ClientError | None] = {}
        # Nobody waits for the messages that are sent along the way.
        patience = None if watched is None else Patience(self._link.rest, self._tell)
        for waiting in self._store.outbox.waiting():
            if waiting.recipient in blocked:
                if waiting.number == watched:
                    refusal = blocked[waiting.recipient]
                continue
            if waiting.tried_at is not None and self._now() - waiting.tried_at > LONGEST_WAIT:
                self._set_aside(
                    waiting, "it left so long ago, without an answer, that sending it again might store it twice"
                )
                continue
            if waiting.damaged:
                self._set_aside(waiting, "its row in store.db was altered or is damaged; send it again")
                continue
            if waiting.spool is not None and not self._store.spools.is_there(waiting.spool):
                # Nothing behind it would ever be sent.
                self._set_aside(waiting, "its content, a file beside store.db, is gone; send it again")
                continue
            try:
                for row in self.sealing.fit(waiting, self._rekeying.fit):
                    answer, digest = self._send_patiently(me, row, progress, patience)
                    if isinstance(answer, StoredResponse) or _is_there_already(row, answer):
                        fail_points.reach(FailPoint.CLIENT_SENT)
                        stored_as = answer.message_id if isinstance(answer, StoredResponse) else None
                        self._store.outbox.stored(row.number, stored_as, self._now(), digest)
                        if row.number == watched:
                            message_id = stored_as
                        elif told and self._is_shown(row):
                            self._tell(f"{self._name(row)} is sent now.")
                        continue
                    error = self._refused(row, answer, told=row.number != watched)
                    if row.number == watched:
                        refusal = error
                    if answer.reason in _LATER:
                        held_back = answer
                    # Nothing may overtake it on the way to the same recipient.
                    if answer.reason in _LATER or row.number != waiting.number:
                        blocked[row.recipient] = None
                    break
            except (KeyChanged, KeysWithheld, ServerAnsweredError) as error:
                # No keys to seal it with, now. It waits, and nothing may overtake it.
                blocked[waiting.recipient] = error
                if waiting.number == watched:
                    refusal = error
                elif (waiting.recipient, str(error)) not in self._told:
                    self._told.add((waiting.recipient, str(error)))
                    self._tell(f"{self._name(waiting)} waits: {error} {error.advice}")
            except CipherError as error:
                self._set_aside(waiting, str(error))
            if held_back is not None and held_back.reason not in _OF_MAILBOX:
                break
        if refusal is not None:
            raise refusal
        if watched is not None and message_id is None:
            message_id = self._found_done(watched, held_back)
        return message_id or 0

    def _found_done(self, number: int, held_back: ErrorResponse | None) -> int:
        """Report what became of a message that was not sent just now: another process sent it, or
        it has to wait.
        """
        if self._store.outbox.is_waiting(number):
            raise ServerAnsweredError(
                "An earlier message waits, because the server has no room for it now.",
                "This one is kept, and is sent after it.",
                None if held_back is None else held_back.reason,
                0 if held_back is None else held_back.retry_after,
            )
        row = self._store.sent.by_outbox(number)
        if row is not None and row.problem is not None:
            raise ServerAnsweredError(row.problem, "It is kept aside: `messageu history` shows it.")
        return 0 if row is None else row.message_id or 0

    def failed(self) -> list[Failed]:
        """Return what was refused for good, oldest first."""
        return [
            Failed(
                row.recipient, self._contacts.name_of(row.recipient), row.kind, row.queued_at, problem, self._text(row)
            )
            for row, problem in self._store.outbox.failed()
        ]

    def _send_patiently(
        self, me: ClientId, row: OutboxRow, progress: Progress | None, patience: Patience | None
    ) -> tuple[StoredResponse | ErrorResponse, bytes | None]:
        """As `_send`, repeated if it is refused as too fast and there is `patience`."""
        while True:
            if row.tried_at is None:
                self._store.outbox.trying(row.number, self._now())
            answer, digest = self._send(me, row, progress)
            if patience is None or not isinstance(answer, ErrorResponse) or not patience.suffices(answer):
                return answer, digest
            self._store.outbox.surely_not_there(row.number)
            row = row._replace(tried_at=None)
            patience.wait(answer)

    def _send(
        self, me: ClientId, row: OutboxRow, progress: Progress | None
    ) -> tuple[StoredResponse | ErrorResponse, bytes | None]:
        """The answer; of a file, the SHA-256 of its content too."""
        digest = _Digest() if row.kind == MessageKind.FILE else None
        if row.spool is not None and row.kind == MessageKind.SEALED:
            request = LargeSendRequest(me, row.recipient, row.kind, row.size, row.token)
            head = row.content or b""
            answer = self._link.ask(request, _behind(head, self.body(row.spool, row.size - len(head), progress)))
        elif row.spool is None:
            content = row.content or b""
            if digest is not None:
                digest.add(content)
            answer = self._link.ask(SendRequest(me, row.recipient, row.kind, content, row.token))
        else:
            request = LargeSendRequest(me, row.recipient, row.kind, row.size, row.token)
            answer = self._link.ask(request, self.body(row.spool, row.size, progress, digest))
        came_to = None if digest is None else digest.of(row.size)
        if isinstance(answer, ErrorResponse):
            return answer, came_to
        if not isinstance(answer, StoredResponse) or answer.recipient != row.recipient:
            raise InvalidServerResponse(
                "The server gave the answer to another request.", "The message is kept; check server.info."
            )
        return answer, came_to

    def body(
        self, content: bytes | str, size: int, progress: Progress | None, digest: "_Digest | None" = None
    ) -> Iterator[bytes]:
        """Return a content, or what the spool file of this name holds, in parts. Raises
        `StoreUnusable`.
        """
        passed = 0
        for part in [content] if isinstance(content, bytes) else self._store.spools.read(content, CHUNK):
            if digest is not None:
                digest.add(part)
            yield part
            passed += len(part)
            if progress is not None:
                progress(passed, size)

    def _refused(self, row: OutboxRow, answer: ErrorResponse, *, told: bool) -> ServerAnsweredError:
        error = refused(RequestCode.SEND, answer)
        if answer.reason == RefusalReason.TOKEN_REUSED:
            error = ServerAnsweredError(
                "The server has it already, as it was before it was encrypted again for a verified recipient.",
                "Ask the recipient before you send it again: it might come twice.",
                answer.reason,
            )
        if answer.reason in _LATER:
            self._store.outbox.surely_not_there(row.number)
            advice = f"{error.advice} The message is kept and will be sent again."
            return ServerAnsweredError(str(error), advice, answer.reason, answer.retry_after)
        if told or row.again:
            self._set_aside(row, str(error))
        else:
            self._store.outbox.set_aside(row.number, str(error))
        return error

    def _set_aside(self, row: OutboxRow, problem: str) -> None:
        if row.again:
            self._store.outbox.returned(row.number, self._now())
            self._tell(f"{self._name(row)} was not sent again and stays marked as possibly lost: {problem}")
            return
        self._store.outbox.set_aside(row.number, problem)
        text = self._text(row)
        quoted = "" if text is None else f" It reads: {text[:200]}"
        self._tell(f"{self._name(row)} was not sent and is set aside: {problem}{quoted}")

    def _is_shown(self, row: OutboxRow) -> bool:
        """Whether the user knows of a message: not of a request that this home made by itself."""
        return row.kind != MessageKind.SEALED or self._store.sent.by_outbox(row.number) is not None

    def _name(self, row: OutboxRow) -> str:
        recipient = self._contacts.shown_id(row.recipient)
        sent = self._store.sent.by_outbox(row.number) if row.kind == MessageKind.SEALED else None
        kind = MessageKind(row.kind if sent is None else sent.kind)
        return f"The {_KINDS[kind]} for {recipient} of {local_time.shown(row.queued_at)}"

    def _text(self, row: OutboxRow) -> str | None:
        if row.kind == MessageKind.SEALED:
            sent = self._store.sent.by_outbox(row.number)
            return None if sent is None else sent.text
        if row.kind != MessageKind.TEXT or row.content is None:
            return None
        keys = self._store.keys.newest(row.recipient, MOST_BEFORE)
        for key in [self._contacts.key_numbered(row.recipient, row.under), *(one.key for one in keys)]:
            with contextlib.suppress(CipherError):
                if key is not None:
                    return ciphers.decrypt_text(key, row.content)
        return None


def _is_there_already(row: OutboxRow, answer: StoredResponse | ErrorResponse) -> bool:
    """Whether the server has a message that is sent again, in its form under another key: then it
    is not lost.
    """
    return row.again and isinstance(answer, ErrorResponse) and answer.reason == RefusalReason.TOKEN_REUSED


def _behind(head: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from parts


class _Digest:
    """The SHA-256 of content that passes through."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._passed = 0

    def add(self, part: bytes) -> None:
        self._hash.update(part)
        self._passed += len(part)

    def of(self, size: int) -> bytes | None:
        """The digest of content of this size; None if not all of it has passed."""
        return self._hash.digest() if self._passed == size else None


def _hashed(parts: Iterator[bytes], digest: _Digest) -> Iterator[bytes]:
    for part in parts:
        digest.add(part)
        yield part
