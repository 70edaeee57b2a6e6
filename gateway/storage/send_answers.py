"""Distributes the outcome of a run of sends to the connections whose messages are in it.

Owns: which outcome is whose.
Promises: each connection gets its outcomes in the order of its requests, in one call for everything
that it submitted in one call, or in several if the run had to be divided. If that fails for a
connection, it ends, and no other does.
Exposure: none of its own; it sees what the worker answered.

Source: docs/storage-protocol.md, "Operations".
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final, Protocol

from common.rare_log import RareLog
from common.storage_protocol.operations import MessagesStored, Outcome, Refused, Stored
from common.storage_protocol.send_run import SendRun
from gateway.connection.containment import contain

_rarely: Final = RareLog(logging.getLogger("gateway.storage.send_answers"))

_Other = Refused | Stored
_NO_OTHERS: Final[Mapping[int, _Other]] = {}


class Sender(Protocol):
    """A connection that put messages into a run."""

    def sends_answered(
        self, recipients: list[bytes], cost: int, first: int, others: Mapping[int, Refused | Stored]
    ) -> None:
        """The outcomes of the messages that were submitted with these recipients and this cost.

        Those at the indexes of `others` were refused, or stored before under their tokens; the rest
        has the sequences `first`, `first` + 1, ….
        """

    def sends_divided(self) -> None:
        """The outcomes of one submission come in one more call."""

    def abort(self) -> None:
        """Whether they are stored is unknown, and will stay so."""


def answer(run: SendRun[Sender], outcome: Outcome) -> int:
    """Give every sender the outcomes of its messages. Returns how many there were. The hot path."""
    match outcome:
        case MessagesStored(begin, [], []):
            first = begin
            for sender, recipients, cost in run.shares:
                try:
                    sender.sends_answered(recipients, cost, first, _NO_OTHERS)
                except Exception as error:
                    contain(sender, error)
                first += len(recipients)
            return first - begin
        case MessagesStored(first) if (others := _others_of(run, outcome)) is not None:
            _answer_with_others(run, first, others)
        case Refused():
            for sender, recipients, cost in run.shares:
                _give(sender, recipients, cost, 0, dict.fromkeys(range(len(recipients)), outcome))
        case _:
            _rarely.write(logging.ERROR, "the answer to a run of sends does not fit it: %s", type(outcome).__name__)
            leave_unknown(run)
    return run.count


def leave_unknown(run: SendRun[Sender]) -> None:
    """Every connection that has messages in it ends without a reply."""
    for sender, _recipients, _cost in run.shares:
        sender.abort()


def _others_of(run: SendRun[Sender], outcome: MessagesStored) -> Sequence[tuple[int, _Other]] | None:
    """What was refused or stored before, by index; None where that does not fit the run."""
    others: list[tuple[int, _Other]] = [
        *[(one.index, Refused(one.reason, one.retry_after)) for one in outcome.refused],
        *[(one.index, Stored(one.sequence)) for one in outcome.repeated],
    ]
    others.sort(key=itemgetter(0))
    grows = all(one[0] < other[0] for one, other in pairwise(others))
    return others if grows and others[-1][0] < run.count else None


def _answer_with_others(run: SendRun[Sender], first: int, others: Sequence[tuple[int, _Other]]) -> None:
    at = start = 0
    for sender, recipients, cost in run.shares:
        end = start + len(recipients)
        of_these: dict[int, _Other] = {}
        while at < len(others) and others[at][0] < end:
            index, other = others[at]
            of_these[index - start] = other
            at += 1
        _give(sender, recipients, cost, first, of_these)
        first += len(recipients) - len(of_these)
        start = end


def _give(sender: Sender, recipients: list[bytes], cost: int, first: int, others: Mapping[int, _Other]) -> None:
    try:
        sender.sends_answered(recipients, cost, first, others)
    except Exception as error:
        contain(sender, error)
