"""The table `sent_token`.

Owns: its statements. Promises: as storage_worker.engine.paged.send_tokens says.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from collections.abc import Iterable

from storage_worker.engine.paged import send_tokens
from storage_worker.engine.records import TokenUsed
from storage_worker.engine.sqlite.database import Database


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, sender: int, token: bytes) -> TokenUsed | None:
        """What it has under a sender's token."""
        found = self._database.find("SELECT * FROM sent_token WHERE sender = ? AND token = ?", (sender, token))
        return None if found is None else TokenUsed(*found)

    def tokens_of(self, sender: int) -> Iterable[tuple[bytes]]:
        """All that it has of a sender."""
        return (
            (token,) for (token,) in self._database.execute("SELECT token FROM sent_token WHERE sender = ?", (sender,))
        )

    def count_newer(self, sender: int, sequence: int) -> int:
        """How many of a sender's it has with a higher sequence."""
        found: int = self._database.row(
            "SELECT count(*) FROM sent_token WHERE sender = ? AND sequence > ?", (sender, sequence)
        )[0]
        return found


class SentTokens(send_tokens.SentTokens):
    """Remembers and recognises."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))
        self._database = database

    def write(self, now_ms: int) -> None:
        """Inside a transaction: write what the database does not have, and delete tokens beyond the
        limits.
        """
        taken = self.take(now_ms)
        if not taken.used:
            return
        self._database.execute_many("DELETE FROM sent_token WHERE sender = ? AND token = ?", taken.there)
        self._database.execute_many(
            "INSERT INTO sent_token VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (used.sequence, used.sender, used.token, used.recipient, used.kind, used.digest, used.accepted_at)
                for used in taken.used
            ],
        )
        for sender in taken.senders:
            self._database.execute(
                "DELETE FROM sent_token WHERE sender = ?1 AND sequence <= (SELECT sequence FROM sent_token "
                "WHERE sender = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
                (sender, taken.most),
            )
        last = 0
        rows = self._database.execute(
            "SELECT sequence, accepted_at FROM sent_token ORDER BY sequence LIMIT ?", (taken.expired,)
        )
        for sequence, accepted_at in rows:
            # Sequences grow with time, so the search ends at the first that is kept.
            if accepted_at >= taken.before_ms:
                break
            last = sequence
        if last:
            self._database.execute("DELETE FROM sent_token WHERE sequence <= ?", (last,))
