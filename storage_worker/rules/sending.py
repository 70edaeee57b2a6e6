"""Rules of sending: one message, or a run of them, with tokens or without.

Owns: the sequences, tokens and heads that messages get. Promises: what was sent under a token is
accepted once; sequences follow the order of acceptance.
Exposure: everything in a message comes from a stranger; the content is never inspected.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from common.storage_protocol.message_format import ENTRY_HEAD, FLAG_AUTHENTICATED
from common.storage_protocol.operations import (
    Outcome,
    Refused,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from common.values import KINDS_SENT_ONCE, MESSAGE_KINDS, MessageKind
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import MessageAccepted, SequenceUsed, TokenUsed
from storage_worker.engine.values import Admission, MailboxStats, User
from storage_worker.rules.activity import Activity
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import (
    DISABLED,
    MALFORMED,
    NO_KEYS,
    PROOF_NEEDED,
    RECIPIENT_UNKNOWN,
    REQUESTER_UNKNOWN,
    TOKEN_REUSED,
    TOO_LARGE,
    Unreadable,
)
from storage_worker.rules.table import rules_of

_TOKENS_AT_ONCE: Final = 1024
_SEALED: Final = int(MessageKind.SEALED)


class _RunRules:
    """The rules for a run. See `storage_worker.engine.interface.RunRules`."""

    def __init__(self, engine: Engine, admission: AdmissionControl, activity: Activity, unreadable: Unreadable) -> None:
        self._users = engine.users
        self._blocks = engine.blocks
        self._admission = admission
        self._activity = activity
        self.largest_message = admission.limits.largest_message
        self.calm: MailboxStats = admission.bounds.calm
        self.ids_are_new = admission.ids_are_new
        self.would_repeat_an_id = admission.would_repeat_an_id
        self.crowded = admission.crowded
        self.unreadable = unreadable.refusal

    @property
    def now_ms(self) -> int:
        """The turn's time."""
        return self._admission.now_ms

    @property
    def takes_mail(self) -> bool:
        """Whether new mail is accepted."""
        return self._admission.level is Admission.OPEN

    def sender_refusal(self, sender: User | None, authenticated: bool, *, once: bool) -> Refused | None:
        """Why a sender may not send, or None."""
        if sender is None:
            return REQUESTER_UNKNOWN
        if not authenticated and (sender.must_authenticate or once):
            return PROOF_NEEDED
        if sender.is_disabled:
            return DISABLED
        if sender.seen < self._activity.today:
            self._activity.note(sender)
        return None

    def message_refusal(self, recipient: User | None, kind: int, size: int) -> Refused:
        """Why a message is not accepted, apart from the limits of its mailbox."""
        if recipient is None:
            return RECIPIENT_UNKNOWN
        if kind not in MESSAGE_KINDS:
            return MALFORMED
        return TOO_LARGE if size > self.largest_message else self._admission.refusal

    def once_refusal(self, recipient: User | None, kind: int, size: int) -> Refused | None:
        """Why a message with a token is not accepted, whatever was sent under its token."""
        if recipient is None:
            return RECIPIENT_UNKNOWN
        if kind not in KINDS_SENT_ONCE:
            return MALFORMED
        return TOO_LARGE if size > self.largest_message else None

    def sent_before(self, sent: TokenUsed, recipient: User, kind: int, digest: bytes) -> Stored | Refused:
        """The answer for a token under which this was sent."""
        return sent_before(sent, recipient, kind, digest)

    def new_refusal(self, recipient: User, kind: int) -> Refused | None:
        """Why a message with a token that is new is not accepted, apart from the limits of its
        mailbox.
        """
        if kind == _SEALED and not recipient.takes_sealed:
            return NO_KEYS
        return None if self.takes_mail else self._admission.refusal

    def is_blocked(self, recipient: User, sender: bytes) -> bool:
        """Whether the recipient has blocked the sender with this id."""
        user = self._users.find(sender)
        return user is not None and self._blocks.holds(recipient.row, user.row)


