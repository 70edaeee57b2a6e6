"""Registering: from a name to an account, whatever breaks in between.

Owns: the order of a registration's steps.
Promises: the private key is on disk before the server learns of it; an interrupted registration is
completed under the same key. If the server does not know the account of this home any more, as
after a backup was restored, name and key are registered again, and the id if it is free.
Exposure: believes the id that the server gives.

Source: docs/client-protocol.md, docs/journeys.md.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from client.client_context import ClientContext
from client.connection.server_errors import refused, unexpected
from client.crypto.ciphers import PrivateKey
from client.errors import AlreadyRegistered, ClientError, ServerAnsweredError, ServerUnreachable
from client.identity import identity_files
from client.identity.identity_files import Identity, PendingRegistration
from client.terminal.sanitize import command
from common.client_protocol.requests import RegisterInvitedRequest, RegisterRequest, RequestCode
from common.client_protocol.responses import ErrorResponse, RegisteredResponse, Whole
from common.client_protocol.versions import VERSIONS, Feature
from common.errors import ValueRejected
from common.names import any_username, normal_form
from common.values import NO_CLIENT, ClientId, Invitation, PublicKey, RefusalReason, Username

_NOT_YET: Final = frozenset({RefusalReason.NAME_TAKEN, RefusalReason.INVITATION, RefusalReason.REGISTRATION_CLOSED})
"""The server's answers to a key that does not belong to the account."""


class KeyToHandOver(NamedTuple):
    """What the operator needs, to assign this home's key to the account."""

    public_key: PublicKey


