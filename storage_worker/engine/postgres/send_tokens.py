"""The table `sent_token`.

Owns: its statements. Promises: as storage_worker.engine.paged.send_tokens says.
Exposure: none.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from storage_worker.engine.paged import send_tokens
from storage_worker.engine.paged.ports import Registry
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER, USE, Found
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import TokenUsed

_EXPIRED_PER_WRITE: Final = 64
"""Tokens, besides as many as come in."""


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, sender: int, token: bytes) -> Found | None:
        """What it has under a sender's token."""
        row = self._database.find(statements.FIND_SENT, sender, token)
        if row is None:
            return None
        *columns, place = row
        return Found(TokenUsed(*columns), self._database.row(statements.NEWER_TOKENS, sender, place)[0])

    def tokens_of(self, sender: int) -> Iterator[bytes]:
        """All that it has of a sender."""
        return (token for (token,) in self._database.rows(statements.TOKENS_OF, sender))


class SentTokens(send_tokens.SentTokens):
    """Remembers and recognises."""

    def __init__(self, database: Database, users: Registry) -> None:
        super().__init__(_Table(database), users)

    def taken(self, now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        taken, before_ms = self.take(), now_ms - TOKEN_LIFE_MS
        return lambda database: _write(database, taken, before_ms)


def _write(database: Database, taken: Mapping[int, Mapping[bytes, bytes]], before_ms: int) -> None:
    """Write what was taken, and delete what is beyond the limits. The number of what goes is
    bounded.
    """
    rows = []
    for sender, uses in taken.items():
        for token, use in list(uses.items())[-TOKENS_PER_SENDER:]:
            sequence, recipient, kind, digest, accepted_at = USE.unpack(use)
            rows.append((sequence, sender, token, recipient, kind, digest, accepted_at))
    if not rows:
        return
    # In the order of the table.
    rows.sort()
    database.change(statements.ADD_TOKENS, *map(list, zip(*rows, strict=True)))
    database.change(statements.TRIM_TOKENS, sorted(taken), TOKENS_PER_SENDER)
    last = 0
    for sequence, accepted_at in database.rows(statements.OLDEST_TOKENS, _EXPIRED_PER_WRITE + len(rows)):
        # Sequences grow with time, so the search ends at the first that is kept.
        if accepted_at >= before_ms:
            break
        last = sequence
    if last:
        database.change(statements.DROP_OLD_TOKENS, last)
