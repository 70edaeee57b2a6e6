"""Accepts runs of messages with tokens: those that are new are stored, the others are answered as
they were before.

Owns: the loop. Promises: as `Engine.accept_run`. A message is accepted once under its token, also
where both are in the same run. Messages are numbered in their order.
Exposure: everything in a frame comes from a stranger; contents are hashed, never looked into.

`MessageQueue.accept_run` is the same for messages without tokens. What they share is written twice,
for both are for hundreds of messages at a time (docs/decisions/0031-runs-of-642.md).
"""

from hashlib import sha256
from typing import Final

from common.errors import FrameUndecodable
from common.storage_protocol.message_format import FLAG_AUTHENTICATED, SEND_ONCE_FRAME
from common.storage_protocol.operations import MessagesStored, Refused, RefusedFrame, RepeatedFrame, StoreMessagesOnce
from common.values import KINDS_SENT_ONCE, MessageKind
from storage_worker.engine.interface import RunRules
from storage_worker.engine.paged.mailboxes import Mailbox
from storage_worker.engine.paged.message_queue import FRAME_ONCE_TAIL, ONCE_ENTRY, MessageQueue
from storage_worker.engine.paged.ports import Registry
from storage_worker.engine.paged.send_tokens import USE, Marks, SentTokens
from storage_worker.engine.records import MessagesAcceptedOnce

_SEALED: Final = int(MessageKind.SEALED)
_unpack_frame = SEND_ONCE_FRAME.unpack_from
_pack_entry = ONCE_ENTRY.pack
_pack_use = USE.pack


def accept_once(
    queue: MessageQueue, users: Registry, tokens: SentTokens, run: StoreMessagesOnce, rules: RunRules
) -> tuple[MessagesStored, MessagesAcceptedOnce | None]:
    """Accept the messages of a run that may be accepted: the outcome, and its record, which is
    applied already. Raises `FrameUndecodable`.
    """
    frames, authenticated = run.frames, run.authenticated
    largest, takes_mail, now_ms = rules.largest_message, rules.takes_mail, rules.now_ms
    calm_messages, calm_bytes = rules.calm
    known, find_user = users.known.get, users.find
    find_box, load_box = queue.boxes.get, queue.mailbox
    flags = FLAG_AUTHENTICATED if authenticated else 0
    first = sequence = queue.sequence + 1
    touched: set[Mailbox] = set()
    senders: list[int] = []
    refused: list[RefusedFrame] = []
    repeated: list[RepeatedFrame] = []
    dropped: list[int] = []
    sender_id = b""
    problem: Refused | None = None
    row = 0
    new: dict[bytes, bytes] = {}
    marks: Marks | None = None
    accepted = 0
    index = -1
    at = 0
    end = len(frames)
    # Nothing of this run can have an id for the second time.
    ids_are_new = rules.ids_are_new(sequence + end // SEND_ONCE_FRAME.size)
    while at < end:
        name, token, recipient_id, kind, size = _unpack_frame(frames, at)
        tail = at + FRAME_ONCE_TAIL
        at += SEND_ONCE_FRAME.size + size
        if at > end:
            raise FrameUndecodable("the last frame of a run is cut off")
        index += 1
        if name != sender_id:
            if marks is not None:
                marks.count(accepted)
            sender_id, row, marks, accepted = name, 0, None, 0
            try:
                sender = known(name) or find_user(name)
                problem = rules.sender_refusal(sender, authenticated, once=True)
                if sender is not None and problem is None:
                    row = sender.row
                    new = tokens.new_of(row)
            except Exception as error:
                problem = rules.unreadable(error)
            senders.append(row)
        refusal = problem
        if refusal is None:
            try:
                recipient = known(recipient_id) or find_user(recipient_id)
                if recipient is None or kind not in KINDS_SENT_ONCE or size > largest:
                    refusal = rules.once_refusal(recipient, kind, size)
                if recipient is not None and refusal is None:
                    digest = sha256(frames[at - size : at]).digest()
                    if marks is None:
                        marks = tokens.marks_of(row)
                    if marks is None or marks.note(token):
                        sent = tokens.look(row, token, now_ms)
                        if sent is not None:
                            outcome = rules.sent_before(sent, recipient, kind, digest)
                            if isinstance(outcome, Refused):
                                refused.append(RefusedFrame(index, outcome.reason, outcome.retry_after))
                            else:
                                repeated.append(RepeatedFrame(index, outcome.sequence))
                            continue
                        # What is known of it is too old.
                        new.pop(token, None)
                    if kind == _SEALED or not takes_mail:
                        refusal = rules.new_refusal(recipient, kind)
                    if refusal is None:
                        box = find_box(recipient.row) or load_box(recipient.row)
                        messages, content_bytes = box.messages + 1, box.content_bytes + size
                        if (
                            messages <= calm_messages
                            and content_bytes <= calm_bytes
                            and (ids_are_new or not rules.would_repeat_an_id(box, sequence))
                        ) or (refusal := rules.crowded(box, name, 1, size, sequence)) is None:
                            if recipient.blocks and rules.is_blocked(recipient, name):
                                dropped.append(index)
                            else:
                                box.messages, box.content_bytes = messages, content_bytes
                                box.sequences.append(sequence)
                                box.entries.append(_pack_entry(name, token, sequence, now_ms, flags) + frames[tail:at])
                                touched.add(box)
                            new[token] = _pack_use(sequence, recipient.row, kind, digest, now_ms)
                            sequence += 1
                            accepted += 1
                            continue
            except Exception as error:
                refusal = rules.unreadable(error)
        if refusal is not None:
            refused.append(RefusedFrame(index, refusal.reason, refusal.retry_after))
    if marks is not None:
        marks.count(accepted)
    record = None
    if sequence > first:
        left_out = sorted([one.index for one in refused] + [one.index for one in repeated])
        record = MessagesAcceptedOnce(first, now_ms, frames, senders, left_out, dropped)
        queue.run_accepted(record, sequence - 1, touched)
    return MessagesStored(first, refused, repeated), record
