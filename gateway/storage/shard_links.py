"""The links to several storage workers, each of which has a part of the users.

Owns: one link for each shard, and which one an operation is for. The links share one context of
ZeroMQ, and a turn of the loop costs nothing for those without news.
Promises: a link leads to the worker of its place, of so many shards of one server, or the gateway
ends. What was not sent to a worker that has been away for `REFUSE_AFTER` is refused as unavailable;
it is served again as soon as it is back.
Exposure: the workers are other parts of this server. Strangers choose the ids, and with them the
shard.

Source: docs/storage-protocol.md, "Shards"; docs/decisions/0024-shards.md.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from common.client_protocol.server_connection import PipelinedSends
from common.link_keys import LinkKeys
from common.shards import DIRECTORY, shard_of, shards_by_first_byte
from common.storage_protocol.frames import Order, StoreFacts
from common.storage_protocol.operations import Operation
from gateway.errors import WrongWorker
from gateway.event_loop import EventLoop
from gateway.storage.link import LinkListener, Place, SharedContext, StorageLink, Waiter
from gateway.storage.mail_waiters import MailWaiters
from gateway.storage.send_answers import Sender

REFUSE_AFTER: Final = 1.0
"""Seconds: a worker that was only started anew is back before."""


class Target(NamedTuple):
    """How a worker is reached: ZeroMQ's endpoint, and keys where it is on another machine."""

    endpoint: str
    keys: LinkKeys | None = None


class _ShardListener:
    """A `LinkListener` of one link: what its worker says concerns the users of that shard."""

    def __init__(self, waiters: MailWaiters, number: int, shards: int) -> None:
        self._waiters = waiters
        self._number = number
        self._shards = shards

    def greeted(self) -> None:
        """The directory's facts are those of the server."""
        if self._number == DIRECTORY:
            self._waiters.greeted()

    def worker_changed(self) -> None:
        """Who waits for mail of this shard asks again."""
        self._waiters.worker_changed(self._is_concerned)

    def _is_concerned(self, client_id: bytes) -> bool:
        return shard_of(client_id, self._shards) == self._number

    def store_changed(self) -> None:
        """Every connection may have been told of the earlier store."""
        self._waiters.store_changed()

    def mail_arrived(self, sequence: int, recipients: list[bytes]) -> None:
        """Sequences are this shard's, as those that its users saw."""
        self._waiters.mail_arrived(sequence, recipients)


class ShardLink(StorageLink):
    """A link among others. Its turn ends when it has news."""

    def __init__(
        self,
        links: "ShardLinks",
        place: Place,
        target: Target,
        slot: int,
        new_incarnation: Callable[[], bytes],
        listener: LinkListener,
        context: SharedContext,
    ) -> None:
        self._links = links
        self._bytes_in_flight = 0
        super().__init__(
            links.loop,
            target.endpoint,
            slot,
            new_incarnation,
            listener,
            target.keys,
            place=place,
            refuse_after=REFUSE_AFTER,
            context=context,
        )
        self.orders = links.orders

    @property
    def bytes_in_flight(self) -> int:
        """Of all that this worker has not answered."""
        return self._bytes_in_flight

    @bytes_in_flight.setter
    def bytes_in_flight(self, size: int) -> None:
        self._links.bytes_in_flight += size - self._bytes_in_flight
        self._bytes_in_flight = size

    def submit(self, operation: Operation, waiter: Waiter, size: int = 0) -> None:
        """Send `operation` with the next batch to this worker."""
        super().submit(operation, waiter, size)
        self._links.wake(self)

    def submit_sends(self, run: PipelinedSends, authenticated: bool, cost: int, sender: Sender) -> None:
        """Send these messages with the next batch to this worker."""
        super().submit_sends(run, authenticated, cost, sender)
        self._links.wake(self)

    def _note_news(self) -> None:
        self._links.wake(self)

    def _follow_turns(self) -> None:
        """`ShardLinks` ends the turns of those that have news."""
        self._links.wake(self)

    @property
    def others(self) -> Sequence[StorageLink]:
        """Asked of the directory's: the links to the other shards."""
        return self._links.others


class ShardLinks:
    """The links to the workers of `targets`, which are in the order of their shards."""

    def __init__(
        self,
        loop: EventLoop,
        targets: Sequence[Target],
        slot: int,
        new_incarnation: Callable[[], bytes],
        waiters: MailWaiters,
    ) -> None:
        self.loop = loop
        self.shards = shards = len(targets)
        self.by_first_byte = shards_by_first_byte(shards)
        """The shard of a user by the first byte of the id."""
        self.bytes_in_flight = 0
        """Of all that the workers have not answered."""
        self.orders: list[Order] = []
        """What an operator has a worker pass on."""
        self._awake: dict[ShardLink, None] = {}
        self._context = SharedContext(shards)
        self.links: list[ShardLink] = []
        for number, target in enumerate(targets):
            listener = _ShardListener(waiters, number, shards)
            place = Place(number, shards)
            self.links.append(ShardLink(self, place, target, slot, new_incarnation, listener, self._context))
        self.directory = self.links[DIRECTORY]
        self.others = self.links[DIRECTORY + 1 :]
        loop.at_turn_end(self._end_turn)

    def of(self, client_id: bytes) -> ShardLink:
        """The link to the shard of a user."""
        return self.links[self.by_first_byte[client_id[0]]]

    def wake(self, link: ShardLink) -> None:
        """This link has something to do at the end of the turn."""
        self._awake[link] = None

    def _end_turn(self) -> None:
        awake, self._awake = self._awake, {}
        for link in awake:
            link.end_turn()
            if link.has_work:
                self._awake[link] = None
        self._check_server()

    def _check_server(self) -> None:
        facts = self.directory.facts
        if facts is None:
            return
        for link in self.others:
            if link.facts is not None and link.facts.server_id != facts.server_id:
                raise WrongWorker(f"the worker at {link.endpoint} is one of another server than the directory's")

    @property
    def collects(self) -> bool:
        """Whether something waits to leave."""
        return any(link.collects for link in self._awake)

    def resume_output(self) -> None:
        """Receive, hand out outcomes and send, on every link where something waits to leave."""
        for link in list(self._awake):
            if link.collects:
                link.resume_output()

    @property
    def facts(self) -> StoreFacts | None:
        """The directory's, which are those of the server."""
        return self.directory.facts

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return all(link.idle for link in self.links)

    @property
    def is_joined(self) -> bool:
        """Whether clients are served: the server is known, and some worker is there."""
        return self.facts is not None and any(link.is_joined for link in self.links)

    @property
    def answered_at(self) -> float:
        """When a worker answered last, in monotonic seconds."""
        return max(link.answered_at for link in self.links)

    @property
    def batches(self) -> int:
        """That were sent, without repetitions."""
        return sum([link.batches for link in self.links])

    @property
    def sends_answered(self) -> int:
        """603s of runs."""
        return sum([link.sends_answered for link in self.links])

    @property
    def sends_once_answered(self) -> int:
        """642s of runs."""
        return sum([link.sends_once_answered for link in self.links])

    @property
    def outcomes_unknown(self) -> int:
        """Operations whose outcome is unknown."""
        return sum([link.outcomes_unknown for link in self.links])

    def close(self) -> None:
        """Leave without waiting."""
        for link in self.links:
            link.close()
        self._context.close()
