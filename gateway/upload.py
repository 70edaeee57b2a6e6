"""603 and 642 with a large content: from the socket to the worker in chunks.

Owns: one running upload. Promises: no more than `Settings.connection_under_way` of its content is in memory; the
frame is read to its end whatever the worker says; the answer is that of the commit, or the first refusal.
Exposure: strangers choose the content and its pace.
"""

from common.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Operation,
    Outcome,
    Refused,
    Stored,
)
from common.wire.requests import LargeSendRequest
from common.wire.responses import encode_stored
from common.wire.server_connection import ContentEnd
from gateway.doing import Host
from gateway.storage_link import NOBODY


class Upload:
    """A `Doing` and a `Waiter`. `refused`: the whole content is thrown away and answered with this."""

    __slots__ = (
        "_begun_under", "_collected", "_collected_size", "_complete", "_ended", "_gone", "_host", "_number",
        "_recipient", "_refused", "_under_way",
    )  # fmt: skip

    def __init__(self, host: Host, request: LargeSendRequest, refused: Refused | None) -> None:
        self._host = host
        self._recipient = request.recipient
        self._refused = refused
        self._number = host.context.next_number()
        self._collected: list[bytes] = []
        self._collected_size = 0
        self._under_way = 0
        self._begun_under = 0
        self._complete = False
        self._ended = False
        self._gone = False
        if refused is None:
            proven = host.proven_as is not None
            begin = BeginUpload(
                self._number, request.requester, proven, request.recipient, request.kind, request.size, request.token
            )
            host.context.link.submit(begin, self)

    def pump(self) -> None:
        """Take content from the connection while there is room for it."""
        settings = self._host.context.settings
        while not self._complete and not self._gone and self._under_way < settings.connection_under_way:
            content = self._host.next_content()
            if content is None:
                if self._ended:
                    self._host.break_off()
                return
            if isinstance(content, ContentEnd):
                self._complete = True
                self._finish()
            elif self._refused is None:
                self._collected.append(content.data)
                self._collected_size += len(content.data)
                if self._collected_size >= settings.chunk:
                    self._submit_chunk()

    input_came = pump

    def input_ended(self) -> None:
        """Where the content is not complete by now it never will be."""
        self._ended = True
        self.pump()

    def _submit_chunk(self) -> None:
        if not self._collected:
            return
        chunk = b"".join(self._collected)
        self._collected, self._collected_size = [], 0
        self._under_way += len(chunk)
        self._host.owe(len(chunk))
        self._host.context.link.submit(Chunk(self._number, chunk), self, len(chunk))

    def _finish(self) -> None:
        if self._refused is None:
            self._submit_chunk()
            self._host.context.link.submit(CommitUpload(self._number), self)
        else:
            self._answer_refusal(self._refused)

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """One step was taken, or refused; steps behind a refusal are refused too and change nothing."""
        if isinstance(operation, Chunk):
            self._under_way -= len(operation.content)
            self._host.owe(-len(operation.content))
        if self._gone:
            return
        greetings = self._host.context.link.greetings
        if isinstance(operation, BeginUpload):
            self._begun_under = greetings
        elif self._begun_under != greetings:
            # The worker forgot the upload when we greeted it again; the client did nothing wrong.
            self._host.break_off()
            return
        if isinstance(outcome, Refused) and self._refused is None:
            self._refused = outcome
            self._collected, self._collected_size = [], 0
            self._host.context.link.submit(AbortUpload(self._number), NOBODY)
            if self._complete and not isinstance(operation, CommitUpload):
                return
            if self._complete:
                self._answer_refusal(outcome)
        elif isinstance(operation, CommitUpload):
            if isinstance(outcome, Stored):
                self._host.write(encode_stored(self._recipient, outcome.sequence))
                self._host.done()
            elif self._refused is not None:
                self._answer_refusal(self._refused)
            else:
                self._host.break_off()

    def _answer_refusal(self, refused: Refused) -> None:
        self._host.refuse(refused.reason, refused.retry_after)
        self._host.done()

    def unknown(self, operation: Operation) -> None:
        """Whether it was stored is unknown."""
        if not self._gone:
            self._host.break_off()

    def abandon(self) -> None:
        """The connection is gone: nothing of the upload is kept, unless its commit is on its way already."""
        self._gone = True
        if self._refused is None and not self._complete:
            self._host.context.link.submit(AbortUpload(self._number), NOBODY)
