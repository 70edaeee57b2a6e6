"""Rules of uploads: messages whose content comes in chunks.

Owns: which uploads may begin and continue. Promises: an upload becomes a message when all of it is
on disk, and only once under a token; a refused one is deleted with its content.
Exposure: strangers announce, send and abandon uploads; their number, and the bytes they hold, are
limited.
"""

from typing import Final, NamedTuple

from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    GetUploadProgress,
    Outcome,
    Refused,
    Stored,
    UploadProgress,
    UploadUnknown,
)
from common.values import MessageKind
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import TokenUsed
from storage_worker.engine.values import Admission, User
from storage_worker.rules.access import Access
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import (
    DONE,
    MAILBOX_FULL,
    MALFORMED,
    NO_KEYS,
    RECIPIENT_UNKNOWN,
    REQUESTER_UNKNOWN,
    STORAGE_FULL,
    TOO_MANY_UPLOADS,
)
from storage_worker.rules.sending import SendingRules, sent_before
from storage_worker.rules.table import rules_of
from storage_worker.state.uploads import Upload, Uploads

_BEGUN: Final = UploadProgress(0)
_UNKNOWN: Final = UploadUnknown()


class _Complete(NamedTuple):
    """An upload that becomes a message. `digest`: SHA-256 of its content where it has a token."""

    sender: User
    recipient: User
    digest: bytes


