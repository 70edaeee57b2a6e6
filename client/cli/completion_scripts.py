"""Completion for shells: completion.

Owns: the scripts, made from the parser, so that they are never behind it, and the names that they
offer.
Promises: asks no server and no person, and changes no home; file names are completed by the shell
itself. A home with a passphrase offers no names.
Exposure: the names are what others chose; the scripts never make a command of them.

Source: docs/client.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.cli.command_line import Parser
from client.cli.output import Output
from client.cli.values import to_send
from client.store.glance import names_beginning
from client.store.schema import STORE_FILE

_PATHS: Final = frozenset({Path, to_send})
"""The types of arguments that are paths."""
_NAME: Final = "NAME"
"""How the parser calls a word that is a user's name."""
_RECIPIENT: Final = "to"
"""The option whose value is one; the name of --name is that of a file."""
_BASH: Final = """\
_messageu() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="" at one value="" behind=0 name
    local home=()
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        one="${{COMP_WORDS[at]}}"
        if [[ "$one" == "=" ]]; then
            continue
        elif [[ -n "$value" ]]; then
            if [[ "$value" == "--home" ]]; then
                # As it was typed; what a shell would make of it, as far as that is safe.
                one="${{one//[\\\\\\"\\']/}}"
                [[ "$one" == "~/"* ]] && one="$HOME/${{one:2}}"
                home=(--home "$one")
            fi
            value=""
            continue
        fi
        case "$one" in
            {with_value}) value="$one" ;;
            # One word in zsh, three in bash.
            --home=*) home=(--home "${{one#--home=}}") ;;
            -*) ;;
            *)
                if [[ -n "$command" ]]; then
                    behind=$((behind + 1))
                else
                    case "$one" in
                        {commands}) command="$one" ;;
                    esac
                fi ;;
        esac
    done
    local choices="" people=""
    case "$value" in
        {with_name}) people=yes ;;
        "")
            case "$command" in
{cases}
                *) choices="{all_commands} {options}" ;;
            esac
            case "$command $behind" in
                {named}) people=yes ;;
            esac ;;
        # The user's own: the shell offers files.
        *) return ;;
    esac
    if [[ -n "$people" && "$word" != -* ]]; then
        # Names are what others chose: none is ever a part of a command.
        while IFS= read -r name; do
            COMPREPLY+=("$(printf %q "$name")")
        done < <(command messageu --quiet "${{home[@]}}" completion contacts -- "${{word//[\\\\\\"\\']/}}" 2> /dev/null)
        [[ ${{#COMPREPLY[@]}} -gt 0 ]] && return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}}
complete -o default -F _messageu messageu
"""
_FISH: Final = """\
function __messageu_words
    set -l words (commandline -opc)
    set -e words[1]
    set -l value no
    set -l command no
    for word in $words
        if test $value = yes
            set value no
        else if contains -- $word {with_value}
            set value yes
        else if test $command = yes
            string match -q -- '-*' $word; or echo $word
        else if contains -- $word {commands}
            set command yes
            echo $word
        end
    end
end
function __messageu_command
    set -l words (__messageu_words)
    test (count $words) -gt 0; and echo $words[1]
end
function __messageu_wants_name
    set -l words (__messageu_words)
    test (count $words) -eq 1; and contains -- $words[1] {named}
end
function __messageu_contacts
    type -q messageu; or return
    set -l home
    set -l words (commandline -opc)
    for at in (seq (count $words))
        if test $words[$at] = --home; and test (math $at + 1) -le (count $words)
            set home --home (string replace -r -- '^~/' $HOME/ $words[(math $at + 1)])
        else if string match -q -- '--home=*' $words[$at]
            set home (string replace -r -- '^--home=~/' --home=$HOME/ $words[$at])
        end
    end
    command messageu --quiet $home completion contacts -- (commandline -ct) 2> /dev/null
end"""


