"""Rules of blocking: whose messages a user does not get.

Owns: who may be blocked, and by how many. Promises: answers do not tell a sender that they are
blocked: a message passes the same rules as any other, gets a sequence, and is not stored.
Exposure: strangers send as often as they like; a user's list is bounded.

Source: docs/client-protocol.md, "651, block".
"""

from typing import Final

from common.storage_protocol.operations import Outcome, Refused, SetBlock
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import SenderBlocked
from storage_worker.rules.access import Access
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import DONE, MALFORMED, PROOF_NEEDED, RECIPIENT_UNKNOWN, TOO_LARGE
from storage_worker.rules.table import rules_of

MOST_BLOCKED: Final = 1_000
"""Senders that one user may have blocked."""


class BlockingRules:
    """Sets and removes blocks."""

    def __init__(self, engine: Engine, access: Access, admission: AdmissionControl) -> None:
        self._engine = engine
        self._users = engine.users
        self._blocks = engine.blocks
        self._access = access
        self._admission = admission

    def set_block(self, _slot: int, request: SetBlock) -> Outcome:
        """Block or unblock a sender. Repeating it changes nothing."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        if not request.authenticated:
            return PROOF_NEEDED
        sender = self._users.find(request.sender)
        if sender is None:
            return RECIPIENT_UNKNOWN
        if self._blocks.holds(user.row, sender.row) == request.blocked:
            return DONE
        if request.blocked:
            if sender.row == user.row:
                return MALFORMED
            if self._blocks.count(user.row) >= MOST_BLOCKED:
                return TOO_LARGE
            if self._admission.level:
                return self._admission.refusal
        self._engine.apply(SenderBlocked(user.row, sender.row, request.blocked))
        return DONE


BLOCKING: Final = rules_of(BlockingRules).row(SetBlock, BlockingRules.set_block)