class SendingRules:
    """`random_bytes(n)` gives n random bytes."""

    def __init__(
        self,
        engine: Engine,
        admission: AdmissionControl,
        activity: Activity,
        unreadable: Unreadable,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._engine = engine
        self._users = engine.users
        self._mailboxes = engine.mailboxes
        self._tokens = engine.tokens
        self._blocks = engine.blocks
        self._admission = admission
        self._activity = activity
        self._run_rules = _RunRules(engine, admission, activity, unreadable)
        self._random_bytes = random_bytes
        self._random_pool = b""
        self._random_at = 0

    def store_message(self, _slot: int, message: StoreMessage) -> Outcome:
        """Store one message."""
        # The hot path: the rules of `Access.may_send`, written out.
        sender = self._users.find(message.sender)
        if sender is None:
            return REQUESTER_UNKNOWN
        authenticated = message.authenticated
        token = message.token
        if not authenticated and (sender.must_authenticate or token is not None):
            return PROOF_NEEDED
        if sender.is_disabled:
            return DISABLED
        if sender.seen < self._activity.today:
            self._activity.note(sender)
        recipient = self._users.find(message.recipient)
        if recipient is None:
            return RECIPIENT_UNKNOWN
        content = message.content
        size = len(content)
        kind = message.kind
        admission = self._admission
        if kind not in MESSAGE_KINDS and (kind != _SEALED or token is None):
            return MALFORMED
        if size > admission.limits.largest_message:
            return TOO_LARGE
        digest = b""
        if token is not None:
            digest = hashlib.sha256(content).digest()
            sent = self._tokens.find(sender.row, token, admission.now_ms)
            if sent is not None:
                return sent_before(sent, recipient, kind, digest)
            if kind == _SEALED and not recipient.takes_sealed:
                return NO_KEYS
        if admission.level:
            return admission.refusal
        refusal = admission.no_room(self._mailboxes.mailbox(recipient.row), sender.client_id, 1, size)
        if refusal is not None:
            return refusal
        if self.is_blocked(sender, recipient):
            sequence = self.use_up_sequence()
        else:
            sequence = self.accept(sender, recipient, kind, authenticated, token, size, content)
        if token is not None:
            self._engine.apply(TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, admission.now_ms))
        return Stored(sequence)

    def accept(
        self,
        sender: User,
        recipient: User,
        kind: int,
        authenticated: bool,
        token: bytes | None,
        size: int,
        content: bytes = b"",
        blob_id: int = 0,
    ) -> int:
        """Accept one message; its sequence. Its content is blob `blob_id`, where that is not 0."""
        sequence = self._mailboxes.sequence + 1
        name = token or self._random_token()
        flags = FLAG_AUTHENTICATED if authenticated else 0
        entry = ENTRY_HEAD.pack(sender.client_id, name, sequence, self._admission.now_ms, flags, kind, size) + content
        self._engine.apply(MessageAccepted(recipient.row, sequence, entry, blob_id))
        self._admission.accepted_bytes += size + ENTRY_HEAD.size
        return sequence

    def is_blocked(self, sender: User, recipient: User) -> bool:
        """Whether the recipient has blocked the sender."""
        return recipient.blocks and self._blocks.holds(recipient.row, sender.row)

    def use_up_sequence(self) -> int:
        """Use up a sequence for a message that is not stored."""
        sequence = self._mailboxes.sequence + 1
        self._engine.apply(SequenceUsed(sequence))
        return sequence

    def _random_token(self) -> bytes:
        at = self._random_at
        if at == len(self._random_pool):
            self._random_pool = self._random_bytes(16 * _TOKENS_AT_ONCE)
            at = 0
        self._random_at = at + 16
        return self._random_pool[at : at + 16]

    def store_messages(self, _slot: int, run: StoreMessages | StoreMessagesOnce) -> Outcome:
        """A run of messages; raises `FrameUndecodable`."""
        outcome, accepted_bytes = self._engine.accept_run(run, self._run_rules)
        self._admission.accepted_bytes += accepted_bytes
        return outcome


def sent_before(sent: TokenUsed, recipient: User, kind: int, digest: bytes) -> Stored | Refused:
    """The answer for a used token: the first answer again if it is the same message."""
    same = (sent.recipient, sent.kind, sent.digest) == (recipient.row, kind, digest)
    return Stored(sent.sequence) if same else TOKEN_REUSED


SENDING: Final = (
    rules_of(SendingRules)
    .row(StoreMessage, SendingRules.store_message)
    # It refuses each of its messages by itself.
    .row(StoreMessages, SendingRules.store_messages, reads_first=False)
    .row(StoreMessagesOnce, SendingRules.store_messages, reads_first=False)
)
