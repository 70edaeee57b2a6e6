"""Rules of fetching: leases of intervals, their pages, and when mail is deleted.

Owns: leases and subscriptions. Promises: only what was named is deleted; what is leased is hidden
from everybody else; a refused operation has deleted nothing.
Exposure: ids and sequences come from strangers. A mailbox has a limited number of leases.
"""

from typing import Final

from common.storage_protocol.operations import (
    NO_MAIL,
    Fetch,
    Fetched,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    Release,
    Settle,
)
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import MailRemoved
from storage_worker.engine.values import User
from storage_worker.rules.access import Access
from storage_worker.rules.answers import DONE, MALFORMED, PROOF_NEEDED, Unreadable
from storage_worker.rules.sealed_mail import SealedMail
from storage_worker.rules.table import rules_of
from storage_worker.state.leases import Lease, Leases
from storage_worker.state.subscriptions import Subscriptions

LEASES_OF_MAILBOX: Final = 64
"""Leases on one mailbox at a time; past them it looks empty until one of them ends. A fetch looks
at all of them."""

_END: Final = 2**63 - 1


class FetchingRules:
    """Pull, Settle and Release with leases; Fetch without."""

    def __init__(
        self,
        engine: Engine,
        leases: Leases,
        subscriptions: Subscriptions,
        access: Access,
        unreadable: Unreadable,
    ) -> None:
        self._engine = engine
        self._mailboxes = engine.mailboxes
        self._leases = leases
        self._subscriptions = subscriptions
        self._access = access
        self._unreadable = unreadable
        self._sealed = SealedMail(engine)

    def roll_back(self) -> None:
        """The turn was undone."""
        self._sealed.roll_back()

    def pull(self, slot: int, request: Pull) -> Outcome:
        """Take a lease on the first interval that is not leased, and return its first page."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        lease = self._leases.find(slot, request.lease)
        if lease is not None and lease.user != user.row:
            return MALFORMED
        if lease is not None:
            first, last, max_bytes = lease.first, lease.last, _END
        elif len(self._leases.of_mailbox(user.row)) >= LEASES_OF_MAILBOX:
            return Pulled(0, 0, 0, 0, NO_MAIL)
        else:
            interval = self._visible(user)
            if interval is None:
                return Pulled(0, 0, 0, 0, NO_MAIL)
            first, last = interval
            max_bytes = request.max_bytes
        found = self._mailboxes.first_page(user.row, first, last, max_bytes, request.envelope_bytes, request.page_bytes)
        if found is None:
            if lease is not None:
                self._leases.end(lease)
            return Pulled(0, 0, 0, 0, NO_MAIL)
        span, page = found
        if lease is None:
            self._leases.take(Lease(span.first, span.last, user.row, slot, request.lease, request.authenticated))
        return Pulled(span.first, span.last, span.messages, span.content_bytes, page)

    def _visible(self, user: User) -> tuple[int, int] | None:
        """The first interval of the mailbox that has mail for a 604 and is not leased; the last
        interval is open-ended. None where there is none for sure.
        """
        if user.keys:
            return self._sealed.interval(user.row, self._leases.of_mailbox(user.row))
        after = 0
        for lease in self._leases.of_mailbox(user.row):
            oldest = self._mailboxes.oldest(user.row, after, lease.first)
            if oldest is not None:
                return oldest, lease.first - 1
            after = lease.last
        return after + 1, _END

    def pull_page(self, _slot: int, request: PullPage) -> Outcome:
        """The next page of an interval."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        return Page(self._mailboxes.read(user.row, request.sequence, request.offset, request.last, request.page_bytes))

    def settle(self, slot: int, request: Settle) -> Outcome:
        """Delete the interval, end its lease."""
        self.end_lease(slot, request.lease)
        try:
            user = self._access.requester(request.requester, request.authenticated)
            if isinstance(user, User):
                self._delete(user, request.first, request.last)
        except Exception as error:
            # Nothing was deleted, so it comes again.
            self._unreadable.refusal(error)
        return DONE

    def _delete(self, user: User, first: int, last: int) -> None:
        self._engine.apply(MailRemoved(user.row, first, min(last, self._mailboxes.sequence)))

    def release(self, slot: int, request: Release) -> Outcome:
        """End a lease: its interval is visible again."""
        self.end_lease(slot, request.lease)
        return DONE

    def end_lease(self, slot: int, number: int) -> None:
        """End the lease of that name, if there is one."""
        lease = self._leases.find(slot, number)
        if lease is not None:
            self._leases.end(lease)

    def fetch(self, slot: int, request: Fetch) -> Outcome:
        """Delete what is acknowledged, and read what follows; if there is nothing, subscribe."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        if not request.authenticated:
            return PROOF_NEEDED
        committed = self._mailboxes.sequence
        if request.ack > committed:
            return MALFORMED
        # Read before anything is deleted: a refusal changes nothing.
        found = self._mailboxes.first_page(
            user.row, request.ack + 1, _END, request.max_bytes, request.envelope_bytes, request.page_bytes
        )
        self._delete(user, 0, request.ack)
        if found is None:
            if request.watch:
                self._subscriptions.add(user.row, user.client_id, slot)
            return Fetched(0, 0, 0, committed, NO_MAIL)
        span, page = found
        return Fetched(span.last, span.messages, span.content_bytes, committed, page)


FETCHING: Final = (
    rules_of(FetchingRules)
    .row(Pull, FetchingRules.pull)
    .row(PullPage, FetchingRules.pull_page)
    # It ends the lease in any case.
    .row(Settle, FetchingRules.settle, reads_first=False)
    .row(Release, FetchingRules.release, reads_first=False)
    .row(Fetch, FetchingRules.fetch)
)
