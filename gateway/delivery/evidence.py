"""What counts as evidence that a client of the published protocol has its mail.

Owns: for one connection, the leases whose responses were written, and how far the evidence for each
has come.
Promises: pure; the session reports what it observes. A TCP acknowledgement alone is none, for the
kernel acknowledges for a process that never reads; so a lease is settled only by

    the next request     a byte of a request that was sent after the peer's TCP had acknowledged the whole response:
                         either a look showed everything acknowledged and no input, and the byte
                         came later (`look`); or since a look that showed no input, one single
                         segment came, and it brought both the acknowledgement and the byte
                         (`first_input`): so does a client that answers at once
    the end              the client ended its side, everything is acknowledged, and for `Settings.reset_watch`
                         seconds no reset came (`ended`): a process that closes with unread bytes
                         sends a reset
    anything else        is no evidence: `broken`

Exposure: clients decide what there is to see, and gain nothing by it but their own mail's loss or
return.

Source: docs/guarantees.md, "What counts as evidence".
"""

from typing import NamedTuple

from common.storage_protocol.operations import Release, Settle


class SegmentsIn(NamedTuple):
    """How many segments the peer has sent so far: all of them, and those that carried data."""

    all: int
    with_data: int


class Lease(NamedTuple):
    """An interval of a mailbox that a 2104 has carried, by sequence."""

    number: int
    requester: bytes
    authenticated: bool
    first: int
    last: int

    def settle(self) -> Settle:
        """The client has it."""
        return Settle(self.number, self.requester, self.authenticated, self.first, self.last)

    def release(self) -> Release:
        """There is no evidence."""
        return Release(self.number)


class Evidence:
    """The unsettled leases of one connection, oldest first."""

    __slots__ = ("_acknowledged", "_leases", "_seen_without_input")

    def __init__(self) -> None:
        self._leases: list[Lease] = []
        self._acknowledged = 0
        self._seen_without_input: SegmentsIn | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is a lease whose response was not yet seen acknowledged with no
        input after it.
        """
        return self._acknowledged < len(self._leases)

    @property
    def open(self) -> bool:
        """Whether any lease is unsettled."""
        return bool(self._leases)

    def written(self, lease: Lease) -> None:
        """The whole response that carries `lease` was handed to the kernel."""
        self._leases.append(lease)
        self._seen_without_input = None

    def probe(self, *, unacknowledged: int, input_empty: bool, segments: SegmentsIn) -> None:
        """The state of the connection: bytes not acknowledged, whether no input waits, segments so
        far.
        """
        if input_empty:
            self._seen_without_input = segments
            if unacknowledged == 0:
                self._acknowledged = len(self._leases)

    def first_input(self, *, unacknowledged: int, segments: SegmentsIn) -> None:
        """Input is there for the first time since the last look: the state of the connection before
        it is read.
        """
        before, self._seen_without_input = self._seen_without_input, None
        if before is not None and unacknowledged == 0 and segments == (before.all + 1, before.with_data + 1):
            self._acknowledged = len(self._leases)

    def request_came(self) -> list[Settle]:
        """A byte of a request came: whoever sends it has what was acknowledged before."""
        settled, self._leases = self._leases[: self._acknowledged], self._leases[self._acknowledged :]
        self._acknowledged = 0
        return [lease.settle() for lease in settled]

    def ended(self) -> list[Settle]:
        """The end was clean and no reset followed it."""
        leases, self._leases = self._leases, []
        self._acknowledged = 0
        return [lease.settle() for lease in leases]

    def broken(self) -> list[Release]:
        """No more evidence can come."""
        leases, self._leases = self._leases, []
        self._acknowledged = 0
        return [lease.release() for lease in leases]
