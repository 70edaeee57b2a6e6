"""The errors of an engine and of what keeps its files.

Owns: the storage worker's exceptions. The roots that it shares with the other programs are in
common/errors.py.
Promises: an engine raises these on purpose, and nothing else. What is refused in normal life (no
such user, mailbox full) is a value, `operations.Refused`.
Exposure: sentences reach the log and the operator; none has what a client chose in it.

    MessageUError             the root, in common/errors.py
    └── StorageError              the storage worker can't continue with what it was doing
        ├── StoreInUse                another worker holds the data folder
        │   └── StoreSuperseded           another worker has taken the store over: this one writes nothing any more
        ├── StoreUnusable             not our database, a newer schema, a corrupt file
        │   └── JournalDamaged            what was on disk in the journal is altered
        ├── StoreDamaged              a page or a content is altered: what needs it is refused, the rest goes on
        │   └── TablesDamaged             what has to be written to is altered: nothing new is taken in
        ├── DirectoryUnreachable      a shard can't ask the directory about a user: refused, the rest goes on
        ├── StoreFull                 the disk or the page limit is reached; the transaction was rolled back
        │   └── NoFileLeft                no more files may be open at this moment; nothing was done
        └── StoreFailed               a read, write or sync failed: nothing is known, the worker must end

Source: docs/storage-engine.md; docs/guarantees.md, "What each failure leaves behind".
"""

from common.errors import MessageUError


class StorageError(MessageUError):
    """The storage worker can't continue with what it was doing."""


class StoreInUse(StorageError):
    """Another storage worker holds the data folder."""


class StoreSuperseded(StoreInUse):
    """Another storage worker has taken the store over. Nothing that this one tries to write is
    written any more, so it ends.
    """


class StoreUnusable(StorageError):
    """The database is not ours, of a newer schema, or corrupt."""


class JournalDamaged(StoreUnusable):
    """Something in the journal is altered that had been synced; no power cut does that."""


class StoreDamaged(StorageError):
    """A part of the store is altered. What needs it is refused; everything else continues."""


class TablesDamaged(StoreDamaged):
    """A table or index that has to be written to is altered."""


class DirectoryUnreachable(StorageError):
    """A shard can't ask the directory about a user. What needs it is refused; everything else
    continues.
    """


class StoreFull(StorageError):
    """No room for this transaction; it was rolled back and everything before it is kept."""


class NoFileLeft(StoreFull):
    """The process or the system has too many files open. Nothing was done; a later try may
    succeed.
    """


class StoreFailed(StorageError):
    """A read, write or sync failed. What is on disk is unknown, so the worker ends at once."""