class Registration:
    """The registration of one home."""

    def __init__(
        self,
        context: ClientContext,
        new_private_key: Callable[[], PrivateKey],
        remember_server: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._account, self._store, self._link, self._greeting = context
        self._new_private_key = new_private_key
        self._remember_server = remember_server
        self._tell = tell

    def register(self, name: str) -> Identity:
        """Register under a name, complete an interrupted registration, or register again if the
        server has lost the account.

        Raises `AlreadyRegistered`, `ValueRejected` (the name), `ServerUnreachable`,
        `OutcomeUnknown`, `InvalidServerResponse`, `ServerAnsweredError`.
        """
        with self._store.receiver():
            if identity_files.exists(self._account.home):
                return self._register_again(name)
            checked = any_username(normal_form(name))
            pending = identity_files.load_pending(self._account.home, self._account.passphrase)
            if pending is None:
                return self._register(PendingRegistration(checked, self._new_private_key()), again=False)
            if pending.name != checked:
                raise AlreadyRegistered(
                    f"The registration of {pending.name} was begun and its answer never came.",
                    f"Complete it first: {command('register', pending.name)}, or 110 with that name in the console.",
                )
            return self._register(pending, again=True)

    def ensure(self, name: str) -> Identity:
        """Register under a name, unless this home has an identity of that name already.

        Raises `AlreadyRegistered` if it has one of another name, and what `register` raises.
        """
        if not self._account.is_registered():
            return self.register(name)
        identity = self._account.identity()
        if identity.name != name:
            raise AlreadyRegistered(
                f"This home's user is {identity.name}, not {name}; an identity is not replaced.",
                "Use another home for another user.",
            )
        return identity

    def _register(self, pending: PendingRegistration, *, again: bool) -> Identity:
        self._link.connect()
        request = self._request(NO_CLIENT, pending.name, pending.private_key)
        self._refuse_beyond_ascii(pending.name)
        # Before the server learns of the key: whoever completes or uses the registration has to ask
        # the same server.
        self._remember_server()
        if not again:
            identity_files.save_pending(self._account.home, pending, self._account.protection())
        answer = self._ask(request)
        if isinstance(answer, ErrorResponse):
            raise self._registration_refused(answer, pending, again=again)
        return self._registered(pending, answer)

    def _refuse_beyond_ascii(self, name: Username) -> None:
        if not name.isascii() and self._greeting.session is None:
            raise ValueRejected("names beyond ASCII are for servers that speak the extension, and this one does not")

    def _request(
        self, client_id: ClientId, name: Username, private_key: PrivateKey
    ) -> RegisterRequest | RegisterInvitedRequest:
        """Make the request for the current connection: with the invitation in the server's address,
        if there is one and the server uses invitations.
        """
        invitation, session = self._link.address.invitation, self._greeting.session
        if invitation is not None and session is not None and session.features & Feature.ACCOUNTS:
            return RegisterInvitedRequest(client_id, name, private_key.public_key(), Invitation(invitation))
        if invitation is not None:
            self._tell("The link has an invitation, which this server has no use for: it is left out.")
        return RegisterRequest(client_id, name, private_key.public_key())

    def register_key(self, name: Username, private_key: PrivateKey) -> Identity:
        """Register the key of another home, and sign in with it. Nothing of it is written here.
        Repeated with the same name and key, it is the same account at a server that speaks the
        extension. Raises what `register` raises.
        """
        self._link.connect()
        self._refuse_beyond_ascii(name)
        answer = self._ask(self._request(NO_CLIENT, name, private_key))
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.REGISTER, answer)
        if not isinstance(answer, RegisteredResponse):
            raise unexpected(answer)
        identity = Identity(name, answer.client_id, private_key)
        self._account.registered(identity)
        self._greeting.registered_here()
        if self._greeting.session is not None:
            self._link.close()
            self._link.connect()
        return identity

    def recover(self, name: str) -> Identity | KeyToHandOver:
        """Recover an account whose home is lost, with the key of this new home. Until the server's
        operator has assigned that key to the account, return the key for the operator.

        Raises what `register` raises.
        """
        with self._store.receiver():
            if identity_files.exists(self._account.home):
                raise AlreadyRegistered("This home has an identity already.", "Use --home with a new folder.")
            checked = any_username(normal_form(name))
            pending = identity_files.load_pending(self._account.home, self._account.passphrase)
            if pending is None:
                pending = PendingRegistration(checked, self._new_private_key())
            if pending.name != checked:
                raise AlreadyRegistered(
                    f"This home has a key for {pending.name}.", "Use --home with a new folder for another name."
                )
            self._link.connect()
            if self._greeting.session is None:
                raise ClientError(
                    "Servers of the published protocol alone have no way to give an account another key.",
                    "Register under another name.",
                )
            self._remember_server()
            identity_files.save_pending(self._account.home, pending, self._account.protection())
            public_key = pending.private_key.public_key()
            answer = self._link.ask(RegisterRequest(NO_CLIENT, pending.name, public_key))
            if isinstance(answer, ErrorResponse) and answer.reason in _NOT_YET:
                return KeyToHandOver(public_key)
            if isinstance(answer, ErrorResponse):
                raise refused(RequestCode.REGISTER, answer)
            return self._registered(pending, answer)

    def _registered(self, pending: PendingRegistration, answer: Whole) -> Identity:
        if not isinstance(answer, RegisteredResponse):
            raise unexpected(answer)
        identity = Identity(pending.name, answer.client_id, pending.private_key)
        self._keep(identity)
        self._greeting.registered_here()
        if self._greeting.session is not None:
            self._link.close()
            with suppress(ClientError):
                # The account exists. If its first proof fails now, the next request makes it, or
                # reports why not.
                self._link.connect()
        return identity

    def _keep(self, identity: Identity) -> None:
        identity_files.save(self._account.home, identity, self._account.protection())
        self._account.registered(identity)

    def _register_again(self, name: str) -> Identity:
        """Register the identity of this home again, if its server does not know it."""
        refusal = AlreadyRegistered(
            "This home has an identity already, and it is not replaced.", "Use --home for another user."
        )
        own = self._account.identity().name if self._greeting.has_signed_in else None
        if own is None or normal_form(name) != own or self._is_known():
            raise refusal
        identity = self._account.identity()
        with self._greeting.without_proof():
            self._link.connect()
            answer = self._link.ask(self._request(identity.client_id, identity.name, identity.private_key))
        self._link.close()
        if isinstance(answer, ErrorResponse) and answer.reason == RefusalReason.NAME_TAKEN:
            raise ServerAnsweredError(
                f"The server does not know this account any more, and somebody else has registered {name} since.",
                "Register under another name in a new home (--home); what was sent and received stays in this one.",
                answer.reason,
            )
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.REGISTER, answer)
        if not isinstance(answer, RegisteredResponse):
            raise unexpected(answer)
        anew = "" if answer.client_id == identity.client_id else ", under a new id"
        if anew:
            identity = identity._replace(client_id=answer.client_id)
            # The key stays as it is in its file, encrypted or not.
            identity_files.rename(self._account.home, identity.name, identity.client_id)
            self._account.registered(identity)
        self._tell(f"The server did not know this account any more: name and key are registered again{anew}.")
        with suppress(ClientError):
            # If the proof fails now, the next request makes it, or reports why not.
            self._link.connect()
        return identity

    def _is_known(self) -> bool:
        """Whether the server knows this account, or can't be asked."""
        try:
            self._link.connect()
        except ServerAnsweredError as error:
            return error.reason != RefusalReason.REQUESTER_UNKNOWN
        except ClientError:
            return True
        return True

    def _ask(self, request: RegisterRequest | RegisterInvitedRequest) -> Whole:
        """Send the request; if a server that speaks only the published protocol refuses, send it
        once more with the other version byte. Some servers accept only one version. The accepted
        one is remembered.
        """
        answer = self._link.ask(request)
        if not isinstance(answer, ErrorResponse) or self._greeting.session is not None:
            return answer
        first = self._link.version
        self._link.version = next(version for version in VERSIONS if version != first)
        try:
            second = self._link.ask(request)
        except ServerUnreachable:
            # The other version was not tried: the refusal is final.
            self._link.version = first
            return answer
        if isinstance(second, RegisteredResponse):
            self._greeting.keep_version(self._link)
            return second
        self._link.version = first
        return answer

    def _registration_refused(
        self, answer: ErrorResponse, pending: PendingRegistration, *, again: bool
    ) -> ServerAnsweredError:
        if not again or answer.reason == RefusalReason.NAME_TAKEN:
            # Not done: a server that sends reasons would have accepted our own name again, under
            # our own key.
            identity_files.drop_pending(self._account.home)
            if answer.reason == RefusalReason.MALFORMED and not pending.name.isascii():
                return ServerAnsweredError(
                    "The server does not take this name.",
                    "Choose another one; servers of earlier versions take ASCII alone.",
                    answer.reason,
                )
            return refused(RequestCode.REGISTER, answer)
        if answer.reason is not None:
            # It says nothing about the first attempt: the account may have this key.
            return refused(RequestCode.REGISTER, answer)
        # The name may be ours, from the attempt whose answer was lost; the published protocol can't
        # tell.
        aside = identity_files.set_pending_aside(self._account.home)
        return ServerAnsweredError(
            f"Most likely {pending.name} was registered by the first attempt, whose answer with the id was lost; "
            "the published protocol has no way to get it back.",
            f"Register under another name. The unfinished registration's key is kept in {aside.name}.",
            answer.reason,
            answer.retry_after,
        )
