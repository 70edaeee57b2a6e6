"""Runs the command that the command line names, and turns every end into an exit code.

Owns: that turn.
Promises: no failure that was foreseen shows a traceback; a reader that went away is no failure to
shout about.

Source: docs/client.md.
"""

import argparse

from client.cli import exit_codes
from client.cli.call import Call
from client.cli.output import Output, drop_what_is_left
from client.cli.parser import CONSOLE
from client.cli.table import load, named
from client.errors import ClientError
from common.errors import MessageUError


def run(options: argparse.Namespace) -> int:
    """Run a command; give the exit code."""
    command = load(named(options.command or CONSOLE))
    output = Output(as_json=options.json, quiet=options.quiet, sends=command.sends)
    try:
        return command.run(Call(options, output))
    except KeyboardInterrupt:
        output.interrupted()
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone.
        drop_what_is_left()
        return exit_codes.UNEXPECTED
    except MessageUError as error:
        return output.failure(error)
    except OSError as error:
        # Where nobody has better words for it.
        return output.failure(
            ClientError(f"The system refused: {error}.", "Check the folder, its permissions and the disk.")
        )
