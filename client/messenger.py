"""The library's main class: register, users, keys, send, receive.

Owns: the interface for other programs. The parts of `client.open_home` do the work; each method
here documents what a program needs to know.
Promises: every failure is a `ClientError` or `InfoFileError` with a sentence for the user. A
private key is on disk before the server learns the public one; received mail is on disk before it
is handed out.
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

from collections.abc import Generator, Iterator
from os import PathLike
from pathlib import Path
from typing import Self

from client.configured_home import open_configured
from client.connection.handshake import Consent, Tell, if_registered_here
from client.connection.server_link import Progress
from client.identity.identity_files import Ask, Identity, nobody_asked
from client.mail.message_iterator import Messages
from client.messages import (
    ConversationSummary,
    Failed,
    FetchedKey,
    KeyReceived,
    KeyRequested,
    Received,
    Renewed,
    Resent,
    SavedFile,
    Sent,
    SentMessage,
    Text,
    UnknownKind,
    Unreadable,
)
from client.open_home import OpenHome, tell_nobody
from client.trust.blocking import Silenced
from client.trust.contacts import Contact
from client.trust.trust import Verification
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
    "Renewed",
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
    """One user's client. Use it from one thread, except for `interrupt`; each thread opens
    its own.
    """

    def __init__(self, home: OpenHome) -> None:
        # For the project's own programs and tests; other programs use the methods.
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
        """Open a home, making the folder (0700) and its store if they are missing.

        `server` is its address, also as HOST:PORT or as a link, messageu://PIN@HOST:PORT. A `~` at
        the beginning of a path is the user's home folder. Without `save_dir`, received files are
        saved in the temporary folder. `published_only`: whether the account keeps to the published
        protocol, for good; None leaves it as it was. `consent` is asked before the account's first
        proof, `tell` is called with what happens automatically, `passphrase` is asked if the home
        has one. `remember_server`: a registration writes the server's address into the home's
        server.info. `to_read`: if the home can't be written (a full or read-only disk), open a copy
        of its store in memory; reading works with it, and every change raises `StoreUnwritable`.

        Raises `StoreUnusable`, `PassphraseNeeded`, `PassphraseWrong`, `InfoFileError`, and
        `SettingRejected` if `published_only` comes too late, or something else can't be used.
        """
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
        """Open the home that the command `messageu` would use in this folder and environment. An
        argument replaces its option.

        Home, server, folder for received files and passphrase come from MESSAGEU_* variables,
        `config.toml`, `server.info` and the defaults, in the order of docs/client.md, "Settings"; a
        registration remembers the server as the command does. At a terminal a passphrase may be
        asked for. Raises what `open` raises, and `SettingRejected` or `InfoFileError` for a setting
        that can't be used.
        """
        return cls(open_configured(home, server, save_dir, published_only, consent, tell))

    @property
    def conversion(self) -> str | None:
        """A sentence for the user if opening the home has converted a store of an earlier version,
        else None.
        """
        return self.home.conversion

    def close(self) -> None:
        """Close the connection and the store."""
        self.home.close()

    def interrupt(self) -> None:
        """Stop the current call's exchange with the server, and all later ones until `resume`. The
        only method that another thread may call.
        """
        self.home.link.interrupt()

    def resume(self) -> None:
        """Allow exchanges again after `interrupt`, once the interrupted call has ended."""
        self.home.link.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who we are
    # ----------------------------------------------------------------------------------------------

    def is_registered(self) -> bool:
        """Whether there is an identity file in this home, usable or not."""
        return self.home.account.is_registered()

    def identity(self) -> Identity:
        """Return this home's user. Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`,
        `PassphraseWrong`.
        """
        return self.home.account.identity()

    def register(self, name: str) -> Identity:
        """Register under a name, complete a registration that was interrupted, or register again if
        the server has lost the account.

        Raises `AlreadyRegistered`, `ValueRejected` (the name), `ServerUnreachable`,
        `OutcomeUnknown`, `InvalidServerResponse`, `ServerAnsweredError`.
        """
        return self.home.registration.register(name)

    def ensure_registered(self, name: str) -> Identity:
        """Register this home under a name, unless it is already. Raises what `register` raises.

        Raises `AlreadyRegistered` if the home has an identity of another name.
        """
        return self.home.registration.ensure(name)

    # --- who is who
    # ----------------------------------------------------------------------------------------------

    def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered, in its order.

        Raises `ServerUnreachable`, `OutcomeUnknown`, `InvalidServerResponse`,
        `ServerAnsweredError`.
        """
        return self.home.directory.users()

    def contact(self, name: str) -> Contact:
        """Find a user by name, asking the server if the name is new.

        The own name is this account: what is sent to it is a note to oneself. Raises `NameUnknown`,
        and `KeyChanged` if the server gives another key or account than is known.
        """
        return self.home.directory.contact(name)

    def fetch_public_key(self, name: str) -> FetchedKey:
        """Ask the server for a user's public key. The first one is trusted.

        Raises `CipherError` if it is not a usable key, and what `contact` raises.
        """
        return self.home.directory.fetch_public_key(name)

    def verification(self, name: str) -> Verification:
        """Return the safety number with a user, after asking the server for their key.

        Raises what `fetch_public_key` raises.
        """
        return self.home.directory.verification(name)

    def accept_new_key(self, name: str, number: str | None = None) -> Verification:
        """Trust the id and key that the server gives now. Symmetric keys from before are no longer
        used for sending.

        With `number`, the safety number that was shown, raises `SafetyNumberDiffers` if the server
        has given another key since.
        """
        return self.home.directory.accept_new_key(name, number)

    def mark_verified(self, name: str, number: str | None = None) -> Verification:
        """Record that both sides saw the same safety number. Raises `KeyChanged`.

        With `number`, the safety number that was compared, raises `SafetyNumberDiffers` if another
        process has changed it since.
        """
        return self.home.directory.mark_verified(name, number)

    def fingerprint(self, name: str) -> str:
        """Return the SHA-256 of a contact's public key, in hex. Raises `NoPublicKey`."""
        return self.home.directory.fingerprint(name)

    def own_fingerprint(self) -> str:
        """Return the SHA-256 of this user's public key, in hex. Raises `NotRegistered`."""
        return self.home.directory.own_fingerprint()

    # --- whose messages are not wanted
    # ----------------------------------------------------------------------------------------------

    def block(self, name: str) -> Silenced:
        """Get no more messages from a sender, who is not told.

        It is in effect in this home at once. If `server_refuses` is set, the server keeps their
        messages away; otherwise they are dropped when they are fetched. Raises `NameUnknown`, and
        what `users` raises if the name is new.
        """
        contact, _ = self.home.blocking.block(name, blocked=True)
        return self.home.blocking.state(contact)

    def unblock(self, name: str) -> Silenced:
        """Let a blocked sender write again; what they sent in the meantime is gone. Raises what
        `block` raises.
        """
        contact, _ = self.home.blocking.block(name, blocked=False)
        return self.home.blocking.state(contact)

    def mute(self, name: str) -> Silenced:
        """Stop `watch` and `chat` from announcing a sender's messages. Raises what `block` raises.

        Their messages are received and kept, and this library returns them like any others: a
        program decides itself what it announces.
        """
        return self.home.blocking.state(self.home.blocking.mute(name, muted=True))

    def unmute(self, name: str) -> Silenced:
        """Let a muted sender's messages be announced again. Raises what `block` raises."""
        return self.home.blocking.state(self.home.blocking.mute(name, muted=False))

    def silenced(self) -> list[Silenced]:
        """Return the senders who are blocked or muted, by name. Asks no server."""
        return self.home.blocking.all()

    # --- symmetric keys
    # ----------------------------------------------------------------------------------------------

    def request_key(self, name: str) -> Sent:
        """Ask a user for a symmetric key (151). `send` makes and sends one by itself, so this is
        only needed to replace a key.
        """
        return self.home.key_exchange.request_key(name)

    def agree_on_key(self, name: str) -> bool:
        """Make sure that there is a symmetric key for a user. Returns whether one had to be made
        and sent, after fetching the public key.

        A new one is also made if the user has asked for one since. If it can't be sent now, and the
        account has signed in and met the user before, it waits in the outbox, ahead of what is sent
        under it.
        """
        return self.home.key_exchange.agree_on_key(name)

    def send_key(self, name: str) -> Sent:
        """Make a symmetric key and send it to a user whose public key is known (152). Raises
        `NoPublicKey`.
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

        If there is no symmetric key yet, one is made and sent first, under the public key that the
        server gives if the user is new. `progress` is called with the progress of sending,
        `preparing` with that of encrypting a file. What can't be sent now stays in the outbox if
        the failure's `kept` says so. Raises `ValueRejected` for a text that is empty or not valid
        Unicode, `NameUnknown`, `KeyChanged`, `FileUnreadable`, `OutboxFull`, `ServerAnsweredError`,
        `ServerUnreachable`, `OutcomeUnknown`.
        """
        return self.home.sending.send(name, content, progress, preparing)

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, after a new symmetric key if there is none.

        It is on disk when this returns. Raises `NoPublicKey`, `KeyChanged`, `OutboxFull`,
        `ValueRejected`.
        """
        return self.home.sending.keep_text(name, text)

    def keep_file(self, name: str, path: str | PathLike[str], progress: Progress | None = None) -> SentMessage:
        """Encrypt a file and put it into the outbox, as `keep_text` does with a text. Also raises
        `FileUnreadable`.
        """
        return self.home.sending.keep_file(name, Path(path), progress)

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits in the outbox, oldest first. Raises `ServerUnreachable`,
        `OutcomeUnknown`, `InvalidServerResponse`; `ServerAnsweredError` if the server refuses
        `watched`, for now or for good.
        """
        self.home.sending.send_waiting(watched, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Return the current state of a message that went through the outbox."""
        return self.home.sending.now(message)

    def failed(self) -> list[Failed]:
        """Return the messages that the server refused for good. They are kept, and not
        sent again.
        """
        return self.home.outbox.failed()

    # --- after a backup was restored
    # ----------------------------------------------------------------------------------

    def lost_count(self) -> int:
        """Return how many acknowledged messages are possibly lost, because the server was restored
        to an earlier state.

        Symmetric keys and requests for them count.
        """
        return self.home.resending.count()

    def resend(self, name: str | None = None, progress: Progress | None = None) -> Resent:
        """Send again what is possibly lost, to one user or to all, oldest first.

        Raises `NameUnknown`, `ServerUnreachable`, `OutcomeUnknown`, `InvalidServerResponse`; what
        was begun then waits in the outbox.
        """
        return self.home.resending.resend(name, progress)

    def forget_lost(self, name: str | None = None) -> int:
        """Remove the marks of what is possibly lost, for one user or for all, and send nothing.
        Returns how many messages were marked. Raises `NameUnknown`.
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
        """Fetch pending messages, and yield everything that was not received yet, oldest first.

        For scripts `messages` is simpler.

        With `most`, at most so many messages; the others stay for the next time. With
        `send_waiting`, the outbox is sent first. `progress` is called with the progress of
        fetching, `saving` with that of decrypting a file. If there is nothing, it waits up to
        `wait` seconds for mail; a server of the published protocol can't do that, and is asked
        once.

        A message counts as received when the caller asks for the next one, or sends True, which
        ends the iteration. Otherwise, for example if the program died, it is given once more, as
        `repeated`. What was fetched is given even if fetching fails half-way; the failure is raised
        after it. Raises `HomeInUse`, `ServerUnreachable`, `OutcomeUnknown`, `FileUnsaved` and
        others.
        """
        return self.home.receiving.receive(wait, progress, most, send_waiting=send_waiting, saving=saving)

    def messages(self, wait: float | None = 0.0) -> Messages:
        """Iterate over messages as they arrive, oldest first: `for message in
        messenger.messages(wait=60)`.

        The loop ends when nothing has arrived for `wait` seconds; with 0, after what is there now;
        with None, never. A message counts as received when the next one is asked for. If the loop
        is left by `break`, return or an exception, the last message is given again the next time,
        as `repeated`, unless `acknowledge` was called; a `with` around the loop acknowledges it if
        there was no exception:

            with messenger.messages(wait=60) as messages:
                for message in messages:
                    if wanted(message):
                        break

        Raises what `receive` raises: `ServerUnreachable`, `OutcomeUnknown`, `HomeInUse`,
        `FileUnsaved` and others.
        """
        return self.home.messages(wait)

    def seen(self, after: int = 0) -> Iterator[Received]:
        """Yield again what was received already, by whichever process of this home, after message
        number `after`.

        This lets one process follow another one that receives. Asks no server and changes nothing.
        """
        return self.home.inbox.seen(after)

    def history(self) -> list[Received | SentMessage]:
        """Return what was received and sent, in the order in which it happened here. Asks no server
        and changes nothing.
        """
        return self.home.history.all()

    def recent(self, contact: Contact, most: int) -> list[Received | SentMessage]:
        """Return the newest messages from and to one user, at most `most`, in the order of
        `history`, without those that wait in the outbox.
        """
        return self.home.history.recent(contact.client_id, most)

    def conversations(self) -> list[ConversationSummary]:
        """Return everybody to whom something was sent, or who sent something, latest first. Asks no
        server.

        Users whom the server never listed have no name, and are left out.
        """
        return self.home.history.conversations()
