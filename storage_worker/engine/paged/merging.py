"""What several parts of a store are as one: numbers that each part counted by itself.

Owns: what becomes of facts, days, slots and tokens. Promises: pure. The highest sequence is above
all that was given, so that no mailbox gets one twice. Nothing expires earlier than in its part. The
newest tokens of a sender are there, with the sequences that their messages got, so that a resend is
answered as before.
Exposure: tokens are chosen by strangers, each for themselves.

Source: docs/decisions/0033-parts-into-one-store.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from storage_worker.engine.paged.moving import Row, StoreFacts
from storage_worker.engine.paged.send_tokens import TOKENS_PER_SENDER

_NOBODY: Final = bytes(16)
"""Incarnation of a gateway that there never was: none that greets has it."""
_SENDER, _TOKEN, _ACCEPTED_AT = 1, 2, 6
"""Columns of the table `sent_token`."""


class PartDays(NamedTuple):
    """The table `day` of a part, and the highest sequence that it gave."""

    rows: Sequence[tuple[int, int]]
    sequence: int

    def before(self, day: int) -> int:
        """The highest sequence that was given before this day."""
        if not self.sequence:
            return 0
        return next((sequence for noted, sequence in self.rows if noted >= day), self.sequence)


def facts_of(parts: Sequence[StoreFacts], tokens: int) -> StoreFacts:
    """`parts`: the directory first. `tokens`: how many they have."""
    first = parts[0]
    return StoreFacts(
        first.server_id,
        first.generation,
        max(part.starts for part in parts),
        # A target numbers tokens from 1: what is given later has to be above these, too.
        max(tokens, *[part.sequence for part in parts]),
        sum(part.blob_id for part in parts),
        sum(part.accepted for part in parts),
        all(part.accepted_exactly for part in parts),
    )


def days_of(parts: Sequence[PartDays]) -> list[Row]:
    """Of each day the lowest sequence: up to it all mailboxes have nothing that is newer."""
    # One that never gave any has nothing that could expire.
    parts = [part for part in parts if part.sequence]
    if not all(part.rows for part in parts):
        return []
    # Of earlier days not all parts know anything.
    since = max((part.rows[0][0] for part in parts), default=0)
    days = sorted({day for part in parts for day, _sequence in part.rows if day >= since})
    return [(day, min(part.before(day) for part in parts)) for day in days]


def slots_of(rows: Iterable[Row]) -> list[Row]:
    """Of the slots of all parts: each as if somebody had greeted on it after all of its gateways.
    Outcomes are those of one part, and mean nothing in the whole.
    """
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return [
        (
            slot,
            1 + max(epoch for _slot, epoch, *_rest in of_slot),
            _NOBODY,
            b"".join([incarnation for _slot, _epoch, incarnation, *_rest in of_slot]),
            0,
            None,
            None,
        )
        for slot, of_slot in sorted(found.items())
    ]


def tokens_of(parts: Sequence[Iterable[Row]]) -> Iterator[Row]:
    """Of each sender the newest, in the order of time. `parts`: rows by sender, in the order of the
    part's sequences.
    """
    together = merge(*[_with_times(rows) for rows in parts], key=itemgetter(0, 1))
    for _sender, of_sender in groupby(together, key=itemgetter(0)):
        kept: dict[bytes, Row] = {}
        for *_order, row in of_sender:
            # Of one that was used in two parts, the last use.
            kept.pop(row[_TOKEN], None)
            kept[row[_TOKEN]] = row
        yield from list(kept.values())[-TOKENS_PER_SENDER:]


def _with_times(rows: Iterable[Row]) -> Iterator[tuple[int, int, Row]]:
    """With the sender and a time that does not go back, for the part's own order to stay."""
    for sender, of_sender in groupby(rows, key=itemgetter(_SENDER)):
        latest = 0
        for row in of_sender:
            latest = max(latest, row[_ACCEPTED_AT])
            yield sender, latest, row
