"""Every rule of the server: operations in, outcomes out.

Owns: who may do what, and what is refused; it puts registry, queue, tokens, uploads, leases and
watches together.
Promises: a refusal changes nothing; what an outcome says is true once the surrounding transaction
is on disk. Memory follows the transaction: `commit` or `roll_back` is called after it, and both
leave memory as the disk is.
Exposure: every value in an operation may come from a stranger. Nothing here believes a client id:
for users who proved themselves an operation has to come from a proven connection.

Source: docs/storage-protocol.md, "Operations".
"""

import hashlib
import logging
import uuid
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from common.errors import FrameUndecodable, NoFileLeft, StoreFull, TablesDamaged, ValueRejected
from common.rare_log import RareLog
from common.storage_protocol.message_format import ENTRY_HEAD, FLAG_PROVEN, SEND_FRAME
from common.storage_protocol.operations import (
    NO_MAIL,
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    GetProofKey,
    GetPublicKey,
    GetUploadProgress,
    KeyFound,
    ListUsers,
    MarkProven,
    MessagesStored,
    Operation,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    RefusedFrame,
    Register,
    Registered,
    Release,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
    UsersPage,
)
from common.values import MESSAGE_KINDS, RefusalReason, username
from storage_worker.engine.sqlite.blobs import Blobs
from storage_worker.engine.sqlite.commit_log import CommitLog
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.journal_records import MessagesAccepted, TokenUsed
from storage_worker.engine.sqlite.message_queue import FRAME_TAIL, RUN_ENTRY, SEED_SIZE, MessageQueue
from storage_worker.server.gateway_slots import Slots
from storage_worker.state.leases import Lease, Leases
from storage_worker.state.mailboxes import Mailbox
from storage_worker.state.rollback import Rollback
from storage_worker.state.send_tokens import SentTokens
from storage_worker.state.sender_usage import Census, bounds_of
from storage_worker.state.subscriptions import Subscriptions
from storage_worker.state.uploads import Upload, Uploads
from storage_worker.state.users import User, UserRegistry

log = logging.getLogger("storage_worker")
_rarely: Final = RareLog(log)

RETRY_AFTER: Final = 30
"""Seconds after which trying again makes sense where a mailbox or the disk is full, or
uploads have no place.
"""

_LOST_TOLD: Final = 20
"""Lines in the log about large messages whose files are lost; beyond them their number."""

_END: Final = 2**63 - 1
_TOKENS_AT_ONCE: Final = 1024

_unpack_frame = SEND_FRAME.unpack_from
_pack_run_entry = RUN_ENTRY.pack

_DONE: Final = Done()
_TAKEN: Final = UploadProgress(0)
_UPLOAD_GONE: Final = UploadUnknown()
_MALFORMED: Final = Refused(RefusalReason.MALFORMED)
_REQUESTER_UNKNOWN: Final = Refused(RefusalReason.REQUESTER_UNKNOWN)
_RECIPIENT_UNKNOWN: Final = Refused(RefusalReason.RECIPIENT_UNKNOWN)
_PROOF_NEEDED: Final = Refused(RefusalReason.PROOF_NEEDED)
_TOO_LARGE: Final = Refused(RefusalReason.TOO_LARGE)
_MAILBOX_FULL: Final = Refused(RefusalReason.MAILBOX_FULL, RETRY_AFTER)
_SHARE_FULL: Final = Refused(RefusalReason.SENDER_SHARE, RETRY_AFTER)
_STORAGE_FULL: Final = Refused(RefusalReason.STORAGE_FULL, RETRY_AFTER)
_TOO_MANY_UPLOADS: Final = Refused(RefusalReason.TOO_FAST, RETRY_AFTER)
_TOKEN_REUSED: Final = Refused(RefusalReason.TOKEN_REUSED)
_DAMAGED: Final = Refused(RefusalReason.DAMAGED, RETRY_AFTER)
"""The operator has to do something, and trying again later is right."""
_NAME_TAKEN: Final = Refused(RefusalReason.NAME_TAKEN)


