"""Every exception of the project.

Owns: the exception tree, whole. Promises: nothing else is raised on purpose. Exposure: sentences
reach logs and people.

A refusal that is part of normal life (name taken, recipient unknown) is a value,
`operations.Refused`; an exception means a broken peer, a broken file, a broken disk, or a person
who has to be told something.

    MessageUError
    ├── ValueRejected             a name, id, key or token breaks its rule
    ├── InfoFileError             myport.info, server.info, me.info, my.info: names file and line
    │   └── FileUnwritten             one of them, or an export, can't be written; `advice` is the next step
    ├── SettingRejected           a command-line option or environment variable is unusable
    ├── TableIncomplete           a table of the program lacks a row: a bug, found when its module is imported
    ├── PeerError                 the other side broke a protocol
    │   ├── ResponseMalformed         a server's answer can't be parsed
    │   └── FrameUndecodable          a frame of the storage protocol can't be decoded
    ├── StorageError              the storage worker can't go on
    │   ├── StoreInUse                another worker holds the data folder
    │   ├── StoreUnusable             not our database, a newer schema, a corrupt file
    │   │   └── JournalDamaged            what was on disk in the journal is altered
    │   ├── StoreDamaged              a page or a content is altered: what needs it is refused, the rest goes on
    │   │   └── TablesDamaged             what has to be written to is altered: nothing new is taken in
    │   ├── StoreFull                 the disk or the page limit is reached; the transaction was rolled back
    │   │   └── NoFileLeft                no more files may be open at this moment; nothing was done
    │   └── StoreFailed               a read, write or sync failed: nothing is known, the worker must end
    ├── SlotInUse                 another gateway runs on this data folder and slot
    ├── GatewaySuperseded         another gateway took this slot, and lives: the process ends
    └── ClientError               what a person at the client is told: client/errors.py
"""

from pathlib import Path


class MessageUError(Exception):
    """The root: catching it catches everything that this project raises on purpose."""

    advice: str = ""
    """The next step for a person, where there is one to say."""

    def told(self) -> str:
        """Give what a person is told: what happened and why, and the next step."""
        sentence = str(self)
        if not self.advice:
            return sentence
        return f"{sentence}{'' if sentence.endswith('.') else '.'} {self.advice}"


class ValueRejected(MessageUError, ValueError):
    """A value from outside breaks its rule; the text says which."""


class InfoFileError(MessageUError):
    """An info file can't be used: one sentence that names the file and, where there is
    one, the line.
    """

    def __init__(
        self,
        path: Path,
        line: int | None,
        problem: str,
        advice: str = "Correct the file, restore it from a copy, or name another one.",
    ) -> None:
        place = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem
        self.advice = advice


class FileUnwritten(InfoFileError):
    """An info file, or an export, can't be written. `problem` says what and why, without
    a full stop.
    """

    def __init__(self, path: Path, problem: str, advice: str) -> None:
        MessageUError.__init__(self, f"{problem}.")
        self.path = path
        self.line = None
        self.problem = problem
        self.advice = advice


class SettingRejected(MessageUError):
    """A command-line option or an environment variable is unusable; the text names it."""


class TableIncomplete(MessageUError):
    """A table of the program has no row for a member, or one too many: names the table and both."""


class PeerError(MessageUError):
    """The other side of a connection broke its protocol."""


class ResponseMalformed(PeerError):
    """A server's answer can't be parsed."""


class FrameUndecodable(PeerError):
    """A frame of the storage protocol can't be decoded, and not even its header tells
    what it was.
    """


class StorageError(MessageUError):
    """The storage worker can't go on with what it was doing."""


class StoreInUse(StorageError):
    """Another storage worker holds the data folder."""


class StoreUnusable(StorageError):
    """The database is not ours, of a newer schema, or corrupt."""


class StoreFull(StorageError):
    """No room for this transaction; it was rolled back and everything before it stands."""


class JournalDamaged(StoreUnusable):
    """Something in the journal is altered that was on disk: no power cut does that."""


class StoreDamaged(StorageError):
    """A part of the store is altered. What needs it is refused; everything else goes on."""


class TablesDamaged(StoreDamaged):
    """A table, or an index of one, is altered that has to be written to."""


class NoFileLeft(StoreFull):
    """The process or the system has as many files open as it may. Nothing was done, and a
    later try may go better.
    """


class StoreFailed(StorageError):
    """A read, write or sync failed. What is on disk is unknown, so the worker ends at once."""


class SlotInUse(MessageUError):
    """Another gateway runs on this data folder and slot."""


class GatewaySuperseded(MessageUError):
    """The storage worker serves a later gateway on this slot."""
