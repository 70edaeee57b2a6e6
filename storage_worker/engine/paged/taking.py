"""Mail that a transaction beside the turns, or several between them, take in, while turns go on.

Owns: what was taken, as it was then.
Promises: until `settle` says that the transaction is committed, reads find what is taken in memory,
and the tables without it; from then on in the tables. What of it is deleted meanwhile is deleted
from the tables with the next one. `write` reads nothing that turns change, so that another thread
may call it.
Exposure: none.

Turns must not see that transaction's pages before `settle`: so the loop itself has to commit it.
"""

from typing import NamedTuple

from storage_worker.engine.paged.mailboxes import Mailbox
from storage_worker.engine.paged.message_queue import DAY_MS, MAILBOXES_KEPT, MessageQueue
from storage_worker.engine.paged.page import NewPage, make_pages
from storage_worker.engine.paged.ports import Marks, Pages


class _Fresh(NamedTuple):
    """Of one mailbox; see `Mailbox`."""

    user: int
    sequences: list[int]
    entries: list[bytes]
    blobs: dict[int, int]


class TakenMail(NamedTuple):
    """What the tables are to take in. `flushed`: up to this sequence they have all that was
    accepted before `day`.
    """

    day: int
    flushed: int
    removed: list[tuple[int, int, int]]
    fresh: list[_Fresh]
    marks: Marks

    def part(self, first: int, last: int) -> "TakenMail":
        """What of it is of the mailboxes of the users from row `first` to row `last`."""
        return self._replace(
            removed=[one for one in self.removed if first <= one[0] <= last],
            fresh=[one for one in self.fresh if first <= one.user <= last],
        )

    def ends(self, most: int) -> list[int]:
        """The rows of users at which parts end that have about so many messages."""
        counts = dict.fromkeys([user for user, *_interval in self.removed], 1)
        for one in self.fresh:
            counts[one.user] = len(one.sequences)
        ends: list[int] = []
        messages = 0
        users = sorted(counts)
        for user in users:
            messages += counts[user]
            if messages >= most or user == users[-1]:
                ends.append(user)
                messages = 0
        return ends

    def write(self, pages: Pages) -> list[int]:
        """Inside a transaction: write it. The blobs that are not needed after it."""
        dead = self.write_mail(pages)
        self.write_rest(pages)
        return dead

    def write_rest(self, pages: Pages) -> None:
        """Inside the last transaction: what is of no mailbox."""
        pages.note_day(self.day, self.flushed)
        pages.write_marks(self.marks)

    def write_mail(self, pages: Pages) -> list[int]:
        """Inside a transaction: write the mail. The blobs that are not needed after it."""
        dead = pages.remove_all(self.removed)
        new: list[NewPage] = []
        for one in self.fresh:
            new += make_pages(*one, pages.page_bytes)
        pages.insert(new)
        return dead


def take(queue: MessageQueue, now_ms: int) -> TakenMail:
    """All that the tables do not have. `settle` or `give_up` has to follow."""
    assert not queue.taken_to
    queue.taken, queue.changed = queue.changed, set()
    queue.taken_to = queue.sequence
    queue.has_dead_bodies = False
    queue.unflushed_bytes = 0
    boxes = sorted(queue.taken, key=_user_of)
    for box in boxes:
        box.taken_to = queue.sequence
    return TakenMail(
        now_ms // DAY_MS,
        queue.flushed,
        [(box.user, first, last) for box in boxes for first, last in box.removed],
        [_Fresh(box.user, box.sequences[:], box.entries[:], dict(box.blobs)) for box in boxes if box.sequences],
        queue.marks(),
    )


def settle_part(queue: MessageQueue, part: TakenMail) -> None:
    """The transaction with this part is committed."""
    users = {one[0] for one in part.removed} | {one.user for one in part.fresh}
    done = {box for box in queue.taken if box.user in users}
    for box in done:
        box.settle()
    queue.taken -= done


def settle(queue: MessageQueue, dead: list[int]) -> None:
    """The transaction is committed; `dead`: what `write` gave."""
    queue.flushed = queue.taken_to
    for box in queue.taken:
        box.settle()
    _end(queue)
    if len(queue.boxes) > MAILBOXES_KEPT:
        for user in [user for user, box in queue.boxes.items() if box not in queue.changed]:
            del queue.boxes[user]
    queue.remove_blobs(dead)


def give_up(queue: MessageQueue) -> None:
    """The transaction was undone: the tables are as they were."""
    for box in queue.taken:
        low, high = box.unflushed_between(0, queue.taken_to)
        queue.unflushed_bytes += sum([len(entry) for entry in box.entries[low:high]])
        box.give_up()
    queue.changed |= queue.taken
    _end(queue)


def _end(queue: MessageQueue) -> None:
    queue.taken = set()
    queue.taken_to = 0


def _user_of(box: Mailbox) -> int:
    return box.user
