"""Which words of a command line are options, which are text: nothing that begins with a dash is
dropped silently.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, NamedTuple

import pytest

from client.__main__ import main
from client.cli.command_line import asks_for_json
from client.cli.parser import parser
from common.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path


class Sent(NamedTuple):
    """What `send` understood."""

    text: list[str]
    from_input: bool = False
    json: bool = False
    quiet: bool = False
    files: tuple[str, ...] = ()


def sent(line: str) -> Sent:
    options = parser().parse_args(shlex.split(line))
    assert (options.command, options.to) == ("send", ["bob"])
    return Sent(options.text, options.from_input, options.json, options.quiet, tuple(map(str, options.file)))


@pytest.mark.parametrize(
    ("line", "understood"),
    [
        ("send bob hello", Sent(["hello"])),
        ("send bob two words", Sent(["two", "words"])),
        ("send bob --quiet hello", Sent(["hello"], quiet=True)),
        ("send --quiet bob hello --json", Sent(["hello"], quiet=True, json=True)),
        ("--json send bob hello -q", Sent(["hello"], quiet=True, json=True)),
        ("send bob two --json words", Sent(["two", "words"], json=True)),
        ("send bob", Sent([], from_input=True)),
        ("send --json bob", Sent([], from_input=True, json=True)),
        ("send bob -", Sent([], from_input=True)),
        ("send bob - --json", Sent([], from_input=True, json=True)),
        ("send bob - --", Sent([], from_input=True)),
        ("send bob - milk", Sent(["-", "milk"])),
        ("send bob -1", Sent(["-1"])),
        ("send bob '- milk'", Sent(["- milk"])),
        ("send bob '-h is help'", Sent(["-h is help"])),
        ("send bob '--json is an option'", Sent(["--json is an option"])),
        ("send bob -->", Sent(["-->"])),
        ("send bob ---", Sent(["---"])),
        ("send bob ''", Sent([""])),
        ("send bob -- -h", Sent(["-h"])),
        ("send bob -- --help", Sent(["--help"])),
        ("send bob -- -x", Sent(["-x"])),
        ("send bob -- --json", Sent(["--json"])),
        ("send bob -- -", Sent(["-"])),
        ("send bob -- --", Sent(["--"])),
        ("send bob -- -1", Sent(["-1"])),
        ("send -- bob --", Sent(["--"])),
        ("-- send bob --json", Sent(["--json"])),
        ("send --json -- bob -q", Sent(["-q"], json=True)),
        ("send bob --file a b --quiet hello", Sent(["hello"], quiet=True, files=("a", "b"))),
        ("send bob hello --file a --file=b", Sent(["hello"], files=("a", "b"))),
        ("send bob --file a --json", Sent([], json=True, files=("a",))),
        ("send bob - --file a", Sent([], from_input=True, files=("a",))),
    ],
)
def test_what_a_line_sends(line: str, understood: Sent) -> None:
    assert sent(line) == understood


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("send bob -h", "-h is in the place of the text. To send it: `messageu send bob -- -h`."),
        ("send bob --help", "--help is in the place of the text. To send it: `messageu send bob -- --help`."),
        ("send bob --version", "--version is in the place of the text."),
        ("send bob hello -h", "`messageu send bob hello -- -h`"),
        ("send 'b ob' -h", "`messageu send 'b ob' -- -h`"),
        (
            "send bob -x",
            "There is no option -x. A word that is not an option goes after `--`: `messageu send bob -- -x`.",
        ),
        ("send bob -qh", "There is no option -qh."),
        ("send bob -h=x", "-h is in the place of the text."),
        ("send bob --json", "--json is in the place of the text. To send it: `messageu send bob -- --json`."),
        ("send bob -q", "-q is in the place of the text."),
        ("send bob --json --file a", "--json is in the place of the text."),
        ("send bob --server h:1", "--server is in the place of the text."),
        ("send bob --home", "--home takes DIR; a value that begins with a dash goes after =: `--home=-x`."),
        ("send bob --home --json", "`--home=--json`"),
        ("send bob --", "There is no text after `--`. To send `--` itself: `messageu send bob -- --`."),
        ("send bob --file a --", "There is no text after `--`."),
        ("send", "The argument NAME is missing."),
        ("send bob hi --to carol", "With --to every recipient is named so, and the text goes last:"),
        ("send --to bob -h", "-h is in the place of the text."),
        ("send --to bob --to 'c d' --json", "`messageu send --to bob --to 'c d' -- --json`"),
        ("send --to bob --", "To send `--` itself: `messageu send --to bob -- --`."),
        ("send --to", "--to takes NAME"),
        ("send --file a bob", "The argument NAME is missing; --file takes every word after it"),
        ("whoami --json=yes", "--json takes no value."),
        ("whoami you", "That is more than this command takes: you."),
        ("register", "The argument NAME is missing."),
        (
            "register -x",
            "There is no option -x. A word that is not an option goes after `--`: `messageu register -- -x`.",
        ),
        ("recv --wait soon", "--wait takes a number of seconds, not 'soon'."),
        ("recv --quite", "There is no option --quite. Did you mean --quiet? `messageu recv --help`"),
        ("hsitory", "There is no command hsitory. Did you mean history?"),
        ("xyz", "There is no command xyz. `messageu --help`"),
        ("completion bsh", "`messageu completion` takes bash, zsh, fish or contacts, not bsh. Did you mean bash?"),
        ("completion tcsh", "`messageu completion` takes bash, zsh, fish or contacts, not tcsh. `messageu completion"),
        ("config hide", "`messageu config` takes show, not hide."),
        ("history --search -x", "--search takes WORDS; a value that begins with a dash goes after =: `--search=-x`."),
        ("'\x1b[2J'", "There is no command "),
    ],
)
def test_what_is_refused_names_the_way(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    out, told = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    if told.startswith("{"):
        told = f"messageu: {json.loads(told)['text']}\n"
    assert told.startswith("messageu: ")
    assert sentence in told
    assert told.count("\n") == 1
    assert told.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("line", "to", "text", "from_input"),
    [
        ("send --to bob --to carol two words", ["bob", "carol"], ["two", "words"], False),
        ("send --to bob two --to carol words", ["bob", "carol"], ["two", "words"], False),
        ("send --to bob --to bob hello", ["bob"], ["hello"], False),
        ("send --to=-x -- --to", ["-x"], ["--to"], False),
        ("send --to bob", ["bob"], [], True),
        ("send --json --to bob --to carol -", ["bob", "carol"], [], True),
        ("send --to bob --file a --to carol", ["bob", "carol"], [], False),
    ],
)
def test_several_recipients(line: str, to: list[str], text: list[str], from_input: bool) -> None:
    options = parser().parse_args(shlex.split(line))
    assert (options.to, options.text, options.from_input) == (to, text, from_input)


def test_values_that_begin_with_a_dash() -> None:
    for line in ("history --search=-x", "history bob --search=--", "history --search='--json is' bob"):
        options = parser().parse_args(shlex.split(line))
        assert options.search == shlex.split(line.partition("=")[2])[0]
        assert not options.json
    assert str(parser().parse_args(["--home", "a", "send", "bob", "hi", "--home", "b"]).home) == "b"
    assert str(parser().parse_args(["--home", "a", "send", "bob", "hi"]).home) == "a"
    assert parser().parse_args(["verify", "bob", "--safety-number", "-1"]).safety_number == "-1"


@pytest.mark.parametrize(
    ("line", "answer"),
    [("whoami --json", True), ("--json send bob x", True), ("send bob -- --json", False), ("send bob x", False)],
)
def test_complaints_are_objects_where_json_is_an_option(line: str, answer: bool) -> None:
    assert asks_for_json(line.split()) is answer


def test_a_complaint_as_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["send", "bob", "--json"])
    found = json.loads(capsys.readouterr().err)
    assert (found["type"], found["code"], found["error"]) == ("error", 2, "usage")
    assert "`messageu send bob -- --json`" in found["text"]


@pytest.mark.parametrize("line", ["--help --json", "--json -h", "send --json --help", "recv -h --json"])
def test_help_as_an_object(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    found = json.loads(out)
    name = line.split(maxsplit=1)[0]
    assert {**found, "text": ""} == {
        "v": 1, "type": "help", "command": None if name.startswith("-") else name, "text": "",
    }  # fmt: skip
    assert found["text"].startswith("usage: messageu")


@pytest.mark.parametrize("line", ["--version --json", "whoami --json --version"])
def test_the_version_as_an_object(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == {
        "v": 1, "type": "version", "program": "messageu", "version": VERSION,
    }  # fmt: skip


def test_the_version_behind_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["whoami", "--version"])
    assert capsys.readouterr().out == f"messageu {VERSION}\n"


def test_the_commands_own_options_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in parser().commands().items():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown = capsys.readouterr().out
        own, general = shown.split("\ngeneral options:\n")
        assert "--home" not in own
        assert "--home DIR" in general
        for option in command._option_string_actions:
            assert (f"  {option}" in own or f", {option}" in own) is not (
                f"  {option}" in general or f", {option}" in general
            )
        assert general.split("\nexamples:\n")[1].splitlines() == [f"  {line}" for line in command.examples]


def test_every_example_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    top = parser()
    for name, of in {"": top, **top.commands()}.items():
        assert of.examples
        for line in of.examples:
            words = shlex.split(line.split("| ")[-1].partition(" > ")[0].removeprefix("source <(").removesuffix(")"))
            assert words[0] == "messageu"
            options = parser().parse_args(words[1:])
            assert options.command == (name or options.command or "console") or (name, options.command) == (
                "console",
                None,
            )
    assert capsys.readouterr() == ("", "")


def test_an_empty_text_is_not_taken_from_standard_input(
    tmp_path: Path, alice: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alice
    home = ["--home", str(tmp_path / "alice"), "--server", "127.0.0.1:1"]
    assert main([*home, "send", "bob", ""]) == 2
    assert "There is no text to send: it is empty." in capsys.readouterr().err