def completion(output: Output, top: Parser, shell: str) -> int:
    """Print the script for a shell."""
    makers: dict[str, Callable[[Parser], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    script = makers[shell](top)
    output.data("completion", script.rstrip("\n"), shell=shell, script=script)
    return 0


def contacts(output: Output, home: Path, prefix: str) -> int:
    """Print the names that this home knows and that begin so, one a line."""
    for name in names_beginning(home / STORE_FILE, prefix):
        output.data("contact", name, name=name)
    return 0


def _takes_names(sub: Parser) -> bool:
    """Whether the first word behind a command is the name of somebody who is known."""
    return any(not part.option_strings and part.metavar == _NAME for part in sub._actions)


def _named(top: Parser) -> list[str]:
    """The commands whose first word is somebody's name; a new name, of `register`, is
    nobody's yet.
    """
    return [name for name, sub in _subcommands(top).items() if name != "register" and _takes_names(sub)]


def _with_name(top: Parser) -> list[str]:
    """The options whose value is somebody's name."""
    actions = (action for sub in _subcommands(top).values() for action in sub._actions)
    return list(
        dict.fromkeys(form for action in actions if action.dest == _RECIPIENT for form in action.option_strings)
    )


def _words(top: Parser) -> tuple[list[str], dict[str, list[str]]]:
    """The options of the command as a whole, and for each subcommand its own words."""
    common = [option for action in top._actions for option in action.option_strings]
    commands: dict[str, list[str]] = {}
    for name, sub in _subcommands(top).items():
        commands[name] = [option for part in sub._actions for option in part.option_strings]
        commands[name] += [str(choice) for part in sub._actions for choice in part.choices or ()]
    return common, commands


def _subcommands(top: Parser) -> dict[str, Parser]:
    return top.commands()


def _with_value(top: Parser) -> list[str]:
    """The options, of the whole and of all subcommands, that are followed by a value of
    their own.
    """
    actions = (action for one in (top, *_subcommands(top).values()) for action in one._actions)
    return list(dict.fromkeys(option for action in actions if action.nargs != 0 for option in action.option_strings))


def _bash(top: Parser) -> str:
    common, commands = _words(top)
    cases = "\n".join(f'                {name}) choices="{" ".join(words)}" ;;' for name, words in commands.items())
    return _BASH.format(
        commands="|".join(commands),
        cases=cases,
        all_commands=" ".join(commands),
        options=" ".join(common),
        with_value="|".join(_with_value(top)),
        with_name="|".join(_with_name(top)),
        named="|".join(f'"{name} 0"' for name in _named(top)),
    )


def _zsh(top: Parser) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(top).replace(
        'mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")', 'COMPREPLY=($(compgen -W "$choices" -- "$word"))'
    )


def _fish(top: Parser) -> str:
    commands = _subcommands(top)
    named = _named(top)
    lines = [
        _FISH.format(commands=" ".join(commands), with_value=" ".join(_with_value(top)), named=" ".join(named)),
        _fish_line("__messageu_wants_name", "-f -a '(__messageu_contacts)'", None),
    ]
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
        # What stands without an option before it, and what comes behind the first value of one that
        # takes many.
        if not any(action.type in _PATHS for action in own if not action.option_strings or action.nargs == "+"):
            lines.append(_fish_line(condition, "-f", None))
        for action in own:
            if action.choices:
                lines.append(_fish_line(condition, f"-f -a {_quoted(' '.join(map(str, action.choices)))}", action.help))
            lines += _fish_options(condition, action)
    return "\n".join(lines) + "\n"


def _fish_options(condition: str, action: argparse.Action) -> list[str]:
    value = "" if action.nargs == 0 else " -r -F" if action.type in _PATHS else " -x"
    people = action.dest == _RECIPIENT
    value += " -a '(__messageu_contacts)'" if people else ""
    forms = [f"-l {form[2:]}" if form.startswith("--") else f"-s {form[1:]}" for form in action.option_strings]
    return [_fish_line(condition, form + value, action.help) for form in forms]


def _fish_line(condition: str, what: str, meaning: str | None) -> str:
    where = f" -n {_quoted(condition)}" if condition else ""
    return f"complete -c messageu{where} {what}{f' -d {_quoted(meaning)}' if meaning else ''}"


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))
