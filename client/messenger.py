"""The library's face: register, users, keys, send, receive.

Owns: what another program can ask for. Each use case is a part of `client.open_home`, which puts
the packages of the client together; the method here says what a program needs to know of it.
Promises: every failure is a `ClientError` or `InfoFileError` with a sentence for a person. A
private key is on disk before the server hears of it; received mail is on disk before anybody sees
it.
Exposure: combines what a server says with what the home holds; the server may lie.

    from client.messenger import Messenger, Text

    with Messenger.open("alice", "127.0.0.1:1357") as alice:
        alice.ensure_registered("alice")
        alice.send("bob", "hello")
        for message in alice.messages():
            if isinstance(message.content, Text):
                print(message.sender_name, "says", message.content.text)

Source: docs/library.md, docs/client-protocol.md, docs/journeys.md.
"""

import os
from collections.abc import Generator, Iterator
from os import PathLike
from pathlib import Path
from typing import Self

from client.connection.handshake import Consent, Tell, if_registered_here
from client.connection.server_link import Progress
from client.errors import AlreadyRegistered
from client.identity.identity_files import Ask, Identity, nobody_asked
from client.identity.passphrase_source import PassphraseSource
from client.mail.message_iterator import Messages
from client.mail.outgoing_file import check_file
from client.mail.sending import plain_text
from client.messages import (
    ConversationSummary,
    Failed,
    FetchedKey,
    KeyReceived,
    KeyRequested,
    Received,
    Resent,
    SavedFile,
    Sent,
    SentMessage,
    Text,
    UnknownKind,
    Unreadable,
)
from client.open_home import OpenHome, tell_nobody
from client.settings import Flags, Settings, this_folder
from client.trust.blocking import Silenced
from client.trust.contacts import Contact
from client.trust.trust import Verification
from common.errors import ValueRejected
from common.server_address import ServerAddress

__all__ = [
    "Contact",
    "ConversationSummary",
    "Failed",
    "FetchedKey",
    "Identity",
    "KeyReceived",
    "KeyRequested",
    "Messages",
    "Messenger",
    "Received",
    "Resent",
    "SavedFile",
    "Sent",
    "SentMessage",
    "ServerAddress",
    "Silenced",
    "Text",
    "UnknownKind",
    "Unreadable",
    "Verification",
]


