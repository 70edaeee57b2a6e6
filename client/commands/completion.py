"""Completion for shells: completion.

Owns: the scripts, made from the parser, so that they are never behind it.
Promises: asks nobody and opens no home; file names are completed by the shell itself.

Source: docs/client.md.
"""

import argparse
from collections.abc import Callable
from typing import Final

from client.commands.output import Output

_BASH: Final = """\
_messageu() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "${{COMP_WORDS[at]}}" in
            {commands}) command="${{COMP_WORDS[at]}}"; break ;;
        esac
    done
    local choices
    case "$command" in
{cases}
        *) choices="{all_commands} {options}" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}}
complete -o default -F _messageu messageu
"""


def completion(output: Output, top: argparse.ArgumentParser, shell: str) -> int:
    """Print the script for a shell."""
    common, commands = _words(top)
    makers: dict[str, Callable[[list[str], dict[str, list[str]]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    script = makers[shell](common, commands)
    output.data("completion", script.rstrip("\n"), shell=shell, script=script)
    return 0


def _words(top: argparse.ArgumentParser) -> tuple[list[str], dict[str, list[str]]]:
    """The options of the command as a whole, and for each subcommand its own words."""
    common = [option for action in top._actions for option in action.option_strings]
    commands: dict[str, list[str]] = {}
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                commands[name] = [option for part in sub._actions for option in part.option_strings]
                commands[name] += [str(choice) for part in sub._actions for choice in part.choices or ()]
    return common, commands


def _bash(common: list[str], commands: dict[str, list[str]]) -> str:
    cases = "\n".join(f'        {name}) choices="{" ".join(words)}" ;;' for name, words in commands.items())
    return _BASH.format(
        commands="|".join(commands), cases=cases, all_commands=" ".join(commands), options=" ".join(common)
    )


def _zsh(common: list[str], commands: dict[str, list[str]]) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(common, commands).replace(
        'mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")', 'COMPREPLY=($(compgen -W "$choices" -- "$word"))'
    )


def _fish(common: list[str], commands: dict[str, list[str]]) -> str:
    lines = [f"complete -c messageu -n __fish_use_subcommand -a '{' '.join([*commands, *common])}'"]
    lines += [
        f"complete -c messageu -n '__fish_seen_subcommand_from {name}' -a '{' '.join(words)}'"
        for name, words in commands.items()
    ]
    return "\n".join(lines) + "\n"
