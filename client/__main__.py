"""The command `messageu`, also `python -m client`: the numbered console, or a subcommand.

Owns: the choice between the two; putting the console together.
Promises: if the console can't start, it prints one sentence on stderr and exits with code 2;
nothing heavy is imported before the command line is understood.

Source: README.md, docs/client.md.
"""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from client.cli.command_line import asks_for_json
from client.cli.parser import CONSOLE, parser
from client.terminal import sigint
from common.process_limits import forbid_core_dumps, forbid_looking

EXIT_UNUSABLE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    try:
        sigint.install()
        if arguments is None:
            sigint.install_end()
            # Its memory holds the private key and decrypted content.
            forbid_core_dumps()
            forbid_looking()
        return _run(arguments)
    except sigint.Ended as ended:
        sigint.die_of(ended.number)
        raise
    except ModuleNotFoundError as error:
        from common.packages import end_without

        end_without(error, EXIT_UNUSABLE)
    except KeyboardInterrupt:
        # Ctrl-C while modules were still being imported: nothing was begun, and nothing is there
        # yet to report it. Or a second one, while the first was being reported.
        return EXIT_INTERRUPTED
    finally:
        if arguments is None:
            # This is the program itself, which ends here.
            sigint.over()


def _run(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    options = parser(as_json=asks_for_json(words)).parse_args(words)
    _open_what_is_closed()
    _forgive(sys.stdin, "surrogateescape")
    _forgive(sys.stdout, "backslashreplace")
    _forgive(sys.stderr, "backslashreplace")
    if options.command in {None, CONSOLE} and not options.json:
        return _console(options)
    from client.cli.run import run

    return run(options)


def _console(options: argparse.Namespace) -> int:
    from client.identity.home import what_is_there
    from client.identity.passphrase_source import PassphraseSource
    from client.open_home import OpenHome
    from client.settings import Flags, Settings, taken_over, this_folder
    from client.terminal.console import Console
    from client.terminal.menu import Menu
    from common.errors import MessageUError

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(sys.stdin, sys.stdout, terminal=terminal)
    try:
        environment = taken_over(os.environ)
        settings = Settings(Flags.of(options), environment, this_folder(), published=True)
        address = settings.server()
        save_dir, published_only = settings.save_dir(), settings.published_only()
        passed_over = settings.passed_over() if terminal else None
        if passed_over is not None:
            print(
                f"messageu: This folder has a server.info, so the console's home is here; "
                f"for the one in your data folder use --home {shlex.quote(str(passed_over))}",
                file=sys.stderr,
            )
        with contextlib.ExitStack() as opened:

            def open_home() -> OpenHome:
                opened_home = opened.enter_context(
                    OpenHome.open(
                        settings.home,
                        address,
                        save_dir,
                        published_only=published_only,
                        consent=console.may_prove,
                        tell=console.say,
                        passphrase=PassphraseSource(settings, environment),
                        remember_server=settings.remembers_server(),
                    )
                )
                if opened_home.conversion is not None:
                    # The published console does not print this.
                    print(f"messageu: {opened_home.conversion}", file=sys.stderr)
                return opened_home

            # Without an identity, nothing is created before a registration.
            home = open_home() if what_is_there(settings.home) is not None else None
            return Menu(home, open_home, console, settings.home if settings.home_by_default() else None).run()
    except KeyboardInterrupt:
        console.interrupted()
        return EXIT_INTERRUPTED
    except OSError as error:
        # The reader of our output has gone, or its disk is full; what was not printed is shown next
        # time. Nothing may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"messageu: The output can't be written ({error.strerror}).", file=sys.stderr)
        return 1
    except MessageUError as error:
        print(f"messageu: {error.told()}", file=sys.stderr)
        return EXIT_UNUSABLE


def _open_what_is_closed() -> None:
    """Make sure that all three standard streams are open, so that no file of ours gets the
    descriptor of a closed one.

    Reading then returns nothing, and prose is lost. Printing data fails, as it would on a full
    disk.
    """
    for number, name, flags, mode in (
        (0, "stdin", os.O_RDONLY, "r"),
        (1, "stdout", os.O_RDONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, flags)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _forgive(stream: TextIO, errors: str) -> None:
    """Replace characters that the terminal's encoding lacks, rather than fail."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=errors)


if __name__ == "__main__":
    sys.exit(main())