class Messenger:
    """One user's side of MessageU. Used from one thread, but for `interrupt`; each thread
    opens its own.
    """

    def __init__(self, home: OpenHome) -> None:
        # For the project's own programs and tests; what other programs need is a method.
        self.home = home

    @classmethod
    def open(
        cls,
        home: str | PathLike[str],
        server: ServerAddress | str,
        save_dir: str | PathLike[str] | None = None,
        *,
        published_only: bool | None = None,
        consent: Consent = if_registered_here,
        tell: Tell = tell_nobody,
        passphrase: Ask = nobody_asked,
        remember_server: bool = False,
        to_read: bool = False,
    ) -> Self:
        """Open a home. See `OpenHome.open`."""
        return cls(
            OpenHome.open(
                home, server, save_dir, published_only=published_only, consent=consent, tell=tell,
                passphrase=passphrase, remember_server=remember_server, to_read=to_read,
            )
        )  # fmt: skip

    @classmethod
    def from_environment(
        cls,
        *,
        home: str | PathLike[str] | None = None,
        server: ServerAddress | str | None = None,
        save_dir: str | PathLike[str] | None = None,
        published_only: bool | None = None,
        consent: Consent = if_registered_here,
        tell: Tell = tell_nobody,
    ) -> Self:
        """Open the home that the command would use in this folder and environment; an argument
        replaces its flag.

        Home, server, folder for received files and passphrase come from MESSAGEU_* variables,
        `config.toml`, `server.info` and the defaults, in the order of docs/client.md, "Settings"; a
        registration remembers the server as there. At a terminal a passphrase may be asked for.
        Raises as `open`, and `SettingRejected`, `InfoFileError` for a setting that can't be used.
        """
        flags = Flags(
            home=None if home is None else Path(home),
            server=server.link if isinstance(server, ServerAddress) else server,
            save_dir=None if save_dir is None else Path(save_dir),
            published_only=published_only,
        )
        environment = dict(os.environ)
        settings = Settings(flags, environment, this_folder())
        return cls.open(
            settings.home, settings.server(), settings.save_dir(), published_only=settings.published_only(),
            consent=consent, tell=tell, passphrase=PassphraseSource(settings, environment),
            remember_server=settings.remembers_server(),
        )  # fmt: skip

    @property
    def conversion(self) -> str | None:
        """A sentence for the user where opening the home converted a store of an earlier
        version, else None.
        """
        return self.home.conversion

    def close(self) -> None:
        """Close the connection and the store."""
        self.home.close()

    def interrupt(self) -> None:
        """End the exchange with the server, and whatever would follow: the one method
        that another thread may call.
        """
        self.home.link.interrupt()

    def resume(self) -> None:
        """Go on after `interrupt`, once what it ended has ended."""
        self.home.link.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who we are
    # ----------------------------------------------------------------------------------------------

    def is_registered(self) -> bool:
        """Whether there is an identity file in this home, usable or not. See
        `Account.is_registered`.
        """
        return self.home.account.is_registered()

    def identity(self) -> Identity:
        """Give this home's user. Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`,
        `PassphraseWrong`.

        See `Account.identity`.
        """
        return self.home.account.identity()

    def register(self, name: str) -> Identity:
        """Register under a name, or complete the registration that broke. See
        `Registration.register`.
        """
        return self.home.registration.register(name)

    def ensure_registered(self, name: str) -> Identity:
        """Have this home registered under a name, now or since earlier. Raises as `register`.

        `AlreadyRegistered` where the home has an identity of another name.
        """
        if not self.is_registered():
            return self.register(name)
        identity = self.identity()
        if identity.name != name:
            raise AlreadyRegistered(
                f"This home's user is {identity.name}, not {name}; an identity is not replaced.",
                "Use another home for another user.",
            )
        return identity

    # --- who is who
    # ----------------------------------------------------------------------------------------------

    def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered, in its order. See
        `Directory.users`.
        """
        return self.home.directory.users()

    def contact(self, name: str) -> Contact:
        """Find a user by name, asking the server where the name is new. See `Directory.contact`."""
        return self.home.directory.contact(name)

    def fetch_public_key(self, name: str) -> FetchedKey:
        """Ask the server for a user's public key; it is trusted where it is the first one.

        See `Directory.fetch_public_key`.
        """
        return self.home.directory.fetch_public_key(name)

    def verification(self, name: str) -> Verification:
        """Give the safety number with a user, after asking the server for their key.

        See `Directory.verification`.
        """
        return self.home.directory.verification(name)

    def accept_new_key(self, name: str, number: str | None = None) -> Verification:
        """Pin what the server names now. Nothing that was agreed on before is used for sending any
        more.

        See `Directory.accept_new_key`.
        """
        return self.home.directory.accept_new_key(name, number)

    def mark_verified(self, name: str, number: str | None = None) -> Verification:
        """Note that both sides saw the same safety number. Raises `KeyChanged`. See
        `Directory.mark_verified`.
        """
        return self.home.directory.mark_verified(name, number)

    def fingerprint(self, name: str) -> str:
        """Give the SHA-256 of a contact's public key, in hex. Raises `NoPublicKey`. See
        `Directory.fingerprint`.
        """
        return self.home.directory.fingerprint(name)

    def own_fingerprint(self) -> str:
        """Give the SHA-256 of our own public key, in hex. Raises `NotRegistered`. See
        `Directory.own_fingerprint`.
        """
        return self.home.directory.own_fingerprint()

    # --- whose messages are not wanted
    # ----------------------------------------------------------------------------------------------

    def block(self, name: str) -> Silenced:
        """Get nothing of a sender any more; nothing tells them.

        It holds in this home at once. The server keeps their messages away where `server_refuses`
        says so; else they are dropped when they are fetched. Raises `NameUnknown`, and what `users`
        raises where the name is new.
        """
        contact, _ = self.home.blocking.block(name, blocked=True)
        return self.home.blocking.state(contact)

    def unblock(self, name: str) -> Silenced:
        """Let a blocked sender write again; what they sent meanwhile is gone. Raises as `block`."""
        contact, _ = self.home.blocking.block(name, blocked=False)
        return self.home.blocking.state(contact)

    def mute(self, name: str) -> Silenced:
        """Have `watch` and `chat` announce nothing of a sender's. Raises as `block`.

        Their messages come and are kept, and this library gives them as those of others: what a
        program announces is its own affair.
        """
        return self.home.blocking.state(self.home.blocking.mute(name, muted=True))

    def unmute(self, name: str) -> Silenced:
        """Have a muted sender's messages announced again. Raises as `block`."""
        return self.home.blocking.state(self.home.blocking.mute(name, muted=False))

    def silenced(self) -> list[Silenced]:
        """Give those who are blocked or muted, by name. Asks no server."""
        return self.home.blocking.all()

    # --- symmetric keys
    # ----------------------------------------------------------------------------------------------

    def request_key(self, name: str) -> Sent:
        """Ask a user for a symmetric key (151). See `KeyExchange.request_key`."""
        return self.home.key_exchange.request_key(name)

    def agree_on_key(self, name: str) -> bool:
        """Have a symmetric key to send under; whether one had to be made and sent, after fetching
        the public key.

        See `KeyExchange.agree_on_key`.
        """
        return self.home.key_exchange.agree_on_key(name)

    def send_key(self, name: str) -> Sent:
        """Make a symmetric key and send it to a user whose public key is here (152). Raises
        `NoPublicKey`.

        See `KeyExchange.send_key`.
        """
        return self.home.key_exchange.send_key(name)

    # --- sending
    # ----------------------------------------------------------------------------------------------

    def send(
        self,
        name: str,
        content: str | PathLike[str] | bytes,
        *,
        progress: Progress | None = None,
        preparing: Progress | None = None,
    ) -> Sent:
        """Send a text (`str`), a file (a path, such as a `Path`), or the contents of a file
        (`bytes`) to a user.

        A symmetric key is made and sent first where there is none, with the public key that the
        server names where nothing is known of the user. `progress` is called with how far sending
        is, `preparing` how far a file is encrypted. What can't be sent now stays in the outbox
        where the failure's `kept` says so. Raises `ValueRejected` for an empty text and one that is
        no Unicode, `NameUnknown`, `KeyChanged`, `FileUnreadable`, `OutboxFull`,
        `ServerAnsweredError`, `ServerUnreachable`, `OutcomeUnknown`.
        """
        if content == "":
            raise ValueRejected("There is no text to send.")
        if not isinstance(content, str | bytes):
            path = Path(content)
            # Not even a key is sent for what can't be sent.
            check_file(path)
            self.agree_on_key(name)
            return self.home.sending.send_file(name, path, progress, preparing)
        if isinstance(content, str):
            plain_text(content)
        self.agree_on_key(name)
        if isinstance(content, str):
            return self.home.sending.send_text(name, content)
        return self.home.sending.send_bytes(name, content, progress, preparing)

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, behind a new symmetric key where there is none to send under.

        See `Sending.keep_text`.
        """
        return self.home.sending.keep_text(name, text)

    def keep_file(self, name: str, path: str | PathLike[str], progress: Progress | None = None) -> SentMessage:
        """Put a file into the outbox, encrypted, as `keep_text` does a text. Raises
        `FileUnreadable` too.

        See `Sending.keep_file`.
        """
        return self.home.sending.keep_file(name, Path(path), progress)

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits, the oldest first. Raises `ServerUnreachable`, `OutcomeUnknown`,
        `InvalidServerResponse`; `ServerAnsweredError` where the server does not take `watched` now,
        or ever.

        See `Sending.send_waiting`.
        """
        self.home.sending.send_waiting(watched, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Give the present state of a message that went through the outbox. See `Sending.now`."""
        return self.home.sending.now(message)

    def failed(self) -> list[Failed]:
        """Give the messages that the server refused for good; they are kept aside."""
        return self.home.outbox.failed()

    # --- after a backup was put back
    # ----------------------------------------------------------------------------------

    def lost_count(self) -> int:
        """Say how many acknowledged messages are possibly lost, because the server was put back to
        an earlier state.

        Symmetric keys and requests for them count.
        """
        return self.home.resending.count()

    def resend(self, name: str | None = None, progress: Progress | None = None) -> Resent:
        """Send again what is possibly lost, to one user or to all. See `Resending.resend`."""
        return self.home.resending.resend(name, progress)

    def forget_lost(self, name: str | None = None) -> int:
        """Take the marks of what is possibly lost away, and send nothing. See
        `Resending.forget`.
        """
        return self.home.resending.forget(name)

    # --- receiving
    # ----------------------------------------------------------------------------------------------

    def receive(
        self,
        wait: float = 0.0,
        progress: Progress | None = None,
        most: int | None = None,
        *,
        send_waiting: bool = True,
        saving: Progress | None = None,
    ) -> Generator[Received, bool | None]:
        """Fetch what waits at the server, and give everything that was not received yet, the oldest
        first.

        For scripts `messages` is simpler. See `Receiving.receive`.
        """
        return self.home.receiving.receive(wait, progress, most, send_waiting=send_waiting, saving=saving)

    def messages(self, wait: float | None = 0.0) -> Messages:
        """Iterate over what comes, the oldest first: `for message in messenger.messages(wait=60)`.

        The loop ends when nothing has come for `wait` seconds; with 0, behind what is there now;
        with None, never. A message counts as received when the next one is asked for. Left with
        `break`, return or an exception, the loop gives the last one again the next time, as
        `repeated`, unless `acknowledge` was called; a `with` around it acknowledges where no
        exception comes:

            with messenger.messages(wait=60) as messages:
                for message in messages:
                    if wanted(message):
                        break

        Raises what `receive` raises: `ServerUnreachable`, `OutcomeUnknown`, `HomeInUse`,
        `FileUnsaved` and others.
        """
        return self.home.messages(wait)

    def seen(self, after: int = 0) -> Iterator[Received]:
        """Give again what was received already, whoever received it for this home, behind message
        number `after`.

        So a process beside the one that receives can follow it. Asks no server and changes nothing.
        """
        return self.home.inbox.seen(after)

    def history(self) -> list[Received | SentMessage]:
        """Give what was received and sent, in the order in which it happened here. Asks
        nobody and changes nothing.
        """
        return self.home.history.all()

    def recent(self, contact: Contact, most: int) -> list[Received | SentMessage]:
        """Give the newest messages from and to one user, without those that wait. See
        `History.recent`.
        """
        return self.home.history.recent(contact.client_id, most)

    def conversations(self) -> list[ConversationSummary]:
        """Give everybody to whom something was sent, or who sent something, the latest first. Asks
        no server.

        See `History.conversations`.
        """
        return self.home.history.conversations()
