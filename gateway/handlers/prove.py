"""641: one attempt of a connection to authenticate its user.

Owns: the steps: nonce, key, signature, mark. Promises: 2141 is sent after the mark is committed,
and every shard knows it; a
bad signature costs the worker no write; one turn of the loop checks `Settings.proofs_a_turn`
signatures at most; after `Settings.proof_attempts` failures the connection ends. Each attempt that
failed through the client's fault is a line of the audit log, or is counted there.
Exposure: see `gateway.authentication`.
"""

import logging
from functools import partial
from typing import Final

from common.client_protocol.requests import ProveRequest
from common.client_protocol.responses import AUTHENTICATED
from common.rare_log import RareLog
from common.server_log import AUDIT, fields
from common.storage_protocol.operations import (
    Done,
    Forget,
    GetProofKey,
    KeyFound,
    MarkAuthenticated,
    Operation,
    Outcome,
    Refused,
    TellOthers,
)
from common.values import RefusalReason
from gateway.authentication import signature_is_valid, signed_string
from gateway.handlers.base import HandlerContext

rarely: Final = RareLog(AUDIT)


class ProveHandler:
    """A `RequestHandler` and a `Waiter`."""

    __slots__ = ("_connection", "_context", "_gone", "_link", "_request", "_signed", "_untold")

    def __init__(self, connection: HandlerContext, request: ProveRequest) -> None:
        self._connection = connection
        self._request = request
        self._gone = False
        self._context = context = connection.context
        self._untold = 0
        self._link = link = context.link.directory
        nonce = connection.challenge.take(context.loop.now, context.settings.nonce_age)
        self._signed = b""
        if nonce is not None and link.facts is not None:
            self._signed = signed_string(link.facts.server_id, nonce, request.requester, connection.binding)
            link.submit(GetProofKey(request.requester), self)
        else:
            # The caller first has to learn that this is going on: fail at the end of the turn.
            context.call_at(context.loop.now, lambda: self._deny("nonce", RefusalReason.PROOF_NEEDED), connection)

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The user's key, then the mark."""
        if self._gone:
            return
        match outcome:
            case KeyFound(_, public_key):
                self._context.proofs.add(self._connection, partial(self._check, public_key))
            case Done() if isinstance(operation, Forget):
                self._one_told()
            case TellOthers():
                self._tell_others()
            case Done():
                if self._connection.authenticated_as is None:
                    self._context.counts.authenticated += 1
                self._connection.authenticated_as = self._request.requester
                self._connection.write(AUTHENTICATED)
                self._connection.done()
            case Refused(RefusalReason.REQUESTER_UNKNOWN, _):
                self._deny("user", RefusalReason.REQUESTER_UNKNOWN)
            case Refused(reason, _):
                self._fail(reason)
            case _:
                self._connection.abort()

    def _tell_others(self) -> None:
        """Other shards may know the user as one who needs no proof."""
        others = self._link.others
        self._untold = len(others)
        for link in others:
            link.submit(Forget(self._request.requester), self)

    def _one_told(self) -> None:
        self._untold -= 1
        if not self._untold:
            self._link.submit(MarkAuthenticated(self._request.requester, told=True), self)

    def _check(self, public_key: bytes) -> None:
        if self._gone:
            return
        if signature_is_valid(public_key, self._request.signature, self._signed):
            self._link.submit(MarkAuthenticated(self._request.requester), self)
        else:
            self._deny("signature", RefusalReason.PROOF_NEEDED)

    def unknown(self, operation: Operation) -> None:
        """Whether the mark was set is unknown."""
        if not self._gone:
            self._connection.abort()

    def _deny(self, wrong: str, reason: int) -> None:
        """The attempt failed through the client's fault: audit what was wrong."""
        if self._gone:
            return
        user, attempt = self._request.requester.hex(), self._connection.challenge.attempts
        rarely.write(
            logging.INFO,
            "failed to authenticate as user %s: wrong %s, attempt %d of the connection",
            user,
            wrong,
            attempt,
            extra=fields(event="authentication_failed", user=user, wrong=wrong, attempt=attempt),
        )
        self._fail(reason)

    def _fail(self, reason: int) -> None:
        if self._gone:
            return
        self._connection.refuse(reason)
        if self._connection.challenge.attempts >= self._context.settings.proof_attempts:
            self._connection.end_after_answers()
        self._connection.done()

    def resume_output(self) -> None:
        """There is no output to resume."""

    def input_came(self) -> None:
        """Later requests wait."""

    input_ended = input_came

    def abandon(self) -> None:
        """The connection is gone; a mark that was asked for is kept."""
        self._gone = True
