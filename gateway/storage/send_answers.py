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
from typing import Final, Protocol

from common.rare_log import RareLog
from common.storage_protocol.operations import MessagesStored, Outcome, Refused, RefusedFrame
from common.storage_protocol.send_run import SendRun
from gateway.connection.containment import contain

_rarely: Final = RareLog(logging.getLogger("gateway.storage.send_answers"))

_NONE_REFUSED: Final[Mapping[int, Refused]] = {}


class Sender(Protocol):
    """A connection that put messages into a run."""

    def sends_answered(self, recipients: list[bytes], cost: int, first: int, refused: Mapping[int, Refused]) -> None:
        """The outcomes of the messages that were submitted with these recipients and this cost.

        Those at the indexes of `refused` were not stored; the others have the sequences `first`,
        `first` + 1, ….
        """

    def sends_divided(self) -> None:
        """The outcomes of one submission come in one more call."""

    def abort(self) -> None:
        """Whether they are stored is unknown, and will stay so."""


def answer(run: SendRun[Sender], outcome: Outcome) -> int:
    """Give every sender the outcomes of its messages. Returns how many there were. The hot path."""
    match outcome:
        case MessagesStored(begin, []):
            first = begin
            for sender, recipients, cost in run.shares:
                try:
                    sender.sends_answered(recipients, cost, first, _NONE_REFUSED)
                except Exception as error:
                    contain(sender, error)
                first += len(recipients)
            return first - begin
        case MessagesStored(first, refused) if _fits(run, refused):
            _answer_some_refused(run, first, refused)
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


def _fits(run: SendRun[Sender], refused: Sequence[RefusedFrame]) -> bool:
    return refused[-1].index < run.count and all(one.index < other.index for one, other in pairwise(refused))


def _answer_some_refused(run: SendRun[Sender], first: int, refused: Sequence[RefusedFrame]) -> None:
    at = start = 0
    for sender, recipients, cost in run.shares:
        end = start + len(recipients)
        of_these: dict[int, Refused] = {}
        while at < len(refused) and refused[at].index < end:
            index, reason, retry_after = refused[at].index, refused[at].reason, refused[at].retry_after
            of_these[index - start] = Refused(reason, retry_after)
            at += 1
        _give(sender, recipients, cost, first, of_these)
        first += len(recipients) - len(of_these)
        start = end


def _give(sender: Sender, recipients: list[bytes], cost: int, first: int, refused: Mapping[int, Refused]) -> None:
    try:
        sender.sends_answered(recipients, cost, first, refused)
    except Exception as error:
        contain(sender, error)
