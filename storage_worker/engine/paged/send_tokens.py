"""Remembers the tokens under which senders sent, so that a resend is recognised even after the
message was fetched.

Owns: the tokens that the table does not have, and marks of those that either has.
Promises: the newest 1,024 tokens of a sender are kept, for at most 7 days. What is remembered of
the table is bounded: 8 KiB for each of two thousand senders. `take` gives what the table lacks;
until `written` says that it has it, a later `take` gives it again.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple, Protocol

from common.storage_protocol.message_format import walk_frames_once
from storage_worker.engine.paged.ports import Registry
from storage_worker.engine.records import MessagesAcceptedOnce, Record, TokenUsed

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
SENDERS_KEPT: Final = 2000
MARKS: Final = 1 << 15
"""Bits of a sender's marks. 2,048 random tokens set an eighth of them, so that one new token in
sixty looks as if it had been used.
"""
_HASH_BITS: Final = 20
"""Of a token's hash, after which others choose its second bit."""
_UNMARKED: Final = bytes(MARKS // 8)
USE: Final = Struct(">QQB32sQ")
"""A use of a token, as memory and pages keep it: sequence, row of the recipient, kind, digest,
accepted at. Of a sender who uses thousands there is no object for each field.
"""


class Found(NamedTuple):
    """What a table has under a token, and how many of the sender's it has with a higher
    sequence.
    """

    used: TokenUsed
    newer: int


class TokenTable(Protocol):
    """What keeps tokens for good."""

    def find(self, sender: int, token: bytes) -> Found | None:
        """What it has under a sender's token, the last use of it."""

    def tokens_of(self, sender: int) -> Iterable[bytes]:
        """All that it has of a sender."""


class Marks:
    """Two bits for each token that a sender may have used: of the last 1,024 to 2,048, so that the
    bits do not fill up with tokens that nobody knows any more.

    Which bits stand for a token is chosen by Python's hash, which is keyed anew in each process: it
    does not matter how senders choose their tokens.
    """

    __slots__ = ("_earlier", "_left", "_newest")

    def __init__(self) -> None:
        self._newest = bytearray(MARKS // 8)
        self._earlier = _UNMARKED
        self._left = TOKENS_PER_SENDER

    def has(self, token: bytes) -> bool:
        """Whether a token may have been used."""
        number = hash(token)
        return self._is_set(number % MARKS) and self._is_set((number >> _HASH_BITS) % MARKS)

    def _is_set(self, mark: int) -> bool:
        return bool((self._newest[mark >> 3] | self._earlier[mark >> 3]) >> (mark & 7) & 1)

    def note(self, token: bytes) -> bool:
        """A token is used, or may be; whether it may have been used before. The hot path."""
        number = hash(token)
        one, two = number % MARKS, (number >> _HASH_BITS) % MARKS
        at, bit = one >> 3, 1 << (one & 7)
        other_at, other_bit = two >> 3, 1 << (two & 7)
        newest, earlier = self._newest, self._earlier
        before, other_before = newest[at], newest[other_at]
        newest[at] = before | bit
        newest[other_at] |= other_bit
        return bool((before | earlier[at]) & bit) and bool((other_before | earlier[other_at]) & other_bit)

    def count(self, accepted: int) -> None:
        """So many of those that were noted are used."""
        self._left -= accepted
        if self._left <= 0:
            # The newest 1,024 are in these bits, and in those that are set next.
            self._earlier, self._newest = bytes(self._newest), bytearray(MARKS // 8)
            self._left = TOKENS_PER_SENDER


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, table: TokenTable, users: Registry) -> None:
        self._table = table
        self._users = users
        self._new: dict[int, dict[bytes, bytes]] = {}
        """By sender and token what the table does not have (`USE`), in the order of sequences."""
        self._taken: dict[int, dict[bytes, bytes]] = {}
        """The same of what was taken before, which the table may have by now."""
        self._marks: dict[int, Marks | None] = {}
        """None: the sender has asked once. The sender who came first goes first."""

    def forget(self) -> None:
        """Return to the state of the table."""
        self._new = {}
        self._taken = {}
        self._marks.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record, at its time or again."""
        match record:
            case TokenUsed():
                self.add(record)
            case MessagesAcceptedOnce():
                self._replay_run(record)
            case _:
                pass

    def _replay_run(self, run: MessagesAcceptedOnce) -> None:
        senders, left_out = iter(run.senders), set(run.left_out)
        sequence = run.first
        name, row = b"", 0
        for index, frame in enumerate(walk_frames_once(run.frames)):
            if frame.sender != name:
                name, row = frame.sender, next(senders)
            if index in left_out:
                continue
            recipient = self._users.row_of(frame.recipient)
            digest = sha256(frame.content).digest()
            self.add(TokenUsed(sequence, row, frame.token, recipient, frame.kind, digest, run.accepted_at))
            sequence += 1

    def add(self, used: TokenUsed) -> None:
        """Remember a token that `find` did not know."""
        new = self.new_of(used.sender)
        new.pop(used.token, None)
        new[used.token] = USE.pack(used.sequence, used.recipient, used.kind, used.digest, used.accepted_at)
        marks = self._marks.get(used.sender)
        if marks is not None:
            marks.note(used.token)
            marks.count(1)

    def new_of(self, sender: int) -> dict[bytes, bytes]:
        """By token, what the table does not have of a sender (`USE`). Whoever adds to it keeps the
        order of sequences, and notes and counts in `marks_of`.
        """
        new = self._new.get(sender)
        if new is None:
            new = self._new[sender] = {}
        return new

    def marks_of(self, sender: int) -> Marks | None:
        """Marks of all that is known of a sender; None: look."""
        marks = self._marks.get(sender)
        if marks is None:
            if sender not in self._marks:
                # Who sends one message need not have all tokens read.
                if len(self._marks) >= SENDERS_KEPT:
                    del self._marks[next(iter(self._marks))]
                self._marks[sender] = None
                return None
            marks = Marks()
            for token in self._table.tokens_of(sender):
                marks.note(token)
            for kept in (self._taken, self._new):
                for token in kept.get(sender, ()):
                    marks.note(token)
            self._marks[sender] = marks
        return marks

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within the last 7 days, if it is among
        their newest 1,024.
        """
        marks = self.marks_of(sender)
        return None if marks is not None and not marks.has(token) else self.look(sender, token, now_ms)

    def look(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """The same, where marks do not rule it out."""
        sent = self._among_newest(sender, token)
        return sent if sent is not None and now_ms - sent.accepted_at <= TOKEN_LIFE_MS else None

    def _among_newest(self, sender: int, token: bytes) -> TokenUsed | None:
        newer = 0
        for kept in (self._new.get(sender), self._taken.get(sender)):
            if not kept:
                continue
            use = kept.get(token)
            if use is not None:
                most = TOKENS_PER_SENDER - newer
                is_among = len(kept) <= most or (most > 0 and token in islice(reversed(kept), most))
                return used_of(sender, token, use) if is_among else None
            newer += len(kept)
        found = self._table.find(sender, token)
        # The table keeps 1,024 and the new ones come on top of them.
        return None if found is None or newer + found.newer >= TOKENS_PER_SENDER else found.used

    def counts(self) -> dict[int, int]:
        """How many the table does not have, by sender."""
        return {
            sender: len(self._new.get(sender, ())) + len(self._taken.get(sender, ()))
            for sender in {**self._taken, **self._new}
        }

    def take(self) -> dict[int, dict[bytes, bytes]]:
        """What the table does not have, by sender and token (`USE`)."""
        for sender, new in self._new.items():
            taken = self._taken.setdefault(sender, {})
            for token, use in new.items() if taken else ():
                taken.pop(token, None)
                taken[token] = use
            if not taken:
                self._taken[sender] = new
        self._new = {}
        return {sender: taken for sender, taken in self._taken.items() if taken}

    def written(self) -> None:
        """The table has what was taken last."""
        self._taken = {}


def used_of(sender: int, token: bytes, use: bytes) -> TokenUsed:
    """The use of a token, whole."""
    sequence, recipient, kind, digest, accepted_at = USE.unpack(use)
    return TokenUsed(sequence, sender, token, recipient, kind, digest, accepted_at)
