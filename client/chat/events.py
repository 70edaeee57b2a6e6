"""What the threads of a chat tell its screen.

Owns: the types of the events.
Promises: plain values, but for `Came.shown`, which the screen sets.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from client.messages import Received, SentMessage


class Came(NamedTuple):
    """A message. `shown` is set when it is on the screen; it counts as received from
    then on.
    """

    message: Received
    shown: threading.Event


class Moved(NamedTuple):
    """What became of a message of ours. `draft` is the number that the screen gave it.

    `message`: what the history has of it now; None where it never got there, with `problem` saying
    why.
    """

    draft: int
    message: SentMessage | None
    problem: str = ""


class Line(NamedTuple):
    """How the connection does: a few words, whether that is as it should be, and why not."""

    words: str
    good: bool
    why: str = ""


class Passing(NamedTuple):
    """A transfer of so many bytes of so many; over when they are equal."""

    what: str
    done: int
    total: int


class Said(NamedTuple):
    """A sentence for the user."""

    sentence: str


class Broken(NamedTuple):
    """A part of the chat has ended with an unexpected error: which part, and which error."""

    part: str
    error: str


Event = Came | Moved | Line | Passing | Said | Broken
Post = Callable[[Event], None]


class TextJob(NamedTuple):
    """Send a text without the outbox: the account keeps to the published protocol."""

    draft: int
    text: str


class FileJob(NamedTuple):
    """Send a file."""

    draft: int
    path: Path


class KeptJob(NamedTuple):
    """Say what becomes of a message that is in the outbox."""

    draft: int
    message: SentMessage


class KeyJob(NamedTuple):
    """Make a symmetric key and send it."""


class ResendJob(NamedTuple):
    """Send again all that is possibly lost, to whomever."""


Job = TextJob | FileJob | KeptJob | KeyJob | ResendJob
