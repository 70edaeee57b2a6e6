"""Leases: which intervals of which mailboxes are hidden while a client receives them.

Owns: every lease, in memory only; a restart ends them all, so a settle names its interval.
Promises: the leases of one mailbox never overlap; a rolled back transaction leaves no trace here.
Exposure: none of its own; the rules decide who may take and end a lease.

A lease is named by the gateway's slot and a number that the gateway chose.
"""

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

from storage_worker.state.rollback import Rollback


class Lease(NamedTuple):
    """The messages `first` to `last` of the mailbox of user row `user`. Sorts by `first`
    within a mailbox.
    """

    first: int
    last: int
    user: int
    slot: int
    number: int
    authenticated: bool


class Leases:
    """All leases by name and by mailbox."""

    def __init__(self, rollback: Rollback) -> None:
        self._rollback = rollback
        self._by_name: dict[tuple[int, int], Lease] = {}
        self._by_mailbox: dict[int, list[Lease]] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, slot: int, number: int) -> Lease | None:
        """The lease of that name."""
        return self._by_name.get((slot, number))

    def of_mailbox(self, user: int) -> Sequence[Lease]:
        """The leases of one mailbox, in order."""
        return self._by_mailbox.get(user, ())

    def take(self, lease: Lease) -> None:
        """Hide an interval, which must be visible; the name must be free."""
        self._add(lease)
        self._rollback.note(lambda: self._remove(lease))

    def end(self, lease: Lease) -> None:
        """End a lease: what it hid and was not deleted is visible again."""
        self._remove(lease)
        self._rollback.note(lambda: self._add(lease))

    def end_slot(self, slot: int) -> None:
        """A gateway greeted: the leases of its predecessor end."""
        for lease in [lease for lease in self._by_name.values() if lease.slot == slot]:
            self.end(lease)

    def end_unauthenticated(self, user: int) -> None:
        """The user authenticated: what anybody else took of their mailbox is pending again."""
        for lease in [lease for lease in self.of_mailbox(user) if not lease.authenticated]:
            self.end(lease)

    def _add(self, lease: Lease) -> None:
        self._by_name[lease.slot, lease.number] = lease
        insort(self._by_mailbox.setdefault(lease.user, []), lease)

    def _remove(self, lease: Lease) -> None:
        del self._by_name[lease.slot, lease.number]
        mailbox = self._by_mailbox[lease.user]
        mailbox.remove(lease)
        if not mailbox:
            del self._by_mailbox[lease.user]
