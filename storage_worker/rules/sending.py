"""Rules of sending: one message with or without a token, and runs of messages without.

Owns: the sequences, tokens and heads that messages get. Promises: what was sent under a token is
accepted once; sequences follow the order of acceptance.
Exposure: everything in a message comes from a stranger; the content is never looked into.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from common.errors import FrameUndecodable
from common.storage_protocol.message_format import ENTRY_HEAD, FLAG_PROVEN, SEND_FRAME
from common.storage_protocol.operations import (
    MessagesStored,
    Outcome,
    Refused,
    RefusedFrame,
    Stored,
    StoreMessage,
    StoreMessages,
)
from common.values import MESSAGE_KINDS
from storage_worker.engine.sqlite.journal_records import MessagesAccepted, TokenUsed
from storage_worker.engine.sqlite.message_queue import FRAME_TAIL, RUN_ENTRY, SEED_SIZE, MessageQueue
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import (
    MALFORMED,
    PROOF_NEEDED,
    RECIPIENT_UNKNOWN,
    REQUESTER_UNKNOWN,
    TOKEN_REUSED,
    TOO_LARGE,
    Unreadable,
)
from storage_worker.state.mailboxes import Mailbox
from storage_worker.state.send_tokens import SentTokens
from storage_worker.state.users import User, UserRegistry

_TOKENS_AT_ONCE: Final = 1024

_unpack_frame = SEND_FRAME.unpack_from
_pack_run_entry = RUN_ENTRY.pack


class SendingRules:
    """`random_bytes(n)` gives n random bytes."""

    def __init__(
        self,
        users: UserRegistry,
        queue: MessageQueue,
        tokens: SentTokens,
        admission: AdmissionControl,
        unreadable: Unreadable,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._users = users
        self._queue = queue
        self._tokens = tokens
        self._admission = admission
        self._unreadable = unreadable
        self._random_bytes = random_bytes
        self._random_pool = b""
        self._random_at = 0

    def store_message(self, _slot: int, message: StoreMessage) -> Outcome:
        """One message."""
        # The hot path: the rules of `Access.may_send`, written out.
        sender = self._users.find(message.sender)
        if sender is None:
            return REQUESTER_UNKNOWN
        proven = message.proven
        token = message.token
        if not proven and (sender.proven or token is not None):
            return PROOF_NEEDED
        recipient = self._users.find(message.recipient)
        if recipient is None:
            return RECIPIENT_UNKNOWN
        content = message.content
        size = len(content)
        kind = message.kind
        admission = self._admission
        if kind not in MESSAGE_KINDS:
            return MALFORMED
        if size > admission.limits.largest_message:
            return TOO_LARGE
        digest = b""
        if token is not None:
            digest = hashlib.sha256(content).digest()
            sent = self._tokens.find(sender.row, token, admission.now_ms)
            if sent is not None:
                return sent_before(sent, recipient, kind, digest)
        if admission.level:
            return admission.refusal
        refusal = admission.no_room(self._queue.mailbox(recipient.row), sender.client_id, 1, size)
        if refusal is not None:
            return refusal
        sequence = self.accept(sender, recipient, kind, proven, token, size, content)
        if token is not None:
            self._tokens.add(TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, admission.now_ms))
        return Stored(sequence)

    def accept(
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
        entry = ENTRY_HEAD.pack(sender.client_id, name, sequence, self._admission.now_ms, flags, kind, size) + content
        self._queue.put(recipient.row, sequence, entry, body)
        self._admission.accepted_bytes += size + ENTRY_HEAD.size
        return sequence

    def _random_token(self) -> bytes:
        at = self._random_at
        if at == len(self._random_pool):
            self._random_pool = self._random_bytes(16 * _TOKENS_AT_ONCE)
            at = 0
        self._random_at = at + 16
        return self._random_pool[at : at + 16]

    def store_messages(self, _slot: int, run: StoreMessages) -> Outcome:
        """A run of messages of clients that do not number theirs; raises `FrameUndecodable`."""
        # The hot path: the rules of `Access.may_send`, and the queue's `put`, written out for
        # hundreds of messages at a time. See docs/decisions/ for what that saves.
        frames, proven = run.frames, run.proven
        admission, unreadable = self._admission, self._unreadable
        largest = admission.limits.largest_message
        calm_messages, calm_bytes = admission.bounds.calm
        level, now_ms = admission.level, admission.now_ms
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
        ids_are_new = admission.ids_are_new(sequence + end // SEND_FRAME.size)
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
                    problem = REQUESTER_UNKNOWN if sender is None else PROOF_NEEDED if sender.proven > proven else None
                except Exception as error:
                    problem = unreadable.refusal(error)
            refusal = problem
            if refusal is None:
                try:
                    recipient = known(recipient_id) or find_user(recipient_id)
                    if recipient is None:
                        refusal = RECIPIENT_UNKNOWN
                    elif kind not in MESSAGE_KINDS:
                        refusal = MALFORMED
                    elif size > largest:
                        refusal = TOO_LARGE
                    elif level:
                        refusal = admission.refusal
                    else:
                        box = find_box(recipient.row) or load_box(recipient.row)
                        messages, content_bytes = box.messages + 1, box.content_bytes + size
                        if (
                            messages <= calm_messages
                            and content_bytes <= calm_bytes
                            and (ids_are_new or not admission.would_repeat_an_id(box, sequence))
                        ) or (refusal := admission.crowded(box, name, 1, size, sequence)) is None:
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
                    refusal = unreadable.refusal(error)
            refused.append(RefusedFrame(index, refusal.reason, refusal.retry_after))
            index += 1
        if touched:
            places = [frame.index for frame in refused]
            self._queue.run_accepted(
                MessagesAccepted(proven, first, now_ms, seed, frames, places), sequence - 1, touched
            )
            admission.accepted_bytes += end
        return MessagesStored(first, refused)


def sent_before(sent: TokenUsed, recipient: User, kind: int, digest: bytes) -> Outcome:
    """What a token that was used answers: the same where it is the same message."""
    same = (sent.recipient, sent.kind, sent.digest) == (recipient.row, kind, digest)
    return Stored(sent.sequence) if same else TOKEN_REUSED
