"""647: the end of an account.

Owns: one 2147. Promises: it is sent when the storage worker has nothing left of the user; until
then the worker is asked again. The deletion is done whether somebody waits for it or not.
Exposure: only an authenticated connection may ask, for its own user, whose id is in the request
twice.

Source: docs/client-protocol.md, "647, delete account".
"""

from typing import Final

from common.client_protocol.requests import DeleteAccountRequest
from common.client_protocol.responses import DELETED
from common.storage_protocol.operations import DeleteAccount, DeletionGoesOn, Done, Forget, Operation, Outcome, Refused
from common.values import RefusalReason
from gateway.handlers.base import HandlerContext

_ASK_AGAIN: Final = 0.05
"""Seconds: a step of the worker's takes some milliseconds, and most accounts need one."""


class DeleteAccountHandler:
    """A `RequestHandler` and a `Waiter`."""

    __slots__ = ("_connection", "_gone", "_link", "_requester", "_told")

    def __init__(self, connection: HandlerContext, request: DeleteAccountRequest) -> None:
        self._connection = connection
        self._link = connection.context.link.directory
        self._told = False
        self._requester = request.requester
        self._gone = False
        if connection.authenticated_as is None:
            self._refuse_later(RefusalReason.PROOF_NEEDED)
        elif request.confirmed != request.requester:
            self._refuse_later(RefusalReason.MALFORMED)
        else:
            self._ask()

    def _ask(self) -> None:
        if not self._gone:
            self._link.submit(DeleteAccount(self._requester, authenticated=True), self)

    def _refuse_later(self, reason: int) -> None:
        # The caller first has to learn that this is going on: refuse at the end of the turn.
        context = self._connection.context
        context.call_at(context.loop.now, lambda: self._refuse(reason), self._connection)

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The deletion is done, goes on, or is refused."""
        if self._gone:
            return
        match outcome:
            case Done() if isinstance(operation, Forget):
                pass
            case DeletionGoesOn():
                self._tell_others()
                context = self._connection.context
                context.call_at(context.loop.now + _ASK_AGAIN, self._ask, self._connection)
            case Done():
                self._connection.write(DELETED)
                self._connection.done()
            case Refused(reason, retry_after):
                self._refuse(reason, retry_after)
            case _:
                self._connection.abort()

    def _tell_others(self) -> None:
        """Other shards have something of the user, too. They would find out by themselves."""
        if not self._told:
            self._told = True
            for link in self._link.others:
                link.submit(Forget(self._requester), self)

    def unknown(self, operation: Operation) -> None:
        """Whether it was begun is unknown."""
        if not self._gone:
            self._connection.abort()

    def _refuse(self, reason: int, retry_after: int = 0) -> None:
        if not self._gone:
            self._connection.refuse(reason, retry_after)
            self._connection.done()

    def resume_output(self) -> None:
        """There is no output to resume."""

    def input_came(self) -> None:
        """Later requests wait."""

    input_ended = input_came

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._gone = True
