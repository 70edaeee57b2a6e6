"""The numbered menu, as published.

Owns: which number does what, which questions it asks, and how a failure is shown. Promises: after
any failure, the menu is shown again; the end of the input ends the program as 0 does. At a
terminal, Ctrl-D at a question returns to the menu, and an unknown name is reported before anything
else is asked. On a pipe each choice reads the same lines whatever happens, so that a script stays
in step. Exposure: used by a person or a script.

Source: docs/client-protocol.md, "The console".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.errors import InvalidServerResponse, NoPublicKey, NoSharedKey, ServerAnsweredError
from client.identity.home import home_sentence
from client.identity.identity_files import no_identity
from client.mail.outgoing_file import meant
from client.messages import Sent
from client.open_home import OpenHome
from client.terminal.console import Console, EndOfInput
from client.terminal.sanitize import command
from common.errors import MessageUError, ValueRejected
from common.names import any_username, normal_form

MENU: Final = """\
MessageU client at your service.
110) Register
120) Request for clients list
130) Request for public key
140) Request for waiting messages
150) Send a text message
151) Send a request for symmetric key
152) Send your symmetric key
153) Send a file
 0) Exit client
?"""
EXIT_INTERRUPTED: Final = 130
_ASK_NAME: Final = "User name:"
_EXIT: Final = "0"


class Menu:
    """Offers the choices until the user leaves. `home` is None if there is no home yet: then
    `open_home` is called for the first registration. `unnamed_home` is the home if the user did not
    name it: a registration prints where it is.
    """

    def __init__(
        self,
        home: OpenHome | None,
        open_home: Callable[[], OpenHome],
        console: Console,
        unnamed_home: Path | None = None,
    ) -> None:
        self._opened = home
        self._open_home = open_home
        self._console = console
        self._unnamed_home = unnamed_home
        self._actions: dict[str, Callable[[], None]] = {
            "110": self._register,
            "120": self._list_users,
            "130": self._fetch_public_key,
            "140": self._receive,
            "150": self._send_text,
            "151": self._request_key,
            "152": self._send_key,
            "153": self._send_file,
        }

    def run(self) -> int:
        """Serve choice after choice; return the exit code."""
        while True:
            try:
                self._console.say_block(MENU)
                choice = self._console.choose({*self._actions, _EXIT}).strip()
            except EndOfInput:
                return 0
            except KeyboardInterrupt:
                self._console.interrupted()
                return EXIT_INTERRUPTED
            if choice == _EXIT:
                return 0
            action = self._actions.get(choice)
            if action is not None:
                try:
                    action()
                except EndOfInput:
                    # A terminal that has gone gives no choice either.
                    if not self._console.terminal:
                        return 0
                except KeyboardInterrupt:
                    self._console.interrupted()
                except MessageUError as error:
                    self._tell(error)
                except BrokenPipeError:
                    # The output has no reader any more.
                    raise
                except OSError as error:
                    self._console.say(f"The system refused: {error}.")
            elif choice:
                self._console.say(f"There is no choice {choice}.")

    def _tell(self, error: MessageUError) -> None:
        if isinstance(error, ServerAnsweredError | InvalidServerResponse):
            self._console.say("Server responded with an error")
            self._console.say(error.told())
            return
        self._console.say(str(error))
        if error.advice:
            self._console.say(error.advice)

    @property
    def _home(self) -> OpenHome:
        """Return the home. Raises `NotRegistered` if there is none yet."""
        if self._opened is None:
            raise no_identity()
        return self._opened

    # --- the choices
    # ------------------------------------------------------------------------------------------

    def _register(self) -> None:
        if self._opened is not None and not self._opened.account.is_registered():
            pending = self._opened.account.pending_name()
            if pending is not None:
                self._console.say(f"The registration of {pending} is not complete yet; enter {pending} to complete it.")
        name = self._console.ask(_ASK_NAME).strip()
        try:
            if self._opened is None:
                any_username(normal_form(name))
                self._opened = self._open_home()
            identity = self._opened.registration.register(name)
        except ValueRejected as error:
            self._console.say(f"Not registered: {error}.")
            return
        self._console.say(f"Registered as {identity.name}.")
        if self._unnamed_home is not None:
            self._console.say(home_sentence(self._unnamed_home))

    def _list_users(self) -> None:
        users = self._home.directory.users()
        for user in users:
            self._console.say_name(user.name)
        if not users:
            self._console.say("Nobody else is registered.")

    def _fetch_public_key(self) -> None:
        fetched = self._home.directory.fetch_public_key(self._ask_name())
        self._console.say(f"The public key of {fetched.contact.name} is here.")
        if fetched.changed:
            self._console.say(
                "It is not the one that was here before, and nothing is sent until you accept it: "
                f"compare with {command('verify', fetched.contact.name)}, accept with --accept-new."
            )

    def _receive(self) -> None:
        shown = 0
        with self._console.transfer("Receiving") as progress, self._console.transfer("Decrypting") as saving:
            for message in self._home.receiving.receive(progress=progress, saving=saving):
                self._console.show(message)
                shown += 1
        if not shown:
            self._console.say("No messages wait.")

    def _send_text(self) -> None:
        name = self._ask_recipient()
        text = self._console.ask("Text:")
        if not text:
            self._console.say("The text is empty; nothing is sent.")
            return
        self._with_shared_key(name, lambda: self._home.sending.send_text(name, text))

    def _request_key(self) -> None:
        sent = self._home.key_exchange.request_key(self._ask_name())
        self._console.say(f"{sent.recipient.name} is asked for a symmetric key.")

    def _send_key(self) -> None:
        name = self._ask_name()
        self._make_and_send_key(name)

    def _send_file(self) -> None:
        name = self._ask_recipient()
        answer = self._console.ask("Path of the file:")
        path = meant(answer.strip())
        with self._console.transfer("Encrypting") as preparing, self._console.transfer("Sending") as progress:
            self._with_shared_key(name, lambda: self._home.sending.send_file(name, path, progress, preparing))

    # --- helpers
    # ----------------------------------------------------------------------------------------------

    def _ask_name(self) -> str:
        return self._console.ask(_ASK_NAME).strip()

    def _ask_recipient(self) -> str:
        """Ask for a name before anything else; at a terminal, an unknown name is reported
        at once.
        """
        name = self._ask_name()
        if self._console.terminal:
            self._home.directory.contact(name)
        return name

    def _with_shared_key(self, name: str, send: Callable[[], Sent]) -> None:
        try:
            sent = send()
        except NoSharedKey as error:
            if not self._console.confirm(f"{error} Make one and send it first?"):
                raise
            if self._home.key_exchange.agree_on_key(name) and not self._home.outbox.waiting_count():
                self._console.say(f"A new symmetric key is made and sent to {name}.")
            sent = send()
        self._console.say(f"Sent to {sent.recipient.name}.")

    def _make_and_send_key(self, name: str) -> None:
        try:
            sent = self._home.key_exchange.send_key(name)
        except NoPublicKey:
            # A script fetches it itself, with 130, as in the published flow; a person need not.
            if not self._console.terminal:
                raise
            self._home.directory.fetch_public_key(name)
            sent = self._home.key_exchange.send_key(name)
        self._console.say(f"A new symmetric key is made and sent to {sent.recipient.name}.")
