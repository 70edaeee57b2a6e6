"""One client of a server with several storage workers: its requests are divided among them, and the
answers put in order again.

Owns: the queue of a connection's requests that are with workers, in the order of its bytes.
Promises: as `gateway.connection.session`. An answer leaves when all before it have left. What a
request counts as in flight is counted until then, so what waits here is bounded by
`Settings.connection_in_flight`.
Exposure: strangers choose every id, and with it which of their answers wait for which workers.

A run of sends keeps one place, whatever workers its messages go to: its answers leave together.

Source: docs/decisions/0024-shards.md.
"""

import logging
from collections import deque
from collections.abc import Mapping
from struct import Struct
from typing import Final

from common.client_protocol.requests import SEND_ONCE_REQUEST, SEND_REQUEST
from common.client_protocol.responses import encode_stored, encode_stored_run
from common.client_protocol.server_connection import PipelinedSends
from common.storage_protocol.operations import Operation, Outcome, Refused, Stored
from gateway.connection.context import SessionContext
from gateway.connection.lifecycle import State
from gateway.connection.session import Session
from gateway.connection.transport import Transport
from gateway.handlers.dispatch import SEND_COST, Flowing, belongs_to, response_to
from gateway.limits import Allowance
from gateway.storage.shard_links import ShardLinks

log = logging.getLogger("gateway.connection.sharded_session")

_CONTENT_SIZE: Final = Struct("<I")
"""How large its content is: the last thing before it in a 603 and in a 642."""
_ANSWER: Final = len(encode_stored(bytes(16), 1))


class _Place:
    """A request in the queue. `cost`: bytes that it counts as; `answer`: once it is complete."""

    __slots__ = ("answer", "cost", "session")

    def __init__(self, session: "ShardedSession", cost: int) -> None:
        self.session = session
        self.cost = cost
        self.answer: bytes | None = None


class _One(_Place):
    """One operation: a `Waiter`."""

    __slots__ = ()

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """Its outcome."""
        session = self.session
        if session.state is State.CLOSED:
            return
        if isinstance(outcome, Refused):
            self.answer = session.refusal(outcome.reason, outcome.retry_after)
        else:
            self.answer = response_to(operation, outcome)
        if self.answer is None:
            log.error("%s was answered with %s", type(operation).__name__, type(outcome).__name__)
            session.abort()
        else:
            session.emit()

    def unknown(self, operation: Operation) -> None:
        """Whether it was done is unknown: the connection ends without a reply."""
        self.session.abort()


class _Run(_Place):
    """The messages of one read."""

    __slots__ = ("_answers", "_left")

    def __init__(self, session: "ShardedSession", cost: int, count: int) -> None:
        super().__init__(session, cost)
        self._answers: list[bytes] = [b""] * count
        self._left = count

    def fill(
        self,
        positions: list[int],
        recipients: list[bytes],
        first: int,
        others: Mapping[int, Refused | Stored],
    ) -> None:
        """The outcomes of the messages at these positions, as `sends_answered` has them."""
        session = self.session
        if session.state is State.CLOSED:
            return
        answers = self._answers
        if not others:
            data = encode_stored_run(recipients, first)
            at = 0
            for position in positions:
                answers[position] = data[at : at + _ANSWER]
                at += _ANSWER
        else:
            for index, position in enumerate(positions):
                other = others.get(index)
                if other is None:
                    answers[position] = encode_stored(recipients[index], first)
                    first += 1
                elif isinstance(other, Stored):
                    answers[position] = encode_stored(recipients[index], other.sequence)
                else:
                    answers[position] = session.refusal(other.reason, other.retry_after)
        self._left -= len(positions)
        if not self._left:
            self.answer = b"".join(answers)
            session.emit()


class _Part:
    """Those of a run that go to one worker: a `Sender`, and what `submit_sends` needs of them."""

    __slots__ = ("_answered", "_run", "frames_of", "positions", "recipients")

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._answered = 0
        self.positions: list[int] = []
        self.recipients: list[bytes] = []
        self.frames_of: list[bytes] = []

    def sends_answered(
        self, recipients: list[bytes], cost: int, first: int, others: Mapping[int, Refused | Stored]
    ) -> None:
        """The outcomes of all of them, or of the next ones if they had to be divided."""
        begin = self._answered
        self._answered += len(recipients)
        self._run.fill(self.positions[begin : self._answered], recipients, first, others)

    def sends_divided(self) -> None:
        """They are counted one by one."""

    def abort(self) -> None:
        """Whether they are stored is unknown, and will stay so."""
        self._run.session.abort()


class ShardedSession(Session):
    """A `Session` whose context has `links` to several workers."""

    __slots__ = ("_links", "_queue")

    def __init__(
        self, transport: Transport, context: SessionContext, links: ShardLinks, allowance: Allowance | None = None
    ) -> None:
        self._queue: deque[_Place] = deque()
        self._links = links
        super().__init__(transport, context, allowance)

    def emit(self) -> None:
        """Write the answers from the head of the queue on, up to one that is missing."""
        queue = self._queue
        while queue and (answer := queue[0].answer) is not None:
            place = queue.popleft()
            self._unanswered -= 1
            self._inflight -= place.cost
            self.write(answer)

    def submit(self, operation: Flowing, cost: int) -> None:
        """Submit a pipelined operation."""
        place = _One(self, cost)
        self._enter(place)
        user = belongs_to(operation)
        link = self._links.directory if user is None else self._links.of(user)
        link.submit(operation, place, cost)

    def _enter(self, place: _Place) -> None:
        self._queue.append(place)
        self._unanswered += 1
        self._inflight += place.cost

    def _submit_run(self, run: PipelinedSends) -> int:
        recipients, frames = run.recipients, run.frames
        cost = len(frames) + SEND_COST * len(recipients)
        place = _Run(self, cost, len(recipients))
        self._enter(place)
        by_first_byte, links = self._links.by_first_byte, self._links.links
        authenticated = self.authenticated_as is not None
        parts: dict[int, _Part] = {}
        head = SEND_ONCE_REQUEST.size if run.once else SEND_REQUEST.size
        size_at = head - _CONTENT_SIZE.size
        at = 0
        for position, recipient in enumerate(recipients):
            end = at + head + _CONTENT_SIZE.unpack_from(frames, at + size_at)[0]
            number = by_first_byte[recipient[0]]
            part = parts.get(number)
            if part is None:
                part = parts[number] = _Part(place)
            part.positions.append(position)
            part.recipients.append(recipient)
            part.frames_of.append(frames[at:end])
            at = end
        for number, part in parts.items():
            joined = frames if len(parts) == 1 else b"".join(part.frames_of)
            its_cost = len(joined) + SEND_COST * len(part.recipients)
            links[number].submit_sends(
                PipelinedSends(run.requester, part.recipients, joined, run.once), authenticated, its_cost, part
            )
            part.frames_of.clear()
        return cost

    def let_go(self) -> None:
        """The transport is closed: drop all references and waits."""
        super().let_go()
        self._queue.clear()
