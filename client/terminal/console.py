"""The terminal, or the pipe that replaces it: the only place, with the menu, that prints and
asks.

Owns: prompts, which lines are one answer, the published form of a message, the progress bar, and
making harmless what strangers wrote.
Promises: whatever is printed went through `visible_line` or `visible_text`; on a pipe nothing is
asked that needs a person, every prompt is a line of its own, and a line is an answer. At a
terminal, lines that are pasted together are one answer.
Exposure: prints names and texts that strangers chose.

What is made visible, and how: `client.terminal.sanitize`.

Source: docs/client-protocol.md, "The console"; docs/client.md, "The numbered console".
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Final, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from client.connection.retry import LONG
from client.connection.server_link import Progress
from client.messages import KeyReceived, KeyRequested, Received, Renewed, SavedFile, Text, UnknownKind, Unreadable
from client.terminal.sanitize import visible_line, visible_text
from client.terminal.text_wrap import columns_of, wrapped
from client.terminal.typed import is_queued

_BAR_WIDTH: Final = 30
"""With the columns beside it, 75 columns: nothing moves while the numbers grow."""
_TOGETHER: Final = 0.02
"""Seconds; nobody types a key so soon after Enter, and a terminal passes on a paste
without such a gap.
"""
END_OF_MESSAGE: Final = "-----<EOM>-----"


class EndOfInput(Exception):
    """Nobody will answer any more."""


class Console:
    """Asks and prints. `terminal`: whether a person sits there."""

    def __init__(self, source: TextIO, sink: TextIO, *, terminal: bool) -> None:
        self._source = source
        self._sink = sink
        self.terminal = terminal
        if terminal:
            _edit_lines()

    def say(self, sentence: str) -> None:
        """Print one sentence; at a terminal it is broken at words."""
        self._print(self._fitted(visible_line(sentence)))

    def say_name(self, name: str) -> None:
        """Print one name, which may hold spaces and is not broken."""
        self._print(visible_line(name))

    def say_block(self, text: str) -> None:
        """Print several lines of our own."""
        self._print(text)

    def ask(self, prompt: str) -> str:
        """Ask a question. Raises `EndOfInput`; at a terminal that is one Ctrl-D, and more
        may be typed.
        """
        if not self.terminal:
            self._print(prompt)
            return self._read_line()
        *before, last = self._fitted(prompt).split("\n")
        if before:
            self._print("\n".join(before))
        # What was typed before the question was there is typed ahead, a line for each question.
        typed_ahead = is_queued(self._source, 0.0)
        first = self._read_line(f"{last} ")
        return first if typed_ahead else self._with_the_rest(first)

    def choose(self, known: Collection[str]) -> str:
        """Take a choice without asking for it. Raises `EndOfInput`.

        Behind a known one, answers may be typed ahead; lines that come together with anything else
        belong to it.
        """
        first = self._read_line()
        if self.terminal and first.strip() not in known:
            return self._with_the_rest(first)
        return first

    def _read_line(self, prompt: str = "") -> str:
        if self.terminal:
            try:
                # A paste that the terminal marks may end with a line end.
                return input(prompt).rstrip("\n")
            except EOFError as error:
                if prompt:
                    # The cursor is after the question.
                    self._print("")
                raise EndOfInput from error
        line = self._source.readline()
        if not line:
            raise EndOfInput
        return line.removesuffix("\n").removesuffix("\r")

    def _with_the_rest(self, first: str) -> str:
        """Add what was pasted with a line. The lines of a marked paste are in `first` already."""
        lines = [first]
        while is_queued(self._source, _TOGETHER):
            try:
                lines.append(input())
            except EOFError:
                break
        return "\n".join(lines).rstrip("\n")

    def _fitted(self, sentence: str) -> str:
        return wrapped(sentence, columns_of(self._sink)) if self.terminal else sentence

    def interrupted(self) -> None:
        """Say that Ctrl-C was heard; on a terminal the cursor is after its echo."""
        self._print("\nInterrupted." if self.terminal else "Interrupted.")

    def confirm(self, question: str, *, default: bool = True) -> bool:
        """Ask a person for a yes; `default` is what an empty answer means. A pipe says no."""
        if not self.terminal:
            return False
        answer = self.ask(f"{question} {'[Y/n]' if default else '[y/N]'}").strip().casefold()
        return default if not answer else answer in {"y", "yes"}

    def may_prove(self, registered_here: bool) -> bool | None:
        """Ask whether an account may be proven from now on; one that was registered here
        needs no question.
        """
        if registered_here:
            return True
        if not self.terminal:
            return None
        return self.confirm(
            "This server can make sure that nobody else acts in this account's name. Other MessageU programs will "
            "then no longer work for it. Do that?",
            default=False,
        )

    def show(self, message: Received) -> None:
        """Print a message in the published form, with what is unusual about it on a line before."""
        if message.late:
            self.say("Could not be decrypted when it came; its key is here now:")
        if message.repeated:
            self.say("Possibly repeated:")
        if isinstance(message.content, KeyReceived) and message.content.unasked:
            self.say("A key that nobody asked for came while another one was in use:")
        sender = message.sender_name
        name = visible_line(sender) if sender is not None else f"unknown user {message.sender.hex()}"
        self._print(f"From: {name}\nContent:\n{_content(message)}\n{END_OF_MESSAGE}\n")

    @contextlib.contextmanager
    def transfer(self, what: str) -> Iterator[Progress]:
        """Watch a transfer: on a terminal, a large one gets a progress bar."""
        bar = _Bar(visible_line(what), self._sink)

        def progress(done: int, total: int) -> None:
            if self.terminal and total >= LONG:
                bar.move(done, total)

        try:
            yield progress
        finally:
            bar.stop()

    def _print(self, text: str) -> None:
        print(text, file=self._sink, flush=True)


def _edit_lines() -> None:
    """Have `input` edit lines, and keep the lines of a paste together if the terminal
    marks them.
    """
    # Not on a pipe: merely importing it may print an escape sequence.
    with contextlib.suppress(ImportError):
        import readline  # noqa: PLC0415

        # Of the two libraries that may be behind it, one knows marks; a plain terminal would
        # show them.
        if "libedit" not in (readline.__doc__ or "") and os.environ.get("TERM", "dumb") != "dumb":
            readline.parse_and_bind("set enable-bracketed-paste on")


def _content(message: Received) -> str:
    match message.content:
        case KeyRequested():
            return "Request for symmetric key"
        case KeyReceived():
            return "symmetric key received"
        case Text(text):
            return visible_text(text)
        case SavedFile(path):
            return visible_line(str(path))
        case Unreadable():
            return "can't decrypt message"
        case Renewed(unopened):
            return f"new keys; {unopened} of your messages could not be opened there"
        case UnknownKind(kind, text):
            return f"message of an unknown type ({kind}){f': {visible_text(text)}' if text else ''}"


def _numbers(widest: str) -> Column:
    return Column(min_width=len(widest), justify="right", no_wrap=True)


class _Bar:
    """A progress bar that appears with the first movement and ends with the last."""

    def __init__(self, what: str, sink: TextIO) -> None:
        self._what = what
        self._sink = sink
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    def move(self, done: int, total: int) -> None:
        if self._bar is None and done < total:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False, table_column=Column(min_width=len("Encrypting"))),
                BarColumn(bar_width=_BAR_WIDTH),
                DownloadColumn(table_column=_numbers("999.9/999.9 MB")),
                TransferSpeedColumn(table_column=_numbers("999.9 MB/s")),
                TimeRemainingColumn(table_column=_numbers("0:00:00")),
                # The terminal's own colours: what is legible on light and on dark alike.
                console=RichConsole(file=self._sink, no_color=True),
            )
            self._task = self._bar.add_task(self._what, total=total)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        if done >= total:
            self.stop()

    def stop(self) -> None:
        """End it; it stays on the screen as far as it came."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
