"""Messages whose content comes in chunks and is not complete yet.

Owns: what was announced, in memory; a restart ends all uploads, and deletes their files.
Promises: a content is written to disk once, and never again when it becomes a message. Their
number, senders and bytes are counted incrementally. From its beginning, each takes the room of one
message in its mailbox, and as many bytes as have arrived, so a complete one is sure to fit.
Exposure: none of its own; the rules check who may send what.
"""

import hashlib
from collections import Counter

from storage_worker.engine.interface import Blobs, Mailboxes
from storage_worker.engine.values import MailboxStats

_NOTHING = MailboxStats(0, 0)


class Upload:
    """What was announced, how much of it has arrived, and with a token the SHA-256 so far.

    Sender and recipient are client ids, `mailbox` is the recipient's user row. `charged`: whether
    it takes room in that mailbox; what will not be delivered does not.
    """

    __slots__ = (
        "authenticated",
        "blob_id",
        "charged",
        "digest",
        "kind",
        "mailbox",
        "number",
        "received",
        "recipient",
        "sender",
        "size",
        "slot",
        "token",
    )

    def __init__(
        self,
        slot: int,
        number: int,
        blob_id: int,
        sender: bytes,
        authenticated: bool,
        recipient: bytes,
        mailbox: int,
        kind: int,
        size: int,
        token: bytes | None,
        *,
        charged: bool = True,
    ) -> None:
        self.slot = slot
        self.number = number
        self.blob_id = blob_id
        self.sender = sender
        self.authenticated = authenticated
        self.recipient = recipient
        self.mailbox = mailbox
        self.kind = kind
        self.size = size
        self.token = token
        self.charged = charged
        self.received = 0
        self.digest = None if token is None else hashlib.sha256()


class Uploads:
    """All unfinished uploads, by the gateway's slot and the number that it chose.

    `mailboxes`: charged for their room.
    """

    def __init__(self, blobs: Blobs, mailboxes: Mailboxes) -> None:
        self._blobs = blobs
        self._mailboxes = mailboxes
        self._uploads: dict[tuple[int, int], Upload] = {}
        self._of_sender: Counter[bytes] = Counter()
        self._held_by: dict[tuple[bytes, int], MailboxStats] = {}
        self._without_user: dict[tuple[int, int], bool] = {}
        """Dropped uploads whose gateway does not know it yet, and whether it is the sender who was
        deleted.
        """
        self.held = 0
        """Bytes that all of them have on the disk."""

    def __len__(self) -> int:
        return len(self._uploads)

    def of_sender(self, client_id: bytes) -> int:
        """How many uploads a user has."""
        return self._of_sender[client_id]

    def held_by(self, client_id: bytes, mailbox: int) -> MailboxStats:
        """How many uploads a sender has for a mailbox, and the bytes of them that have arrived."""
        return self._held_by.get((client_id, mailbox), _NOTHING)

    def _hold(self, upload: Upload, messages: int, content_bytes: int) -> None:
        if not upload.charged:
            return
        self._mailboxes.charge(upload.mailbox, messages, content_bytes)
        key = upload.sender, upload.mailbox
        before = self._held_by.pop(key, _NOTHING)
        if before.messages + messages:
            self._held_by[key] = MailboxStats(before.messages + messages, before.content_bytes + content_bytes)

    def find(self, slot: int, number: int) -> Upload | None:
        """The upload of that name."""
        return self._uploads.get((slot, number))

    def lost_sender(self, slot: int, number: int) -> bool | None:
        """Whether an upload was dropped because its sender was deleted (True) or its recipient
        (False); None for any other.
        """
        return self._without_user.get((slot, number))

    def forget_dropped(self, slot: int, number: int) -> None:
        """Its gateway knows that it was dropped."""
        self._without_user.pop((slot, number), None)

    def begin(self, upload: Upload) -> None:
        """Announce an upload; the name must be free."""
        self._uploads[upload.slot, upload.number] = upload
        self._of_sender[upload.sender] += 1
        self._hold(upload, 1, 0)

    def add(self, upload: Upload, content: bytes) -> None:
        """Append bytes. Raises `StoreFull`."""
        self._blobs.append(upload.blob_id, content)
        upload.received += len(content)
        self.held += len(content)
        self._hold(upload, 0, len(content))
        if upload.digest is not None:
            upload.digest.update(content)

    def unsynced(self, upload: Upload) -> int:
        """Bytes of it that may not be on disk."""
        return self._blobs.unsynced(upload.blob_id)

    def complete(self, upload: Upload) -> int:
        """The content is complete. Returns the bytes that are not on disk yet; at 0 it may become a
        message.
        """
        return self._blobs.finish(upload.blob_id)

    def finish(self, upload: Upload) -> None:
        """The upload has become a message, which owns its file and room."""
        del self._uploads[upload.slot, upload.number]
        self.held -= upload.received
        self._hold(upload, -1, -upload.received)
        self._of_sender[upload.sender] -= 1
        if not self._of_sender[upload.sender]:
            del self._of_sender[upload.sender]

    def drop(self, upload: Upload) -> None:
        """Forget it with its file."""
        self._blobs.remove(upload.blob_id)
        self.finish(upload)

    def drop_slot(self, slot: int) -> None:
        """A gateway greeted: its predecessor's uploads will never be finished."""
        for upload in [upload for upload in self._uploads.values() if upload.slot == slot]:
            self.drop(upload)
        for name in [name for name in self._without_user if name[0] == slot]:
            del self._without_user[name]

    def drop_of(self, client_id: bytes, mailbox: int) -> None:
        """A user is deleted: uploads by them and to them will never be finished."""
        for upload in [one for one in self._uploads.values() if one.sender == client_id or one.mailbox == mailbox]:
            self.drop(upload)
            self._without_user[upload.slot, upload.number] = upload.sender == client_id

    def drop_all(self) -> None:
        """The turn was undone: drop all uploads, because their state is unknown."""
        for upload in list(self._uploads.values()):
            self.drop(upload)
        self._without_user.clear()
