"""Completion for shells: completion.

Owns: the scripts, made from the parser, so that they are never behind it.
Promises: asks nobody and opens no home; file names are completed by the shell itself.

Source: docs/client.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.arguments import to_send
from client.commands.output import Output

_PATHS: Final = frozenset({Path, to_send})
"""The types of arguments that are paths."""
_BASH: Final = """\
_messageu() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "${{COMP_WORDS[at]}}" in
            {commands}) command="${{COMP_WORDS[at]}}"; break ;;
        esac
    done
    case "${{COMP_WORDS[COMP_CWORD-1]}}" in
        # What follows is the user's own: bash offers files.
        {with_value}) COMPREPLY=(); return ;;
    esac
    local choices
    case "$command" in
{cases}
        *) choices="{all_commands} {options}" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}}
complete -o default -F _messageu messageu
"""
_FISH: Final = """\
function __messageu_command
    set -l words (commandline -opc)
    set -e words[1]
    set -l value no
    for word in $words
        if test $value = yes
            set value no
        else if contains -- $word {with_value}
            set value yes
        else if contains -- $word {commands}
            echo $word
            return
        end
    end
    return 1
end"""


def completion(output: Output, top: argparse.ArgumentParser, shell: str) -> int:
    """Print the script for a shell."""
    makers: dict[str, Callable[[argparse.ArgumentParser], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    script = makers[shell](top)
    output.data("completion", script.rstrip("\n"), shell=shell, script=script)
    return 0


def _words(top: argparse.ArgumentParser) -> tuple[list[str], dict[str, list[str]]]:
    """The options of the command as a whole, and for each subcommand its own words."""
    common = [option for action in top._actions for option in action.option_strings]
    commands: dict[str, list[str]] = {}
    for name, sub in _subcommands(top).items():
        commands[name] = [option for part in sub._actions for option in part.option_strings]
        commands[name] += [str(choice) for part in sub._actions for choice in part.choices or ()]
    return common, commands


def _subcommands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def _with_value(top: argparse.ArgumentParser) -> list[str]:
    """The options, of the whole and of all subcommands, that are followed by a value of their own."""
    actions = (action for one in (top, *_subcommands(top).values()) for action in one._actions)
    return list(dict.fromkeys(option for action in actions if action.nargs != 0 for option in action.option_strings))


def _bash(top: argparse.ArgumentParser) -> str:
    common, commands = _words(top)
    cases = "\n".join(f'        {name}) choices="{" ".join(words)}" ;;' for name, words in commands.items())
    return _BASH.format(
        commands="|".join(commands),
        cases=cases,
        all_commands=" ".join(commands),
        options=" ".join(common),
        with_value="|".join(_with_value(top)),
    )


def _zsh(top: argparse.ArgumentParser) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(top).replace(
        'mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")', 'COMPREPLY=($(compgen -W "$choices" -- "$word"))'
    )


def _fish(top: argparse.ArgumentParser) -> str:
    commands = _subcommands(top)
    lines = [_FISH.format(commands=" ".join(commands), with_value=" ".join(_with_value(top)))]
    (shown,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    lines += [
        _fish_line("not __messageu_command >/dev/null", f"-f -a {choice.dest}", choice.help)
        for choice in shown._choices_actions
    ]
    common = {option for action in top._actions for option in action.option_strings}
    for action in top._actions:
        lines += _fish_options("", action)
    for name, sub in commands.items():
        condition = f"contains -- {name} (__messageu_command)"
        own = [action for action in sub._actions if not common & set(action.option_strings)]
        # What stands without an option before it, and what comes behind the first value of one that takes many.
        if not any(action.type in _PATHS for action in own if not action.option_strings or action.nargs == "+"):
            lines.append(_fish_line(condition, "-f", None))
        for action in own:
            if action.choices:
                lines.append(_fish_line(condition, f"-f -a {_quoted(' '.join(map(str, action.choices)))}", action.help))
            lines += _fish_options(condition, action)
    return "\n".join(lines) + "\n"


def _fish_options(condition: str, action: argparse.Action) -> list[str]:
    value = "" if action.nargs == 0 else " -r -F" if action.type in _PATHS else " -x"
    forms = [f"-l {form[2:]}" if form.startswith("--") else f"-s {form[1:]}" for form in action.option_strings]
    return [_fish_line(condition, form + value, action.help) for form in forms]


def _fish_line(condition: str, what: str, meaning: str | None) -> str:
    where = f" -n {_quoted(condition)}" if condition else ""
    return f"complete -c messageu{where} {what}{f' -d {_quoted(meaning)}' if meaning else ''}"


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))
