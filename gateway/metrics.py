"""The gateway's series.

Owns: their names and help texts, and where their values are read. Promises: reading changes
nothing, and is safe while the loop runs. What is measured only for the series is measured from
here.
Exposure: none of its own; see `common.metrics`.

Source: docs/operations.md, "Metrics".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common.client_protocol.requests import RequestCode
from common.metrics import Histogram, Series, counter, gauge, histogram
from common.values import RefusalReason
from gateway.connection.context import SessionContext
from gateway.storage.link import StorageLink
from gateway.storage.shard_links import ShardLinks

_PREFIX: Final = "messageu_gateway_"
_REASONS: Final[Mapping[int, str]] = {int(reason): reason.name.lower() for reason in RefusalReason}


def _requests(context: SessionContext) -> Mapping[str, int]:
    found = dict(context.counts.requests)
    found[RequestCode.SEND] += context.link.sends_answered
    found[RequestCode.SEND_ONCE] += context.link.sends_once_answered
    return {str(int(code)): number for code, number in found.items()}


def _connections(context: SessionContext) -> Mapping[str, int]:
    authenticated = context.counts.authenticated
    return {"authenticated": authenticated, "other": max(len(context.sessions) - authenticated, 0)}


def _refusals(context: SessionContext) -> Mapping[str, int]:
    found = dict(context.counts.refusals)
    return {_REASONS.get(reason, "other"): number for reason, number in found.items()}


def _of_workers(link: StorageLink | ShardLinks) -> Sequence[Series]:
    """What is known of each of several storage workers."""
    if not isinstance(link, ShardLinks):
        return ()

    def by_shard(read: Callable[[StorageLink], int]) -> Callable[[], Mapping[str, int]]:
        return lambda: {str(one.place.number): read(one) for one in link.links}

    return (
        gauge(
            f"{_PREFIX}shard_joined",
            "Of several: 1 while the storage worker is there and has greeted, else 0.",
            by_shard(lambda one: int(one.is_joined)),
            "shard",
        ),
        counter(
            f"{_PREFIX}shard_batches",
            "Of several: batches sent to a storage worker, without repetitions.",
            by_shard(lambda one: one.batches),
            "shard",
        ),
        gauge(
            f"{_PREFIX}shard_in_flight_bytes",
            "Of several: memory of what a storage worker has not answered.",
            by_shard(lambda one: one.bytes_in_flight),
            "shard",
        ),
        counter(
            f"{_PREFIX}shard_unsent",
            "Of several: operations refused as unavailable, for their storage worker was away.",
            by_shard(lambda one: one.unsent),
            "shard",
        ),
    )


def series_of(context: SessionContext) -> Sequence[Series]:
    """All series. The loop's turns are timed from now on."""
    loop, counts, link, openings = context.loop, context.counts, context.link, context.openings
    turns = Histogram()
    loop.at_turn_end(lambda: turns.observe(loop.clock() - loop.now))

    return (
        gauge(
            f"{_PREFIX}connections",
            "Open connections; other: without an authenticated user, those in a TLS handshake among them.",
            lambda: _connections(context),
            "state",
        ),
        gauge(
            f"{_PREFIX}openings",
            "Connections in a TLS handshake, or whose proxy has not sent its header yet.",
            lambda: len(openings),
        ),
        counter(f"{_PREFIX}connections_accepted", "Connections accepted.", lambda: counts.accepted),
        counter(
            f"{_PREFIX}connections_refused",
            "Those that were closed at once, for the limits of their addresses.",
            lambda: counts.limited,
        ),
        counter(
            f"{_PREFIX}accept_pauses",
            "How often new connections had to wait for want of places, descriptors or memory.",
            lambda: counts.no_place,
        ),
        counter(f"{_PREFIX}tls_handshakes", "TLS handshakes that ended.", openings.handshakes.copy, "result"),
        counter(
            f"{_PREFIX}requests",
            "Requests begun, by code; pipelined 603s and 642s are counted when they are answered.",
            lambda: _requests(context),
            "code",
        ),
        counter(f"{_PREFIX}refusals", "Responses 9000 and 9001, by reason.", lambda: _refusals(context), "reason"),
        counter(f"{_PREFIX}received_bytes", "Bytes of requests, inside of TLS.", lambda: counts.bytes_in),
        counter(f"{_PREFIX}sent_bytes", "Bytes of responses, inside of TLS.", lambda: counts.bytes_out),
        counter(f"{_PREFIX}batches", "Batches sent to the storage worker, without repetitions.", lambda: link.batches),
        counter(
            f"{_PREFIX}outcomes_unknown",
            "Operations whose outcome is unknown; their connections were ended.",
            lambda: link.outcomes_unknown,
        ),
        gauge(
            f"{_PREFIX}storage_worker_joined",
            "1 while the storage worker is there and has greeted, else 0.",
            lambda: int(link.is_joined),
        ),
        *_of_workers(link),
        gauge(
            f"{_PREFIX}mailboxes_waited_for",
            "Mailboxes of which some 643 waits for mail.",
            lambda: context.waiters.mailboxes,
        ),
        gauge(f"{_PREFIX}held_bytes", "Memory that connections hold.", lambda: context.holdings.size),
        gauge(f"{_PREFIX}in_flight_bytes", "Memory of what the worker has not answered.", lambda: link.bytes_in_flight),
        histogram(f"{_PREFIX}turn_seconds", "How long the loop kept everybody waiting, turn by turn.", turns),
    )
