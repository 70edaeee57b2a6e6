"""Deleting the account of this home at its server.

Owns: the request, and recognising that it was done if the answer was lost. Promises: nothing is
deleted in the home. The intent is on disk before the request is sent: if the server does not know
the account afterwards, it was deleted. Exposure: believes the server that it was deleted.

Source: docs/client-protocol.md, "647, delete account".
"""

from typing import Final

from client.client_context import ClientContext
from client.connection.server_errors import refused, unexpected
from client.errors import ClientError, OutcomeUnknown, ServerAnsweredError
from common.client_protocol.requests import DeleteAccountRequest, RequestCode
from common.client_protocol.responses import DeletedResponse, ErrorResponse
from common.client_protocol.versions import Feature
from common.values import RefusalReason

ASKED: Final = "deletion_asked"
"""The setting of the store that remembers that the server was asked to delete the account."""


class Leaving:
    """Deletes the account of one home."""

    def __init__(self, context: ClientContext) -> None:
        self._account, self._store, self._link, self._greeting = context

    def delete(self) -> None:
        """Delete the account at its server.

        Raises `ServerUnreachable`, `OutcomeUnknown`, `ServerAnsweredError`, and `ClientError` if
        the server has no way to do it.
        """
        if self._is_gone():
            return
        if not self._greeting.offers(Feature.ACCOUNTS):
            raise ClientError(
                "This server can't delete an account by itself, or the account has not signed in to it.",
                "Ask the server's operator, or try again with --no-published-only.",
            )
        me = self._account.identity().client_id
        self._store.settings.put(ASKED, "1")
        try:
            answer = self._link.ask(DeleteAccountRequest(me, me))
        except OutcomeUnknown:
            if self._is_gone():
                return
            raise
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.DELETE_ACCOUNT, answer)
        if not isinstance(answer, DeletedResponse):
            raise unexpected(answer)
        self._link.close()

    def _is_gone(self) -> bool:
        """Whether deletion was requested, and the server does not know the account any more."""
        try:
            self._link.connect()
        except ServerAnsweredError as error:
            if error.reason == RefusalReason.REQUESTER_UNKNOWN and self._store.settings.get(ASKED) is not None:
                return True
            raise
        return False
