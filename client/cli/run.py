"""Starts what the command line names, and turns every end into an exit code.

Owns: which command needs a server's address, and opening the home for it.
Promises: where nobody lives yet, nothing but `register` and `import` leaves anything behind; no
failure that was foreseen shows a traceback; a reader that went away is no failure to shout about.

Source: docs/client.md.
"""

import argparse
import os
from collections.abc import Callable

from client.cli import exit_codes
from client.cli.output import Output, drop_what_is_left
from client.cli.parser import CONSOLE, CONTACTS
from client.settings import Flags, Settings, taken_over, this_folder
from common.errors import ClientError, MessageUError, SettingRejected, ValueRejected
from common.info_files import DEFAULT_PORT, ServerAddress
from common.values import username

_WITHOUT_SERVER = frozenset({"whoami", "history"})
"""What asks no server, and only reads: on a full or read-only disk too."""


def run(options: argparse.Namespace) -> int:
    """Run a subcommand; give the exit code."""
    output = Output(as_json=options.json, quiet=options.quiet, sends=options.command == "send")
    try:
        if options.command in {None, CONSOLE}:
            raise SettingRejected(
                "The console speaks no JSON; for scripts there are the commands of `messageu --help`."
            )
        if options.command == "completion" and options.shell != CONTACTS:
            from client.cli.commands.completion import completion
            from client.cli.parser import parser

            return completion(output, parser(), options.shell)
        environment = taken_over(os.environ)
        settings = Settings(Flags.of(options), environment, this_folder())
        if options.command == "completion":
            from client.cli.commands.completion import contacts

            return contacts(output, settings.home, options.prefix)
        if options.command == "config":
            from client.cli.commands import account

            return account.config_show(settings, output)
        if options.command in {"export", "import"}:
            from client.cli.commands import export_import
            from client.identity import passphrase_source

            given = passphrase_source.named(options.passphrase_file, options.passphrase_command)
            if options.command == "export":
                return export_import.export_home(
                    output, settings.home, options.file, given, may_be_weak=options.weak_passphrase
                )
            # Before anything is imported, so that an address that is none is refused.
            server = settings.server() if settings.remembers_server() else None
            code = export_import.import_home(output, settings.home, options.file, given)
            # What the file brought along counts more than what lies in the present folder.
            if server is not None and settings.remembers_server():
                export_import.remember_server(output, settings.home, server)
            return code
        from client.identity.passphrase_source import PassphraseSource

        source = PassphraseSource(settings, environment)
        if options.command == "passphrase":
            from client.cli.commands.passphrase import passphrase_command

            new_file, new_command = options.new_passphrase_file, options.new_passphrase_command
            return passphrase_command(
                output, settings.home, options.what, source, new_file, new_command, may_be_weak=options.weak_passphrase
            )
        if options.command == "doctor":
            from client.cli.commands.doctor import Doctor

            return Doctor(settings, output, source).run()
        return _with_messenger(options, settings, output, source)
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


def _with_messenger(
    options: argparse.Namespace, settings: Settings, output: Output, passphrase: Callable[[], str]
) -> int:
    from client.identity.home import require_somebody
    from client.messenger import Messenger

    if options.command == "register":
        # A name that nobody can have leaves no trace.
        try:
            username(options.name)
        except ValueRejected as error:
            raise SettingRejected(f"Not registered: {error}. Choose another name.") from error
    else:
        # Rather than making a home for somebody who mistyped it.
        require_somebody(settings.home)
    # An address that is never used, for what asks no server.
    nowhere = ServerAddress("localhost", DEFAULT_PORT)
    asks_none = options.command in _WITHOUT_SERVER or (
        options.command == "watch" and (options.set_aside or options.retry)
    )
    address = nowhere if asks_none else settings.server()
    published_only = None if asks_none else settings.published_only()
    with Messenger.open(
        settings.home,
        address,
        settings.save_dir(),
        published_only=published_only,
        consent=output.may_prove,
        tell=output.say,
        passphrase=passphrase,
        remember_server=options.command == "register" and settings.remembers_server(),
        to_read=options.command in _WITHOUT_SERVER,
    ) as messenger:
        from client.cli.commands import account, letters

        if messenger.conversion is not None:
            output.say(messenger.conversion)
        match options.command:
            case "register":
                unnamed = settings.home if settings.home_by_default() else None
                return account.register(messenger, output, options.name, unnamed)
            case "whoami":
                return account.whoami(messenger, output)
            case "users":
                return account.users(messenger, output)
            case "key":
                return account.key(messenger, output, options.name)
            case "verify":
                from client.cli.commands import verify

                return verify.verify(
                    messenger,
                    output,
                    options.name,
                    options.safety_number,
                    qr=options.qr,
                    accept_new=options.accept_new,
                )
            case "send":
                from client.cli.commands.send import send

                text = " ".join(options.text) if options.text else None
                return send(
                    messenger,
                    output,
                    options.to,
                    text,
                    options.file,
                    from_input=options.from_input,
                    called=options.called,
                )
            case "recv":
                answer = settings.answer_key_requests()
                return letters.receive(messenger, output, options.wait, options.most, answer)
            case "chat":
                from client.cli.commands import chat

                signs = chat.Signs(settings.bell(), settings.title())
                return chat.chat(messenger, output, options.name, settings.answer_key_requests(), signs)
            case "watch":
                from client.cli.commands import watch

                if options.set_aside:
                    return watch.set_aside(messenger, output)
                hook = watch.hook_of(options.exec, options.timeout, options.tries)
                if options.retry:
                    return watch.retry(messenger, output, hook)
                tries = options.tries or watch.TRIES
                return watch.watch(messenger, output, hook, tries, settings.answer_key_requests())
            case "resend":
                from client.cli.commands import resend

                return resend.resend(messenger, output, options.name, forget=options.forget)
            case "history":
                return letters.history(messenger, output, options.name, options.search)
            case _:
                raise AssertionError(options.command)
