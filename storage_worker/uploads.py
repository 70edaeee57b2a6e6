"""Messages whose content comes in chunks and is not complete yet.

Owns: what was announced, in memory; a restart ends all uploads, and the sweep at a start deletes their files.
Promises: a content is written to disk once, and never again when it becomes a message. How many there are, whose, and
how many bytes they hold is counted as they go: no look at all of them is needed to say it.
Exposure: none of its own; the post office checks who may send what.
"""

import hashlib
from collections import Counter

from storage_worker.bodies import Bodies


class Upload:
    """What was announced, how much of it is there, and with a token the SHA-256 so far. Ids are client ids."""

    __slots__ = (
        "body",
        "digest",
        "kind",
        "number",
        "proven",
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
        body: int,
        sender: bytes,
        proven: bool,
        recipient: bytes,
        kind: int,
        size: int,
        token: bytes | None,
    ) -> None:
        self.slot = slot
        self.number = number
        self.body = body
        self.sender = sender
        self.proven = proven
        self.recipient = recipient
        self.kind = kind
        self.size = size
        self.token = token
        self.received = 0
        self.digest = None if token is None else hashlib.sha256()


class Uploads:
    """All unfinished uploads, by the gateway's slot and the number that it chose."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._uploads: dict[tuple[int, int], Upload] = {}
        self._of_sender: Counter[bytes] = Counter()
        self._held_for: Counter[bytes] = Counter()
        self.held = 0
        """Bytes that all of them have on the disk."""

    def __len__(self) -> int:
        return len(self._uploads)

    def of_sender(self, client_id: bytes) -> int:
        """How many a user has."""
        return self._of_sender[client_id]

    def held_for(self, client_id: bytes) -> int:
        """Bytes that those to a user have on the disk."""
        return self._held_for[client_id]

    def find(self, slot: int, number: int) -> Upload | None:
        """The upload of that name."""
        return self._uploads.get((slot, number))

    def begin(self, upload: Upload) -> None:
        """Announce; the name must be free."""
        self._uploads[upload.slot, upload.number] = upload
        self._of_sender[upload.sender] += 1

    def add(self, upload: Upload, content: bytes) -> None:
        """The next bytes. Raises `StoreFull`."""
        self._bodies.append(upload.body, content)
        upload.received += len(content)
        self.held += len(content)
        self._held_for[upload.recipient] += len(content)
        if upload.digest is not None:
            upload.digest.update(content)

    def unsynced(self, upload: Upload) -> int:
        """Bytes of it that are not surely on disk."""
        return self._bodies.unsynced(upload.body)

    def complete(self, upload: Upload) -> int:
        """All of it came: bytes that are not on disk yet, 0 when it may become a message."""
        return self._bodies.finish(upload.body)

    def finish(self, upload: Upload) -> None:
        """Its file belongs to a message now."""
        del self._uploads[upload.slot, upload.number]
        self.held -= upload.received
        _take(self._of_sender, upload.sender, 1)
        _take(self._held_for, upload.recipient, upload.received)

    def drop(self, upload: Upload) -> None:
        """Forget it with its file."""
        self._bodies.remove(upload.body)
        self.finish(upload)

    def drop_slot(self, slot: int) -> None:
        """A gateway greeted: its predecessor's uploads will never be finished."""
        for upload in [upload for upload in self._uploads.values() if upload.slot == slot]:
            self.drop(upload)

    def drop_all(self) -> None:
        """What was done in this turn is undone, so nobody knows any more what came of which."""
        for upload in list(self._uploads.values()):
            self.drop(upload)


def _take(counts: Counter[bytes], client_id: bytes, number: int) -> None:
    """Take `number` away, and whoever has nothing left."""
    counts[client_id] -= number
    if not counts[client_id]:
        del counts[client_id]
