"""Subscriptions: which gateways want a notice when mail arrives in a mailbox, or its user may not
fetch any more.

Owns: the subscriptions, in memory only; a gateway subscribes again when the worker's incarnation
changes.
Promises: a subscription ends with its notice; it costs nothing while no mail arrives.
Exposure: none.
"""

from collections.abc import Iterable

from storage_worker.state.rollback import Rollback


class _Watched:
    """The gateways that watch one mailbox, and its user's client id."""

    __slots__ = ("client_id", "slots")

    def __init__(self, client_id: bytes) -> None:
        self.client_id = client_id
        self.slots: set[int] = set()


class Subscriptions:
    """Mailboxes (user rows) that gateways (slots) watch."""

    def __init__(self, rollback: Rollback) -> None:
        self._rollback = rollback
        self._watched: dict[int, _Watched] = {}
        self._ended: list[tuple[int, bytes]] = []
        """Slots and client ids of subscriptions that ended with their user."""

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, user: int, client_id: bytes, slot: int) -> None:
        """Name this mailbox in the next notice to the slot's gateway."""
        watched = self._watched.get(user)
        if watched is None or slot not in watched.slots:
            self._add(user, client_id, slot)
            self._rollback.note(lambda: self._remove(user, slot))

    def end_slot(self, slot: int) -> None:
        """A gateway greeted: it remembers nothing of what its predecessor watched."""
        ended = [(user, watched.client_id) for user, watched in self._watched.items() if slot in watched.slots]
        for user, _ in ended:
            self._remove(user, slot)

        def restore() -> None:
            for user, client_id in ended:
                self._add(user, client_id, slot)

        self._rollback.note(restore)

    def end_user(self, user: int) -> None:
        """The user is deleted or disabled: end the subscriptions of their mailbox. Their gateways
        get a notice of it, by `take_ended`.
        """
        watched = self._watched.get(user)
        if watched is None:
            return
        slots, client_id, before = sorted(watched.slots), watched.client_id, len(self._ended)
        for slot in slots:
            self._remove(user, slot)
            self._ended.append((slot, client_id))

        def restore() -> None:
            del self._ended[before:]
            for slot in slots:
                self._add(user, client_id, slot)

        self._rollback.note(restore)

    def take_ended(self) -> dict[int, list[bytes]]:
        """After a commit: slot -> the client ids whose subscriptions `end_user` has ended since the
        last call.
        """
        ended: dict[int, list[bytes]] = {}
        for slot, client_id in self._ended:
            ended.setdefault(slot, []).append(client_id)
        self._ended.clear()
        return ended

    def watched(self) -> list[tuple[int, bytes]]:
        """The row and client id of every user whose mailbox is watched."""
        return [(user, watched.client_id) for user, watched in self._watched.items()]

    def use_up(self, users: Iterable[int]) -> dict[int, list[bytes]]:
        """After a commit that brought mail for `users`: slot -> the client ids of the
        watched ones among them.
        """
        arrived: dict[int, list[bytes]] = {}
        for user in sorted(self._watched.keys() & set(users)):
            watched = self._watched.pop(user)
            for slot in watched.slots:
                arrived.setdefault(slot, []).append(watched.client_id)
        return arrived

    def _add(self, user: int, client_id: bytes, slot: int) -> None:
        self._watched.setdefault(user, _Watched(client_id)).slots.add(slot)

    def _remove(self, user: int, slot: int) -> None:
        slots = self._watched[user].slots
        slots.discard(slot)
        if not slots:
            del self._watched[user]
