"""Mail of type 5, which a 604 never hands out: what lies between it.

Owns: for users who have once published keys, which interval of their mailbox a 604 gets next.
Promises: an interval has no message of type 5, so that settling it deletes none; what lies behind
such messages is found, in as many 604s as it takes. One look reads a bounded amount. Users who have
never published keys have no such mail, and are not looked at.
Exposure: senders choose how much of it there is.

Source: docs/client-protocol.md, "Type 5".
"""

from collections.abc import Sequence
from typing import Final

from common.storage_protocol.message_format import ENTRY_HEAD, heads
from common.storage_protocol.operations import Mail
from common.values import MessageKind
from storage_worker.engine.interface import Engine
from storage_worker.state.leases import Lease

MOST_SKIPPED: Final = 8 * 1024 * 1024
"""Bytes of mail of type 5 that one 604 passes."""
MOST_HANDED_OUT: Final = 4 * 1024 * 1024
"""Bytes of mail that such a 604 gets, or one message."""
_AT_ONCE: Final = 256 * 1024
_ENVELOPE: Final = 64
"""Bytes that a message counts as beside its content."""
_USERS: Final = 10_000
"""Of whom it is remembered where the first look ended."""
_KIND: Final = 5
"""Its place in an entry's head."""
_END: Final = 2**63 - 1


class SealedMail:
    """Where it lies in the mailboxes of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mailboxes = engine.mailboxes
        self._passed: dict[int, int] = {}
        """By a user's row: what is pending up to this sequence is of type 5."""

    def roll_back(self) -> None:
        """What this turn brought is gone, and its sequences with it."""
        self._passed.clear()

    def interval(self, user: int, leases: Sequence[Lease]) -> tuple[int, int] | None:
        """The first interval of a mailbox that is not leased and has other mail alone; None where
        there is none, or it is too far behind to be found at once. The next look begins there.
        """
        after = self._passed.get(user, 0)
        left = MOST_SKIPPED
        for number, lease in enumerate((*leases, None)):
            last = _END if lease is None else lease.first - 1
            looked = _Look(self, user, after, last, left)
            if number == 0:
                self._remember(user, looked.passed)
            if looked.first:
                return looked.first, looked.last
            left = looked.left
            if lease is None or left <= 0:
                return None
            after = lease.last
        return None

    def _remember(self, user: int, passed: int) -> None:
        if passed:
            if len(self._passed) >= _USERS:
                self._passed.clear()
            self._passed[user] = passed

    def read(self, user: int, first: int, last: int, *, is_enough: bool) -> Mail | None:
        """Some mail. None where it can't be read and what lies before it `is_enough`."""
        try:
            return self._mailboxes.read(user, first, 0, last, _AT_ONCE)
        except Exception as error:
            if not is_enough or self._engine.damage(error) is None:
                raise
            return None


class _Look:
    """A look at one mailbox, behind `after` up to `last`. `first`, `last`: the interval, 0 for
    none. `passed`: up to where there is mail of type 5 alone. `left`: of what may be passed.
    """

    def __init__(self, mail: SealedMail, user: int, after: int, last: int, left: int) -> None:
        self.first = self.last = self.passed = 0
        self.left = left
        self._room = MOST_HANDED_OUT
        at = after + 1
        while at <= last and self.left > 0 and self._room > 0:
            page = mail.read(user, at, last, is_enough=bool(self.first))
            if not page:
                return
            for sequence, kind, size in _messages(page):
                if not self._goes_on(sequence, kind, size):
                    return
                at = sequence + 1

    def _goes_on(self, sequence: int, kind: int, size: int) -> bool:
        if kind == MessageKind.SEALED:
            if self.first:
                return False
            self.passed = sequence
            self.left -= size + _ENVELOPE
            return self.left > 0
        self.first = self.first or sequence
        self.last = sequence
        self._room -= size + _ENVELOPE
        return self._room > 0


def _messages(page: Mail) -> list[tuple[int, int, int]]:
    """Sequence, type and size of each message of a page; of a large one its beginning is enough."""
    found = [
        (head.sequence, int(ENTRY_HEAD.unpack_from(page.entries, head.start)[_KIND]), head.size)
        for head in heads(page.entries)
    ]
    part = page.part
    if part is not None:
        found.append((part.sequence, int(ENTRY_HEAD.unpack(part.head)[_KIND]), part.size))
    return found
