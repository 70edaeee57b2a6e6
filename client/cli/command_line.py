"""Reads the words of a command line, by the tables of argparse and with rules of its own.

Owns: which word is an option, which is the value of one, and which is neither.
Promises: an option is one dash and a letter, or two and a name, and it may be anywhere between the
other words; nothing is abbreviated. A word of that form that is no option is an error, which names
the way around it: after `--`, every word is taken as it is. Every other word that begins with a
dash (`-1`, `- item`, `-->`) is an ordinary word.
Exposure: words may be what somebody else wrote, put there by a script.

argparse itself accepts a command's options only before or after all other words, and loses a word
`--` that follows `--`.

Source: docs/client.md, "Options".
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from common.version import VERSION

_OPTION: Final = re.compile(r"(-[A-Za-z]|--[A-Za-z][\w-]*)(?:=(.*))?|-[A-Za-z][\w-]+(?:=\S*)?", re.ASCII | re.DOTALL)
"""The form of an option: what is meant as one, or mistyped. A text of several words never has it,
except as a value.
"""
_HELPING: Final = frozenset({"-h", "--help", "--version"})
LITERALLY: Final = "--"
PROGRAM: Final = "messageu"


def asks_for_json(words: Sequence[str]) -> bool:
    """Whether `--json` is among the options, so that complaints about the others are
    objects too.
    """
    return "--json" in (words[: words.index(LITERALLY)] if LITERALLY in words else words)


class ShowVersion(argparse.Action):
    """Shows the version and ends the program."""

    def __init__(self, **named: Any) -> None:
        super().__init__(nargs=0, **named)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Show it."""
        assert isinstance(parser, Parser)
        parser.print_version()
        parser.exit()


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves indented lines, such as examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = [
            part if "\n  " in part else super(_Help, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        ]
        return "\n\n".join(parts)


class Seen(NamedTuple):
    """An option as it was met: its name, and how many other words of the command stood
    before it.
    """

    option: str
    words_before: int


class Line(NamedTuple):
    """What follows a command."""

    words: list[str]
    """What is neither an option nor the value of one."""
    literal: int | None
    """How many of these words come before `--`; None if there is no `--`."""
    seen: list[Seen]
    """The options as given."""


class Parser(argparse.ArgumentParser):
    """A parser of the command, or of one of its subcommands."""

    def __init__(self, *, as_json: bool = False, **others: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **others)
        self._as_json = as_json
        self._general: argparse._ArgumentGroup | None = None
        self.examples: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self._make: Callable[[str], None] = _make_none
        self.arrange: Callable[[argparse.Namespace, Line], list[str]] | None = None
        """Checks the whole line: raises `argparse.ArgumentTypeError` or returns the words for the
        arguments.
        """
        self.text_behind: frozenset[str] | None = None
        """Of a command that takes a text: the options that name its recipients. After those, or
        after the first word, `-h` might be the text.
        """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the words; none is left over. Ends the program with code 2 if they can't be
        understood.
        """
        into = argparse.Namespace() if namespace is None else namespace
        self._read(sys.argv[1:] if args is None else list(args), into)
        return into, []

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one sentence; an object if JSON is asked for."""
        sentence = f"{message} `{self.prog} --help` shows how it is used."
        # Imported here, so that a correct command line does not wait for them.
        if self._as_json:
            from client.cli.output import Output  # noqa: PLC0415
            from common.errors import SettingRejected  # noqa: PLC0415

            self.exit(
                Output(as_json=True, quiet=False, sends=self.text_behind is not None).failure(SettingRejected(sentence))
            )
        if not sentence.isprintable():
            from client.terminal.sanitize import visible_line  # noqa: PLC0415

            sentence = visible_line(sentence)
        self.exit(2, f"messageu: {sentence}\n")

    def general_options(self) -> "argparse._ArgumentGroup":
        """Return the group of options that every command has; what is added to the parser earlier
        is listed before them.
        """
        if self._general is None:
            self._general = self.add_argument_group("general options")
        return self._general

    def format_usage(self) -> str:
        """Return the usage line, which names only the command's own options."""
        if self.usage is not None or self._general is None:
            return super().format_usage()
        general = self._general._group_actions
        formatter = self._get_formatter()
        formatter.add_usage(None, [action for action in self._actions if action not in general], [])
        return f"{formatter.format_help().rstrip()} [OPTION ...]\n"

    def format_help(self) -> str:
        """Return the whole help."""
        self.commands()
        usage = self.usage
        self.usage = self.format_usage().removeprefix("usage: ").rstrip()
        try:
            return super().format_help()
        finally:
            self.usage = usage

    def print_help(self, file: Any = None) -> None:
        """Print the help; an object if JSON is asked for."""
        if not self._as_json:
            super().print_help(file)
            return
        command = self.prog.partition(" ")[2] or None
        self._show_object("help", command=command, text=self.format_help())

    def print_version(self) -> None:
        """Show the version; an object if JSON is asked for."""
        if not self._as_json:
            self._print_message(f"{PROGRAM} {VERSION}\n", sys.stdout)
            return
        self._show_object("version", program=PROGRAM, version=VERSION)

    def _show_object(self, kind: str, **fields: str | None) -> None:
        from client.cli.output import Output  # noqa: PLC0415 - brings much that a command line does not need
        from common.errors import MessageUError  # noqa: PLC0415

        output = Output(as_json=True, quiet=False)
        try:
            output.data(kind, "", **fields)
        except MessageUError as error:
            self.exit(output.failure(error))

    # --- word by word
    # ---------------------------------------------------------------------------------------------

    def _read(self, words: list[str], into: argparse.Namespace) -> None:
        for action in self._actions:
            if argparse.SUPPRESS not in (action.dest, action.default) and not hasattr(into, action.dest):
                setattr(into, action.dest, action.default)
        line = Line([], None, [])
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == LITERALLY:
                line = line._replace(literal=len(line.words))
                line.words.extend(words[at:])
                break
            if _OPTION.fullmatch(word):
                at = self._read_option(word, words, at, line, into)
            elif self._subparsers is not None:
                self._read_command(word, words[at:], into)
                return
            else:
                line.words.append(word)
        if self._subparsers is not None:
            if line.words:
                self._read_command(line.words[0], [LITERALLY, *line.words[1:]], into)
            return
        try:
            left = line.words if self.arrange is None else self.arrange(into, line)
        except argparse.ArgumentTypeError as error:
            self.error(str(error))
        self._assign(left, into)

    def _read_command(self, name: str, words: list[str], into: argparse.Namespace) -> None:
        if name not in self._names:
            self.error(f"There is no command {name}.{_meant(name, self._names)}")
        into.command = name
        self._command(name)._read(words, into)

    def take_commands(self, names: Sequence[str], make: Callable[[str], None]) -> None:
        """Set the commands; `make` adds the parser of one when it is needed."""
        self._names = tuple(names)
        self._make = make

    def commands(self) -> "dict[str, Parser]":
        """Return the parsers of all commands, by name, in their order."""
        found = {name: self._command(name) for name in self._names}
        for action in self._subparser_actions():
            # One of them may have been made before the others.
            action._choices_actions.sort(key=lambda choice: self._names.index(choice.dest))
        return found

    def _command(self, name: str) -> "Parser":
        (action,) = self._subparser_actions()
        if name not in action.choices:
            self._make(name)
        return action.choices[name]

    def _subparser_actions(self) -> "list[argparse._SubParsersAction[Parser]]":
        return [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]

    def _read_option(self, word: str, words: list[str], at: int, line: Line, into: argparse.Namespace) -> int:
        name, equals, given = word.partition("=")
        action = self._option_string_actions.get(name)
        if action is None:
            way = f" A word that is not an option goes after `--`: `{self._behind_dashes(line, word)}`."
            self.error(
                f"There is no option {name}.{_meant(name, self._option_string_actions)}"
                f"{way if self._get_positional_actions() and self._subparsers is None else ''}"
            )
        if name in _HELPING and self._may_be_text(line):
            self.error(
                f"{name} is in the place of the text. To send it: `{self._behind_dashes(line, word)}`. Or was it to "
                "show help?"
            )
        line.seen.append(Seen(name, len(line.words)))
        values: list[str] = []
        if action.nargs == 0:
            if equals:
                self.error(f"{name} takes no value.")
        elif equals:
            values = [given]
        else:
            while at < len(words) and words[at] != LITERALLY and not _OPTION.fullmatch(words[at]):
                values.append(words[at])
                at += 1
                if action.nargs != "+":
                    break
            if not values:
                example = f"{name}={words[at]}" if at < len(words) and words[at] != LITERALLY else f"{name}=-x"
                self.error(f"{name} takes {action.metavar}; a value that begins with a dash goes after =: `{example}`.")
        self._take(action, values, into, name)
        return at

    def _may_be_text(self, line: Line) -> bool:
        if self.text_behind is None:
            return False
        return bool(line.words) or any(seen.option in self.text_behind for seen in line.seen)

    def _behind_dashes(self, line: Line, word: str) -> str:
        before = [f"{seen.option} NAME" for seen in line.seen if seen.option in (self.text_behind or ())]
        return f"{' '.join([self.prog, *before])} {quoted([*line.words, LITERALLY, word])}"

    # --- values
    # ----------------------------------------------------------------------------------------------

    def _assign(self, words: list[str], into: argparse.Namespace) -> None:
        for action in self._get_positional_actions():
            if action.nargs in {"?", "*"}:
                taken = words if action.nargs == "*" else words[:1]
                if not taken:
                    continue
            elif words:
                taken = words[:1]
            else:
                self.error(f"The argument {action.metavar} is missing.")
            words = words[len(taken) :]
            self._take(action, taken, into, None)
        if words:
            self.error(f"That is more than this command takes: {quoted(words)}.")

    def _take(self, action: argparse.Action, given: list[str], into: argparse.Namespace, option: str | None) -> None:
        """Convert the words that belong to an option or argument, and note them."""
        try:
            values = [self._get_value(action, one) for one in given]
        except argparse.ArgumentError as error:
            self.error(f"{option or action.metavar} takes {error.message}.")
        for value in values:
            if action.choices is not None and value not in action.choices:
                choices = [str(choice) for choice in action.choices]
                self.error(
                    f"{option or f'`{self.prog}`'} takes {_either(choices)}, not {value}.{_meant(str(value), choices)}"
                )
        action(self, into, values if action.nargs in {0, "+", "*"} else values[0], option)


def _either(choices: list[str]) -> str:
    """Join the choices, the last one after `or`."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _make_none(name: str) -> None:
    raise AssertionError(name)


def quoted(words: Sequence[str]) -> str:
    """Return words as they are typed in a shell."""
    # For those who mistyped.
    import shlex  # noqa: PLC0415

    return shlex.join(words)


def _meant(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Return a space and a sentence with words similar to a mistyped one; empty if there
    are none.
    """
    # For those who mistyped.
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(word, [one for one in known if len(one) > 2], n=1)
    return f" Did you mean {' or '.join(near)}?" if near else ""
