"""The events that the threads of a chat send to its screen.

Owns: the types of the events.
Promises: plain values, except `Came.shown`, which the screen sets.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from client.messages import Received, SentMessage


class Came(NamedTuple):
    """A message arrived. `shown` is set when it is on the screen; from then on it counts as
    received.
    """

    message: Received
    shown: threading.Event


class Moved(NamedTuple):
    """The state of a message of ours. `draft`: the number that the screen gave it.

    `message`: its entry in the history; None if it was not stored there, and `problem` says why.
    """

    draft: int
    message: SentMessage | None
    problem: str = ""


class Line(NamedTuple):
    """The state of the connection: a few words, whether all is well, and if not, why."""

    words: str
    good: bool
    why: str = ""


class Passing(NamedTuple):
    """The progress of a transfer, in bytes done and bytes in all; over when they are equal."""

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
    """Send a text without the outbox, for an account that keeps to the published protocol."""

    draft: int
    text: str


class FileJob(NamedTuple):
    """Send a file."""

    draft: int
    path: Path


class KeptJob(NamedTuple):
    """Report the state of a message that is in the outbox."""

    draft: int
    message: SentMessage


class KeyJob(NamedTuple):
    """Make a symmetric key and send it."""


class ResendJob(NamedTuple):
    """Send again everything that is possibly lost, to all users."""


Job = TextJob | FileJob | KeptJob | KeyJob | ResendJob
