"""Access control: who may make requests, and who may send to whom.

Owns: the decision whether a connection may act for a client id. Promises: once a user has
authenticated, only authenticated connections may act for them.
Exposure: every id comes from a stranger; an id is no secret.
"""

from common.storage_protocol.operations import Refused
from common.values import KINDS_SENT_ONCE, MESSAGE_KINDS
from storage_worker.engine.interface import Users
from storage_worker.engine.values import User
from storage_worker.rules.activity import Activity
from storage_worker.rules.answers import (
    DISABLED,
    MALFORMED,
    PROOF_NEEDED,
    RECIPIENT_UNKNOWN,
    REQUESTER_UNKNOWN,
    TOO_LARGE,
)


class Access:
    """`largest_message`: bytes of the largest content that is accepted."""

    def __init__(self, users: Users, activity: Activity, largest_message: int) -> None:
        self._users = users
        self._activity = activity
        self._largest_message = largest_message

    def requester(self, client_id: bytes, authenticated: bool) -> User | Refused:
        """The user who makes a request, if the connection may act for them."""
        user = self._users.find(client_id)
        if user is None:
            return REQUESTER_UNKNOWN
        if user.must_authenticate and not authenticated:
            return PROOF_NEEDED
        if user.is_disabled:
            return DISABLED
        if user.seen < self._activity.today:
            self._activity.note(user)
        return user

    def may_send(
        self, sender_id: bytes, authenticated: bool, token: bytes | None, recipient_id: bytes, kind: int, size: int
    ) -> tuple[User, User] | Refused:
        """Sender and recipient of a message, if it may be announced or accepted."""
        sender = self.requester(sender_id, authenticated)
        if isinstance(sender, Refused):
            return sender
        if token is not None and not authenticated:
            return PROOF_NEEDED
        recipient = self._users.find(recipient_id)
        if recipient is None:
            return RECIPIENT_UNKNOWN
        if kind not in (MESSAGE_KINDS if token is None else KINDS_SENT_ONCE):
            return MALFORMED
        if size > self._largest_message:
            return TOO_LARGE
        return sender, recipient
