"""The mailboxes: accept, read and delete messages.

Owns: the mail that is not in the database yet; the store's two high-water marks.
Promises: sequences grow and are never used twice; messages are handed out in their order; deleting
removes exactly the named interval. Every change is a record, and `replay` of the records after a
start gives the same state.
Exposure: contents are opaque bytes of strangers, never looked into.

A message goes from the journal's turn into memory, and from there, with many others, into the pages
of the database (`write`). Mail that is fetched before that is never written there.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from common.errors import FrameUndecodable
from common.rare_log import RareLog
from common.storage_protocol.message_format import (
    ENTRY_HEAD,
    FLAG_AUTHENTICATED,
    SEND_FRAME,
    SEND_ONCE_FRAME,
    Head,
    heads,
)
from common.storage_protocol.operations import (
    NO_MAIL,
    Mail,
    MessagesStored,
    Part,
    Refused,
    RefusedFrame,
    StoreMessages,
)
from common.values import MESSAGE_KINDS
from storage_worker.engine import interface
from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.interface import RunRules
from storage_worker.engine.paged.mailboxes import Mailbox
from storage_worker.engine.paged.page import InBlob, NewPage, PageRow, make_pages
from storage_worker.engine.paged.ports import Contents, Marks, Pages, Registry
from storage_worker.engine.records import (
    MailRemoved,
    MessageAccepted,
    MessagesAccepted,
    MessagesAcceptedOnce,
    OldMail,
    Record,
    SequenceUsed,
)
from storage_worker.engine.sender_counts import SenderCounts
from storage_worker.engine.values import MailboxStats, MailPlace, Span

rarely: Final = RareLog(logging.getLogger("storage_worker"))

ENVELOPE_IN_PAGE: Final = 64
"""What a message costs in a handed out page besides its content, so that a page of empty
messages ends too.
"""

SEED_SIZE: Final = 12
RUN_ENTRY: Final = Struct("<16s12sIQQB")
"""An entry as far as a frame does not have it: sender, token (seed and index), sequence,
accepted at, flags.
"""
FRAME_TAIL: Final = SEND_FRAME.size - 5
"""Where in a frame kind, content size and content begin: the end of an entry, as it is."""
ONCE_ENTRY: Final = Struct("<16s16sQQB")
FRAME_ONCE_TAIL: Final = SEND_ONCE_FRAME.size - 5
"""The same of a frame with a token."""

_unpack_frame = SEND_FRAME.unpack_from
_pack_run_entry = RUN_ENTRY.pack

DAY_MS: Final = 24 * 3600 * 1000
MAILBOXES_KEPT: Final = 100_000
MOST_UNCOUNTED: Final = 50_000
"""Microseconds, about, of taking deleted messages off the counts, after which counting
anew is cheaper for others.
"""


class _Block(NamedTuple):
    """Neighbouring messages of one mailbox. `blob_id`: the file with the content of its one
    message, else None.

    Its entries are here, or else they are all of `page`.
    """

    first: int
    last: int
    messages: int
    content_bytes: int
    blob_id: int | None
    entries: bytes
    page: PageRow | None = None


class MessageQueue:
    """All mailboxes, under user rows."""

    def __init__(self, pages: Pages, blobs: Contents, users: Registry) -> None:
        self.pages = pages
        """Those of the database."""
        self._blobs = blobs
        self._users = users
        self.boxes: dict[int, Mailbox] = {}
        """The mailboxes that are in memory, by user row; `mailbox` loads the others."""
        self._uploaded: dict[int, MailboxStats] = {}
        self._dead_bodies: list[int] = []
        self.changed: set[Mailbox] = set()
        """Mailboxes with something that the database does not have."""
        self.taken: set[Mailbox] = set()
        """Mailboxes of which a transaction beside the turns takes in what there was when it began
        (`storage_worker.engine.paged.taking`).
        """
        self.received: set[Mailbox] = set()
        """Mailboxes that got mail in this turn."""
        self.unflushed_bytes = 0
        """About what the fresh messages take in memory."""
        self.has_dead_bodies = False
        """Whether files wait for the database to let go of them."""
        self.sequence = 0
        """The highest ever given to a message."""
        self.flushed = 0
        """What it was when the database had everything."""
        self.taken_to = 0
        """What it was when `taken` was; else 0."""
        self.moved_to = 0
        """Of the mailboxes of users up to this row the database has all that `replay` is given; see
        the table `moved` of the engine sqlite.
        """
        self.accepted = 0
        """How many messages were accepted since the store was made: fewer than sequences,
        which leave some out.
        """
        self._blob_id = 0
        self.forget()

    # --- memory and disk
    # ---------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Return to the state of the database, at a start and before a replay."""
        self.sequence, self._blob_id, self.accepted = self.pages.marks()
        self.pages.forget()
        self.boxes.clear()
        self.changed.clear()
        self.taken.clear()
        self.taken_to = 0
        self.received.clear()
        self._dead_bodies.clear()
        self.unflushed_bytes = 0
        self.flushed = self.sequence
        self.has_dead_bodies = False

    @property
    def unflushed_messages(self) -> int:
        """How many messages were accepted since the last flush was begun, including those that were
        deleted since.
        """
        return self.sequence - (self.taken_to or self.flushed)

    def replay(self, record: Record) -> None:
        """Apply a turn's record again."""
        match record:
            case MessagesAccepted():
                self._replay_run(record)
            case MessagesAcceptedOnce():
                self._replay_run_once(record)
            case MessageAccepted():
                self._put_again(record.recipient, record.sequence, record.entry, record.blob_id)
            case MailRemoved():
                if record.recipient > self.moved_to:
                    self.remove(record)
            case SequenceUsed():
                self.use_up(record)
            case _:
                pass

    def committed(self) -> None:
        """The turn is on disk: delete files whose messages never reached the database."""
        dead, self._dead_bodies = self._dead_bodies, []
        for blob_id in dead:
            self._blobs.remove(blob_id)

    def look_through(self) -> None:
        """Before the transaction of `write`: find altered pages among those that it will delete or
        cut.
        """
        for box in self.changed:
            for first, last in box.removed:
                self.pages.look_through(box.user, first, last)

    def write(self, now_ms: int) -> list[int]:
        """Inside a transaction: write what the database does not have. Returns the files that are
        not needed after it.
        """
        # What is flushed now may be of yesterday, and counts as of today.
        self.pages.note_day(now_ms // DAY_MS, self.flushed)
        pages: list[NewPage] = []
        boxes = sorted(self.changed, key=_user_of)
        dead = self.pages.remove_all([(box.user, first, last) for box in boxes for first, last in box.removed])
        for box in boxes:
            pages += make_pages(box.user, box.sequences, box.entries, box.blobs, self.pages.page_bytes)
        self.pages.insert(pages)
        self.pages.write_marks(self.marks())
        return dead

    def marks(self) -> Marks:
        """The store's, with what the database does not have yet."""
        return Marks(self.sequence, self._blob_id, self.accepted)

    def written(self, dead: list[int]) -> None:
        """That transaction is on disk."""
        for box in self.changed:
            box.flushed()
        self.changed.clear()
        self.unflushed_bytes = 0
        self.flushed = self.sequence
        self.has_dead_bodies = False
        if len(self.boxes) > MAILBOXES_KEPT:
            self.boxes.clear()
            self.received.clear()
        self.remove_blobs(dead)

    def remove_blobs(self, blob_ids: list[int]) -> None:
        """Nothing needs these any more."""
        for blob_id in blob_ids:
            self._blobs.remove(blob_id)

    def match_files(self) -> tuple[list[str], list[MailRemoved]]:
        """At a start: delete files that no message needs, and find messages whose file is missing
        or cut.

        Returns a sentence for each of these messages, and the records that delete them, which the
        caller applies. Their content is lost: the disk lost it, or an older database was restored
        without its files. What is left of a file is set aside.
        """
        waiting = list(self.pages.in_blobs())
        for box in self.changed:
            for sequence, blob_id in box.blobs.items():
                entry = box.entries[box.sequences.index(sequence)]
                waiting.append(InBlob(box.user, sequence, ENTRY_HEAD.unpack_from(entry)[6], blob_id))
        missing = self._blobs.sweep({one.blob_id: one.size for one in waiting})
        told: list[str] = []
        removed: list[MailRemoved] = []
        for one in waiting:
            if one.blob_id in missing:
                kept = self._blobs.set_aside(one.blob_id)
                state = f"is cut, and kept as {kept}" if kept else "is missing"
                told.append(
                    f"bodies/{one.blob_id} {state}: message {one.sequence} in the mailbox of "
                    f"{self.pages.owner(one.recipient)} is lost"
                )
                removed.append(MailRemoved(one.recipient, one.sequence, one.sequence))
        return told, removed

    # --- put
    # ----------------------------------------------------------------------------------------------

    def mailbox(self, user: int) -> Mailbox:
        """The mailbox of a user row."""
        box = self.boxes.get(user)
        if box is None:
            box = self.boxes[user] = Mailbox(user, *self.pages.stats(user))
            if user in self._uploaded:
                box.messages += self._uploaded[user].messages
                box.content_bytes += self._uploaded[user].content_bytes
        return box

    def pending(self, user: int) -> MailboxStats:
        """What is pending in a mailbox, without unfinished uploads; caches nothing."""
        box = self.boxes.get(user)
        if box is None:
            return self.pages.stats(user)
        uploads = self._uploaded.get(user, MailboxStats(0, 0))
        return MailboxStats(box.messages - uploads.messages, box.content_bytes - uploads.content_bytes)

    def load(self) -> tuple[int, int, int]:
        """The totals of pending mail: mailboxes, messages, and bytes of contents."""
        mailboxes, messages, content_bytes = self.pages.load()
        for box in self.changed | self.taken:
            before, now = self.pages.stats(box.user), self.pending(box.user)
            mailboxes += bool(now.messages) - bool(before.messages)
            messages += now.messages - before.messages
            content_bytes += now.content_bytes - before.content_bytes
        return mailboxes, messages, content_bytes

    def accepted_before(self, day: int) -> int:
        """The highest sequence known to have been given before this day began."""
        return self.pages.accepted_before(day, self.flushed)

    def old_mail(self, place: MailPlace, sequence: int, pages: int) -> OldMail:
        """What is in pages up to a sequence, after `place`. What the database does not have yet is
        not old.
        """
        removed: list[MailRemoved] = []
        user, behind = place
        while pages > 0:
            found = self.pages.oldest(user, behind, sequence, pages)
            pages -= len(found) or 1
            if found:
                behind = found[-1].last
                removed.append(MailRemoved(user, found[0].first, min(behind, sequence)))
                if pages <= 0:
                    break
            following = self.pages.next_mailbox(user)
            if following is None:
                return OldMail(removed, None)
            user, behind = following, 0
        return OldMail(removed, MailPlace(user, behind))

    def charge(self, user: int, messages: int, content_bytes: int) -> None:
        """Reserve room in a mailbox for an unfinished upload, or with negative numbers free it."""
        before = self._uploaded.pop(user, MailboxStats(0, 0))
        after = MailboxStats(before.messages + messages, before.content_bytes + content_bytes)
        if after.messages:
            self._uploaded[user] = after
        box = self.boxes.get(user)
        if box is not None:
            box.messages += messages
            box.content_bytes += content_bytes

    def forget_mailbox(self, user: int) -> None:
        """The user of this row is being deleted: pages went, and nothing is in memory alone."""
        self.pages.forget_mailbox(user)
        box = self.boxes.pop(user, None)
        if box is not None:
            self.changed.discard(box)
            self.received.discard(box)

    def is_current(self, box: interface.Mailbox) -> bool:
        """Whether `mailbox` would still return this object."""
        return self.boxes.get(box.user) is box

    def accept(self, message: MessageAccepted) -> None:
        """One message is in its mailbox."""
        self._put(self.mailbox(message.recipient), message.sequence, message.entry, message.blob_id)

    def _put(self, box: Mailbox, sequence: int, entry: bytes, blob_id: int) -> None:
        box.sequences.append(sequence)
        box.entries.append(entry)
        box.messages += 1
        box.content_bytes += ENTRY_HEAD.unpack_from(entry)[6]
        if blob_id:
            box.blobs[sequence] = blob_id
            self._blob_id = max(self._blob_id, blob_id)
        # After a crash the store may be ahead of its journal: what was reserved is not given again.
        self.sequence = max(self.sequence, sequence)
        self.accepted += 1
        self.unflushed_bytes += len(entry)
        self.changed.add(box)
        self.received.add(box)

    def _put_again(self, user: int, sequence: int, entry: bytes, blob_id: int) -> None:
        """A message of the log is in its mailbox, unless the database has it there."""
        if user > self.moved_to:
            self._put(self.mailbox(user), sequence, entry, blob_id)
            return
        self._blob_id = max(self._blob_id, blob_id)
        self.sequence = max(self.sequence, sequence)
        self.accepted += 1

    def use_up(self, used: SequenceUsed) -> None:
        """A sequence was given to a message that is not stored."""
        self.sequence = max(self.sequence, used.sequence)

    def accept_run(
        self, run: StoreMessages, rules: RunRules, random_bytes: Callable[[int], bytes]
    ) -> tuple[MessagesStored, MessagesAccepted | None]:
        """Accept the messages of a run that may be accepted: the outcome, and its record, which is
        applied already. Raises `FrameUndecodable`.
        """
        # The hot path: `_put` written out for hundreds of messages at a time, and of the
        # rules what two numbers decide. See docs/decisions/ for what that saves.
        frames, authenticated = run.frames, run.authenticated
        largest, takes_mail, now_ms = rules.largest_message, rules.takes_mail, rules.now_ms
        calm_messages, calm_bytes = rules.calm
        known, find_user = self._users.known.get, self._users.find
        find_box, load_box = self.boxes.get, self.mailbox
        flags = FLAG_AUTHENTICATED if authenticated else 0
        seed = random_bytes(SEED_SIZE)
        first = sequence = self.sequence + 1
        touched: set[Mailbox] = set()
        refused: list[RefusedFrame] = []
        dropped: list[int] = []
        sender_id = b""
        problem: Refused | None = None
        index = at = 0
        end = len(frames)
        # Nothing of this run can have an id for the second time.
        ids_are_new = rules.ids_are_new(sequence + end // SEND_FRAME.size)
        while at < end:
            name, recipient_id, kind, size = _unpack_frame(frames, at)
            tail = at + FRAME_TAIL
            at += SEND_FRAME.size + size
            if at > end:
                raise FrameUndecodable("the last frame of a run is cut off")
            if name != sender_id:
                sender_id = name
                try:
                    problem = rules.sender_refusal(known(name) or find_user(name), authenticated, once=False)
                except Exception as error:
                    problem = rules.unreadable(error)
            refusal = problem
            if refusal is None:
                try:
                    recipient = known(recipient_id) or find_user(recipient_id)
                    if recipient is None or kind not in MESSAGE_KINDS or size > largest or not takes_mail:
                        refusal = rules.message_refusal(recipient, kind, size)
                    else:
                        box = find_box(recipient.row) or load_box(recipient.row)
                        messages, content_bytes = box.messages + 1, box.content_bytes + size
                        if (
                            messages <= calm_messages
                            and content_bytes <= calm_bytes
                            and (ids_are_new or not rules.would_repeat_an_id(box, sequence))
                        ) or (refusal := rules.crowded(box, name, 1, size, sequence)) is None:
                            if recipient.blocks and rules.is_blocked(recipient, name):
                                dropped.append(index)
                                sequence += 1
                                index += 1
                                continue
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
                    refusal = rules.unreadable(error)
            refused.append(RefusedFrame(index, refusal.reason, refusal.retry_after))
            index += 1
        record = None
        if sequence > first:
            places = [frame.index for frame in refused]
            record = MessagesAccepted(authenticated, first, now_ms, seed, frames, places, dropped)
            self.run_accepted(record, sequence - 1, touched)
        return MessagesStored(first, refused), record

    def run_accepted(self, run: MessagesAccepted | MessagesAcceptedOnce, last: int, boxes: set[Mailbox]) -> None:
        """The messages of a run, up to sequence `last`, were put into `boxes`."""
        self.sequence = last
        self.accepted += last - run.first + 1 - len(run.dropped)
        self.unflushed_bytes += len(run.frames)
        self.changed |= boxes
        self.received |= boxes

    def _replay_run(self, run: MessagesAccepted) -> None:
        frames = run.frames
        flags = FLAG_AUTHENTICATED if run.authenticated else 0
        refused, dropped = set(run.refused), set(run.dropped)
        sequence = run.first - 1
        index = at = 0
        while at < len(frames):
            sender, recipient, _kind, size = SEND_FRAME.unpack_from(frames, at)
            end = at + SEND_FRAME.size + size
            if index not in refused:
                sequence += 1
            if index not in refused and index not in dropped:
                entry = RUN_ENTRY.pack(sender, run.seed, index, sequence, run.accepted_at, flags)
                self._put_again(self._users.row_of(recipient), sequence, entry + frames[at + FRAME_TAIL : end], 0)
            index += 1
            at = end
        self.sequence = max(self.sequence, sequence)

    def _replay_run_once(self, run: MessagesAcceptedOnce) -> None:
        frames = run.frames
        left_out, dropped = set(run.left_out), set(run.dropped)
        sequence = run.first - 1
        index = at = 0
        while at < len(frames):
            sender, token, recipient, _kind, size = SEND_ONCE_FRAME.unpack_from(frames, at)
            end = at + SEND_ONCE_FRAME.size + size
            if index not in left_out:
                sequence += 1
            if index not in left_out and index not in dropped:
                # Who sends under a token is always authenticated.
                entry = ONCE_ENTRY.pack(sender, token, sequence, run.accepted_at, FLAG_AUTHENTICATED)
                tail = frames[at + FRAME_ONCE_TAIL : end]
                self._put_again(self._users.row_of(recipient), sequence, entry + tail, 0)
            index += 1
            at = end
        self.sequence = max(self.sequence, sequence)

    def new_blob_id(self) -> int:
        """A number for a content that becomes a file."""
        self._blob_id = blob_id = self._blob_id + 1
        return blob_id

    # --- hand out
    # ----------------------------------------------------------------------------------------------

    def _blocks(self, box: Mailbox, first: int, last: int) -> Iterator[_Block]:
        """What is pending from `first` to `last`, in order."""
        if not box.messages:
            # Who looks for mail mostly finds none: that costs no look into the database.
            return
        nothing_removed = not box.removed
        for page in self.pages.overlapping(box.user, first, last):
            if nothing_removed and first <= page.first and page.last <= last:
                # Nearly always: nothing of a mailbox is deleted, and all of it is asked for.
                yield _Block(*page[1:], b"", page)
                continue
            removed = box.removed_within(page.first, page.last)
            if any(low <= page.first and page.last <= high for low, high in removed):
                continue
            if first <= page.first and page.last <= last and not removed:
                yield _Block(*page[1:], b"", page)
            else:
                yield from self._kept(box.user, page, first, last, removed)
        low, high = box.unflushed_between(first, last)
        if low == high:
            return
        if not box.blobs:
            yield _unflushed_block(box, low, high)
            return
        for index in range(low, high):
            yield _unflushed_block(box, index, index + 1)

    def _kept(
        self, user: int, page: PageRow, first: int, last: int, removed: list[tuple[int, int]]
    ) -> Iterator[_Block]:
        """The messages of a page that are asked for and not removed, in contiguous blocks."""
        entries = self.pages.entries(user, page)
        together: list[Head] = []
        for head in heads(entries):
            sequence = head.sequence
            if first <= sequence <= last and not any(low <= sequence <= high for low, high in removed):
                together.append(head)
            elif together:
                yield _block_of(entries, together)
                together = []
        if together:
            yield _block_of(entries, together)

    def _is_damaged(self, block: _Block) -> bool:
        return block.page is not None and block.page.row in self.pages.damaged

    def _entries(self, user: int, block: _Block) -> bytes:
        return self.pages.entries(user, block.page) if block.page is not None else block.entries

    # --- whose it is
    # -------------------------------------------------------------------------------------------

    def count_senders(self, user: int, dropped: MailboxStats, work: int) -> tuple[SenderCounts, int]:
        """Continue to count a mailbox's senders, for about `work` microseconds: the counts, and how
        much of `work` is left. The counts are kept until the mailbox holds no more than `dropped`.

        Messages on pages that are altered are counted for nobody.
        """
        box = self.mailbox(user)
        counts = box.counts
        if counts is None:
            counts = box.counts = SenderCounts(dropped)
        return counts, self._count_on(box, counts, work)

    def _count_on(self, box: Mailbox, counts: SenderCounts, work: int) -> int:
        newest = box.sequences[-1] if box.sequences else 0
        flushed = max(self.flushed, box.flushed_to)
        if counts.complete and flushed <= counts.counted_to >= newest:
            return work
        if counts.counted_to < flushed:
            counts.complete = False
            if work <= 0:
                return work
            try:
                for page, entries in self._entries_of_pages(box, counts.counted_to + 1, flushed):
                    if entries is not None:
                        counts.add(entries)
                    counts.counted_to = page.last
                    work -= _work_of(page)
                    if work <= 0:
                        return work
            except Exception as error:
                told = self.pages.damage(error)
                if told is None:
                    raise
                rarely.write(logging.ERROR, "not all senders of a mailbox can be counted: %s", told)
        low = bisect_right(box.sequences, counts.counted_to)
        for entry in box.entries[low:]:
            counts.add(entry)
        counts.completed(max(flushed, counts.counted_to, newest))
        return work

    def _entries_of_pages(self, box: Mailbox, first: int, last: int) -> Iterator[tuple[PageRow, bytes | None]]:
        """The pages with messages from `first` to `last` that wait, and these messages;
        None for an altered page.
        """
        for page in self.pages.overlapping(box.user, first, last):
            removed = box.removed_within(page.first, page.last)
            entries = None
            try:
                if first <= page.first and page.last <= last and not removed:
                    entries = self.pages.entries(box.user, page)
                elif not any(low <= page.first and page.last <= high for low, high in removed):
                    kept = self._kept(box.user, page, first, last, removed)
                    entries = b"".join([block.entries for block in kept])
                else:
                    entries = b""
            except StoreDamaged as error:
                rarely.write(logging.ERROR, "%s", error)
            yield page, entries

    def _uncount(self, box: Mailbox, counts: SenderCounts, first: int, last: int) -> None:
        """The messages from `first` to `last` are about to be deleted: subtract those that are
        counted.
        """
        last = min(last, counts.counted_to)
        low, high = box.unflushed_between(first, last)
        for entry in box.entries[low:high]:
            counts.take(entry)
        work = MOST_UNCOUNTED
        for page, entries in self._entries_of_pages(box, first, last):
            work -= _work_of(page)
            if entries is None or work <= 0:
                counts.begin_again()
                return
            counts.take(entries)

    def oldest(self, user: int, after: int, before: int) -> int | None:
        """The lowest sequence between `after` and `before`, both excluded, of the user's
        mailbox.
        """
        for block in self._blocks(self.mailbox(user), after + 1, before - 1):
            return block.first
        return None

    def span(self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int) -> Span | None:
        """What is pending from `first` to `last`, up to `max_bytes`, at least one message; None if
        nothing is pending.

        A message counts as its content plus `envelope_bytes`.
        """
        low = high = messages = content_bytes = 0
        room = max_bytes
        for block in self._blocks(self.mailbox(user), first, last):
            if messages and (self._is_damaged(block) or block.blob_id in self._blobs.unread):
                # What lies before it is handed out.
                break
            low = low or block.first
            needed = block.content_bytes + block.messages * envelope_bytes
            if needed <= room or (not messages and block.messages == 1):
                room -= needed
                high = block.last
                messages += block.messages
                content_bytes += block.content_bytes
                continue
            if block.messages > 1:
                for head in heads(self._entries(user, block)):
                    if messages and head.size + envelope_bytes > room:
                        break
                    room -= head.size + envelope_bytes
                    high = head.sequence
                    messages += 1
                    content_bytes += head.size
            break
        return Span(low, high, messages, content_bytes) if messages else None

    def read(self, user: int, first: int, offset: int, last: int, page_bytes: int) -> Mail:
        """A page of the messages `first` to `last`, beginning `offset` bytes into message `first`.

        At most `page_bytes` of content, but never empty if there is a message. Messages of up to
        `page_bytes` are whole; larger ones come in parts, one part per page.
        """
        budget = page_bytes = max(page_bytes, 1)
        whole: list[bytes] = []
        last_whole = 0
        for block in self._blocks(self.mailbox(user), first, last):
            cost = block.content_bytes + (block.messages - 1) * ENVELOPE_IN_PAGE
            if block.blob_id is None and cost <= budget and not (offset and block.first == first):
                whole.append(self._entries(user, block))
                last_whole = block.last
                budget -= cost + ENVELOPE_IN_PAGE
                if budget <= 0:
                    break
                continue
            if whole and block.messages > 1:
                # The next page begins with it: its messages are looked at one by one only where it
                # does not fit whole.
                break
            entries = self._entries(user, block)
            if block.blob_id is not None:
                places = [Head(block.first, block.content_bytes, 0, len(entries))]
            else:
                places = heads(entries)
            for sequence, size, start, end in places:
                skipped = offset if sequence == first else 0
                if skipped and skipped >= size:
                    continue
                if (skipped or size > page_bytes) and not whole:
                    length = min(size - skipped, page_bytes)
                    content_at = start + ENTRY_HEAD.size
                    if block.blob_id is not None:
                        part = self._blobs.read(block.blob_id, skipped, length, size)
                    else:
                        part = entries[content_at + skipped : content_at + skipped + length]
                    return Mail(b"", 0, Part(entries[start:content_at], sequence, size, skipped, part))
                if size > budget:
                    return Mail(b"".join(whole), last_whole)
                whole.append(entries[start:end])
                if block.blob_id is not None:
                    whole.append(self._blobs.read(block.blob_id, 0, size, size))
                last_whole = sequence
                budget -= size + ENVELOPE_IN_PAGE
                if budget <= 0:
                    return Mail(b"".join(whole), last_whole)
        return Mail(b"".join(whole), last_whole) if whole else NO_MAIL

    def first_page(
        self, user: int, first: int, last: int, max_bytes: int, envelope_bytes: int, page_bytes: int
    ) -> tuple[Span, Mail] | None:
        """`span`, and `read` of it from its beginning; None if nothing is pending."""
        # Most mailboxes fit into one page as they are: then one look gives both.
        room, budget = max_bytes, max(page_bytes, 1)
        blocks: list[_Block] = []
        for block in self._blocks(self.mailbox(user), first, last):
            needed = block.content_bytes + block.messages * envelope_bytes
            cost = block.content_bytes + (block.messages - 1) * ENVELOPE_IN_PAGE
            if needed > room or cost > budget or budget <= 0 or block.blob_id is not None:
                break
            room -= needed
            budget -= cost + ENVELOPE_IN_PAGE
            blocks.append(block)
        else:
            if not blocks:
                return None
            if not self.pages.damaged or not any(self._is_damaged(block) for block in blocks):
                messages = sum([block.messages for block in blocks])
                content_bytes = sum([block.content_bytes for block in blocks])
                span = Span(blocks[0].first, blocks[-1].last, messages, content_bytes)
                return span, Mail(b"".join([self._entries(user, block) for block in blocks]), span.last)
        found = self.span(user, first, last, max_bytes, envelope_bytes)
        return None if found is None else (found, self.read(user, found.first, 0, found.last, page_bytes))

    # --- delete
    # ----------------------------------------------------------------------------------------------

    def remove(self, removed: MailRemoved) -> bool:
        """Delete the messages of an interval, and nothing else; whether there were any."""
        return self._remove(self.mailbox(removed.recipient), removed.first, removed.last)

    def _remove(self, box: Mailbox, first: int, last: int) -> bool:
        """Delete from `first` to `last`; returns whether there was anything."""
        if not box.messages:
            return False
        messages = content_bytes = 0
        in_pages = False
        low, high = box.unflushed_between(first, last)
        unflushed_from = box.sequences[0] if box.sequences else last + 1
        try:
            for block in self._blocks(box, first, min(last, unflushed_from - 1)):
                messages += block.messages
                content_bytes += block.content_bytes
                in_pages = True
                if block.blob_id is not None:
                    self.has_dead_bodies = True
        except StoreDamaged as error:
            # A part of an altered page: nobody knows what is in it, and nothing of it is handed
            # out. It stays.
            rarely.write(logging.ERROR, "%s", error)
        if box.counts is not None:
            self._uncount(box, box.counts, first, last)
        if low < high:
            messages += high - low
            content_bytes += self._drop_unflushed(box, low, high)
        if not messages:
            return False
        if in_pages:
            box.forget_between(first, last)
        box.messages -= messages
        box.content_bytes -= content_bytes
        if box.counts is not None and box.counts.is_needless(box.messages, box.content_bytes):
            box.counts = None
        self.changed.add(box)
        return True

    def _drop_unflushed(self, box: Mailbox, low: int, high: int) -> int:
        """Drop unflushed messages and mark their files for deletion; returns their bytes of
        content.
        """
        size = sum([len(entry) for entry in box.entries[low:high]])
        content_bytes = size - (high - low) * ENTRY_HEAD.size
        taken = bisect_right(box.sequences, box.taken_to, low, high) if box.taken_to else low
        if taken > low:
            # They will be in pages, with their files, and go from there.
            box.forget_between(box.sequences[low], box.sequences[taken - 1])
            self.unflushed_bytes += sum([len(entry) for entry in box.entries[low:taken]])
        self.unflushed_bytes -= size
        if box.blobs:
            for index in range(low, high):
                blob_id = box.blobs.pop(box.sequences[index], 0)
                if blob_id:
                    content_bytes += ENTRY_HEAD.unpack_from(box.entries[index])[6]
                    if index < taken:
                        self.has_dead_bodies = True
                    else:
                        self._dead_bodies.append(blob_id)
        del box.sequences[low:high]
        del box.entries[low:high]
        return content_bytes


def _work_of(page: PageRow) -> int:
    """About how many microseconds it takes to count the senders of a page."""
    return 12 + page.messages // 2 + page.content_bytes // 1000


def _user_of(box: Mailbox) -> int:
    return box.user


def _unflushed_block(box: Mailbox, low: int, high: int) -> _Block:
    sequences = box.sequences
    blob_id = box.blobs.get(sequences[low]) if box.blobs else None
    if blob_id is not None:
        entry = box.entries[low]
        return _Block(sequences[low], sequences[low], 1, ENTRY_HEAD.unpack_from(entry)[6], blob_id, entry)
    entries = b"".join(box.entries[low:high])
    content_bytes = len(entries) - (high - low) * ENTRY_HEAD.size
    return _Block(sequences[low], sequences[high - 1], high - low, content_bytes, None, entries)


def _block_of(entries: bytes, together: list[Head]) -> _Block:
    content_bytes = sum([head.size for head in together])
    part = entries[together[0].start : together[-1].end]
    return _Block(together[0].sequence, together[-1].sequence, len(together), content_bytes, None, part)
