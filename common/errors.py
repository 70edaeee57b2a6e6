"""The exceptions that the programs share, and the root of all.

Owns: the exception tree, whole. Promises: nothing else is raised on purpose. Exposure: sentences
reach logs and people.

A refusal that is part of normal life (name taken, recipient unknown) is a value,
`operations.Refused`; an exception means a broken peer, file or disk, or something that a user has
to be told.

    MessageUError
    ├── ValueRejected             a name, id, key or token breaks its rule
    ├── InfoFileError             myport.info, server.info, me.info, my.info: names file and line
    │   └── FileUnwritten             one of them, or an export, can't be written; `advice` is the next step
    ├── SettingRejected           a command-line option or environment variable is unusable
    ├── TableIncomplete           a table of the program lacks a row: a bug, found when its module is imported
    ├── PeerError                 the other side broke a protocol
    │   ├── ResponseMalformed         a server's answer can't be parsed
    │   ├── FrameUndecodable          a frame of the storage protocol can't be decoded
    │   └── WorkerSilent              no answer for an operator: storage_worker/server/admin_link.py
    ├── StorageError              the storage worker can't go on: storage_worker/engine/errors.py
    ├── SlotInUse, GatewaySuperseded   the gateway must not go on: gateway/errors.py
    └── ClientError               what a person at the client is told: client/errors.py
"""

from pathlib import Path


class MessageUError(Exception):
    """The root of every exception that this project raises on purpose."""

    advice: str = ""
    """The next step for a person, where there is one to say."""

    def told(self) -> str:
        """The text for the user: what happened and why, and the next step."""
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
    """A frame of the storage protocol can't be decoded, and not even its header says what it
    was.
    """
