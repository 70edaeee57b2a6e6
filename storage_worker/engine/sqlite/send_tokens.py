"""The table `token_page`.

Owns: its statements. Promises: as storage_worker.engine.paged.send_tokens says. A flush writes one
row for each sender, with all that is new of them, and never changes a row
(docs/decisions/0031-runs-of-642.md). The clean-up per transaction is bounded.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Final

from storage_worker.engine.paged import send_tokens
from storage_worker.engine.paged.ports import Registry
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER, USE, Found, used_of
from storage_worker.engine.records import TokenUsed
from storage_worker.engine.sqlite.database import Database

_TOKEN: Final = 16
_EXPIRED_PER_WRITE: Final = 64
"""Pages, besides as many as come in."""
_NUMBER: Final = Struct(">Q")
"""The first and the last field of a use."""
ADD_PAGE: Final = "INSERT INTO token_page VALUES (?, ?, ?, ?, ?, ?)"
_PAGES: Final = "SELECT last, tokens, names FROM token_page WHERE sender = ? ORDER BY last DESC"

PageOfTokens = tuple[int, int, int, int, bytes, bytes]
"""The columns of the table."""


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, sender: int, token: bytes) -> Found | None:
        """What it has under a sender's token, the last use of it."""
        newer = 0
        for last, count, names in self._database.execute(_PAGES, (sender,)):
            at = names.find(token)
            while at % _TOKEN and at > 0:
                # Across two tokens.
                at = names.find(token, at + 1)
            if at >= 0:
                index = at // _TOKEN
                uses = self._database.row("SELECT uses FROM token_page WHERE last = ?", (last,))[0]
                use = uses[index * USE.size : (index + 1) * USE.size]
                return Found(used_of(sender, token, use), newer + count - index - 1)
            newer += count
        return None

    def tokens_of(self, sender: int) -> Iterator[bytes]:
        """All that it has of a sender."""
        for _last, count, names in self._database.execute(_PAGES, (sender,)):
            for index in range(count):
                yield names[index * _TOKEN : (index + 1) * _TOKEN]


class SentTokens(send_tokens.SentTokens):
    """Remembers and recognises."""

    def __init__(self, database: Database, users: Registry) -> None:
        super().__init__(_Table(database), users)
        self._database = database

    def write(self, now_ms: int) -> None:
        """Inside a transaction: write what the database does not have, and delete tokens beyond the
        limits.
        """
        pages = [page_of(sender, list(taken.items())) for sender, taken in self.take().items()]
        if not pages:
            return
        pages.sort()
        self._database.execute_many(ADD_PAGE, pages)
        gone: list[tuple[int]] = []
        for page in pages:
            gone += self._beyond_newest(page[1])
        gone += self._expired(_EXPIRED_PER_WRITE + len(pages), now_ms - TOKEN_LIFE_MS)
        self._database.execute_many("DELETE FROM token_page WHERE last = ?", sorted(gone))

    def _beyond_newest(self, sender: int) -> Iterator[tuple[int]]:
        newer = 0
        rows = self._database.execute(
            "SELECT last, tokens FROM token_page WHERE sender = ? ORDER BY last DESC", (sender,)
        )
        for last, count in list(rows):
            if newer >= TOKENS_PER_SENDER:
                yield (last,)
            newer += count

    def _expired(self, most: int, before_ms: int) -> Iterator[tuple[int]]:
        rows = self._database.execute("SELECT last, accepted_at FROM token_page ORDER BY last LIMIT ?", (most,))
        for last, accepted_at in list(rows):
            # Sequences grow with time, so the search ends at the first that is kept.
            if accepted_at >= before_ms:
                return
            yield (last,)


def page_of(sender: int, taken: Sequence[tuple[bytes, bytes]]) -> PageOfTokens:
    """The page of tokens and their uses (`USE`), in the order of sequences: of the newest, as many
    as are kept.
    """
    newest = taken[-TOKENS_PER_SENDER:]
    use = newest[-1][1]
    (last,), (accepted_at,) = _NUMBER.unpack_from(use), _NUMBER.unpack_from(use, USE.size - _NUMBER.size)
    names = b"".join([token for token, _use in newest])
    return last, sender, len(newest), accepted_at, names, b"".join([use for _token, use in newest])


def read_all(database: Database) -> Iterator[TokenUsed]:
    """All tokens, by page."""
    for sender, names, uses in database.execute("SELECT sender, names, uses FROM token_page ORDER BY last"):
        for index in range(len(names) // _TOKEN):
            token = names[index * _TOKEN : (index + 1) * _TOKEN]
            yield used_of(sender, token, uses[index * USE.size : (index + 1) * USE.size])


def pages_of(rows: Iterable[Sequence[object]]) -> list[PageOfTokens]:
    """Pages of rows of a moved store (see storage_worker.engine.paged.moving)."""
    of_sender: dict[int, list[tuple[bytes, bytes]]] = {}
    for row in rows:
        used = TokenUsed(*row)  # type: ignore[arg-type]
        use = USE.pack(used.sequence, used.recipient, used.kind, used.digest, used.accepted_at)
        of_sender.setdefault(used.sender, []).append((used.token, use))
    return sorted(page_of(sender, taken) for sender, taken in of_sender.items())
