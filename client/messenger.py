"""The use cases: register, users, keys, send, receive. The library's face.

Owns: what a caller can ask for, and the rooms behind it, put together:
`client.identity.registration`, `client.trust.directory` (who is who), `client.trust.key_exchange`
(symmetric keys), `client.mail.sending`, `client.mail.receiving`, `client.mail.history`.
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
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from os import PathLike
from pathlib import Path
from typing import Final, Self

from client import paths
from client.client_context import ClientContext
from client.connection import server_file
from client.connection.handshake import Consent, Greeting, Tell, if_registered_here
from client.connection.retry import PAUSES, Retry
from client.connection.server_link import REPLY_TIMEOUT, Progress, ServerLink
from client.crypto.ciphers import PrivateKey, RandomBytes
from client.errors import AlreadyRegistered, ClientError, StoreUnwritable
from client.identity import identity_files
from client.identity.account import Account
from client.identity.home import open_store
from client.identity.identity_files import Ask, Identity, nobody_asked
from client.identity.passphrase_source import PassphraseSource
from client.identity.registration import Registration
from client.mail import received_files
from client.mail.history import History
from client.mail.inbox import Inbox
from client.mail.message_iterator import Messages
from client.mail.outbox import Outbox
from client.mail.outgoing_file import check_file
from client.mail.receiving import Receiving
from client.mail.resending import Resending
from client.mail.send_path import SendPath
from client.mail.sending import Sending, plain_text
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
from client.settings import Flags, Setting, Settings, address_of, expanded, this_folder
from client.store.home_store import Store
from client.terminal import local_time
from client.trust.contacts import Contact, Contacts
from client.trust.directory import Directory
from client.trust.key_exchange import KeyExchange
from client.trust.trust import Trust, Verification
from common.client_protocol.versions import Feature
from common.errors import SettingRejected, ValueRejected
from common.server_address import ServerAddress
from common.values import Username

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
    "Text",
    "UnknownKind",
    "Unreadable",
    "Verification",
]

_WATCH_CURSOR: Final = "watch_cursor"
_TRIES: Final = "watch_tries:"
_ASIDE: Final = "watch_aside:"
"""Each is followed by the number of a message, in 16 digits."""

Clock = Callable[[], float]
"""Gives the Unix time in seconds."""


def tell_nobody(_: str) -> None:
    """For scripts that look at what methods return and raise."""


class Messenger:
    """One user's side of MessageU. Used from one thread, but for `interrupt`; each thread
    opens its own.
    """

    def __init__(
        self,
        home: Path,
        server: ServerAddress,
        store: Store,
        *,
        save_dir: Path,
        consent: Consent = if_registered_here,
        tell: Tell = tell_nobody,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        random_bytes: RandomBytes = os.urandom,
        new_private_key: Callable[[RandomBytes], PrivateKey] = PrivateKey.generate,
        reply_timeout: float = REPLY_TIMEOUT,
        pauses: Sequence[float] = PAUSES,
        passphrase: Ask = nobody_asked,
        identity: Identity | None = None,
        remember_server: bool = False,
        says_lost: bool = True,
    ) -> None:
        if store.sealing.is_locked:
            store.sealing.unlock(passphrase())
        self._passphrase = passphrase
        self._home = home
        self._save_dir = save_dir
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._tell = tell
        self._account = Account(home, store, passphrase, random_bytes, identity)
        self._contacts = Contacts(store)
        self._greeting = Greeting(store, self._account.identity_or_none, consent, tell, self._now, says_lost=says_lost)
        self._link = ServerLink(
            server, reply_timeout=reply_timeout, greet=self._greeting.greet, tell=tell, monotonic=monotonic
        )
        self._insistence = Retry(self._link.rest, tell, pauses)
        self._outbox = Outbox(store, self._link, self._contacts, tell, self._now, random_bytes)
        self._trust = Trust(store, self._account.me, self._now, tell)
        self._inbox = Inbox(
            store, self._link, self._contacts, self._account.identity, home, save_dir, self._now,
            self._trust.is_verified,
        )  # fmt: skip
        self._history = History(store, self._contacts, self._inbox)
        line = ClientContext(self._account, store, self._link, self._greeting)
        self._registration = Registration(
            line, lambda: new_private_key(random_bytes), self._remember if remember_server else lambda: None, tell
        )
        self._directory = Directory(self._account, store, self._link, self._contacts, self._trust)
        self._dispatch = SendPath(line, self._contacts, self._outbox, self._insistence, tell, self._now)
        self._agreement = KeyExchange(
            store, self._contacts, self._directory, self._dispatch, self._outbox, self._greeting
        )
        self._sending = Sending(
            line, self._contacts, self._directory, self._agreement, self._dispatch, self._outbox, self._history,
            self._insistence,
        )  # fmt: skip
        self._resending = Resending(line, self._contacts, self._trust, self._outbox, self._history, self._insistence)
        self._receiving = Receiving(
            line, self._inbox, self._outbox, self._insistence, self._directory.look_up_names, self._now, monotonic
        )

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
        """Open a home, making the folder (0700) and its store where they are missing.

        `server` is its address, also as HOST:PORT. A `~` at the beginning of a path is the user's
        home folder. Without `save_dir` received files are saved in the temporary folder.
        `published_only`: whether the account keeps to the published protocol, for good; None leaves
        it as it was. What a process that was killed left half-written in `save_dir` is removed.
        `remember_server`: a registration writes the server's address into the home's server.info.
        `consent` is asked before the account's first proof, `tell` is told what happens by itself,
        `passphrase` is asked where the home has one. `to_read`: where the home can't be written (a
        full or read-only disk), a copy in memory of its store is opened. What only reads works with
        it, and every change raises `StoreUnwritable`; see `unwritable`. Raises `StoreUnusable`,
        `PassphraseNeeded`, `PassphraseWrong`, `InfoFileError`, and `SettingRejected` where
        `published_only` comes too late, or something else can't be used.
        """
        address = address_of("server", server) if isinstance(server, str) else server
        home = expanded(Setting("home", os.fspath(home), "home"))
        folder = expanded(Setting("save_dir", os.fspath(save_dir or paths.temporary_folder()), "save_dir"))
        with suppress(OSError):
            # The store says it better.
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = open_store(home, to_read=to_read)
        try:
            messenger = cls(
                home, address, store, save_dir=folder, consent=consent, tell=tell, passphrase=passphrase,
                remember_server=remember_server,
            )  # fmt: skip
        except BaseException:
            store.close()
            raise
        try:
            if published_only is not None:
                messenger.published_only(wanted=published_only)
            received_files.sweep(folder)
        except BaseException:
            messenger.close()
            raise
        return messenger

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
        """Open the home that the command would use in this folder and environment; what is given
        stands for its flag.

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
        return self._store.conversion

    def another(self, tell: Tell) -> Self:
        """Open the same home once more, for the thread that calls this; no passphrase is asked, nor
        for consent.

        What is possibly lost after a backup was put back is not told, but counted by `lost_count`.

        Raises `StoreUnusable`.
        """
        store = self._store.another()
        try:
            opened = type(self)(
                self._home,
                self._link.address,
                store,
                save_dir=self._save_dir,
                tell=tell,
                passphrase=self._passphrase,
                identity=self._account.loaded,
                says_lost=False,
            )
        except BaseException:
            store.close()
            raise
        return opened

    def published_only(self, *, wanted: bool) -> None:
        """Choose whether this account keeps to the published protocol.

        Raises `SettingRejected` where it has proven itself before.
        """
        if wanted and self._greeting.has_proven:
            raise SettingRejected(
                "--published-only comes too late: this account has proven itself, and the server insists on that. "
                "Its operator can take it back with scripts/admin unprove NAME."
            )
        self._greeting.published_only(wanted=wanted)

    def close(self) -> None:
        """Close the connection and the store."""
        self._link.close()
        self._store.close()

    def hang_up(self) -> None:
        """Close the connection; the next request opens another one."""
        self._link.close()

    def interrupt(self) -> None:
        """End what goes on with the server, and whatever would follow: the one method
        that another thread may call.
        """
        self._link.interrupt()

    def resume(self) -> None:
        """Go on after `interrupt`, once what it ended has ended."""
        self._link.resume()

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
        return self._account.is_registered()

    def identity(self) -> Identity:
        """Give this home's user. Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`,
        `PassphraseWrong`.

        See `Account.identity`.
        """
        return self._account.identity()

    def pending_name(self) -> Username | None:
        """Give the name whose registration was begun and not ended. Raises `InfoFileError`."""
        return self._account.pending_name()

    def register(self, name: str) -> Identity:
        """Register under a name, or complete the registration that broke. See
        `Registration.register`.
        """
        return self._registration.register(name)

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

    @property
    def has_proven(self) -> bool:
        """Whether this identity has proven itself to its server at some time."""
        return self._greeting.has_proven

    # --- who is who
    # ----------------------------------------------------------------------------------------------

    def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered, in its order. See
        `Directory.users`.
        """
        return self._directory.users()

    def contact(self, name: str) -> Contact:
        """Find a user by name, asking the server where the name is new. See `Directory.contact`."""
        return self._directory.contact(name)

    def fetch_public_key(self, name: str) -> FetchedKey:
        """Ask the server for a user's public key; it is trusted where it is the first one.

        See `Directory.fetch_public_key`.
        """
        return self._directory.fetch_public_key(name)

    def meet(self, name: str) -> Contact:
        """Find a user and have a public key of his, asking the server for what is not known yet.

        See `Directory.meet`.
        """
        return self._directory.meet(name)

    def verification(self, name: str) -> Verification:
        """Give the safety number with a user, after asking the server what it names for him now.

        See `Directory.verification`.
        """
        return self._directory.verification(name)

    def accept_new_key(self, name: str, number: str | None = None) -> Verification:
        """Pin what the server names now. Nothing that was agreed on before is used for sending any
        more.

        See `Directory.accept_new_key`.
        """
        return self._directory.accept_new_key(name, number)

    def mark_verified(self, name: str, number: str | None = None) -> Verification:
        """Note that both sides saw the same safety number. Raises `KeyChanged`. See
        `Directory.mark_verified`.
        """
        return self._directory.mark_verified(name, number)

    def is_verified_name(self, name: str) -> bool:
        """Whether the key that is pinned for a name was compared, and the server names no other
        one.

        See `Directory.is_verified_name`.
        """
        return self._directory.is_verified_name(name)

    def is_verified(self, contact: Contact) -> bool:
        """Whether a user's key was compared, and the server names no other one. See
        `Directory.is_verified`.
        """
        return self._directory.is_verified(contact)

    def fingerprint(self, name: str) -> str:
        """Give the SHA-256 of a contact's public key, in hex. Raises `NoPublicKey`. See
        `Directory.fingerprint`.
        """
        return self._directory.fingerprint(name)

    def own_fingerprint(self) -> str:
        """Give the SHA-256 of our own public key, in hex. Raises `NotRegistered`. See
        `Directory.own_fingerprint`.
        """
        return self._directory.own_fingerprint()

    def nearest(self, name: str) -> tuple[str, ...]:
        """Give the names that are near to one that nobody has, by what is known here.
        Asks no server.
        """
        return () if self._contacts.listed(name) is not None else self._contacts.unknown(name).nearest

    # --- symmetric keys
    # ----------------------------------------------------------------------------------------------

    def request_key(self, name: str) -> Sent:
        """Ask a user for a symmetric key (151). See `KeyExchange.request_key`."""
        return self._agreement.request_key(name)

    def agree_on_key(self, name: str) -> bool:
        """Have a symmetric key to send under; whether one had to be made and sent, after fetching
        the public key.

        See `KeyExchange.agree_on_key`.
        """
        return self._agreement.agree_on_key(name)

    def send_key(self, name: str) -> Sent:
        """Make a symmetric key and send it to a user whose public key is here (152). Raises
        `NoPublicKey`.

        See `KeyExchange.send_key`.
        """
        return self._agreement.send_key(name)

    def keep_key(self, name: str) -> None:
        """Make a symmetric key and put it into the outbox. Raises `NoPublicKey`, `KeyChanged`,
        `OutboxFull`.

        See `KeyExchange.keep_key`.
        """
        self._agreement.keep_key(name)

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
        server names where nothing is known of the user. `progress` is told how far sending is,
        `preparing` how far a file is encrypted. What can't be sent now stays in the outbox where
        `keeps` says so of the failure. Raises `ValueRejected` for an empty text and one that is no
        Unicode, `NameUnknown`, `KeyChanged`, `FileUnreadable`, `OutboxFull`, `ServerAnsweredError`,
        `ServerUnreachable`, `OutcomeUnknown`.
        """
        if content == "":
            raise ValueRejected("There is no text to send.")
        if not isinstance(content, str | bytes):
            path = Path(content)
            # Not even a key is sent for what can't be sent.
            check_file(path)
            self.agree_on_key(name)
            return self.send_file(name, path, progress, preparing)
        if isinstance(content, str):
            plain_text(content)
        self.agree_on_key(name)
        if isinstance(content, str):
            return self.send_text(name, content)
        return self._sending.send_bytes(name, content, progress, preparing)

    def send_text(self, name: str, text: str) -> Sent:
        """Send a text under the shared key (150). Raises `NoSharedKey`, `ValueRejected` (no
        Unicode).

        See `Sending.send_text`.
        """
        return self._sending.send_text(name, text)

    def send_file(
        self,
        name: str,
        path: str | PathLike[str],
        progress: Progress | None = None,
        preparing: Progress | None = None,
        called: str | None = None,
    ) -> Sent:
        """Send a file's bytes under the shared key (153); the history has them under the path, or
        as they are `called`.

        Raises `FileUnreadable`, `NoSharedKey`. See `Sending.send_file`.
        """
        return self._sending.send_file(name, Path(path), progress, preparing, called)

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, behind a new symmetric key where there is none to send under.

        See `Sending.keep_text`.
        """
        return self._sending.keep_text(name, text)

    def keep_file(self, name: str, path: str | PathLike[str], progress: Progress | None = None) -> SentMessage:
        """Put a file into the outbox, encrypted, as `keep_text` does a text. Raises
        `FileUnreadable` too.

        See `Sending.keep_file`.
        """
        return self._sending.keep_file(name, Path(path), progress)

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits, the oldest first. Raises what `ServerLink.ask` raises;
        `ServerAnsweredError` where the server does not take `watched` now, or ever.

        See `Sending.send_waiting`.
        """
        self._sending.send_waiting(watched, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Give the present state of a message that went through the outbox. See `Sending.now`."""
        return self._sending.now(message)

    def keeps(self, error: ClientError) -> bool:
        """Whether what could not be sent, for this reason, is in the outbox. `error.kept`
        says the same.
        """
        return error.kept

    def failed(self) -> list[Failed]:
        """Give the messages that the server refused for good; they are kept aside."""
        return self._outbox.failed()

    # --- after a backup was put back
    # ----------------------------------------------------------------------------------

    def lost_count(self) -> int:
        """Say how many acknowledged messages are possibly lost, because the server was put back to
        an earlier state.

        Symmetric keys and requests for them count.
        """
        return self._resending.count()

    def resend(self, name: str | None = None, progress: Progress | None = None) -> Resent:
        """Send again what is possibly lost, to one user or to all. See `Resending.resend`."""
        return self._resending.resend(name, progress)

    def forget_lost(self, name: str | None = None) -> int:
        """Take the marks of what is possibly lost away, and send nothing. See
        `Resending.forget`.
        """
        return self._resending.forget(name)

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
        return self._receiving.receive(wait, progress, most, send_waiting=send_waiting, saving=saving)

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
        return Messages(self.receive, wait, self._monotonic, self._link.rest)

    def fetch(self) -> None:
        """Bring the waiting mail into the store, to be given by the next `receive`. Raises what
        that raises.

        See `Receiving.fetch`.
        """
        self._receiving.fetch()

    def seen(self, after: int = 0) -> Iterator[Received]:
        """Give again what was received already, whoever received it for this home, behind message
        number `after`.

        So a process beside the one that receives can follow it. Asks no server and changes nothing.
        """
        return self._inbox.seen(after)

    def history(self) -> list[Received | SentMessage]:
        """Give what was received and sent, in the order in which it happened here. Asks
        nobody and changes nothing.
        """
        return self._history.all()

    def recent(self, contact: Contact, most: int) -> list[Received | SentMessage]:
        """Give the newest messages from and to one user, without those that wait. See
        `History.recent`.
        """
        return self._history.recent(contact.client_id, most)

    def waiting(self, contact: Contact) -> list[SentMessage]:
        """Give what waits in the outbox for one user, the oldest first."""
        return self._history.waiting(contact.client_id)

    def conversations(self) -> list[ConversationSummary]:
        """Give everybody to whom something was sent, or who sent something, the latest first. Asks
        no server.

        See `History.conversations`.
        """
        return self._history.conversations()

    def last_seen(self) -> int:
        """Give the number of the newest message that was received; 0 where there is none."""
        return self._store.inbox.last_seen()

    # --- watching and looking after things
    # ----------------------------------------------------------------------------

    def watch_cursor(self) -> int:
        """Give the number behind which `watch` goes on; at first, behind all that was
        seen already.
        """
        text = self._store.settings.get(_WATCH_CURSOR)
        if text is None:
            number = self._store.inbox.last_seen()
            self._store.settings.put(_WATCH_CURSOR, str(number))
            return number
        return int(text)

    def handing_out(self) -> AbstractContextManager[None]:
        """Be the only one who reads the cursor, hands out what lies behind it, and moves
        it; waits until it is so.
        """
        return self._store.watcher()

    def move_watch_cursor(self, number: int) -> None:
        """Note that `watch` is done with a message."""
        self._store.settings.put(_WATCH_CURSOR, str(number))

    def count_failed_try(self, number: int) -> int:
        """Note that a message was not taken; how often it was not, since it was set aside last."""
        name = _of_message(_TRIES, number)
        tries = int(self._store.settings.get(name) or 0) + 1
        self._store.settings.put(name, str(tries))
        return tries

    def set_aside(self, number: int) -> None:
        """Have a message listed by `messages_set_aside`."""
        self._store.settings.put(_of_message(_ASIDE, number), "")
        self._store.settings.drop(_of_message(_TRIES, number))

    def was_taken(self, number: int) -> None:
        """Forget what was noted of a message that was not taken before, if anything."""
        for kind in (_TRIES, _ASIDE):
            name = _of_message(kind, number)
            if self._store.settings.get(name) is not None:
                self._store.settings.drop(name)

    def messages_set_aside(self) -> list[Received]:
        """Give what `watch` has set aside, the oldest first. Asks no server and changes nothing."""
        numbers = [int(name.removeprefix(_ASIDE)) for name in self._store.settings.names(_ASIDE)]
        found = [next(self._inbox.seen(number - 1), None) for number in numbers]
        return [one for one, number in zip(found, numbers, strict=True) if one is not None and one.number == number]

    def server_features(self) -> list[str]:
        """Connect, and give the names of the extension's features; none with the published protocol
        alone.

        A server that was silent before is asked again.
        """
        self._greeting.ask_again()
        self._link.connect()
        session = self._greeting.session
        if session is None:
            return []
        return [(feature.name or "").lower().replace("_", " ") for feature in Feature if feature & session.features]

    def changed(self) -> list[Contact]:
        """Give those for whom the server named another key or account than is known."""
        return [Contact(pin.client_id, pin.name) for pin in self._store.pins.changed()]

    def shown(self, contact: Contact) -> str:
        """Give a name as it stands in a sentence: made visible, with the mark of who was
        compared.
        """
        return self._contacts.shown(contact)

    def passphrase_state(self) -> tuple[bool, list[str], list[str]]:
        """Say whether the store has a passphrase, and which files hold a private key encrypted, and
        which in the clear.

        Raises `InfoFileError`.
        """
        encrypted, plain = (
            look(self._home) for look in (identity_files.with_encrypted_keys, identity_files.with_plain_keys)
        )
        return self._store.sealing.has_passphrase, encrypted, plain

    @property
    def unwritable(self) -> StoreUnwritable | None:
        """Why only a copy of the home's store could be opened, to be read; None where it
        is the store itself.
        """
        return self._store.unwritable

    def check_store(self) -> None:
        """Look at every page of the store. Raises `StoreUnusable` where it is damaged."""
        self._store.check()

    def damaged_rows(self) -> list[str]:
        """Name the rows of the store whose sealed content was altered or is broken."""
        return self._store.sealing.damaged_rows()

    def waiting_count(self) -> int:
        """Say how many messages wait to be sent."""
        return self._store.outbox.waiting_count()

    def clock_behind(self) -> int | None:
        """Say by how many milliseconds our clock is surely behind the server's, now; None where
        nothing tells.

        It is where the server accepted a message later than it is here. How it was when that came
        does not count: the clock may have been set right since.
        """
        accepted_at = self._store.inbox.newest_accepted_at()
        if accepted_at is None or local_time.local(accepted_at) is None:
            return None
        return accepted_at - self._now()

    def _remember(self) -> None:
        sentence = server_file.remember(self._home, self._link.address)
        if sentence is not None:
            self._tell(sentence)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _of_message(kind: str, number: int) -> str:
    return f"{kind}{number:016}"
