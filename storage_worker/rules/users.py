"""Rules of users: registration, the list, public keys, proofs.

Owns: who gets a name and an id. Promises: a name and an id are given once, and not again when their
user was deleted; a repeated registration gets the same answer. No name beyond ASCII looks like
another one, and on connections of the extension no name at all looks like another one. In the
published protocol two names that look alike in ASCII are two names. If an invitation is needed,
each registration uses it once, and a refused one does not.
Exposure: names and keys come from strangers.
"""

import uuid
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from common.errors import ValueRejected
from common.name_rule import looks, registrable
from common.names import ascii_form, from_ascii_form
from common.server_log import audit_registration
from common.storage_protocol.operations import (
    Forget,
    GetProofKey,
    GetPublicKey,
    KeyFound,
    ListUsers,
    MarkAuthenticated,
    Outcome,
    Refused,
    Register,
    Registered,
    TellOthers,
    UsersPage,
)
from common.values import Registration, Username, username
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import InvitationUsed, UserAuthenticated, UserRegistered
from storage_worker.rules.access import Access
from storage_worker.rules.activity import DAY_MS, Activity
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import (
    DISABLED,
    DONE,
    INVITATION,
    MALFORMED,
    NAME_TAKEN,
    RECIPIENT_UNKNOWN,
    REGISTRATION_CLOSED,
    REQUESTER_UNKNOWN,
)
from storage_worker.rules.table import rules_of
from storage_worker.state.leases import Leases

_TELL_OTHERS: Final = TellOthers()
_REGISTRATION_BYTES = 1024
"""What a user takes of the disk, about."""


class UserRules:
    """`random_bytes(n)` gives n random bytes."""

    def __init__(
        self,
        engine: Engine,
        leases: Leases,
        access: Access,
        activity: Activity,
        admission: AdmissionControl,
        random_bytes: Callable[[int], bytes],
        registration: Registration,
    ) -> None:
        self._engine = engine
        self._users = engine.users
        self._leases = leases
        self._access = access
        self._activity = activity
        self._admission = admission
        self._random_bytes = random_bytes
        self._registration = registration
        self._registered: list[bytes] = []

    def commit(self) -> None:
        """What the turn did is on disk: the audit log may have it."""
        if self._registered:
            for client_id in self._registered:
                audit_registration(client_id)
            self._registered.clear()

    def roll_back(self) -> None:
        """The turn was undone."""
        self._registered.clear()

    def register(self, _slot: int, request: Register) -> Outcome:
        """Make a user."""
        try:
            name = registrable(request.name) if request.greeted else username(request.name)
        except ValueRejected:
            return MALFORMED
        taken = self._users.find_name(name)
        if taken is not None and request.greeted and taken[1] == request.public_key:
            # The first answer was lost: nothing is used up for the second one.
            return Registered(taken[0])
        digest = None
        if self._registration is Registration.CLOSED:
            return REGISTRATION_CLOSED
        if self._registration is Registration.INVITED:
            digest = self._valid(request.invitation)
            if digest is None:
                # Before it is said whether there is the name: that is for those who may come in.
                return INVITATION
        if taken is not None or self._users.name_is_kept(name):
            return NAME_TAKEN
        seen = looks(name)
        if self._is_another_form(name) or self._users.has_look(seen, beyond_ascii=not request.greeted):
            return NAME_TAKEN
        if self._admission.level:
            return self._admission.refusal
        client_id = uuid.UUID(bytes=self._random_bytes(16), version=4).bytes
        wanted = request.wanted
        if wanted is not None and uuid.UUID(bytes=wanted).version == 4 and self._is_free(wanted):
            # Who was registered before a backup was put back is known to the others under this id.
            client_id = wanted
        self._engine.apply(UserRegistered(client_id, name, request.public_key, seen, self._admission.now_ms // DAY_MS))
        if digest is not None:
            self._engine.apply(InvitationUsed(digest))
        self._registered.append(client_id)
        self._admission.accepted_bytes += _REGISTRATION_BYTES
        return Registered(client_id)

    def _is_another_form(self, name: Username) -> bool:
        """Whether published clients know another user under this name, or would know this user
        under a name that is taken.
        """
        other = from_ascii_form(name) if name.isascii() else ascii_form(name)
        if other is None:
            return False
        return self._users.find_name(other) is not None or self._users.name_is_kept(other)

    def _is_free(self, client_id: bytes) -> bool:
        """Whether nobody has this id, and no deleted user had it, whom others may still
        know by it.
        """
        return self._users.find(client_id) is None and self._users.deletion(client_id) is None

    def _valid(self, invitation: bytes | None) -> bytes | None:
        """The SHA-256 of an invitation that may be used now; None for any other."""
        if invitation is None:
            return None
        digest = sha256(invitation).digest()
        found = self._engine.invitations.find(digest)
        return digest if found is not None and found.uses > 0 and self._admission.now_ms < found.expires_at else None

    def list_users(self, _slot: int, request: ListUsers) -> Outcome:
        """A page of the other users."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        until = request.until or self._users.last_row()
        # Only the first page's count is looked at, and counting is not cheap.
        count = self._users.count(until) - (user.row <= until) if not request.until else 0
        last, users = self._users.page(request.after, until, user)
        return UsersPage(count, last, until, users)

    def get_public_key(self, _slot: int, request: GetPublicKey) -> Outcome:
        """The public key that the subject registered."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        subject = self._users.find(request.subject)
        if subject is None:
            return RECIPIENT_UNKNOWN
        return KeyFound(subject.client_id, self._users.public_key(subject))

    def get_proof_key(self, _slot: int, request: GetProofKey) -> Outcome:
        """The public key to which an authenticating user has to have the private key."""
        user = self._users.find(request.requester)
        if user is None:
            return REQUESTER_UNKNOWN
        return KeyFound(user.client_id, self._users.public_key(user))

    def mark_authenticated(self, _slot: int, request: MarkAuthenticated) -> Outcome:
        """The user has authenticated; leases of this mailbox on unauthenticated connections end."""
        user = self._users.find(request.requester)
        if user is None:
            return REQUESTER_UNKNOWN
        if user.is_disabled:
            return DISABLED
        if user.seen < self._activity.today:
            self._activity.note(user)
        if not user.must_authenticate:
            self._engine.apply(UserAuthenticated(user.row))
        self._leases.end_unauthenticated(user.row)
        if user.is_told:
            return DONE
        if not request.told:
            return _TELL_OTHERS
        self._engine.apply(UserAuthenticated(user.row, told=True))
        return DONE

    def forget(self, _slot: int, request: Forget) -> Outcome:
        """The directory knows something new of a user."""
        self._users.refresh(request.subject)
        user = self._users.find(request.subject)
        if user is not None and user.must_authenticate:
            self._leases.end_unauthenticated(user.row)
        return DONE


USERS: Final = (
    rules_of(UserRules)
    .row(Register, UserRules.register)
    .row(ListUsers, UserRules.list_users)
    .row(GetPublicKey, UserRules.get_public_key)
    .row(GetProofKey, UserRules.get_proof_key)
    .row(MarkAuthenticated, UserRules.mark_authenticated)
    .row(Forget, UserRules.forget)
)
