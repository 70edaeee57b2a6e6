"""Remembers the tokens under which senders sent, so that a resend is recognised even after the
message was fetched.

Owns: the tokens that the table does not have.
Promises: the newest 1,024 tokens of a sender are kept, for at most 7 days; the clean-up per
transaction is bounded. `take` gives what the table lacks; until `written` says that it has it, a
later `take` gives it again.
Exposure: tokens are chosen by strangers, each for themselves: they are scoped to their sender.
"""

from bisect import bisect_right
from typing import Final, NamedTuple, Protocol

from storage_worker.engine.records import Record, TokenUsed

TOKENS_PER_SENDER: Final = 1024
TOKEN_LIFE_MS: Final = 7 * 24 * 3600 * 1000
_EXPIRED_PER_WRITE: Final = 64


class TokenTable(Protocol):
    """The table `sent_token`."""

    def find(self, sender: int, token: bytes) -> TokenUsed | None:
        """What it has under a sender's token."""

    def count_newer(self, sender: int, sequence: int) -> int:
        """How many of a sender's it has with a higher sequence."""


class TakenTokens(NamedTuple):
    """What the table is to get. What it has of the same senders beyond their newest `most` is to
    go, and of the `expired` tokens with the lowest sequences those accepted before `before_ms`.
    """

    used: list[TokenUsed]
    senders: list[int]
    most: int
    expired: int
    before_ms: int


class SentTokens:
    """Remembers and recognises."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self._new: dict[tuple[int, bytes], TokenUsed] = {}
        self._new_of_sender: dict[int, list[int]] = {}
        self._taken: list[TokenUsed] = []

    def forget(self) -> None:
        """Return to the state of the table."""
        self._new.clear()
        self._new_of_sender.clear()
        self._taken = []

    def replay(self, record: Record) -> None:
        """Apply a turn's record, at its time or again."""
        if isinstance(record, TokenUsed):
            self._new[record.sender, record.token] = record
            self._new_of_sender.setdefault(record.sender, []).append(record.sequence)

    def find(self, sender: int, token: bytes, now_ms: int) -> TokenUsed | None:
        """What this sender sent under this token within the last 7 days, if it is among
        their newest 1,024.
        """
        new = self._new_of_sender.get(sender, [])
        sent = self._new.get((sender, token))
        if sent is not None:
            newer = len(new) - bisect_right(new, sent.sequence)
        else:
            sent = self._table.find(sender, token)
            if sent is None:
                return None
            newer = len(new)
            if newer:
                # The table keeps 1,024 and the new ones come on top of them.
                newer += self._table.count_newer(sender, sent.sequence)
        return sent if newer < TOKENS_PER_SENDER and now_ms - sent.accepted_at <= TOKEN_LIFE_MS else None

    def take(self, now_ms: int) -> TakenTokens:
        """What the table does not have. A token whose time was over may be there once more."""
        self._taken = list(self._new.values())
        senders = sorted(self._new_of_sender)
        expired = _EXPIRED_PER_WRITE + len(self._taken)
        return TakenTokens(self._taken, senders, TOKENS_PER_SENDER, expired, now_ms - TOKEN_LIFE_MS)

    def written(self) -> None:
        """The table has what was taken last."""
        if len(self._taken) == len(self._new):
            self.forget()
            return
        last = self._taken[-1].sequence if self._taken else 0
        for used in self._taken:
            if self._new.get((used.sender, used.token)) is used:
                del self._new[used.sender, used.token]
        for sender in {used.sender for used in self._taken}:
            sequences = self._new_of_sender[sender]
            del sequences[: bisect_right(sequences, last)]
            if not sequences:
                del self._new_of_sender[sender]
        self._taken = []
