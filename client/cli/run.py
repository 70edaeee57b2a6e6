"""Runs the command that the command line names, and turns every outcome into an exit code. Owns:
that conversion. Promises: no foreseen failure shows a traceback; a reader of the output that went
away causes no message.

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
    """Run a command; return the exit code."""
    command = load(named(options.command or CONSOLE))
    output = Output(as_json=options.json, quiet=options.quiet, sends=command.sends)
    try:
        return command.run(Call(options, output))
    except KeyboardInterrupt:
        output.interrupted()
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone.
        drop_what_is_left()
        return exit_codes.UNEXPECTED
    except MessageUError as error:
        return output.failure(error)
    except OSError as error:
        # For errors that no other code puts into words.
        return output.failure(
            ClientError(f"The system refused: {error}.", "Check the folder, its permissions and the disk.")
        )
