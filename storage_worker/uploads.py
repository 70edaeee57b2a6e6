"""Messages whose content comes in chunks and is not complete yet.

Owns: the table `upload`. The bytes themselves are chunks of the message queue from the first one on.
Promises: an upload outlives the worker, within its slot's epoch; when its message is accepted its bytes are not
written again.
Exposure: none of its own; the post office checks who may send what.

All methods run inside a transaction.
"""

from typing import NamedTuple

from storage_worker.database import Database
from storage_worker.message_queue import MessageQueue


class Upload(NamedTuple):
    """What was announced, and how many bytes of it are there. `sender` and `recipient` are client ids."""

    slot: int
    number: int
    body: int
    sender: bytes
    proven: bool
    recipient: bytes
    kind: int
    size: int
    received: int
    token: bytes | None


class Uploads:
    """All unfinished uploads, by the gateway's slot and the number that it chose."""

    def __init__(self, database: Database, queue: MessageQueue) -> None:
        self._database = database
        self._queue = queue

    def find(self, slot: int, number: int) -> Upload | None:
        """The upload of that name."""
        found = self._database.find("SELECT * FROM upload WHERE slot = ? AND upload = ?", (slot, number))
        return None if found is None else Upload(*found)

    def begin(self, upload: Upload) -> None:
        """Announce; the name must be free. `body` is given here."""
        self._database.execute(
            "INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", upload._replace(body=self._queue.new_body())
        )

    def add(self, upload: Upload, content: bytes) -> None:
        """The next bytes."""
        self._queue.add_chunk(upload.body, upload.received, content)
        self._database.execute(
            "UPDATE upload SET received = received + ? WHERE slot = ? AND upload = ?",
            (len(content), upload.slot, upload.number),
        )

    def finish(self, upload: Upload) -> None:
        """Its chunks belong to a message now."""
        self._database.execute("DELETE FROM upload WHERE slot = ? AND upload = ?", (upload.slot, upload.number))

    def drop(self, upload: Upload) -> None:
        """Forget it with its chunks."""
        self._queue.delete_body(upload.body)
        self.finish(upload)

    def drop_slot(self, slot: int) -> None:
        """A gateway greeted: its predecessor's uploads will never be finished."""
        self._database.execute(
            "DELETE FROM content_chunk WHERE body IN (SELECT body FROM upload WHERE slot = ?)", (slot,)
        )
        self._database.execute("DELETE FROM upload WHERE slot = ?", (slot,))
