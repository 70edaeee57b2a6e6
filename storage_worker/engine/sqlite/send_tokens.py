"""The table `token_page`.

Owns: its statements. Promises: as storage_worker.engine.paged.send_tokens says. A flush writes one
row for each sender, with all that is new of them, and never changes a row
(docs/decisions/0031-runs-of-642.md). Small ones are joined, so a sender has about 64 at most, and
to look a token up is no work for whoever sends one message at a time. The clean-up per transaction
is bounded.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from struct import Struct
from typing import Final, NamedTuple

from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.paged import send_tokens
from storage_worker.engine.paged.ports import Registry
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER, USE, Found, used_of
from storage_worker.engine.records import TokenUsed
from storage_worker.engine.sqlite.database import Database

_TOKEN: Final = 16
_EXPIRED_PER_WRITE: Final = 64
"""Pages, besides as many as come in."""
_SMALL: Final = 32
"""A page of fewer tokens is small. Where a sender would have as many small pages, all from the
oldest of these on become one.
"""
_JOINED_PER_WRITE: Final = 64
"""Senders, besides a sixteenth of those who sent: on the average a thirty-second has to be."""
_NUMBER: Final = Struct(">Q")
"""The first and the last field of a use."""
ADD_PAGE: Final = "INSERT INTO token_page VALUES (?, ?, ?, ?, ?, ?)"
_PAGES: Final = "SELECT last, tokens, names FROM token_page WHERE sender = ? ORDER BY last DESC"
_SIZES: Final = "SELECT last, tokens FROM token_page WHERE sender = ? ORDER BY last DESC"
_SMALL_PAGES: Final = "SELECT count(*) FROM token_page WHERE sender = ? AND tokens < ?"

PageOfTokens = tuple[int, int, int, int, bytes, bytes]
"""The columns of the table."""


class _Joined(NamedTuple):
    """Pages of a sender that become one with the next: their keys, and tokens with their uses."""

    lasts: list[int]
    uses: dict[bytes, bytes]


class _Table:
    """The pages of the sender who was looked at last are kept: whoever repeats many tokens in a run
    has them read once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sender: int | None = None
        self._pages: list[tuple[int, int, bytes]] = []

    def forget(self) -> None:
        """The table changes."""
        self._sender = None
        self._pages = []

    def _pages_of(self, sender: int) -> list[tuple[int, int, bytes]]:
        """The key of each, how many tokens it has, and these; the newest first."""
        if self._sender != sender:
            self.forget()
            self._pages = list(self._database.execute(_PAGES, (sender,)))
            self._sender = sender
        return self._pages

    def find(self, sender: int, token: bytes) -> Found | None:
        """What it has under a sender's token, the last use of it."""
        newer = 0
        for last, count, names in self._pages_of(sender):
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
        for _last, count, names in self._pages_of(sender):
            for index in range(count):
                yield names[index * _TOKEN : (index + 1) * _TOKEN]


