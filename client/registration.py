"""Registering: from a name to an account, whatever breaks in between.

Owns: the order of a registration's steps.
Promises: the private key is on disk before the server hears of it; a registration that broke is completed, under the
same key.
Exposure: believes the id that the server gives.

Source: docs/client-protocol.md, docs/journeys.md.
"""

from collections.abc import Callable
from contextlib import suppress

from client import identity_files
from client.ciphers import PrivateKey
from client.identity_files import Identity, PendingRegistration
from client.line import Line
from client.refusals import refused, unexpected
from client.visible import command
from common.errors import AlreadyRegistered, ClientError, ServerAnsweredError, ServerUnreachable
from common.values import NO_CLIENT, RefusalReason, username
from common.wire.codes import VERSIONS, RequestCode
from common.wire.requests import RegisterRequest
from common.wire.responses import ErrorResponse, RegisteredResponse, Whole


class Registration:
    """The registration of one home."""

    def __init__(
        self, line: Line, new_private_key: Callable[[], PrivateKey], remember_server: Callable[[], None]
    ) -> None:
        self._account, self._store, self._link, self._greeting = line
        self._new_private_key = new_private_key
        self._remember_server = remember_server

    def register(self, name: str) -> Identity:
        """Register under a name, or complete the registration that broke.

        Raises `AlreadyRegistered`, `ValueRejected` (the name), what `ServerLink.ask` raises, `ServerAnsweredError`.
        """
        with self._store.receiver():
            if identity_files.exists(self._account.home):
                raise AlreadyRegistered(
                    "This home has an identity already, and it is not replaced.", "Use --home for another user."
                )
            checked = username(name)
            pending = identity_files.load_pending(self._account.home, self._account.passphrase)
            if pending is None:
                return self._register(PendingRegistration(checked, self._new_private_key()), again=False)
            if pending.name != checked:
                raise AlreadyRegistered(
                    f"The registration of {pending.name} was begun and its answer never came.",
                    f"Complete it first: {command('register', pending.name)}, or 110 with that name in the console.",
                )
            return self._register(pending, again=True)

    def _register(self, pending: PendingRegistration, *, again: bool) -> Identity:
        request = RegisterRequest(NO_CLIENT, pending.name, pending.private_key.public_key())
        self._link.connect()
        # Before the server hears of the key: whoever completes the registration, or uses it, asks the same server.
        self._remember_server()
        if not again:
            identity_files.save_pending(self._account.home, pending, self._account.protection())
        answer = self._ask(request)
        if isinstance(answer, ErrorResponse):
            raise self._registration_refused(answer, pending, again=again)
        if not isinstance(answer, RegisteredResponse):
            raise unexpected(answer)
        identity = Identity(pending.name, answer.client_id, pending.private_key)
        identity_files.save(self._account.home, identity, self._account.protection())
        self._account.registered(identity)
        self._greeting.registered_here()
        if self._greeting.session is not None:
            self._link.close()
            with suppress(ClientError):
                # The account is there. Where its first proof fails now, the next request makes it, or says why not.
                self._link.connect()
        return identity

    def _ask(self, request: RegisterRequest) -> Whole:
        """Ask; where a server of the published protocol alone refuses, once more with the other version byte.

        Some servers take one version alone. Whichever was taken is remembered.
        """
        answer = self._link.ask(request)
        if not isinstance(answer, ErrorResponse) or self._greeting.session is not None:
            return answer
        first = self._link.version
        self._link.version = next(version for version in VERSIONS if version != first)
        try:
            second = self._link.ask(request)
        except ServerUnreachable:
            # It was not asked: the refusal stands.
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
            # Not done; and a server that knows reasons would have given us our own name again, under our own key.
            identity_files.drop_pending(self._account.home)
            return refused(RequestCode.REGISTER, answer)
        if answer.reason is not None:
            # It says nothing about the first attempt: the key may be the account's.
            return refused(RequestCode.REGISTER, answer)
        # The name may be ours, by the attempt whose answer was lost; the published protocol can't tell.
        aside = identity_files.set_pending_aside(self._account.home)
        return ServerAnsweredError(
            f"Most likely {pending.name} was registered by the first attempt, whose answer with the id was lost; "
            "the published protocol has no way to get it back.",
            f"Register under another name. The unfinished registration's key is kept in {aside.name}.",
            answer.reason,
            answer.retry_after,
        )