class UploadRules:
    """Begins, continues, finishes and drops `uploads`."""

    def __init__(
        self,
        engine: Engine,
        uploads: Uploads,
        access: Access,
        admission: AdmissionControl,
        sending: SendingRules,
    ) -> None:
        self._engine = engine
        self._mailboxes = engine.mailboxes
        self._tokens = engine.tokens
        self._uploads = uploads
        self._access = access
        self._admission = admission
        self._sending = sending

    def begin(self, slot: int, request: BeginUpload) -> Outcome:
        """Announce an upload."""
        parties = self._access.may_send(
            request.sender, request.authenticated, request.token, request.recipient, request.kind, request.size
        )
        if isinstance(parties, Refused):
            return parties
        if self._uploads.find(slot, request.upload) is not None:
            return MALFORMED
        if self._lacks_keys(request, parties[1]):
            return NO_KEYS
        if self._admission.level:
            return self._admission.refusal
        if self._uploads.held + request.size > self._admission.for_uploads or not self._has_place(
            request.authenticated
        ):
            return STORAGE_FULL
        recipient = parties[1]
        refusal = self._admission.no_room(self._mailboxes.mailbox(recipient.row), request.sender, 1, request.size)
        if refusal is not None:
            return refusal
        if self._uploads.of_sender(request.sender) >= self._admission.limits.uploads_of_user:
            return TOO_MANY_UPLOADS
        blob_id = self._mailboxes.new_blob_id()
        self._uploads.begin(
            Upload(
                slot, request.upload, blob_id, request.sender, request.authenticated, request.recipient, recipient.row,
                request.kind, request.size, request.token, charged=not self._sending.is_blocked(*parties),
            )
        )  # fmt: skip
        return _BEGUN

    @staticmethod
    def _lacks_keys(message: BeginUpload | Upload, recipient: User) -> bool:
        """Whether nobody could open the message, since its recipient has published no keys."""
        return message.kind == MessageKind.SEALED and not recipient.takes_sealed

    def _has_place(self, authenticated: bool) -> bool:
        """Whether one more upload may begin. The last places are not given to an unauthenticated
        id, which is no secret.
        """
        most = self._admission.limits.uploads
        return len(self._uploads) < (most if authenticated else most - most // 4)

    def progress(self, slot: int, request: GetUploadProgress) -> Outcome:
        """How much of it is not on disk."""
        upload = self._uploads.find(slot, request.upload)
        if upload is None:
            return self._why_dropped(slot, request.upload)
        return UploadProgress(self._uploads.unsynced(upload))

    def _why_dropped(self, slot: int, number: int) -> Outcome:
        lost_sender = self._uploads.lost_sender(slot, number)
        if lost_sender is None:
            return _UNKNOWN
        return REQUESTER_UNKNOWN if lost_sender else RECIPIENT_UNKNOWN

    def chunk(self, slot: int, chunk: Chunk) -> Outcome:
        """The next bytes of a content."""
        upload = self._uploads.find(slot, chunk.upload)
        if upload is None:
            return self._why_dropped(slot, chunk.upload)
        # A chunk that is refused leaves a hole, so its upload can't be finished any more.
        if upload.received + len(chunk.content) > upload.size:
            self._uploads.drop(upload)
            return MALFORMED
        if self._admission.level:
            self._uploads.drop(upload)
            return self._admission.refusal
        if self._uploads.held + len(chunk.content) > self._admission.for_uploads:
            self._uploads.drop(upload)
            return STORAGE_FULL
        refusal = self._admission.no_room(self._mailboxes.mailbox(upload.mailbox), upload.sender, 0, len(chunk.content))
        if refusal is not None:
            self._uploads.drop(upload)
            return refusal
        try:
            self._uploads.add(upload, chunk.content)
        except StoreFull:
            self._uploads.drop(upload)
            return STORAGE_FULL
        self._admission.accepted_bytes += len(chunk.content)
        return UploadProgress(self._uploads.unsynced(upload))

    def commit(self, slot: int, request: CommitUpload) -> Outcome:
        """The upload is complete: make it a message once it is on disk."""
        upload = self._uploads.find(slot, request.upload)
        if upload is None:
            outcome = self._why_dropped(slot, request.upload)
            # The last step: a gateway whose client has gone gives up nothing after it.
            self._uploads.forget_dropped(slot, request.upload)
            return outcome
        complete = self._complete(upload)
        if not isinstance(complete, _Complete):
            self._uploads.drop(upload)
            return complete
        try:
            unsynced = self._uploads.complete(upload)
        except StoreFull:
            # An empty one has no file until now.
            self._uploads.drop(upload)
            return STORAGE_FULL
        if unsynced:
            return UploadProgress(unsynced)
        sender, recipient, digest = complete
        kind, token = upload.kind, upload.token
        if not upload.charged or self._sending.is_blocked(sender, recipient):
            # It was written like any other, and nobody gets it.
            self._uploads.drop(upload)
            sequence = self._sending.use_up_sequence()
        else:
            self._uploads.finish(upload)
            sequence = self._sending.accept(
                sender, recipient, kind, upload.authenticated, token, upload.size, blob_id=upload.blob_id
            )
        if token is not None:
            self._engine.apply(
                TokenUsed(sequence, sender.row, token, recipient.row, kind, digest, self._admission.now_ms)
            )
        return Stored(sequence)

    def _complete(self, upload: Upload) -> _Complete | Outcome:
        """The complete upload, if it may become a message now; otherwise the answer."""
        parties = self._access.may_send(
            upload.sender, upload.authenticated, upload.token, upload.recipient, upload.kind, upload.size
        )
        if isinstance(parties, Refused):
            return parties
        sender, recipient = parties
        if upload.received != upload.size:
            return MALFORMED
        digest = b""
        if upload.token is not None and upload.digest is not None:
            digest = upload.digest.digest()
            sent = self._tokens.find(sender.row, upload.token, self._admission.now_ms)
            if sent is not None:
                return sent_before(sent, recipient, upload.kind, digest)
        if self._lacks_keys(upload, recipient):
            return NO_KEYS
        if self._admission.level is Admission.NOTHING:
            return self._admission.refusal
        # It has its room in the mailbox already.
        if self._admission.would_repeat_an_id(self._mailboxes.mailbox(recipient.row), self._mailboxes.sequence + 1):
            return MAILBOX_FULL
        return _Complete(sender, recipient, digest)

    def abort(self, slot: int, request: AbortUpload) -> Outcome:
        """Drop an upload."""
        self.drop(slot, request)
        self._uploads.forget_dropped(slot, request.upload)
        return DONE

    def drop(self, slot: int, request: Chunk | CommitUpload | AbortUpload) -> None:
        """Drop the upload of that name, if there is one."""
        upload = self._uploads.find(slot, request.upload)
        if upload is not None:
            self._uploads.drop(upload)


UPLOADS: Final = (
    rules_of(UploadRules)
    .row(BeginUpload, UploadRules.begin)
    .row(GetUploadProgress, UploadRules.progress, reads_first=False)
    .row(Chunk, UploadRules.chunk, at_refusal=UploadRules.drop)
    .row(CommitUpload, UploadRules.commit, at_refusal=UploadRules.drop)
    .row(AbortUpload, UploadRules.abort, reads_first=False)
)