class SentTokens(send_tokens.SentTokens):
    """Remembers and recognises."""

    def __init__(self, database: Database, users: Registry) -> None:
        self._kept = _Table(database)
        super().__init__(self._kept, users)
        self._database = database
        self._joined: dict[int, _Joined] = {}
        """By sender what the next `write` joins."""

    def forget(self) -> None:
        """Return to the state of the table."""
        super().forget()
        self._kept.forget()
        self._joined = {}

    def look_through(self, now_ms: int) -> None:
        """Before the transaction of `write` or `write_taken`: read the small pages that it joins.

        Not inside, which damage would undo. A page that is altered stays as it is: whoever asks for
        one of its tokens is refused.
        """
        self._joined = {}
        new = self.counts()
        most = _JOINED_PER_WRITE + len(new) // 16
        for sender, tokens in new.items():
            if tokens >= _SMALL or len(self._joined) >= most:
                continue
            if self._database.row(_SMALL_PAGES, (sender, _SMALL))[0] >= _SMALL - 1:
                with suppress(StoreDamaged), self._database.reading():
                    self._joined[sender] = self._small_pages(sender, now_ms - TOKEN_LIFE_MS)

    def _small_pages(self, sender: int, before_ms: int) -> _Joined:
        """The pages of a sender from the oldest small one on, without what is over."""
        pages = list(self._database.execute(_SIZES, (sender,)))
        while pages[-1][1] >= _SMALL:
            pages.pop()
        joined = _Joined([last for last, _count in reversed(pages)], {})
        for last in joined.lasts:
            names, uses = self._database.row("SELECT names, uses FROM token_page WHERE last = ?", (last,))
            for token, use in _uses_of(names, uses):
                joined.uses.pop(token, None)
                if accepted_at_of(use) >= before_ms:
                    joined.uses[token] = use
        return joined

    def write(self, now_ms: int) -> None:
        """Inside a transaction: write what the database does not have, and delete tokens beyond the
        limits.
        """
        self.write_taken(self.take(), now_ms)

    def write_taken(self, taken: Mapping[int, Mapping[bytes, bytes]], now_ms: int) -> None:
        """The same of what `take` gave."""
        joined, self._joined = self._joined, {}
        gone: list[tuple[int]] = []
        pages: list[PageOfTokens] = []
        for sender, new in taken.items():
            uses = list(new.items())
            earlier = joined.get(sender)
            if earlier is not None:
                gone += [(last,) for last in earlier.lasts]
                # One whose time was over may be in both.
                uses = [one for one in earlier.uses.items() if one[0] not in new] + uses
            pages.append(page_of(sender, uses))
        if not pages:
            return
        self._kept.forget()
        pages.sort()
        self._database.execute_many("DELETE FROM token_page WHERE last = ?", gone)
        self._database.execute_many(ADD_PAGE, pages)
        gone.clear()
        for page in pages:
            gone += self._beyond_newest(page[1])
        gone += self._expired(_EXPIRED_PER_WRITE + len(pages), now_ms - TOKEN_LIFE_MS)
        self._database.execute_many("DELETE FROM token_page WHERE last = ?", sorted(gone))

    def _beyond_newest(self, sender: int) -> Iterator[tuple[int]]:
        newer = 0
        for last, count in list(self._database.execute(_SIZES, (sender,))):
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
    (last,), accepted_at = _NUMBER.unpack_from(use), accepted_at_of(use)
    names = b"".join([token for token, _use in newest])
    return last, sender, len(newest), accepted_at, names, b"".join([use for _token, use in newest])


def accepted_at_of(use: bytes) -> int:
    """When it was."""
    accepted_at: int = _NUMBER.unpack_from(use, USE.size - _NUMBER.size)[0]
    return accepted_at


def _uses_of(names: bytes, uses: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The tokens of a page, and their uses."""
    for index in range(len(names) // _TOKEN):
        yield names[index * _TOKEN : (index + 1) * _TOKEN], uses[index * USE.size : (index + 1) * USE.size]


def read_all(database: Database) -> Iterator[TokenUsed]:
    """All that is kept, by sender, in the order of sequences."""
    senders = list(database.execute("SELECT DISTINCT sender FROM token_page ORDER BY sender"))
    for (sender,) in senders:
        kept: dict[bytes, bytes] = {}
        pages = database.execute("SELECT names, uses FROM token_page WHERE sender = ? ORDER BY last", (sender,))
        for names, uses in pages:
            for token, use in _uses_of(names, uses):
                # Of one whose time was over, and that was used again, the last use.
                kept.pop(token, None)
                kept[token] = use
        for token, use in list(kept.items())[-TOKENS_PER_SENDER:]:
            yield used_of(sender, token, use)


def pages_of(rows: Iterable[Sequence[object]]) -> list[PageOfTokens]:
    """Pages of rows of a moved store, by sender (see storage_worker.engine.paged.moving)."""
    of_sender: dict[int, list[tuple[bytes, bytes]]] = {}
    for row in rows:
        used = TokenUsed(*row)  # type: ignore[arg-type]
        use = USE.pack(used.sequence, used.recipient, used.kind, used.digest, used.accepted_at)
        of_sender.setdefault(used.sender, []).append((used.token, use))
    return [page_of(sender, taken) for sender, taken in of_sender.items()]
