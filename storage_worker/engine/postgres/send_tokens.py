"""The table `sent_token`.

Owns: its statements. Promises: as storage_worker.engine.paged.send_tokens says.
Exposure: none.
"""

from collections.abc import Callable, Iterable

from storage_worker.engine.paged import send_tokens
from storage_worker.engine.paged.send_tokens import TakenTokens
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import TokenUsed


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, sender: int, token: bytes) -> TokenUsed | None:
        """What it has under a sender's token."""
        found = self._database.find(statements.FIND_SENT, sender, token)
        return None if found is None else TokenUsed(*found)

    def tokens_of(self, sender: int) -> Iterable[tuple[bytes]]:
        """All that it has of a sender."""
        return ((token,) for (token,) in self._database.rows(statements.TOKENS_OF, sender))

    def count_newer(self, sender: int, sequence: int) -> int:
        """How many of a sender's it has with a higher sequence."""
        found: int = self._database.row(statements.NEWER_TOKENS, sender, sequence)[0]
        return found


class SentTokens(send_tokens.SentTokens):
    """Remembers and recognises."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))

    def taken(self, now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        taken = self.take(now_ms)
        return lambda database: _write(database, taken)


def _write(database: Database, taken: TakenTokens) -> None:
    if not taken.used:
        return
    if taken.there:
        database.change(statements.DROP_TOKENS, *map(list, zip(*taken.there, strict=True)))
    rows = [
        (one.sequence, one.sender, one.token, one.recipient, one.kind, one.digest, one.accepted_at)
        for one in taken.used
    ]
    database.change(statements.ADD_TOKENS, *map(list, zip(*rows, strict=True)))
    database.change(statements.TRIM_TOKENS, taken.senders, taken.most)
    last = 0
    for sequence, accepted_at in database.rows(statements.OLDEST_TOKENS, taken.expired):
        # Sequences grow with time, so the search ends at the first that is kept.
        if accepted_at >= taken.before_ms:
            break
        last = sequence
    if last:
        database.change(statements.DROP_OLD_TOKENS, last)
