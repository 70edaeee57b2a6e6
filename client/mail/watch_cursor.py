"""The progress of `watch` through the mail of a home, and the messages that it set aside.

Owns: the cursor, the count of failed tries of a message, and the list of those set aside; all three
are in the store, so that a new watch continues where the last one ended. Promises: asks no server.
Of several watches of a home, one at a time holds the cursor (`handing_out`).
Exposure: as the store.

Source: docs/client.md.
"""

from contextlib import AbstractContextManager
from typing import Final

from client.mail.inbox import Inbox
from client.messages import Received
from client.store.home_store import Store

_CURSOR: Final = "watch_cursor"
_TRIES: Final = "watch_tries:"
_ASIDE: Final = "watch_aside:"
"""Each is followed by the number of a message, in 16 digits."""


class WatchCursor:
    """The cursor of one home."""

    def __init__(self, store: Store, inbox: Inbox) -> None:
        self._store = store
        self._inbox = inbox

    def position(self) -> int:
        """Return the number after which `watch` continues; at first, after all that was seen
        already.
        """
        text = self._store.settings.get(_CURSOR)
        if text is None:
            number = self._inbox.last_seen()
            self.move(number)
            return number
        return int(text)

    def handing_out(self) -> AbstractContextManager[None]:
        """Become the only process that reads the cursor, hands out what follows it, and moves it;
        waits for that.
        """
        return self._store.watcher()

    def move(self, number: int) -> None:
        """Note that `watch` has handled a message."""
        self._store.settings.put(_CURSOR, str(number))

    def count_failed_try(self, number: int) -> int:
        """Note that a message was not handled; return how many attempts failed since it was last
        set aside.
        """
        name = _of_message(_TRIES, number)
        tries = int(self._store.settings.get(name) or 0) + 1
        self._store.settings.put(name, str(tries))
        return tries

    def set_aside(self, number: int) -> None:
        """Add a message to those that `messages_set_aside` lists."""
        self._store.settings.put(_of_message(_ASIDE, number), "")
        self._store.settings.drop(_of_message(_TRIES, number))

    def was_taken(self, number: int) -> None:
        """Forget the failed attempts on a message, if any."""
        for kind in (_TRIES, _ASIDE):
            name = _of_message(kind, number)
            if self._store.settings.get(name) is not None:
                self._store.settings.drop(name)

    def messages_set_aside(self) -> list[Received]:
        """Return the messages that `watch` has set aside, oldest first."""
        numbers = [int(name.removeprefix(_ASIDE)) for name in self._store.settings.names(_ASIDE)]
        found = [next(self._inbox.seen(number - 1), None) for number in numbers]
        return [one for one, number in zip(found, numbers, strict=True) if one is not None and one.number == number]


def _of_message(kind: str, number: int) -> str:
    return f"{kind}{number:016}"
