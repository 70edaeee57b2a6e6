"""Texts and files to one user or several: send.

Owns: reporting what became of each message: sent, kept, or neither. Promises: if a file is missing,
nothing is sent to anybody; a failure for one user does not stop the messages to others. Every
failure says whether its message is kept.
Exposure: reads standard input and the files that the user names.

Source: docs/client.md.
"""

import sys
from pathlib import Path
from typing import Final, NamedTuple

from client.cli import exit_codes
from client.cli.message_lines import shown_name
from client.cli.output import Output, OutputRefused, Value
from client.errors import ClientError
from client.mail.outgoing_file import can_be_read_again, check_file, inherited
from client.open_home import OpenHome
from common.errors import MessageUError, SettingRejected

LONGEST_TEXT: Final = 1024 * 1024
"""Bytes of a text from standard input; more is sent with --file."""


class _Part(NamedTuple):
    """One message: a file, or, if there is no path, a text."""

    path: Path | None
    text: str = ""
    called: str | None = None

    @property
    def name(self) -> str:
        """The file's name in messages to the user."""
        return str(self.path) if self.called is None else self.called

    def fields(self) -> dict[str, Value]:
        """Return its fields for JSON."""
        return {"kind": "text"} if self.path is None else {"kind": "file", "path": self.name}


class _Failure(NamedTuple):
    """Why something was not sent to a user."""

    code: int
    kept: bool


def send(
    home: OpenHome,
    output: Output,
    names: list[str],
    text: str | None,
    files: list[Path],
    *,
    from_input: bool,
    called: str | None = None,
) -> int:
    """Send a text, or files, or both, the text first, to one user after the other; return the exit
    code.

    `from_input`: the text is what standard input has. `called`: what the one file is called,
    instead of its path. The exit code is that of the first failure whose message was not kept, else
    that of the first one.
    """
    if called is not None and len(files) != 1:
        raise SettingRejected("--name is for one file: it names what --file sends.")
    _check_files(files, several=len(names) > 1, from_input=from_input)
    if from_input:
        text = _standard_input(output)
    if text == "":
        raise SettingRejected(f"There is no text to send: {'the input was' if from_input else 'it is'} empty.")
    # Without an identity, nothing can be sent to anybody.
    home.account.identity()
    parts = [*(() if text is None else (_Part(None, text),)), *(_Part(path, called=called) for path in files)]
    found = [_send_to(home, output, name, parts, several=len(names) > 1) for name in names]
    failures = [failure for failure in found if failure is not None]
    first = next((failure for failure in failures if not failure.kept), failures[0] if failures else None)
    return exit_codes.DONE if first is None else first.code


def _send_to(home: OpenHome, output: Output, name: str, parts: list[_Part], *, several: bool) -> _Failure | None:
    """Send all to one user, until something can be neither sent nor kept. `several`: a
    failure says whose it is.
    """

    def fails(error: MessageUError, part: _Part, *, kept: bool) -> _Failure:
        about = name if several else None
        return _Failure(output.failure(error, about, **{"to": name, **part.fields(), "kept": kept}), kept)

    kept: ClientError | None = None
    failure: _Failure | None = None
    for part in parts:
        try:
            if part is parts[0]:
                _agree(home, output, name)
            _send_one(home, output, name, part)
        except OutputRefused:
            # It was sent, but that can't be printed.
            raise
        except MessageUError as error:
            if not isinstance(error, ClientError) or not error.kept:
                _say_kept(output, kept)
                return fails(error, part, kept=False)
            if output.as_json:
                one = fails(error, part, kept=True)
                failure = failure or one
            elif kept is not None:
                output.say(f"{part.name} is kept too.")
            kept = kept or error
        except KeyboardInterrupt:
            _say_kept(output, kept)
            raise
    if kept is not None and failure is None:
        # For a person one sentence is enough, at the end.
        failure = fails(kept, parts[0], kept=True)
    return failure


def _say_kept(output: Output, kept: ClientError | None) -> None:
    """Report the failures before the last one; as objects they were reported already."""
    if kept is not None and not output.as_json:
        output.say(f"{kept} {kept.advice}")


def _agree(home: OpenHome, output: Output, name: str) -> None:
    """Make sure that there is a key. Raises what `KeyExchange.agree_on_key` raises."""
    if home.key_exchange.agree_on_key(name):
        what = "is made, and waits, for" if home.outbox.waiting_count() else "is made and sent to"
        output.say(f"A new symmetric key {what} {shown_name(home, name)}.")


def _send_one(home: OpenHome, output: Output, name: str, part: _Part) -> None:
    with output.transfer("Encrypting") as preparing, output.transfer("Sending") as progress:
        if part.path is None:
            sent = home.sending.send_text(name, part.text)
        else:
            if inherited(part.path) == 0 and sys.stdin.isatty():
                output.say("Enter the file's content, then Ctrl-D:")
            sent = home.sending.send_file(name, part.path, progress, preparing, part.called)
        verified = home.directory.is_verified(sent.recipient)
        fields: dict[str, Value] = {"to": sent.recipient.name, "id": sent.recipient.client_id.hex(), **part.fields()}
        if output.as_json:
            output.data("sent", "", **fields, message_id=sent.message_id, recipient_verified=verified, suite=sent.suite)
        else:
            shown = home.contacts.shown(sent.recipient)
            output.say(f"Sent to {shown}." if part.path is None else f"{part.name} is sent to {shown}.")


def _standard_input(output: Output) -> str:
    if sys.stdin.isatty():
        output.say("Enter the text, then Ctrl-D:")
    raw = sys.stdin.buffer.read(LONGEST_TEXT + 1)
    if len(raw) > LONGEST_TEXT:
        raise SettingRejected("The text on standard input is longer than 1 MiB; send it with --file.")
    return raw.decode("utf-8", errors="replace").removesuffix("\n")


def _check_files(files: list[Path], *, several: bool, from_input: bool) -> None:
    """Check all files before anything is sent, so that either all are sent or none."""
    once: list[int | Path] = []
    for path in files:
        check_file(path)
        if not can_be_read_again(path):
            number = inherited(path)
            once.append(path if number is None else number)
    if from_input and 0 in once:
        raise SettingRejected("Standard input is the text or the file, not both; nothing was sent.")
    if len(once) > len(set(once)) or (once and several):
        raise SettingRejected(
            "What comes from standard input or a pipe can be read, and sent, once; nothing was sent. "
            "Write it to a file first, and send that one."
        )
