"""603 and 642 with a large content: from the socket to the worker in chunks.

Owns: one running upload. Promises: at most `Settings.connection_in_flight` of its content is in
memory, and at most that plus `Settings.unsynced_content` is with the worker and not on disk yet;
the frame is read to its end whatever the worker answers; the reply is that of the commit, or the
first refusal. After `Settings.longest_upload` the connection is closed and nothing is kept.
Exposure: strangers choose the content and its pace.

The worker writes contents to disk outside its transactions, at its own pace. Each answer reports
its progress: while it is behind, nothing is read from the socket, and the commit is repeated until
everything is on disk.
"""

from typing import Final

from common.client_protocol.requests import LargeSendRequest
from common.client_protocol.responses import encode_stored
from common.client_protocol.server_connection import ContentEnd
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    GetUploadProgress,
    Operation,
    Outcome,
    Refused,
    Stored,
    UploadProgress,
)
from gateway.handlers.base import HandlerContext
from gateway.storage.link import NOBODY

_PIECE_COST: Final = 64
"""Bytes that each collected piece takes beside its content: a client may send them one by one."""
_PROGRESS_AFTER: Final = 0.01
_COMMIT_AFTER: Final = 0.005
"""Seconds after which the worker is asked again, while it puts the content on disk."""


class UploadHandler:
    """A `RequestHandler` and a `Waiter`. `refused`: read and discard the whole content, then answer
    with this.
    """

    __slots__ = (
        "_asking",
        "_collected",
        "_collected_size",
        "_committing",
        "_complete",
        "_connection",
        "_context",
        "_ended",
        "_gone",
        "_in_flight",
        "_link",
        "_number",
        "_overdue",
        "_recipient",
        "_refused",
        "_unsynced",
    )  # fmt: skip

    def __init__(self, connection: HandlerContext, request: LargeSendRequest, refused: Refused | None) -> None:
        self._connection = connection
        self._context = context = connection.context
        self._link = context.link.of(request.recipient)
        self._recipient = request.recipient
        self._refused = refused
        self._number = context.next_number()
        self._collected: list[bytes] = []
        self._collected_size = 0
        self._in_flight = 0
        self._unsynced = 0
        self._asking = False
        self._complete = False
        self._committing = False
        self._ended = False
        self._gone = False
        self._overdue = context.call_at(
            context.loop.now + context.settings.longest_upload, connection.abort, connection
        )
        if refused is None:
            authenticated = connection.authenticated_as is not None
            begin = BeginUpload(
                self._number,
                request.requester,
                authenticated,
                request.recipient,
                request.kind,
                request.size,
                request.token,
            )
            self._link.submit(begin, self)

    def resume_output(self) -> None:
        """Take content from the connection while there is room for it."""
        settings = self._context.settings
        while not self._complete and not self._gone and self._in_flight < settings.connection_in_flight:
            if self._behind:
                self._ask_progress_later()
                return
            if self._in_flight and not self._context.turns.has_capacity:
                self._connection.wait_for_turn()
                return
            content = self._connection.next_content()
            if content is None:
                if self._ended:
                    self._connection.abort()
                return
            if isinstance(content, ContentEnd):
                self._complete = True
                self._finish()
            elif self._refused is None:
                self._collected.append(content.data)
                self._collected_size += len(content.data)
                if self._collected_size >= settings.chunk:
                    self._submit_chunk()

    input_came = resume_output

    def input_ended(self) -> None:
        """If the content is not complete by now, it never will be."""
        self._ended = True
        self.resume_output()

    @property
    def collected(self) -> int:
        """Bytes that are collected until they fill a chunk."""
        return self._collected_size + _PIECE_COST * len(self._collected)

    @property
    def _behind(self) -> bool:
        """Whether the worker has as many bytes as it may that are not on disk."""
        return self._refused is None and self._unsynced > self._context.settings.unsynced_content

    def _submit_chunk(self) -> None:
        if not self._collected:
            return
        chunk = self._collected[0] if len(self._collected) == 1 else b"".join(self._collected)
        self._collected, self._collected_size = [], 0
        self._in_flight += len(chunk)
        self._connection.reserve_inflight(len(chunk))
        self._link.submit(Chunk(self._number, chunk), self, len(chunk))

    def _finish(self) -> None:
        if self._refused is None:
            self._submit_chunk()
            self._commit()
        else:
            self._answer_refusal(self._refused)

    def _commit(self) -> None:
        if not self._gone:
            self._committing = True
            self._link.submit(CommitUpload(self._number), self)

    def _ask_progress_later(self) -> None:
        if not self._asking:
            self._asking = True
            context = self._context
            context.call_at(context.loop.now + _PROGRESS_AFTER, self._ask_progress, self._connection)

    def _ask_progress(self) -> None:
        if not self._gone:
            self._link.submit(GetUploadProgress(self._number), self)

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """One step was taken or refused, or the worker does not know the upload; then its outcome
        is unknown.
        """
        match operation:
            case Chunk(_, content):
                self._in_flight -= len(content)
                self._connection.reserve_inflight(-len(content))
            case GetUploadProgress():
                self._asking = False
            case CommitUpload():
                self._committing = False
        if self._gone:
            if isinstance(operation, CommitUpload) and isinstance(outcome, UploadProgress):
                self._abort()
            return
        match outcome:
            case UploadProgress(unsynced):
                self._taken(operation, unsynced)
            case Stored(sequence) if isinstance(operation, CommitUpload):
                self._connection.write(encode_stored(self._recipient, sequence))
                self._end()
            case Refused():
                self._step_refused(operation, outcome)
            case _ if self._refused is None:
                # Gone with the worker or its slot's greeting: the client did nothing wrong. Or an
                # outcome that is none.
                self._connection.abort()
            case _:
                # Gone because a step was refused.
                self._step_refused(operation, self._refused)

    def _taken(self, operation: Operation, unsynced: int) -> None:
        self._unsynced = unsynced
        if not isinstance(operation, CommitUpload):
            self._connection.resume()
        elif self._refused is None:
            context = self._context
            context.call_at(context.loop.now + _COMMIT_AFTER, self._commit, self._connection)
        else:
            self._connection.abort()

    def _step_refused(self, operation: Operation, refused: Refused) -> None:
        """The first refusal is the answer, once the frame was read to its end and no
        commit is in flight.
        """
        if self._refused is None:
            self._refused = refused
            self._collected, self._collected_size = [], 0
            self._abort()
        if not self._complete:
            self._connection.resume()
        elif isinstance(operation, CommitUpload):
            self._answer_refusal(self._refused)

    def _abort(self) -> None:
        self._link.submit(AbortUpload(self._number), NOBODY)

    def _answer_refusal(self, refused: Refused) -> None:
        self._connection.refuse(refused.reason, refused.retry_after)
        self._end()

    def _end(self) -> None:
        self._overdue.cancel()
        self._connection.done()

    def unknown(self, operation: Operation) -> None:
        """Whether it was stored is unknown."""
        if not self._gone:
            self._connection.abort()

    def abandon(self) -> None:
        """The connection is gone: drop the upload, unless its commit is in flight already."""
        self._gone = True
        self._overdue.cancel()
        if self._refused is None and not self._committing:
            self._abort()
