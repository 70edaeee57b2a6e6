"""Which messages each mailbox holds.

Owns: the tables `mailbox` and `dead`, the mark `store.filed`, and what of them is put off.
Promises: entries are found in the order of their sequence; what a transaction did is on disk with it, or gone with
it; at a start, what was put off is known again.
Exposure: none of its own.

Messages lie in the order in which they came, the entries of a mailbox beside each other. To write an entry at once
would touch another page for nearly every message, and to delete a message at once another page for each one deleted. So
both are put off until there are many, and then done in an order in which neighbours lie together:

    unfiled   a message that is in `message` and not in `mailbox` yet: known here in memory. All of them have a
              sequence above `store.filed`. A mailbox that is asked for is filed at once.
    dead      a message that is in `message` and in no mailbox any more: its sequence is kept in `dead`.

All methods but `reload` run inside a transaction.
"""

from array import array
from itertools import chain
from typing import Final, NamedTuple

from storage_worker.database import Database

_FILE_FROM: Final = 50_000
"""Unfiled messages from which on all of them are filed."""
_FILE_AT_ONCE: Final = 4_000
"""How many are filed in one transaction, about; the rest follows with the next ones."""
_PURGE_FROM: Final = 20_000
"""Dead messages from which on their rows are deleted."""


class Load(NamedTuple):
    """How many messages a mailbox holds, and the bytes of their contents."""

    messages: int
    content_bytes: int


class MailboxIndex:
    """All mailboxes' entries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unfiled: dict[int, list[tuple[int, int]]] = {}
        self._unfiled_count = 0
        self._last_added = 0
        # What is being filed, mailbox after mailbox, and how far `store.filed` goes when that is done.
        self._filing: dict[int, list[tuple[int, int]]] = {}
        self._filing_order: list[int] = []
        self._filing_to = 0
        self._dead: list[int] = []
        self.reload()

    def reload(self) -> None:
        """Find out from the disk what is put off: at a start, and after a transaction was undone."""
        self._dead = _sequences(chain.from_iterable(self._database.execute("SELECT sequences FROM dead")))
        dead = set(self._dead)
        self._unfiled, self._filing, self._filing_order = {}, {}, []
        self._unfiled_count = self._last_added = 0
        rows = self._database.execute(
            "SELECT recipient, sequence, size FROM message WHERE sequence > (SELECT filed FROM store) AND NOT EXISTS "
            "(SELECT 1 FROM mailbox WHERE mailbox.recipient = message.recipient "
            "AND mailbox.sequence = message.sequence) ORDER BY sequence"
        )
        for user, sequence, size in rows:
            if sequence not in dead:
                self.add(user, sequence, size)

    def add(self, user: int, sequence: int, size: int) -> None:
        """A message is new; its row is in `message` when this transaction ends."""
        self._unfiled.setdefault(user, []).append((sequence, size))
        self._unfiled_count += 1
        self._last_added = sequence

    def weigh(self, user: int) -> Load:
        """What the mailbox holds."""
        self.file(user)
        return Load(
            *self._database.row("SELECT count(*), coalesce(sum(size), 0) FROM mailbox WHERE recipient = ?", (user,))
        )

    def loads(self) -> dict[int, Load]:
        """What every mailbox that is not empty holds. Works beside a running worker too."""
        rows = self._database.execute("SELECT recipient, count(*), sum(size) FROM mailbox GROUP BY recipient")
        loads = {user: Load(messages, size) for user, messages, size in rows}
        for user, entries in chain(self._filing.items(), self._unfiled.items()):
            filed = loads.get(user, Load(0, 0))
            loads[user] = Load(
                filed.messages + len(entries), filed.content_bytes + sum([size for _sequence, size in entries])
            )
        return loads

    def file(self, user: int) -> None:
        """Write the mailbox's entries, so that the table has all of them."""
        for entries in (self._filing.pop(user, None), self._unfiled.pop(user, None)):
            if entries is not None:
                self._write([(user, sequence, size) for sequence, size in entries])

    def _write(self, entries: list[tuple[int, int, int]]) -> None:
        self._database.execute_many("INSERT INTO mailbox VALUES (?, ?, ?)", entries)

    def remove(self, user: int, first: int, last: int) -> None:
        """The messages `first` to `last` of the mailbox are no more; their rows go when there are many."""
        self.file(user)
        interval = (user, first, last)
        rows = self._database.execute(
            "SELECT sequence FROM mailbox WHERE recipient = ? AND sequence BETWEEN ? AND ?", interval
        )
        sequences = [sequence for (sequence,) in rows]
        if sequences:
            self._database.execute("DELETE FROM mailbox WHERE recipient = ? AND sequence BETWEEN ? AND ?", interval)
            self._database.execute("INSERT INTO dead (sequences) VALUES (?)", (array("q", sequences).tobytes(),))
            self._dead += sequences

    def work(self, *, at_once: bool) -> None:
        """At the end of a transaction's changes: a share of what was put off.

        `at_once`: room is short, so dead rows are deleted however few they are.
        """
        if at_once or len(self._dead) >= _PURGE_FROM:
            self.purge()
        if not self._filing_order:
            if self._unfiled_count < _FILE_FROM:
                return
            self._filing, self._unfiled = self._unfiled, {}
            self._filing_order = sorted(self._filing, reverse=True)
            self._filing_to = self._last_added
            self._unfiled_count = 0
        entries: list[tuple[int, int, int]] = []
        while self._filing_order and len(entries) < _FILE_AT_ONCE:
            user = self._filing_order.pop()
            entries += [(user, sequence, size) for sequence, size in self._filing.pop(user, ())]
        self._write(entries)
        if not self._filing_order:
            self._database.execute("UPDATE store SET filed = ?", (self._filing_to,))

    def purge(self) -> bool:
        """Delete the rows of dead messages; whether there were any."""
        if not self._dead:
            return False
        self._dead.sort()
        self._database.execute_many("DELETE FROM message WHERE sequence = ?", [(sequence,) for sequence in self._dead])
        self._database.execute("DELETE FROM dead")
        self._dead = []
        return True


def _sequences(packed: chain[bytes]) -> list[int]:
    sequences: array[int] = array("q")
    for part in packed:
        sequences.frombytes(part)
    return sequences.tolist()
