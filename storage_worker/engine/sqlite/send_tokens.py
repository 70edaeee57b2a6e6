"""The tokens under which senders sent, so that a resend is recognised even after the message was
fetched.

Owns: the table `sent_token`, and in memory what of it is only in the journal.
Promises: the newest 1,024 tokens of a sender are kept, for at most 7 days; the clean-up per
transaction is bounded. What is remembered of the table is bounded: 4 KiB for each of a thousand
senders.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from bisect import bisect_right
from typing import Final

from storage_worker.engine.records import Record, TokenUsed
from storage_worker.engine.sqlite.database import Database

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_EXPIRED_PER_WRITE: Final = 64
SENDERS_KEPT: Final = 1000
_MARKS: Final = 1 << 15
"""Bits of a sender's marks. 1,024 random tokens set 3 % of them."""


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new: dict[tuple[int, bytes], TokenUsed] = {}
        self._new_of_sender: dict[int, list[int]] = {}
        self._marks: dict[int, bytearray | None] = {}
        """A bit for each token that the table may have of a sender; None: the sender has asked
        once. The sender who came first goes first.
        """

    def forget(self) -> None:
        """Return to the state of the database."""
        self._new.clear()
        self._new_of_sender.clear()
        self._marks.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record again."""
        if isinstance(record, TokenUsed):
            self.add(record)

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
            found = self._database.find("SELECT * FROM sent_token WHERE sender = ? AND token = ?", (sender, token))
            if found is None:
                return None
            sent = TokenUsed(*found)
            newer = len(new)
            if newer:
                # The table keeps 1,024 and the new ones come on top of them.
                newer += self._database.row(
                    "SELECT count(*) FROM sent_token WHERE sender = ? AND sequence > ?", (sender, sent.sequence)
                )[0]
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
            for (known,) in self._database.execute("SELECT token FROM sent_token WHERE sender = ?", (sender,)):
                _set_mark(marks, known)
        return _has_mark(marks, token)

    def add(self, used: TokenUsed) -> None:
        """Remember a token that `find` did not know."""
        self._new[used.sender, used.token] = used
        self._new_of_sender.setdefault(used.sender, []).append(used.sequence)

    def write(self, now_ms: int) -> None:
        """Inside a transaction: write what the database does not have, and delete tokens beyond the
        limits.
        """
        if not self._new:
            return
        # A token whose time was over may be there once more.
        there = [one for one in self._new if (marks := self._marks.get(one[0])) is None or _has_mark(marks, one[1])]
        self._database.execute_many("DELETE FROM sent_token WHERE sender = ? AND token = ?", there)
        self._database.execute_many(
            "INSERT INTO sent_token VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (used.sequence, used.sender, used.token, used.recipient, used.kind, used.digest, used.accepted_at)
                for used in self._new.values()
            ],
        )
        for sender in sorted(self._new_of_sender):
            self._database.execute(
                "DELETE FROM sent_token WHERE sender = ?1 AND sequence <= (SELECT sequence FROM sent_token "
                "WHERE sender = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
                (sender, TOKENS_PER_SENDER),
            )
        self._clear_expired(now_ms, _EXPIRED_PER_WRITE + len(self._new))

    def written(self) -> None:
        """That transaction is on disk."""
        for sender, token in self._new:
            marks = self._marks.get(sender)
            if marks is not None:
                _set_mark(marks, token)
        self._new.clear()
        self._new_of_sender.clear()

    def _clear_expired(self, now_ms: int, limit: int) -> None:
        """At most `limit` of the oldest; sequences grow with time, so the search ends at
        the first that is kept.
        """
        last = 0
        rows = self._database.execute(
            "SELECT sequence, accepted_at FROM sent_token ORDER BY sequence LIMIT ?", (limit,)
        )
        for sequence, accepted_at in rows:
            if now_ms - accepted_at <= TOKEN_LIFE_MS:
                break
            last = sequence
        if last:
            self._database.execute("DELETE FROM sent_token WHERE sequence <= ?", (last,))


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