class Limits(NamedTuple):
    """Sizes in bytes."""

    largest_message: int = 1024**3
    mailbox_messages: int = 1_000_000
    mailbox_bytes: int = 4 * 1024**3
    uploads: int = 256
    """Unfinished uploads at a time. The last quarter of the places is for senders on
    proven connections.
    """
    uploads_of_user: int = 16
    """Those of one sender."""
    sender_share: int = 12
    """Percent of a mailbox's messages and bytes that one sender may have of one that is
    more than half full.
    """


COUNTING: Final = 10_000
"""Microseconds, about, that a turn may take to count the senders of crowded mailboxes."""

IDS: Final = 2**32 - 1
"""Clients know a message by an id that repeats after so many sequences: what waits in a
mailbox spans fewer.
"""

LEASES_OF_MAILBOX: Final = 64
"""Leases on one mailbox at a time; past them it looks empty until one of them ends. A
fetch looks at all of them.
"""


class Admission(IntEnum):
    """What may come in at the moment."""

    OPEN = 0
    NO_MAIL = 1
    """DiskSpaceMonitor is short: nothing new is begun, an upload that is there may be accepted."""
    NOTHING = 2
    """SQLite had no room: nothing that could grow the store is tried."""


class PostOffice:
    """Answers operations. `random_bytes(n)` gives n random bytes.

    `begin`, then `apply` and `greet` any number of times, all inside one transaction of `database`;
    after its end `commit` or `roll_back`.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        bodies: Blobs,
        limits: Limits,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
    ) -> None:
        self._database = database
        self._limits = limits
        self._bounds = bounds_of(limits.mailbox_messages, limits.mailbox_bytes, limits.sender_share)
        self._counting = COUNTING
        self._uncounted: Mailbox | None = None
        self._random_bytes = random_bytes
        self._undo = Rollback()
        self.ledger = CommitLog(database, journal, random_bytes)
        with database.reading():
            self._users = UserRegistry(database, self.ledger.note)
            self._queue = MessageQueue(database, bodies, self.ledger.note, self._users.row_of)
            self._tokens = SentTokens(database, self.ledger.note)
            self.slots = Slots(database, self.ledger.note)
        self._uploads = Uploads(bodies, self._queue.charge)
        self.ledger.attach(self._queue, self._tokens, self.slots, self._users)
        self._leases = Leases(self._undo)
        self._subscriptions = Subscriptions(self._undo)
        self._data_version = -1
        self._now_ms = 0
        self._intake = Admission.OPEN
        self._no_intake = _STORAGE_FULL
        self._taken_bytes = 0
        self._for_uploads = 0
        self._random_pool = b""
        self._random_at = 0
        self._handlers: dict[type, Callable[[int, Any], Outcome]] = {
            Register: self._refusing_unread(self._register),
            ListUsers: self._refusing_unread(self._list_users),
            GetPublicKey: self._refusing_unread(self._get_public_key),
            StoreMessage: self._refusing_unread(self._store_message),
            StoreMessages: self._store_run,
            GetUploadProgress: self._upload_progress,
            BeginUpload: self._refusing_unread(self._begin_upload),
            Chunk: self._refusing_unread(self._chunk, self._drop_upload),
            CommitUpload: self._refusing_unread(self._commit_upload, self._drop_upload),
            AbortUpload: self._abort_upload,
            Pull: self._refusing_unread(self._fetch_waiting),
            PullPage: self._refusing_unread(self._fetch_page),
            Settle: self._settle,
            Release: self._release,
            Fetch: self._refusing_unread(self._fetch_after),
            GetProofKey: self._refusing_unread(self._get_proof_key),
            MarkProven: self._refusing_unread(self._mark_proven),
        }
        with database.reading():
            self.ledger.recover(now_ms)
            lost = self._queue.match_files()
            if lost:
                for line in lost[:_LOST_TOLD]:
                    log.error("%s", line)
                log.error("large messages that are lost with their files: %d", len(lost))
                self.ledger.commit(now_ms, use_reserve=True)

    @property
    def highest(self) -> int:
        """The highest sequence ever given to a message."""
        return self._queue.sequence

    @property
    def uploaded(self) -> int:
        """Bytes that unfinished uploads have on the disk."""
        return self._uploads.held

    # --- the transaction
    # ---------------------------------------------------------------------------------------

    def begin(self, now_ms: int, intake: Admission, for_uploads: int, *, is_damaged: bool = False) -> None:
        """A transaction has begun. `for_uploads`: bytes that unfinished uploads together may hold.

        `is_damaged`: what is not taken in is refused for damage, not for want of room.
        """
        self._no_intake = _DAMAGED if is_damaged else _STORAGE_FULL
        self._now_ms = now_ms
        self._intake = intake
        self._for_uploads = for_uploads
        self._taken_bytes = 0
        self._counting = COUNTING
        version = self._database.data_version()
        if version != self._data_version:
            # An admin command changed the database: what is remembered of users may be wrong.
            self._data_version = version
            self._users.look_again()

    def needs_tables(self, operations: Sequence[Operation]) -> bool:
        """Whether something among these has to be done in the database's tables at once.

        That is a registration, for users are looked up there. Everything else waits in the journal.
        """
        return any(type(operation) is Register for operation in operations)

    def commit(self) -> tuple[int, dict[int, list[bytes]]]:
        """The turn is on disk: bytes of mail that came in, and slot -> watched client ids
        with new mail.
        """
        self._undo.commit()
        self._queue.committed()
        received = self._queue.received
        hints = self._subscriptions.use_up([box.user for box in received]) if received and self._subscriptions else {}
        received.clear()
        return self._taken_bytes, hints

    def roll_back(self) -> None:
        """The turn was undone: so is what it did to memory. Unfinished uploads end.
        Raises `StoreFailed`.
        """
        self._undo.roll_back()
        self._uploads.drop_all()
        with self._database.reading():
            self.ledger.reload()

    def greet(self, slot: int) -> None:
        """A gateway takes the slot: leases, watches and unfinished uploads of its
        predecessor end.
        """
        self._leases.end_slot(slot)
        self._subscriptions.end_slot(slot)
        self._uploads.drop_slot(slot)

    def apply(self, slot: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Do what is asked, in order; one outcome for each. All of it is written when
        this returns.
        """
        handlers = self._handlers
        return [handlers[type(operation)](slot, operation) for operation in operations]

    def answer_again(self, slot: int, operations: Sequence[Operation], kept: Sequence[Outcome | None]) -> list[Outcome]:
        """The outcomes of a batch that was applied before: `kept` ones as they were, reads computed
        again.

        Leases live in memory alone, so what ended one ends it again: a read that is computed again
        may have taken it again.
        """
        outcomes: list[Outcome] = []
        for operation, outcome in zip(operations, kept, strict=True):
            if outcome is None:
                outcomes.append(self._handlers[type(operation)](slot, operation))
                continue
            if isinstance(operation, Settle | Release):
                self._end_lease(slot, operation.lease)
            outcomes.append(outcome)
        return outcomes

    def _refusing_unread(
        self, handler: Callable[[int, Any], Outcome], at_refusal: Callable[[int, Any], object] | None = None
    ) -> Callable[[int, Any], Outcome]:
        """An operation that changes nothing before all that it needs was read: refused where that
        is altered, or not to be had. `at_refusal` does what any refusal of it does.
        """

        def handle(slot: int, wish: Any) -> Outcome:
            try:
                return handler(slot, wish)
            except Exception as error:
                refusal = self._unread(error)
            if at_refusal is not None:
                at_refusal(slot, wish)
            return refusal

        return handle

    def _unread(self, error: Exception) -> Refused:
        """The refusal of what could not be read, named in the log. Raises anything else again."""
        if isinstance(error, NoFileLeft):
            _rarely.write(logging.WARNING, "an operation is refused: %s", error)
            return _STORAGE_FULL
        if isinstance(error, TablesDamaged) or not self._database.is_damage(error):
            raise error
        self._database.refuse_undone(error)
        _rarely.write(logging.ERROR, "an operation is refused: %s", self._database.damage_told(error))
        return _DAMAGED

    # --- users
    # ----------------------------------------------------------------------------------------------

    def _register(self, _slot: int, wish: Register) -> Outcome:
        try:
            name = username(wish.name)
        except ValueRejected:
            return _MALFORMED
        taken = self._users.find_name(name)
        if taken is not None:
            client_id, public_key = taken
            return Registered(client_id) if wish.again and public_key == wish.public_key else _NAME_TAKEN
        if self._intake:
            return self._no_intake
        client_id = uuid.UUID(bytes=self._random_bytes(16), version=4).bytes
        if wish.wanted is not None and uuid.UUID(bytes=wish.wanted).version == 4 and not self._users.find(wish.wanted):
            # Who was registered before a backup was put back is whom the others know.
            client_id = wish.wanted
        self._users.add(client_id, name, wish.public_key)
        self._taken_bytes += 1024
        return Registered(client_id)

    def _requester(self, client_id: bytes, proven: bool) -> User | Refused:
        """The user in whose name something is asked, where that is his right."""
        user = self._users.find(client_id)
        if user is None:
            return _REQUESTER_UNKNOWN
        if user.proven and not proven:
            return _PROOF_NEEDED
        return user

    def _list_users(self, _slot: int, wish: ListUsers) -> Outcome:
        user = self._requester(wish.requester, wish.proven)
        if isinstance(user, Refused):
            return user
        until = wish.until or self._users.last_row()
        # Only the first page's count is looked at, and counting is not cheap.
        count = self._users.count(until) - (user.row <= until) if not wish.until else 0
        last, users = self._users.page(wish.after, until, user)
        return UsersPage(count, last, until, users)

    def _get_public_key(self, _slot: int, wish: GetPublicKey) -> Outcome:
        user = self._requester(wish.requester, wish.proven)
        if isinstance(user, Refused):
            return user
        subject = self._users.find(wish.subject)
        if subject is None:
            return _RECIPIENT_UNKNOWN
        return KeyFound(subject.client_id, self._users.public_key(subject))

    def _get_proof_key(self, _slot: int, wish: GetProofKey) -> Outcome:
        user = self._users.find(wish.requester)
        if user is None:
            return _REQUESTER_UNKNOWN
        return KeyFound(user.client_id, self._users.public_key(user))

    def _mark_proven(self, _slot: int, wish: MarkProven) -> Outcome:
        user = self._users.find(wish.requester)
        if user is None:
            return _REQUESTER_UNKNOWN
        if not user.proven:
            self._users.mark_proven(user)
        self._leases.end_unproven(user.row)
        return _DONE

    # --- sending
    # ----------------------------------------------------------------------------------------------

    def _store_message(self, _slot: int, message: StoreMessage) -> Outcome:
        # The hot path: the rules of `_may_send`, written out.
        sender = self._users.find(message.sender)
        if sender is None:
            return _REQUESTER_UNKNOWN
        proven = message.proven
        token = message.token
        if not proven and (sender.proven or token is not None):
            return _PROOF_NEEDED
        recipient = self._users.find(message.recipient)
        if recipient is None:
            return _RECIPIENT_UNKNOWN
        content = message.content
        size = len(content)
        kind = message.kind
        if kind not in MESSAGE_KINDS:
            return _MALFORMED
        if size > self._limits.largest_message:
            return _TOO_LARGE
        digest = b""
        if token is not None:
            digest = hashlib.sha256(content).digest()
            sent = self._tokens.find(sender.row, token, self._now_ms)
            if sent is not None:
                return _sent_before(sent, recipient, kind, digest)
        if self._intake:
            return self._no_intake
        refusal = self._no_room(self._queue.mailbox(recipient.row), sender.client_id, 1, size)
        if refusal is not None:
            return refusal
        sequence = self._put(sender, recipient, kind, proven, token, size, content)
        if token is not None:
            self._tokens.add(TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, self._now_ms))
        return Stored(sequence)

    def _no_room(self, box: Mailbox, sender: bytes, messages: int, size: int) -> Refused | None:
        """Why a mailbox does not take so much more from this sender, or None."""
        calm = self._bounds.calm
        sequence = self._queue.sequence + 1
        if (
            box.messages + messages <= calm.messages
            and box.content_bytes + size <= calm.content_bytes
            and sequence - box.not_below < IDS
        ):
            return None
        return self._crowded(box, sender, messages, size, sequence)

    def _crowded(self, box: Mailbox, sender: bytes, messages: int, size: int, sequence: int) -> Refused | None:
        """The same for a mailbox that would be more than half full, under the sequence
        that comes next.
        """
        all_messages = box.messages + messages
        all_bytes = box.content_bytes + size
        limits = self._limits
        if (
            all_messages > limits.mailbox_messages
            or all_bytes > limits.mailbox_bytes
            or self._would_repeat_an_id(box, sequence)
        ):
            return _MAILBOX_FULL
        calm = self._bounds.calm
        if all_messages <= calm.messages and all_bytes <= calm.content_bytes:
            return None
        census = box.census
        if census is None:
            census = box.census = Census(self._bounds)
        self._counting = self._queue.count_senders(box, census, self._counting)
        if not census.complete:
            self._uncounted = box
        return None if census.allows(sender, messages, size, self._uploads.held_by(sender, box.user)) else _SHARE_FULL

    @property
    def counts(self) -> bool:
        """Whether a mailbox's senders are not all counted yet."""
        return self._uncounted is not None

    def count_on(self) -> None:
        """Between two turns: a step of that."""
        box, self._uncounted = self._uncounted, None
        if box is None or box.census is None or self._queue.boxes.get(box.user) is not box:
            return
        with self._database.reading():
            self._queue.count_senders(box, box.census, COUNTING)
        if not box.census.complete:
            self._uncounted = box

    def _would_repeat_an_id(self, box: Mailbox, sequence: int) -> bool:
        """Whether this sequence is so far above the oldest message that waits that their
        ids could be the same.
        """
        if sequence - box.not_below < IDS:
            return False
        oldest = self._queue.oldest(box.user, box.not_below - 1, sequence)
        if oldest is None:
            # The queue does not look at what this run has brought so far.
            oldest = box.sequences[0] if box.sequences else sequence
        box.not_below = oldest
        return sequence - box.not_below >= IDS

    def _put(
        self,
        sender: User,
        recipient: User,
        kind: int,
        proven: bool,
        token: bytes | None,
        size: int,
        content: bytes = b"",
        body: int = 0,
    ) -> int:
        """Accept one message; its sequence. Its content is the file `body`, where that is not 0."""
        sequence = self._queue.sequence + 1
        name = token or self._random_token()
        flags = FLAG_PROVEN if proven else 0
        entry = ENTRY_HEAD.pack(sender.client_id, name, sequence, self._now_ms, flags, kind, size) + content
        self._queue.put(recipient.row, sequence, entry, body)
        self._taken_bytes += size + ENTRY_HEAD.size
        return sequence

    def _store_run(self, _slot: int, run: StoreMessages) -> Outcome:
        # The hot path: the rules of `_may_send`, and the queue's `put`, written out for hundreds of
        # messages at a time. See docs/decisions/ for what that saves.
        frames, proven = run.frames, run.proven
        largest = self._limits.largest_message
        calm_messages, calm_bytes = self._bounds.calm
        intake, now_ms = self._intake, self._now_ms
        known, find_user = self._users.known.get, self._users.find
        find_box, load_box = self._queue.boxes.get, self._queue.mailbox
        flags = FLAG_PROVEN if proven else 0
        seed = self._random_bytes(SEED_SIZE)
        first = sequence = self._queue.sequence + 1
        touched: set[Mailbox] = set()
        refused: list[RefusedFrame] = []
        sender_id = b""
        problem: Refused | None = None
        index = at = 0
        end = len(frames)
        # Nothing of this run can have an id for the second time.
        ids_are_new = sequence + end // SEND_FRAME.size < IDS
        while at < end:
            name, recipient_id, kind, size = _unpack_frame(frames, at)
            tail = at + FRAME_TAIL
            at += SEND_FRAME.size + size
            if at > end:
                raise FrameUndecodable("the last frame of a run is cut off")
            if name != sender_id:
                sender_id = name
                try:
                    sender = known(name) or find_user(name)
                    problem = (
                        _REQUESTER_UNKNOWN if sender is None else _PROOF_NEEDED if sender.proven > proven else None
                    )
                except Exception as error:
                    problem = self._unread(error)
            refusal = problem
            if refusal is None:
                try:
                    recipient = known(recipient_id) or find_user(recipient_id)
                    if recipient is None:
                        refusal = _RECIPIENT_UNKNOWN
                    elif kind not in MESSAGE_KINDS:
                        refusal = _MALFORMED
                    elif size > largest:
                        refusal = _TOO_LARGE
                    elif intake:
                        refusal = self._no_intake
                    else:
                        box = find_box(recipient.row) or load_box(recipient.row)
                        messages, content_bytes = box.messages + 1, box.content_bytes + size
                        if (
                            messages <= calm_messages
                            and content_bytes <= calm_bytes
                            and (ids_are_new or not self._would_repeat_an_id(box, sequence))
                        ) or (refusal := self._crowded(box, name, 1, size, sequence)) is None:
                            box.messages, box.content_bytes = messages, content_bytes
                            box.sequences.append(sequence)
                            box.entries.append(
                                _pack_run_entry(name, seed, index, sequence, now_ms, flags) + frames[tail:at]
                            )
                            touched.add(box)
                            sequence += 1
                            index += 1
                            continue
                except Exception as error:
                    refusal = self._unread(error)
            refused.append(RefusedFrame(index, refusal.reason, refusal.retry_after))
            index += 1
        if touched:
            places = [frame.index for frame in refused]
            self._queue.run_accepted(
                MessagesAccepted(proven, first, now_ms, seed, frames, places), sequence - 1, touched
            )
            self._taken_bytes += end
        return MessagesStored(first, refused)

    def _may_send(
        self, sender_id: bytes, proven: bool, token: bytes | None, recipient_id: bytes, kind: int, size: int
    ) -> tuple[User, User] | Refused:
        """Sender and recipient of a message that may be announced or accepted."""
        sender = self._requester(sender_id, proven)
        if isinstance(sender, Refused):
            return sender
        if token is not None and not proven:
            return _PROOF_NEEDED
        recipient = self._users.find(recipient_id)
        if recipient is None:
            return _RECIPIENT_UNKNOWN
        if kind not in MESSAGE_KINDS:
            return _MALFORMED
        if size > self._limits.largest_message:
            return _TOO_LARGE
        return sender, recipient

    def _random_token(self) -> bytes:
        at = self._random_at
        if at == len(self._random_pool):
            self._random_pool = self._random_bytes(16 * _TOKENS_AT_ONCE)
            at = 0
        self._random_at = at + 16
        return self._random_pool[at : at + 16]

    def _begin_upload(self, slot: int, wish: BeginUpload) -> Outcome:
        parties = self._may_send(wish.sender, wish.proven, wish.token, wish.recipient, wish.kind, wish.size)
        if isinstance(parties, Refused):
            return parties
        if self._uploads.find(slot, wish.upload) is not None:
            return _MALFORMED
        if self._intake:
            return self._no_intake
        if self._uploads.held + wish.size > self._for_uploads or not self._has_place(wish.proven):
            return _STORAGE_FULL
        recipient = parties[1]
        refusal = self._no_room(self._queue.mailbox(recipient.row), wish.sender, 1, wish.size)
        if refusal is not None:
            return refusal
        if self._uploads.of_sender(wish.sender) >= self._limits.uploads_of_user:
            return _TOO_MANY_UPLOADS
        body = self._queue.new_body()
        self._uploads.begin(
            Upload(
                slot, wish.upload, body, wish.sender, wish.proven, wish.recipient, recipient.row, wish.kind, wish.size,
                wish.token,
            )
        )  # fmt: skip
        return _TAKEN

    def _has_place(self, proven: bool) -> bool:
        """Whether one more upload may begin. An id alone, which is no secret, does not
        get the last places.
        """
        most = self._limits.uploads
        return len(self._uploads) < (most if proven else most - most // 4)

    def _upload_progress(self, slot: int, wish: GetUploadProgress) -> Outcome:
        upload = self._uploads.find(slot, wish.upload)
        return _UPLOAD_GONE if upload is None else UploadProgress(self._uploads.unsynced(upload))

    def _chunk(self, slot: int, chunk: Chunk) -> Outcome:
        upload = self._uploads.find(slot, chunk.upload)
        if upload is None:
            return _UPLOAD_GONE
        # A chunk that is refused leaves a hole, so its upload can't be finished any more.
        if upload.received + len(chunk.content) > upload.size:
            self._uploads.drop(upload)
            return _MALFORMED
        if self._intake:
            self._uploads.drop(upload)
            return self._no_intake
        if self._uploads.held + len(chunk.content) > self._for_uploads:
            self._uploads.drop(upload)
            return _STORAGE_FULL
        refusal = self._no_room(self._queue.mailbox(upload.mailbox), upload.sender, 0, len(chunk.content))
        if refusal is not None:
            self._uploads.drop(upload)
            return refusal
        try:
            self._uploads.add(upload, chunk.content)
        except StoreFull:
            self._uploads.drop(upload)
            return _STORAGE_FULL
        self._taken_bytes += len(chunk.content)
        return UploadProgress(self._uploads.unsynced(upload))

    def _commit_upload(self, slot: int, wish: CommitUpload) -> Outcome:
        upload = self._uploads.find(slot, wish.upload)
        if upload is None:
            return _UPLOAD_GONE
        complete = self._complete(upload)
        if not isinstance(complete, _Complete):
            self._uploads.drop(upload)
            return complete
        try:
            unsynced = self._uploads.complete(upload)
        except StoreFull:
            # An empty one has no file until now.
            self._uploads.drop(upload)
            return _STORAGE_FULL
        if unsynced:
            return UploadProgress(unsynced)
        self._uploads.finish(upload)
        sender, recipient, digest = complete
        kind, token = upload.kind, upload.token
        sequence = self._put(sender, recipient, kind, upload.proven, token, upload.size, body=upload.body)
        if token is not None:
            self._tokens.add(TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, self._now_ms))
        return Stored(sequence)

    def _complete(self, upload: Upload) -> "_Complete | Outcome":
        """Whether an upload may become a message now; else what is answered in its place."""
        parties = self._may_send(upload.sender, upload.proven, upload.token, upload.recipient, upload.kind, upload.size)
        if isinstance(parties, Refused):
            return parties
        sender, recipient = parties
        if upload.received != upload.size:
            return _MALFORMED
        digest = b""
        if upload.token is not None and upload.digest is not None:
            digest = upload.digest.digest()
            sent = self._tokens.find(sender.row, upload.token, self._now_ms)
            if sent is not None:
                return _sent_before(sent, recipient, upload.kind, digest)
        if self._intake is Admission.NOTHING:
            return self._no_intake
        # Its room in the mailbox it has already.
        if self._would_repeat_an_id(self._queue.mailbox(recipient.row), self._queue.sequence + 1):
            return _MAILBOX_FULL
        return _Complete(sender, recipient, digest)

    def _abort_upload(self, slot: int, wish: AbortUpload) -> Outcome:
        self._drop_upload(slot, wish)
        return _DONE

    def _drop_upload(self, slot: int, wish: Chunk | CommitUpload | AbortUpload) -> None:
        upload = self._uploads.find(slot, wish.upload)
        if upload is not None:
            self._uploads.drop(upload)

    # --- fetching
    # ----------------------------------------------------------------------------------------------

    def _fetch_waiting(self, slot: int, wish: Pull) -> Outcome:
        user = self._requester(wish.requester, wish.proven)
        if isinstance(user, Refused):
            return user
        lease = self._leases.find(slot, wish.lease)
        if lease is not None and lease.user != user.row:
            return _MALFORMED
        if lease is not None:
            first, last, max_bytes = lease.first, lease.last, _END
        elif len(self._leases.of_mailbox(user.row)) >= LEASES_OF_MAILBOX:
            return Pulled(0, 0, 0, 0, NO_MAIL)
        else:
            first, last = self._visible(user)
            max_bytes = wish.max_bytes
        span = self._queue.span(user.row, first, last, max_bytes, wish.envelope_bytes)
        if span is None:
            if lease is not None:
                self._leases.end(lease)
            return Pulled(0, 0, 0, 0, NO_MAIL)
        page = self._queue.read(user.row, span.first, 0, span.last, wish.page_bytes)
        if lease is None:
            self._leases.take(Lease(span.first, span.last, user.row, slot, wish.lease, wish.proven))
        return Pulled(span.first, span.last, span.messages, span.content_bytes, page)

    def _visible(self, user: User) -> tuple[int, int]:
        """The first interval of the mailbox that has mail and is not leased; the last one
        has no end.
        """
        after = 0
        for lease in self._leases.of_mailbox(user.row):
            oldest = self._queue.oldest(user.row, after, lease.first)
            if oldest is not None:
                return oldest, lease.first - 1
            after = lease.last
        return after + 1, _END

    def _fetch_page(self, _slot: int, wish: PullPage) -> Outcome:
        user = self._requester(wish.requester, wish.proven)
        if isinstance(user, Refused):
            return user
        return Page(self._queue.read(user.row, wish.sequence, wish.offset, wish.last, wish.page_bytes))

    def _settle(self, slot: int, wish: Settle) -> Outcome:
        self._end_lease(slot, wish.lease)
        try:
            user = self._requester(wish.requester, wish.proven)
            if isinstance(user, User):
                self._queue.delete(user.row, wish.first, wish.last)
        except Exception as error:
            # Nothing was deleted, so it comes again.
            self._unread(error)
        return _DONE

    def _release(self, slot: int, wish: Release) -> Outcome:
        self._end_lease(slot, wish.lease)
        return _DONE

    def _end_lease(self, slot: int, number: int) -> None:
        lease = self._leases.find(slot, number)
        if lease is not None:
            self._leases.end(lease)

    def _fetch_after(self, slot: int, wish: Fetch) -> Outcome:
        user = self._requester(wish.requester, wish.proven)
        if isinstance(user, Refused):
            return user
        if not wish.proven:
            return _PROOF_NEEDED
        committed = self._queue.sequence
        if wish.ack > committed:
            return _MALFORMED
        span = self._queue.span(user.row, wish.ack + 1, _END, wish.max_bytes, wish.envelope_bytes)
        # Read before anything is deleted: a refusal changes nothing.
        page = NO_MAIL
        if span is not None:
            page = self._queue.read(user.row, span.first, 0, span.last, wish.page_bytes)
        self._queue.delete(user.row, 0, wish.ack)
        if span is None:
            if wish.watch:
                self._subscriptions.add(user.row, user.client_id, slot)
            return Fetched(0, 0, 0, committed, NO_MAIL)
        return Fetched(span.last, span.messages, span.content_bytes, committed, page)


class _Complete(NamedTuple):
    """An upload that becomes a message. `digest`: SHA-256 of its content where it has a token."""

    sender: User
    recipient: User
    digest: bytes


def _sent_before(sent: TokenUsed, recipient: User, kind: int, digest: bytes) -> Outcome:
    """What a token that was used answers: the same where it is the same message."""
    same = (sent.recipient, sent.kind, sent.digest) == (recipient.row, kind, digest)
    return Stored(sent.sequence) if same else _TOKEN_REUSED
