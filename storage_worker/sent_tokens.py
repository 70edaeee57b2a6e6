"""The tokens under which senders sent, so that a resend is recognised even after the message was fetched.

Owns: the table `sent_token`.
Promises: kept are the newest 1,024 tokens of a sender, for at most 7 days; what is cleared per transaction is
bounded.
Exposure: tokens are chosen by strangers, each for himself: they are scoped to their sender.

New tokens are collected and inserted together by `flush`. All methods but `roll_back` run inside a transaction.
"""

from typing import Final, NamedTuple

from storage_worker.database import Database

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_EXPIRED_PER_FLUSH: Final = 64
_COUNTS_KEPT: Final = 100_000


class SentToken(NamedTuple):
    """What was sent under a token. `sender` and `recipient` are user rows, `digest` is the content's SHA-256."""

    sequence: int
    sender: int
    token: bytes
    recipient: int
    kind: int
    digest: bytes
    accepted_at: int


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new: dict[tuple[int, bytes], SentToken] = {}
        self._counts: dict[int, int] = {}

    def roll_back(self) -> None:
        """The transaction was undone."""
        self._new.clear()
        self._counts.clear()

    def find(self, sender: int, token: bytes, now_ms: int) -> SentToken | None:
        """What this sender sent under this token within the last 7 days."""
        new = self._new.get((sender, token))
        if new is not None:
            return new
        found = self._database.find("SELECT * FROM sent_token WHERE sender = ? AND token = ?", (sender, token))
        if found is None:
            return None
        sent = SentToken(*found)
        if now_ms - sent.accepted_at <= TOKEN_LIFE_MS:
            return sent
        self._database.execute("DELETE FROM sent_token WHERE sequence = ?", (sent.sequence,))
        self._counts.pop(sender, None)
        return None

    def add(self, sent: SentToken) -> None:
        """Remember a token that `find` did not know."""
        self._new[sent.sender, sent.token] = sent

    def flush(self, now_ms: int) -> None:
        """Write what was collected; then clear what is too much for its sender, and some of what is too old."""
        if not self._new:
            return
        counts = self._counts
        if len(counts) >= _COUNTS_KEPT:
            counts.clear()
        for sender in {sent.sender for sent in self._new.values()} - counts.keys():
            counts[sender] = self._database.row("SELECT count(*) FROM sent_token WHERE sender = ?", (sender,))[0]
        self._database.execute_many("INSERT INTO sent_token VALUES (?, ?, ?, ?, ?, ?, ?)", self._new.values())
        for sent in self._new.values():
            counts[sent.sender] += 1
        for sender in {sent.sender for sent in self._new.values()}:
            surplus = counts[sender] - TOKENS_PER_SENDER
            if surplus > 0:
                self._database.execute(
                    "DELETE FROM sent_token WHERE sequence IN "
                    "(SELECT sequence FROM sent_token WHERE sender = ? ORDER BY sequence LIMIT ?)",
                    (sender, surplus),
                )
                counts[sender] = TOKENS_PER_SENDER
        self._clear_expired(now_ms, _EXPIRED_PER_FLUSH + len(self._new))
        self._new.clear()

    def _clear_expired(self, now_ms: int, limit: int) -> None:
        """At most `limit` of the oldest; sequences grow with time, so the search ends at the first that is kept."""
        last = 0
        rows = self._database.execute(
            "SELECT sequence, sender, accepted_at FROM sent_token ORDER BY sequence LIMIT ?", (limit,)
        )
        for sequence, sender, accepted_at in rows:
            if now_ms - accepted_at <= TOKEN_LIFE_MS:
                break
            last = sequence
            self._counts.pop(sender, None)
        if last:
            self._database.execute("DELETE FROM sent_token WHERE sequence <= ?", (last,))
