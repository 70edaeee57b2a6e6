"""Rules of accounts beside registration: deletion, and what is told of the server.

Owns: the settings behind 2148. Promises: a user is deleted on a connection that is authenticated
as them, and by nobody else; the answer is `Done` when nothing is left of them, also to whoever asks
a second time.
Exposure: anybody may ask about the server.
"""

from typing import Final, NamedTuple

from common.storage_protocol.operations import (
    AboutServer,
    DeleteAccount,
    DeletionGoesOn,
    GetAbout,
    Outcome,
    Refused,
)
from common.values import Registration
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import UserDeleted
from storage_worker.engine.values import Deletion, User
from storage_worker.rules.access import Access
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import DAMAGED, DONE, PROOF_NEEDED, REQUESTER_UNKNOWN
from storage_worker.rules.table import rules_of
from storage_worker.state.subscriptions import Subscriptions
from storage_worker.state.uploads import Uploads

_GOES_ON: Final = DeletionGoesOn()
_MOST: Final = 2**32 - 1


class AccountSettings(NamedTuple):
    """`about`: the operator's text, UTF-8. `expire_days`, `inactive_days`: 0 for never."""

    registration: Registration = Registration.OPEN
    about: bytes = b""
    expire_days: int = 0
    inactive_days: int = 0


class AccountRules:
    """Deletes, and tells."""

    def __init__(
        self,
        engine: Engine,
        uploads: Uploads,
        subscriptions: Subscriptions,
        access: Access,
        admission: AdmissionControl,
        settings: AccountSettings,
    ) -> None:
        self._engine = engine
        self._users = engine.users
        self._uploads = uploads
        self._subscriptions = subscriptions
        self._access = access
        self._admission = admission
        self._settings = settings

    def delete(self, _slot: int, request: DeleteAccount) -> Outcome:
        """Begin, or say how far it is."""
        if not request.authenticated:
            return PROOF_NEEDED
        user = self._access.requester(request.requester, request.authenticated)
        if not isinstance(user, Refused):
            self.remove(user)
        match self._users.deletion(request.requester):
            case None:
                return REQUESTER_UNKNOWN
            case Deletion.DONE:
                return DONE
            case Deletion.HELD_UP:
                return DAMAGED
            case Deletion.GOES_ON:
                return _GOES_ON

    def remove(self, user: User) -> None:
        """Inside a turn: a user is none any more."""
        self._engine.apply(UserDeleted(user.row))
        self._uploads.drop_of(user.client_id, user.row)
        self._subscriptions.end_user(user.row)

    def about(self, _slot: int, _request: GetAbout) -> Outcome:
        """The settings that users notice."""
        limits, settings = self._admission.limits, self._settings
        return AboutServer(
            settings.expire_days,
            limits.largest_message,
            min(limits.mailbox_messages, _MOST),
            limits.mailbox_bytes,
            settings.registration,
            settings.about,
        )


ACCOUNTS: Final = rules_of(AccountRules).row(DeleteAccount, AccountRules.delete).row(GetAbout, AccountRules.about)
