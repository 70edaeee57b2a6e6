"""What a subcommand prints: data on stdout, prose on stderr, or JSON on both.

Owns: the only printing of the subcommands, and the questions that they ask.
Promises: a JSON object is one line and begins with the format's version, `v`, and its `type`.
Without `--json`, text of strangers passes through `client.terminal.sanitize`. Without a terminal,
no question is asked.
Exposure: prints names and texts that strangers chose.

Source: docs/client.md, "JSON"; docs/schemas/.
"""

import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from client.cli import exit_codes
from client.connection.retry import LONG
from client.connection.server_link import Progress
from client.errors import ClientError, KeyChanged, NameUnknown
from client.terminal.look_alikes import IGNORABLE
from client.terminal.sanitize import visible_line, visible_name
from client.terminal.text_wrap import columns_of, wrapped
from common.errors import MessageUError

FORMAT: Final = 1
"""The version of the JSON; it grows when a field goes or changes its meaning, not when
one is added.
"""

_ESCAPED: Final = re.compile(
    f"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\uffff\ufffe]|{IGNORABLE.pattern}"
    f"|[{''.join(chr(plane + last) for plane in range(0x10000, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))}]"
)
"""What is escaped in JSON beside what JSON itself escapes: controls, what shows nothing
(bidirectional controls among it), line separators, lone surrogates (a path's byte that is not UTF-8
is one), and what is no character.
"""

Value = str | int | bool | list[str] | None


class OutputRefused(ClientError):
    """Standard output takes nothing: it is closed, or on a full disk, most of all."""


class Output:
    """Where one command's words go."""

    def __init__(self, *, as_json: bool, quiet: bool, sends: bool = False) -> None:
        """Begin. `sends`: the command sends messages, so that a failure says whether one
        was kept.
        """
        self.as_json = as_json
        self.quiet = quiet
        self.sends = sends
        self.terminal = sys.stdin.isatty() and sys.stderr.isatty()

    def data(self, record: str, line: str, **fields: Value) -> None:
        """Print one piece of data: `line` for a person, as it is, or the fields for a program.

        Raises `OutputRefused`.
        """
        try:
            print(_json_for(sys.stdout, record, fields) if self.as_json else line, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            drop_what_is_left()
            # A descriptor that was closed (`>&-`) is open for reading: see client/__main__.py.
            what, advice = (
                ("Standard output is closed.", "Open it")
                if error.errno == errno.EBADF
                else (f"The output can't be written ({error.strerror}).", "Free some space")
            )
            raise OutputRefused(what, f"{advice}; a message that was not printed is given once more.") from error

    def say(self, sentence: str) -> None:
        """Print a sentence about what happens."""
        if self.quiet:
            return
        note = _json_for(sys.stderr, "note", {"text": sentence}) if self.as_json else _prose(sentence)
        print(note, file=sys.stderr)

    def set_aside(self, text: str, advice: str, **fields: Value) -> None:
        """Report a message that was set aside, even if only failures are to be reported."""
        if self.as_json:
            print(_json_for(sys.stderr, "set-aside", {**fields, "text": text, "advice": advice}), file=sys.stderr)
        else:
            print(_prose(f"{text} {advice}"), file=sys.stderr)

    def interrupted(self) -> None:
        """Report Ctrl-C; on a terminal the cursor is after its echo, or after a question."""
        if self.terminal and not self.quiet and not self.as_json:
            print(file=sys.stderr)
        self.say("Interrupted.")

    def failure(self, error: MessageUError, about: str | None = None, **more: Value) -> int:
        """Report a failure and what to do next; return the exit code.

        `about`: what the failure is about, for a person; `more`: further fields, for a program.
        """
        code, name = exit_codes.of_failure(error)
        if self.as_json:
            nearest = list(error.nearest) if isinstance(error, NameUnknown) else []
            fields: dict[str, Value] = {"code": code, "error": name, "text": str(error), "advice": error.advice}
            fields["nearest"] = nearest
            if self.sends and not isinstance(error, OutputRefused):
                fields["kept"] = False
            fields |= more
            if isinstance(error, KeyChanged):
                fields |= {
                    "name": error.name,
                    "safety_number": error.old_number,
                    "new_safety_number": error.new_number,
                    "since": error.met,
                    "changed_at": error.since,
                }
            print(_json_for(sys.stderr, "error", fields), file=sys.stderr)
        else:
            told = error.told() if about is None else f"{visible_name(about)}: {error.told()}"
            print(_prose(f"messageu: {told}"), file=sys.stderr)
        return code

    def confirm(self, question: str) -> bool | None:
        """Ask a yes-or-no question; None if there is nobody to ask."""
        if not self.terminal or self.as_json:
            return None
        print(f"{_prose(f'{question} [y/N]')} ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            # Ctrl-D: the cursor is after the question.
            print(file=sys.stderr)
        return answer.strip().casefold() in {"y", "yes"}

    def ask(self, question: str) -> str | None:
        """Ask a person at the terminal, on standard output; None if no answer will come
        (Ctrl-D).
        """
        print(f"{visible_line(question)} ", end="", flush=True)
        answer = sys.stdin.readline()
        if not answer:
            # The cursor is after the question.
            print()
            return None
        return answer.strip()

    def may_prove(self, registered_here: bool) -> bool | None:
        """Ask whether an account may be proven from now on; for one that was registered here,
        nothing is asked.
        """
        if registered_here:
            return True
        return self.confirm(
            "This server can make sure that nobody else acts in this account's name. Other MessageU programs will "
            "then no longer work for it. Do that?"
        )

    @contextlib.contextmanager
    def transfer(self, what: str) -> Iterator[Progress]:
        """Watch a transfer: on a terminal, a large one gets a progress bar on stderr."""
        with contextlib.ExitStack() as stack:
            bar: Progress | None = None

            def progress(done: int, total: int) -> None:
                nonlocal bar
                if self.quiet or self.as_json or not self.terminal or total < LONG:
                    return
                if bar is None:
                    from client.terminal.console import Console  # noqa: PLC0415 - brings the progress bar's library

                    bar = stack.enter_context(Console(sys.stdin, sys.stderr, terminal=True).transfer(what))
                bar(done, total)

            yield progress


def _prose(sentence: str) -> str:
    return wrapped(visible_line(sentence), columns_of(sys.stderr), indent="")


def drop_what_is_left() -> None:
    """Prevent a flush at exit, when standard output accepts no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_line(kind: str, fields: dict[str, Value], *, ascii_only: bool = False) -> str:
    """Return one object as a line."""
    line = json.dumps({"v": FORMAT, "type": kind, **fields}, ensure_ascii=ascii_only)
    return _ESCAPED.sub(_escape, line)


def _escape(found: re.Match[str]) -> str:
    # As JSON has it: in units of UTF-16.
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _json_for(stream: TextIO, kind: str, fields: dict[str, Value]) -> str:
    # JSON is UTF-8; in another encoding some letters would be none, and their escapes no JSON.
    return json_line(kind, fields, ascii_only=(stream.encoding or "").lower() not in {"utf-8", "utf8"})
