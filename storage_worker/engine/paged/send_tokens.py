"""Remembers the tokens under which senders sent, so that a resend is recognised even after the
message was fetched.

Owns: the tokens that the table does not have, and marks of those that it has.
Promises: the newest 1,024 tokens of a sender are kept, for at most 7 days; the clean-up per
transaction is bounded. What is remembered of the table is bounded: 4 KiB for each of a thousand
senders. `take` gives what the table lacks; until `written` says that it has it, a
later `take` gives it again.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from storage_worker.engine.records import Record, TokenUsed

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_EXPIRED_PER_WRITE: Final = 64
SENDERS_KEPT: Final = 1000
_MARKS: Final = 1 << 15
"""Bits of a sender's marks. 1,024 random tokens set 3 % of them."""


class TokenTable(Protocol):
    """The table `sent_token`."""

    def find(self, sender: int, token: bytes) -> TokenUsed | None:
        """What it has under a sender's token."""

    def tokens_of(self, sender: int) -> Iterable[tuple[bytes]]:
        """All that it has of a sender."""

    def count_newer(self, sender: int, sequence: int) -> int:
        """How many of a sender's it has with a higher sequence."""


class TakenTokens(NamedTuple):
    """What the table is to get. `there`: senders and tokens of which it may have an earlier use.
    What it has of `senders` beyond their newest `most` is to go, and of the `expired` tokens with
    the lowest sequences those that were accepted before `before_ms`.
    """

    used: list[TokenUsed]
    there: list[tuple[int, bytes]]
    senders: list[int]
    most: int
    expired: int
    before_ms: int


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self._new: dict[tuple[int, bytes], TokenUsed] = {}
        self._new_of_sender: dict[int, list[int]] = {}
        self._taken: list[TokenUsed] = []
        self._marks: dict[int, bytearray | None] = {}
        """A bit for each token that the table may have of a sender; None: the sender has asked
        once. The sender who came first goes first.
        """

    def forget(self) -> None:
        """Return to the state of the table."""
        self._new.clear()
        self._new_of_sender.clear()
        self._taken = []
        self._marks.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record, at its time or again."""
        if isinstance(record, TokenUsed):
            self.add(record)

    def add(self, used: TokenUsed) -> None:
        """Remember a token that `find` did not know."""
        self._new[used.sender, used.token] = used
        self._new_of_sender.setdefault(used.sender, []).append(used.sequence)

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within the last 7 days, if it is among
        their newest 1,024.
        """
        new = self._new_of_sender.get(sender, [])
        sent = self._new.get((sender, token))
        if sent is not None:
            newer = len(new) - bisect_right(new, sent.sequence)
        elif not self._may_have(sender, token):
            return None
        else:
            sent = self._table.find(sender, token)
            if sent is None:
                return None
            newer = len(new)
            if newer:
                # The table keeps 1,024 and the new ones come on top of them.
                newer += self._table.count_newer(sender, sent.sequence)
        return sent if newer < TOKENS_PER_SENDER and now_ms - sent.accepted_at <= TOKEN_LIFE_MS else None

    def _may_have(self, sender: int, token: bytes) -> bool:
        """Whether the table may have this token. Nearly always it has not, and says so without a
        look into it.
        """
        marks = self._marks.get(sender)
        if marks is None:
            if sender not in self._marks:
                # Who sends one message need not have all tokens read.
                if len(self._marks) >= SENDERS_KEPT:
                    del self._marks[next(iter(self._marks))]
                self._marks[sender] = None
                return True
            marks = self._marks[sender] = bytearray(_MARKS // 8)
            for (known,) in self._table.tokens_of(sender):
                _set_mark(marks, known)
        return _has_mark(marks, token)

    def take(self, now_ms: int) -> TakenTokens:
        """What the table does not have. A token whose time was over may be there once more."""
        self._taken = list(self._new.values())
        there = [one for one in self._new if (marks := self._marks.get(one[0])) is None or _has_mark(marks, one[1])]
        senders = sorted(self._new_of_sender)
        expired = _EXPIRED_PER_WRITE + len(self._taken)
        return TakenTokens(self._taken, there, senders, TOKENS_PER_SENDER, expired, now_ms - TOKEN_LIFE_MS)

    def written(self) -> None:
        """The table has what was taken last."""
        for used in self._taken:
            marks = self._marks.get(used.sender)
            if marks is not None:
                _set_mark(marks, used.token)
        if len(self._taken) == len(self._new):
            self._new.clear()
            self._new_of_sender.clear()
        else:
            self._drop_taken()
        self._taken = []

    def _drop_taken(self) -> None:
        last = self._taken[-1].sequence if self._taken else 0
        for used in self._taken:
            if self._new.get((used.sender, used.token)) is used:
                del self._new[used.sender, used.token]
        for sender in {used.sender for used in self._taken}:
            sequences = self._new_of_sender[sender]
            del sequences[: bisect_right(sequences, last)]
            if not sequences:
                del self._new_of_sender[sender]


def _mark(token: bytes) -> int:
    """Which bit stands for a token. The hash is keyed anew in each process, so it does not matter
    how senders choose their tokens.
    """
    return hash(token) % _MARKS


def _has_mark(marks: bytearray, token: bytes) -> bool:
    mark = _mark(token)
    return bool(marks[mark >> 3] >> (mark & 7) & 1)


def _set_mark(marks: bytearray, token: bytes) -> None:
    mark = _mark(token)
    marks[mark >> 3] |= 1 << (mark & 7)
