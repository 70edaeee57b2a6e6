"""The storage worker's series.

Owns: their names and help texts, and where their values are read. Promises: reading changes
nothing, and is safe while the loop runs.
Exposure: none of its own; see `common.metrics`.

Source: docs/operations.md, "Metrics".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common.metrics import Series, counter, gauge, histogram
from common.values import RefusalReason
from storage_worker.server.measures import Measures

_PREFIX: Final = "messageu_worker_"
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


def series_of(measures: Measures, journal_bytes: Callable[[], int]) -> Sequence[Series]:
    """All series. `journal_bytes`: the bytes in the journal, read while the loop runs."""

    def operations() -> Mapping[str, int]:
        found = dict(measures.operations)
        return {_CAPITAL.sub("_", kind.__name__).lower(): number for kind, number in found.items()}

    def refusals() -> Mapping[str, int]:
        return {RefusalReason(reason).name.lower(): number for reason, number in dict(measures.refusals).items()}

    return (
        counter(f"{_PREFIX}batches", "Batches of gateways, repetitions among them.", lambda: measures.batches),
        counter(
            f"{_PREFIX}operations",
            "Operations in them, by type; a run of messages is one store_messages.",
            operations,
            "operation",
        ),
        counter(f"{_PREFIX}refusals", "Operations and messages that were refused, by reason.", refusals, "reason"),
        counter(f"{_PREFIX}commits", "Turns that were committed.", lambda: measures.commits),
        histogram(
            f"{_PREFIX}commit_seconds",
            "From the beginning of a turn to its commit on the disk.",
            measures.commit_seconds,
        ),
        histogram(
            f"{_PREFIX}flush_seconds",
            "How long it took to flush the journal into the database, or a step of that, between two turns.",
            measures.flush_seconds,
        ),
        gauge(f"{_PREFIX}journal_bytes", "What the journal holds that the database does not.", journal_bytes),
        gauge(f"{_PREFIX}users", "Registered users.", lambda: measures.size.users),
        gauge(
            f"{_PREFIX}waiting_messages",
            "Messages in the database that wait to be fetched; the journal's newest are not among them.",
            lambda: measures.size.messages,
        ),
        gauge(f"{_PREFIX}waiting_bytes", "Bytes of their contents.", lambda: measures.size.content_bytes),
        gauge(f"{_PREFIX}users_with_keys", "Users who have published keys (644).", lambda: measures.size.with_keys),
        gauge(
            f"{_PREFIX}one_time_keys",
            "One-time keys that are kept for those who claim them (645).",
            lambda: measures.size.one_time_keys,
        ),
        gauge(
            f"{_PREFIX}disk_free_bytes", "What the disk of the data folder has free.", lambda: measures.size.disk_free
        ),
    )
