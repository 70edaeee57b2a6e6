"""The tokens under which senders sent, so that a resend is recognised even after the message was
fetched.

Owns: the table `sent_token`, and in memory what of it is in the journal alone.
Promises: kept are the newest 1,024 tokens of a sender, for at most 7 days; what is cleared with
each flush is bounded.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from bisect import bisect_right
from typing import Final

from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import Record, TokenUsed

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_EXPIRED_PER_WRITE: Final = 64


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new: dict[tuple[int, bytes], TokenUsed] = {}
        self._new_of_sender: dict[int, list[int]] = {}

    def forget(self) -> None:
        """Be as the table is."""
        self._new.clear()
        self._new_of_sender.clear()

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        if isinstance(record, TokenUsed):
            self._new[record.sender, record.token] = record
            self._new_of_sender.setdefault(record.sender, []).append(record.sequence)

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within the last 7 days, if it is among their
        newest 1,024.
        """
        new = self._new_of_sender.get(sender, [])
        sent = self._new.get((sender, token))
        if sent is not None:
            newer = len(new) - bisect_right(new, sent.sequence)
        else:
            found = self._database.find(statements.FIND_SENT, sender, token)
            if found is None:
                return None
            sent = TokenUsed(*found)
            newer = len(new)
            if newer:
                # The table keeps 1,024 and the new ones come on top of them.
                newer += self._database.row(statements.NEWER_TOKENS, sender, sent.sequence)[0]
        return sent if newer < TOKENS_PER_SENDER and now_ms - sent.accepted_at <= TOKEN_LIFE_MS else None

    def write(self, now_ms: int) -> None:
        """Inside a transaction: give the table what it does not have, and clear what is too much or
        too old.
        """
        if not self._new:
            return
        # A token whose time was over may be there once more.
        senders, tokens = [list(column) for column in zip(*self._new, strict=True)]
        self._database.change(statements.DROP_TOKENS, senders, tokens)
        rows = [
            (used.sequence, used.sender, used.token, used.recipient, used.kind, used.digest, used.accepted_at)
            for used in self._new.values()
        ]
        self._database.change(statements.ADD_TOKENS, *map(list, zip(*rows, strict=True)))
        self._database.change(statements.TRIM_TOKENS, sorted(self._new_of_sender), TOKENS_PER_SENDER)
        self._clear_expired(now_ms, _EXPIRED_PER_WRITE + len(self._new))

    def written(self) -> None:
        """That transaction is committed."""
        self.forget()

    def _clear_expired(self, now_ms: int, limit: int) -> None:
        """At most `limit` of the oldest; sequences grow with time, so the search ends at the first
        that is kept.
        """
        last = 0
        for sequence, accepted_at in self._database.rows(statements.OLDEST_TOKENS, limit):
            if now_ms - accepted_at <= TOKEN_LIFE_MS:
                break
            last = sequence
        if last:
            self._database.change(statements.DROP_OLD_TOKENS, last)
