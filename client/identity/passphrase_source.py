"""Where a passphrase comes from: a file, a command, the environment, or a person at the terminal.

Owns: reading it, and asking for it.
Promises: it is fetched once, when it is needed, and kept only in memory; without a terminal no
question is asked.
Exposure: runs the command that the user's own settings name, without a shell.

Source: docs/client.md, "A passphrase".
"""

import getpass
import os
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from client.cli.shell_words import words_of
from client.errors import PassphraseNeeded
from client.identity.identity_files import nobody_asked
from client.settings import UNLOCKED_BY, Settings
from common.errors import InfoFileError, SettingRejected

TERMINAL: Final = Path("/dev/tty")
SHORTEST: Final = 8
"""The shortest new passphrase that is accepted without a question. One that is in use may be
shorter.
"""


class PassphraseSource:
    """The home's passphrase, fetched when it is called for the first time.

    Raises `PassphraseNeeded`, `SettingRejected`, `InfoFileError`.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._found: str | None = None

    def __call__(self) -> str:
        """Return the passphrase."""
        if self._found is None:
            name, value, _ = self._settings.passphrase_setting()
            if value is None:
                if not can_ask():
                    nobody_asked()
                self._found = ask(f"Passphrase of {self._settings.home}: ")
            elif name == "passphrase_file":
                self._found = from_file(Path(value))
            elif name == "passphrase_command":
                self._found = from_command(value)
            else:
                self._found = self._environment[UNLOCKED_BY]
        return self._found


def named(file: Path | None, command: str | None) -> str | None:
    """Read a passphrase from the source that a command line names; None if it names none."""
    if file is not None:
        return from_file(file)
    return None if command is None else from_command(command)


def chosen(given: str | None, prompt: str, option: str, *, may_be_weak: bool = False) -> str:
    """Return a new passphrase: the given one, or one that is typed twice.

    A passphrase shorter than `SHORTEST` is accepted only if it `may_be_weak`, or the user who types
    it confirms. Raises `SettingRejected`, `PassphraseNeeded`.
    """
    if given is not None:
        if is_weak(given) and not may_be_weak:
            raise SettingRejected(
                f"The new passphrase has fewer than {SHORTEST} characters, and is soon guessed; nothing was changed. "
                "--weak-passphrase takes it all the same."
            )
        return given
    if not can_ask():
        raise PassphraseNeeded("There is no terminal to ask for the passphrase.", f"Use {option} PATH.")
    found = ask(prompt)
    if is_weak(found) and not may_be_weak and not _agrees():
        raise SettingRejected("Nothing was changed.")
    if ask("The same again: ") != found:
        raise SettingRejected("These were two different passphrases; nothing was changed.")
    return found


def is_weak(passphrase: str) -> bool:
    """Whether a passphrase is short enough to be found by trying."""
    return len(unicodedata.normalize("NFC", passphrase)) < SHORTEST


def _agrees() -> bool:
    """Ask at the terminal whether a short passphrase is really intended."""
    sys.stderr.write(f"It has fewer than {SHORTEST} characters, and is soon guessed. Use it all the same? [y/N] ")
    sys.stderr.flush()
    with TERMINAL.open(encoding="utf-8", errors="replace") as terminal:
        answer = terminal.readline()
    if not answer:
        # The cursor is after the question.
        sys.stderr.write("\n")
    return answer.strip().casefold() in {"y", "yes"}


def can_ask() -> bool:
    """Whether there is a terminal; standard input may still be something else."""
    if not sys.stderr.isatty():
        return False
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask(prompt: str) -> str:
    """Ask at the terminal, without echo. Raises `PassphraseNeeded` if nothing is entered."""
    try:
        return _checked(getpass.getpass(prompt), "What was typed")
    except EOFError as error:
        # The cursor is after the question.
        sys.stderr.write("\n")
        raise PassphraseNeeded("No passphrase was given.", "Try again.") from error


def from_file(path: Path) -> str:
    """Read the first line of a file. Raises `InfoFileError`, `SettingRejected`."""
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InfoFileError(path, 1, "is not plain text") from error
    return _checked(_first_line(text), str(path))


def from_command(command: str) -> str:
    """Read the first line that a command prints. Raises `SettingRejected`."""
    try:
        words = words_of(command)
        # The command's own questions go to the terminal.
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    except (OSError, ValueError, IndexError) as error:
        raise SettingRejected(f"The passphrase command {command!r} can't be started ({error}).") from error
    if done.returncode != 0:
        raise SettingRejected(f"The passphrase command {command!r} failed with exit code {done.returncode}.")
    try:
        printed = done.stdout.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingRejected(f"What the passphrase command {command!r} printed is not plain text.") from error
    return _checked(_first_line(printed), f"What {command!r} printed")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix("\r")


def _checked(found: str, what: str) -> str:
    if not found:
        raise SettingRejected(f"{what} is an empty passphrase.")
    return found
