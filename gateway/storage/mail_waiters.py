"""Who waits for news from the storage worker: new mail, its greeting, or that it was replaced.

Owns: the 643s that wait for mail, and the 640s that wait for the worker's facts.
Promises: each is called once its news is known; a bug in one ends its connection alone. If the
store is not the one of before, every connection ends.
Exposure: clients choose how many wait, one for each connection.

A `LinkListener`.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from gateway.connection.containment import Breakable, contained


class AwaitsGreeting(Breakable, Protocol):
    """Something that needs what the storage worker's greeting says."""

    def greeted(self) -> None:
        """The greeting has come."""


class WaitingFetch(Breakable, Protocol):
    """A 643 that waits for mail."""

    def look_again(self) -> None:
        """There may be mail now."""

    @property
    def committed(self) -> int:
        """The store's highest sequence when the mailbox was seen empty."""


class MailWaiters:
    """`connections`: all of them; the caller keeps this set."""

    def __init__(self, connections: Collection[Breakable]) -> None:
        self._connections = connections
        self._greetings: dict[AwaitsGreeting, None] = {}
        self._fetches: dict[bytes, set[WaitingFetch]] = {}

    @property
    def mailboxes(self) -> int:
        """How many mailboxes have waiting 643s."""
        return len(self._fetches)

    @property
    def awaiting_greeting(self) -> int:
        """How many 640s wait for the worker's greeting."""
        return len(self._greetings)

    def wait_for_greeting(self, one: AwaitsGreeting) -> None:
        """Call `one` when the worker has greeted, unless `forget_greeting` is called before."""
        self._greetings[one] = None

    def forget_greeting(self, one: AwaitsGreeting) -> None:
        """Undo `wait_for_greeting`; does nothing if it was not called."""
        self._greetings.pop(one, None)

    def wait_for_mail(self, client_id: bytes, fetch: WaitingFetch) -> None:
        """Have `fetch` look again when mail comes for this mailbox, until `stop_waiting`."""
        self._fetches.setdefault(client_id, set()).add(fetch)

    def stop_waiting(self, client_id: bytes, fetch: WaitingFetch) -> None:
        """Undo `wait_for_mail`."""
        fetches = self._fetches.get(client_id)
        if fetches is not None:
            fetches.discard(fetch)
            if not fetches:
                del self._fetches[client_id]

    def mail_arrived(self, sequence: int, recipients: list[bytes]) -> None:
        """Mail up to `sequence` was committed for these: they look again."""
        for recipient in recipients:
            for fetch in list(self._fetches.get(recipient, ())):
                if sequence > fetch.committed:
                    contained(fetch, fetch.look_again)()

    def worker_changed(self, is_concerned: Callable[[bytes], bool] | None = None) -> None:
        """The new worker knows of no waiting 643s: all look again. `is_concerned`: whether it is
        the worker of a user; None: of all.
        """
        for client_id, fetches in list(self._fetches.items()):
            if is_concerned is None or is_concerned(client_id):
                for fetch in list(fetches):
                    contained(fetch, fetch.look_again)()

    def store_changed(self) -> None:
        """Sequences now refer to other messages: what was sent on connections before must not be
        settled or acknowledged.
        """
        for connection in list(self._connections):
            connection.abort()

    def greeted(self) -> None:
        """The worker has greeted."""
        for one in list(self._greetings):
            contained(one, one.greeted)()
