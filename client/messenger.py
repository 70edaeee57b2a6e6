"""The use cases: register, users, keys, send, receive. The library's face.

Owns: the order in which things happen, so that a crash at any instant loses nothing.
Promises: every failure is a `ClientError` or `InfoFileError` with a sentence for a person. A private key is on disk
before the server hears of it; received mail is on disk before anybody sees it.
Exposure: combines what a server says with what the home holds; the server may lie.

    from pathlib import Path
    from client.messenger import Messenger, Text
    from common.info_files import ServerAddress

    with Messenger.open(Path("alice"), ServerAddress("127.0.0.1", 1357)) as alice:
        if not alice.is_registered():
            alice.register("alice")
        alice.fetch_public_key("bob")
        alice.send_key("bob")
        alice.send_text("bob", "hello")
        for message in alice.receive():
            if isinstance(message.content, Text):
                print(message.sender_name, "says", message.content.text)

Source: docs/client-protocol.md, docs/journeys.md.
"""

import hashlib
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from client import ciphers, identity_files
from client.ciphers import PrivateKey, RandomBytes, SymmetricKey
from client.contacts import Contact, Contacts
from client.greeting import Consent, Greeting, Tell, if_registered_here
from client.home import open_store
from client.identity_files import Ask, Identity, PendingRegistration, Protection, nobody_asked
from client.inbox import LONGEST_SERVER_WAIT, Inbox, check_list
from client.insistence import PAUSES, Insistence
from client.mail import (
    Failed,
    FetchedKey,
    KeyReceived,
    KeyRequested,
    Received,
    SavedFile,
    Sent,
    SentMessage,
    Text,
    UnknownKind,
    Unreadable,
)
from client.outbox import Outbox, is_for_later
from client.refusals import refused
from client.server_link import REPLY_TIMEOUT, Progress, ServerLink
from client.store import Store
from client.tables.sent import Outgoing, SentRow
from client.trust import SafetyNumberDiffers, Trust, Verification
from common.errors import (
    AlreadyRegistered,
    CipherError,
    ClientError,
    FileUnreadable,
    NameUnknown,
    ServerAnsweredError,
    ServerAnsweredNonsense,
    ServerSilent,
    ServerUnreachable,
    SettingRejected,
    StoreBroken,
    ValueRejected,
)
from common.info_files import ServerAddress
from common.values import (
    NO_CLIENT,
    TOKEN_SIZE,
    ClientId,
    MessageKind,
    PublicKey,
    RefusalReason,
    Token,
    Username,
    token,
    username,
)
from common.wire.codes import Feature, RequestCode, ResponseCode
from common.wire.fields import LARGEST_CONTENT, SEND_HEAD
from common.wire.requests import LargeSendRequest, ListUsersRequest, PublicKeyRequest, RegisterRequest, SendRequest
from common.wire.responses import (
    ErrorResponse,
    PublicKeyResponse,
    RegisteredResponse,
    StoredResponse,
    UserListed,
    Whole,
)

__all__ = [
    "Contact",
    "Failed",
    "FetchedKey",
    "KeyReceived",
    "KeyRequested",
    "Messenger",
    "Received",
    "SavedFile",
    "Sent",
    "SentMessage",
    "Text",
    "UnknownKind",
    "Unreadable",
]

CHUNK: Final = 256 * 1024
SPOOL_FROM: Final = 64 * 1024
"""Bytes. A larger outgoing content waits in a file beside the store."""

_KEPT: Final = "The message is kept; it is sent, once, before anything else that you send."
_KEY_KEPT: Final = "The symmetric key is kept, and sent before anything else; what you were sending is not."

_WATCH_CURSOR: Final = "watch_cursor"

Clock = Callable[[], float]
"""Gives the Unix time in seconds."""


def _tell_nobody(_: str) -> None:
    """For scripts that look at what methods return and raise."""


class Messenger:
    """One user's side of MessageU. Used from one thread, but for `interrupt`; each thread opens its own."""

    def __init__(
        self,
        home: Path,
        server: ServerAddress,
        store: Store,
        *,
        save_dir: Path,
        consent: Consent = if_registered_here,
        tell: Tell = _tell_nobody,
        clock: Clock = time.time,
        random_bytes: RandomBytes = os.urandom,
        new_private_key: Callable[[RandomBytes], PrivateKey] = PrivateKey.generate,
        reply_timeout: float = REPLY_TIMEOUT,
        pauses: Sequence[float] = PAUSES,
        passphrase: Ask = nobody_asked,
    ) -> None:
        if store.sealing.is_locked:
            store.sealing.unlock(passphrase())
        self._passphrase = passphrase
        self._home = home
        self._save_dir = save_dir
        self._store = store
        self._tell = tell
        self._clock = clock
        self._random_bytes = random_bytes
        self._new_private_key = new_private_key
        self._identity: Identity | None = None
        self._contacts = Contacts(store)
        self._greeting = Greeting(store, self._identity_or_none, consent, tell)
        self._link = ServerLink(server, reply_timeout=reply_timeout, greet=self._greeting.greet)
        self._insistence = Insistence(self._link.rest, tell, pauses)
        self._outbox = Outbox(store, self._link, self._contacts, tell, self._now)
        self._trust = Trust(store, self._me, self._now)
        self._inbox = Inbox(
            store, self._link, self._contacts, self.identity, save_dir, self._now, self._trust.is_verified
        )

    @classmethod
    def open(
        cls,
        home: Path,
        server: ServerAddress,
        save_dir: Path | None = None,
        *,
        published_only: bool | None = None,
        consent: Consent = if_registered_here,
        tell: Tell = _tell_nobody,
        passphrase: Ask = nobody_asked,
    ) -> Self:
        """Open a home, making the folder (0700) and its store where they are missing.

        `published_only`: whether the account keeps to the published protocol, for good; None leaves it as it was.
        `consent` is asked before the account's first proof, `tell` is told what happens by itself, `passphrase` is
        asked where the home has one.
        Raises `StoreBroken`, `PassphraseNeeded`, `PassphraseWrong`, `InfoFileError`, and `SettingRejected` where
        `published_only` comes too late.
        """
        with suppress(OSError):
            # The store says it better.
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = save_dir if save_dir is not None else Path(tempfile.gettempdir())
        store = open_store(home)
        try:
            messenger = cls(home, server, store, save_dir=folder, consent=consent, tell=tell, passphrase=passphrase)
        except BaseException:
            store.close()
            raise
        try:
            if published_only is not None:
                messenger.published_only(wanted=published_only)
        except BaseException:
            messenger.close()
            raise
        return messenger

    def another(self, tell: Tell) -> Self:
        """Open the same home once more, for the thread that calls this; no passphrase is asked, nor for consent.

        Raises `StoreBroken`.
        """
        store = self._store.another()
        try:
            opened = type(self)(
                self._home, self._link.address, store, save_dir=self._save_dir, tell=tell, passphrase=self._passphrase
            )
        except BaseException:
            store.close()
            raise
        opened._identity = self._identity
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
        """End what goes on with the server, for good: the one method that another thread may call."""
        self._link.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who we are -------------------------------------------------------------------------------------------

    def is_registered(self) -> bool:
        """Whether there is an identity file in this home, usable or not."""
        return identity_files.exists(self._home)

    def identity(self) -> Identity:
        """Give this home's user. Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`, `PassphraseWrong`."""
        if self._identity is None:
            identity = identity_files.load(self._home, self._passphrase)
            identity_files.complete(self._home, identity)
            self._identity = identity
        return self._identity

    def _identity_or_none(self) -> Identity | None:
        return self.identity() if self.is_registered() else None

    def pending_name(self) -> Username | None:
        """Give the name whose registration was begun and not ended. Raises `InfoFileError`."""
        return identity_files.pending_name(self._home)

    def _protection(self) -> Protection | None:
        """What a private key is written under."""
        return Protection(self._passphrase(), self._random_bytes) if self._store.sealing.has_passphrase else None

    def register(self, name: str) -> Identity:
        """Register under a name, or complete the registration that broke.

        Raises `AlreadyRegistered`, `ValueRejected` (the name), what `ServerLink.ask` raises, `ServerAnsweredError`.
        """
        with self._store.receiver():
            if identity_files.exists(self._home):
                raise AlreadyRegistered(
                    "This home has an identity already, and it is not replaced.", "Use --home for another user."
                )
            checked = username(name)
            pending = identity_files.load_pending(self._home, self._passphrase)
            if pending is None:
                return self._register(
                    PendingRegistration(checked, self._new_private_key(self._random_bytes)), again=False
                )
            if pending.name != checked:
                raise AlreadyRegistered(
                    f"The registration of {pending.name} was begun and its answer never came.",
                    f"Complete it first: `messageu register {pending.name}`, or 110 with that name in the console.",
                )
            return self._register(pending, again=True)

    def _register(self, pending: PendingRegistration, *, again: bool) -> Identity:
        request = RegisterRequest(NO_CLIENT, pending.name, pending.private_key.public_key())
        self._link.connect()
        if not again:
            identity_files.save_pending(self._home, pending, self._protection())
        answer = self._link.ask(request)
        if isinstance(answer, ErrorResponse):
            raise self._registration_refused(answer, pending, again=again)
        if not isinstance(answer, RegisteredResponse):
            raise _unexpected(answer)
        identity = Identity(pending.name, answer.client_id, pending.private_key)
        identity_files.save(self._home, identity, self._protection())
        self._identity = identity
        self._greeting.registered_here()
        if self._greeting.session is not None:
            self._link.close()
            with suppress(ClientError):
                # The account is there. Where its first proof fails now, the next request makes it, or says why not.
                self._link.connect()
        return identity

    def _registration_refused(
        self, answer: ErrorResponse, pending: PendingRegistration, *, again: bool
    ) -> ServerAnsweredError:
        if not again or answer.reason == RefusalReason.NAME_TAKEN:
            # Not done; and a server that knows reasons would have given us our own name again, under our own key.
            identity_files.drop_pending(self._home)
            return refused(RequestCode.REGISTER, answer)
        if answer.reason is not None:
            # It says nothing about the first attempt: the key may be the account's.
            return refused(RequestCode.REGISTER, answer)
        # The name may be ours, by the attempt whose answer was lost; the published protocol can't tell.
        aside = identity_files.set_pending_aside(self._home)
        return ServerAnsweredError(
            f"Most likely {pending.name} was registered by the first attempt, whose answer with the id was lost; "
            "the published protocol has no way to get it back.",
            f"Register under another name. The unfinished registration's key is kept in {aside.name}.",
            answer.reason,
            answer.retry_after,
        )

    # --- contacts and keys ------------------------------------------------------------------------------------

    def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered, in its order."""
        me = self.identity().client_id
        users: list[Contact] = []
        for event in self._link.ask_list(ListUsersRequest(me)):
            match event:
                case UserListed(client_id, name):
                    users.append(Contact(client_id, name))
                case _:
                    check_list(event, RequestCode.LIST_USERS, ResponseCode.USERS)
        self._contacts.take_list(users)
        # Some servers list the asker too.
        return [user for user in users if user.client_id != me]

    def contact(self, name: str) -> Contact:
        """Find a user by name, asking the server where the name is new.

        Raises `NameUnknown`, and `KeyChanged` where the server names another key or account than is known.
        """
        found = self._find(name)
        if self._trust.moved(found.client_id, found.name):
            self._take_public_key(found)
        self._trust.check(found.client_id, found.name)
        return found

    def _find(self, name: str) -> Contact:
        found = self._contacts.listed(name)
        if found is None:
            self.users()
            found = self._contacts.listed(name)
        if found is None:
            if name == self.identity().name:
                raise NameUnknown("That is your own name.", "Name somebody else.")
            raise self._contacts.unknown(name)
        return found

    def nearest(self, name: str) -> tuple[str, ...]:
        """Give the names that are near to one that nobody has, by what is known here. Asks no server."""
        return () if self._contacts.listed(name) is not None else self._contacts.unknown(name).nearest

    def fetch_public_key(self, name: str) -> FetchedKey:
        """Ask the server for a user's public key; it is trusted where it is the first one.

        Raises `CipherError` where it is no usable key.
        """
        contact = self._find(name)
        return FetchedKey(contact, self._take_public_key(contact))

    def _take_public_key(self, contact: Contact) -> bool:
        """Fetch a public key; whether it is another one than is known."""
        answer = self._link.ask(PublicKeyRequest(self.identity().client_id, contact.client_id))
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.PUBLIC_KEY, answer)
        if not isinstance(answer, PublicKeyResponse) or answer.client_id != contact.client_id:
            raise _unexpected(answer)
        try:
            ciphers.check_public_key(answer.public_key)
        except CipherError as error:
            raise CipherError(
                f"The public key that {contact.name} registered can't be used: {error}.",
                "Its owner has to register with another program.",
            ) from error
        return self._trust.meet(contact.client_id, contact.name, answer.public_key)

    def meet(self, name: str) -> Contact:
        """Find a user and have a public key of his, asking the server for what is not known yet.

        From then on `keep_text` and `keep_file` ask nobody. Raises what `contact` and `fetch_public_key` raise.
        """
        contact = self.contact(name)
        if self._store.pins.of_id(contact.client_id) is None:
            self._take_public_key(contact)
        return contact

    def verification(self, name: str) -> Verification:
        """Give the safety number with a user, after asking the server what it names for him now."""
        self.users()
        self.fetch_public_key(name)
        return self._verification(name)

    def _verification(self, name: str) -> Verification:
        contact = self._find(name)
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(contact.client_id)
        assert pin is not None
        return Verification(
            pin.name, pin.client_id, self._trust.number(pin), pin.since, pin.verified_at,
            self._trust.offered_number(pin), pin.offered_since,
        )  # fmt: skip

    def accept_new_key(self, name: str, number: str | None = None) -> Verification:
        """Pin what the server names now. Nothing that was agreed on before is used for sending any more.

        With `number`, the one that was shown, `SafetyNumberDiffers` where the server has named a third key since.
        """
        contact = self._find(name)
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(contact.client_id)
        if pin is not None:
            if number is not None and self._trust.offered_number(pin) != number:
                raise SafetyNumberDiffers(name)
            self._trust.accept(pin, name)
        return self._verification(name)

    def mark_verified(self, name: str, number: str | None = None) -> Verification:
        """Note that both sides saw the same safety number. Raises `KeyChanged`.

        With `number`, the one that was compared, `SafetyNumberDiffers` where another process has changed it since.
        """
        pin = self._trust.pin(self.contact(name).name)
        assert pin is not None
        if number is not None and self._trust.number(pin) != number:
            raise SafetyNumberDiffers(name)
        self._trust.verify(pin)
        return self._verification(name)

    def is_verified_name(self, name: str) -> bool:
        """Whether the key that is pinned for a name was compared, and the server names no other one."""
        pin = self._trust.pin(name)
        return pin is not None and self._trust.is_verified(pin.client_id)

    def is_verified(self, contact: Contact) -> bool:
        """Whether a user's key was compared, and the server names no other one."""
        return self._trust.is_verified(contact.client_id)

    def _me(self) -> tuple[ClientId, PublicKey]:
        identity = self.identity()
        return identity.client_id, identity.private_key.public_key()

    def request_key(self, name: str) -> Sent:
        """Ask a user for a symmetric key (151)."""
        contact = self.contact(name)
        sent = self._send(contact, MessageKind.KEY_REQUEST, b"", self._catch_up())
        self._store.keys.ask(contact.client_id)
        return sent

    def agree_on_key(self, name: str) -> bool:
        """Have a symmetric key to send under; whether one had to be made and sent, after fetching the public key.

        Where that can't be done now, and the account has proven itself, it waits in the outbox (`waiting_count`), to
        somebody who was met before: what is sent under it waits behind it, or says why not.
        """
        contact = self.contact(name)
        if self._contacts.has_sending_key(contact):
            return False
        try:
            self.fetch_public_key(name)
            # Where the server names another key than is known, this refuses.
            self.send_key(name)
        except (ServerUnreachable, ServerSilent, ServerAnsweredError) as error:
            if not self._contacts.has_sending_key(contact):
                offline = self._greeting.has_proven and not isinstance(error, ServerAnsweredError)
                if not offline or self._store.pins.of_id(contact.client_id) is None:
                    raise
                self._new_key_in_the_outbox(contact)
        return True

    def send_key(self, name: str) -> Sent:
        """Make a symmetric key and send it to a user whose public key is here (152). Raises `NoPublicKey`."""
        contact = self.contact(name)
        self._contacts.public_key(contact)
        offline = self._catch_up()
        self._outbox.check_room()
        number, sealed = self._make_key(contact)
        return self._send(contact, MessageKind.KEY, sealed, offline, number)

    def _make_key(self, contact: Contact) -> tuple[int, bytes]:
        """Make a symmetric key; its number, and the content of the message that carries it."""
        public_key = self._contacts.public_key(contact)
        key = ciphers.symmetric_key(self._random_bytes(ciphers.SYMMETRIC_KEY_SIZE))
        sealed = ciphers.seal_key(key, public_key, self._random_bytes)
        return self._store.keys.add_made(contact.client_id, key, self._now(), public_key), sealed

    # --- sending ----------------------------------------------------------------------------------------------
    #
    # On a proven connection a message goes through the outbox: what can't be sent now is kept, and the error says so.
    # With the published protocol it is sent or not, and where the answer is lost nobody can say which.

    def send_text(self, name: str, text: str) -> Sent:
        """Send a text under the shared key (150). Raises `NoSharedKey`, `ValueRejected` (no Unicode)."""
        contact = self.contact(name)
        plain = _plain(text)
        offline = self._catch_up()
        key = self._contacts.sending_key(contact)
        content = ciphers.encrypt(key, plain)
        return self._send(contact, MessageKind.TEXT, content, offline, outgoing=Outgoing(text, None))

    def send_file(
        self, name: str, path: Path, progress: Progress | None = None, preparing: Progress | None = None
    ) -> Sent:
        """Send a file's bytes under the shared key (153).

        Through the outbox they are encrypted first, which `preparing` is told of. A large file starts over by itself
        when the connection breaks. Raises `FileUnreadable`, `NoSharedKey`.
        """
        contact = self.contact(name)
        offline = self._catch_up(progress)
        key = self._contacts.sending_key(contact)
        outgoing = Outgoing(None, str(path.absolute()))
        with _file_to_send(path) as (descriptor, plain_size):
            size = ciphers.encrypted_size(plain_size)
            self._check_size(size)
            if not self._goes_through_the_outbox(offline):
                request = LargeSendRequest(self.identity().client_id, contact.client_id, MessageKind.FILE, size)

                def ask(watch: Progress) -> Sent:
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    parts = _encrypted_file(descriptor, path, plain_size, key, watch)
                    return self._ask_to_store(contact, request, parts)

                # Where all of it was out and no answer came, nobody knows whether the server has it.
                again = (ServerUnreachable,)
                return self._noted(contact, request.kind, outgoing, lambda: self._insistence.do(ask, progress, again))
            self._outbox.check_room()
            content = self._spooled(_encrypted_file(descriptor, path, plain_size, key, preparing), size)
        return self._send_once(contact, MessageKind.FILE, size, content, offline, progress=progress, outgoing=outgoing)

    # --- sending in two steps, for who must not wait: what is kept here is sent by `send_waiting` -------------------
    #
    # For an account that has proven itself (`has_proven`). These ask no server, where the user was met before.

    def keep_text(self, name: str, text: str) -> SentMessage:
        """Put a text into the outbox, behind a new symmetric key where there is none to send under.

        It is on disk when this returns. Raises `NoPublicKey`, `KeyChanged`, `OutboxFull`, `ValueRejected`.
        """
        assert self.has_proven
        contact = self.contact(name)
        content = ciphers.encrypt(self._key_at_hand(contact), _plain(text))
        return self._keep(contact, MessageKind.TEXT, len(content), content, Outgoing(text, None))

    def keep_file(self, name: str, path: Path, progress: Progress | None = None) -> SentMessage:
        """Put a file into the outbox, encrypted, as `keep_text` does a text. Raises `FileUnreadable` too."""
        assert self.has_proven
        contact = self.contact(name)
        with _file_to_send(path) as (descriptor, plain_size):
            size = ciphers.encrypted_size(plain_size)
            self._check_size(size)
            parts = _encrypted_file(descriptor, path, plain_size, self._key_at_hand(contact), progress)
            content = self._spooled(parts, size)
        return self._keep(contact, MessageKind.FILE, size, content, Outgoing(None, str(path.absolute())))

    def keep_key(self, name: str) -> None:
        """Make a symmetric key and put it into the outbox. Raises `NoPublicKey`, `KeyChanged`, `OutboxFull`."""
        assert self.has_proven
        self._new_key_in_the_outbox(self.contact(name))

    def send_waiting(self, watched: SentMessage | None = None, progress: Progress | None = None) -> None:
        """Send what waits, the oldest first. Raises what `ServerLink.ask` raises; `ServerAnsweredError` where the
        server does not take `watched` now, or ever.
        """
        me = self.identity().client_id
        self._link.connect()
        if self._greeting.offers(Feature.SEND_ONCE):
            self._outbox.flush(me, None if watched is None else watched.outbox, progress)

    def now(self, message: SentMessage) -> SentMessage:
        """Give the present state of a message that went through the outbox."""
        row = None if message.outbox is None else self._store.sent.by_outbox(message.outbox)
        return message if row is None else self._sent_message(row)

    def _keep(
        self, contact: Contact, kind: MessageKind, size: int, content: bytes | str, outgoing: Outgoing
    ) -> SentMessage:
        number = self._outbox.put(contact.client_id, kind, size, content, self._new_token(), None, outgoing)
        row = self._store.sent.by_outbox(number)
        assert row is not None
        return self._sent_message(row)

    def _key_at_hand(self, contact: Contact) -> SymmetricKey:
        if not self._contacts.has_sending_key(contact):
            self._new_key_in_the_outbox(contact)
        return self._contacts.sending_key(contact)

    def _new_key_in_the_outbox(self, contact: Contact) -> None:
        self._outbox.check_room()
        key, sealed = self._make_key(contact)
        self._outbox.put(contact.client_id, MessageKind.KEY, len(sealed), sealed, self._new_token(), key)
        self._store.keys.confirm(key)

    def keeps(self, error: ClientError) -> bool:
        """Whether what could not be sent, for this reason, is in the outbox."""
        return self.has_proven and (isinstance(error, ServerUnreachable | ServerSilent) or is_for_later(error))

    def failed(self) -> list[Failed]:
        """Give the messages that the server refused for good; they are kept aside."""
        return self._outbox.failed()

    def _check_size(self, size: int) -> None:
        session = self._greeting.session
        largest = LARGEST_CONTENT if session is None else min(LARGEST_CONTENT, session.max_payload - SEND_HEAD.size)
        if size > largest:
            raise FileUnreadable(
                "The file is too large for this server; nothing was sent.",
                f"It takes {largest:,} bytes, and encrypted the file has {size:,}.",
            )

    def _catch_up(self, progress: Progress | None = None) -> ClientError | None:
        """Connect, and send what waits in the outbox: it goes before anything new.

        Gives the reason why there is no server, where that is no reason to give up: messages of an account that has
        proven itself wait in the outbox.
        """
        me = self.identity().client_id
        try:
            self._link.connect()
            if self._greeting.offers(Feature.SEND_ONCE):
                self._outbox.flush(me, None, progress)
        except (ServerUnreachable, ServerSilent) as error:
            if not self._greeting.has_proven:
                raise
            return error
        return None

    def _goes_through_the_outbox(self, offline: ClientError | None) -> bool:
        return offline is not None or self._greeting.offers(Feature.SEND_ONCE)

    def _send(
        self,
        contact: Contact,
        kind: MessageKind,
        content: bytes,
        offline: ClientError | None,
        key: int | None = None,
        *,
        outgoing: Outgoing | None = None,
    ) -> Sent:
        """Send a content that is in memory; `key` is the number of the shared key in it."""
        if self._goes_through_the_outbox(offline):
            return self._send_once(contact, kind, len(content), content, offline, key=key, outgoing=outgoing)
        request = SendRequest(self.identity().client_id, contact.client_id, kind, content)
        if key is None:
            return self._noted(contact, kind, outgoing, lambda: self._ask_to_store(contact, request, iter(())))
        try:
            sent = self._ask_to_store(contact, request, iter(()))
        except (ServerUnreachable, ServerAnsweredError):
            # It surely never arrived. After any other failure it may have: then what comes under it must be
            # readable, while to encrypt with it would be a gamble.
            self._store.keys.drop(key)
            raise
        self._store.keys.confirm(key)
        return sent

    def _noted(self, contact: Contact, kind: int, outgoing: Outgoing | None, ask: Callable[[], Sent]) -> Sent:
        """Send without the outbox, and note in the history what became of it; not of a key or a request for one."""
        if outgoing is None:
            return ask()
        number = self._store.sent.add(contact.client_id, kind, outgoing, self._now())
        try:
            sent = ask()
        except (ServerUnreachable, ServerAnsweredError, FileUnreadable) as error:
            self._store.sent.failed(number, str(error))
            raise
        self._store.sent.stored(number, sent.message_id, self._now())
        return sent

    def _ask_to_store(self, contact: Contact, request: SendRequest | LargeSendRequest, body: Iterator[bytes]) -> Sent:
        try:
            answer = self._link.ask(request, body)
        except ServerSilent as error:
            raise ServerSilent(
                f"{error} Whether the message was stored is unknown.",
                f"Ask {contact.name} before you send it again: it might come twice.",
            ) from error
        if isinstance(answer, ErrorResponse):
            raise refused(RequestCode.SEND, answer)
        if not isinstance(answer, StoredResponse) or answer.recipient != contact.client_id:
            raise _unexpected(answer)
        return Sent(contact, answer.message_id)

    def _send_once(
        self,
        contact: Contact,
        kind: MessageKind,
        size: int,
        content: bytes | str,
        offline: ClientError | None,
        *,
        key: int | None = None,
        progress: Progress | None = None,
        outgoing: Outgoing | None = None,
    ) -> Sent:
        number = self._outbox.put(contact.client_id, kind, size, content, self._new_token(), key, outgoing)
        if key is not None:
            # The outbox keeps the order: whatever is encrypted from now on comes after it.
            self._store.keys.confirm(key)
        if offline is not None:
            raise _kept(offline) from offline
        try:
            me = self.identity().client_id
            message_id = self._insistence.do(lambda watch: self._outbox.flush(me, number, watch), progress)
        except (ServerUnreachable, ServerSilent, StoreBroken) as error:
            raise _kept(error) from error
        except KeyboardInterrupt:
            # Of a key: what was to be sent under it is not here yet.
            self._tell(_KEPT if key is None else _KEY_KEPT)
            raise
        return Sent(contact, message_id)

    def _spooled(self, parts: Iterator[bytes], size: int) -> bytes | str:
        """An outgoing content, in memory or, if it is large, on disk under the name that is given."""
        if size <= SPOOL_FROM:
            return b"".join(parts)
        spool = self._store.spools.new()
        try:
            for part in parts:
                spool.write(part)
            return spool.keep()
        except BaseException:
            spool.discard()
            raise

    def _new_token(self) -> Token:
        return token(self._random_bytes(TOKEN_SIZE))

    # --- receiving --------------------------------------------------------------------------------------------

    def receive(
        self,
        wait: float = 0.0,
        progress: Progress | None = None,
        most: int | None = None,
        *,
        send_waiting: bool = True,
        saving: Progress | None = None,
    ) -> Generator[Received]:
        """Fetch what waits at the server, and give everything that was not received yet, the oldest first.

        With `most`, so many messages of it; the others stay for the next time. What waits in the outbox is sent first,
        where `send_waiting`. `progress` is told how far fetching is, `saving` how far a file is decrypted.

        Where there is nothing, it waits up to `wait` seconds for mail, without polling; a server of the published
        protocol alone can't do that and is asked once. A message counts as received when the caller comes back for
        the next one; where he does not, because the program died, it is given once more, as `repeated`. What was
        fetched is given even when fetching failed half-way; the failure is raised after it. Raises `HomeInUse`.
        """
        end = self._clock() + wait
        patience = 0
        with self._store.receiver():
            self._store.sweep(self._now())
            while True:
                failure: ClientError | None = None
                can_wait = False
                try:
                    can_wait = self._fetch(patience, progress, send_waiting=send_waiting)
                except ClientError as error:
                    failure = error
                given, unsaved = yield from self._inbox.unread(self._look_up_names, most, saving)
                for problem in (failure, unsaved):
                    if problem is not None:
                        raise problem
                patience = min(math.ceil(end - self._clock()), LONGEST_SERVER_WAIT)
                if given or not can_wait or patience <= 0:
                    return

    def seen(self, after: int = 0) -> Iterator[Received]:
        """Give again what was received already, whoever received it for this home, behind message number `after`.

        So a process beside the one that receives can follow it. Asks no server and changes nothing.
        """
        return self._inbox.seen(after)

    def history(self) -> list[Received | SentMessage]:
        """Give what was received and sent, in the order of time. Asks no server and changes nothing."""
        sent = [self._sent_message(row) for row in self._store.sent.all()]
        return sorted([*self._inbox.seen(0), *sent], key=_time_of)

    def _sent_message(self, row: SentRow) -> SentMessage:
        return SentMessage(
            row.number, Contact(row.recipient, self._contacts.name_of(row.recipient) or row.recipient.hex()),
            row.text, None if row.path is None else Path(row.path), row.queued_at, row.stored_at, row.message_id,
            row.problem, row.waiting, row.outbox, row.damaged,
        )  # fmt: skip

    def fingerprint(self, name: str) -> str:
        """Give the SHA-256 of a contact's public key, in hex. Raises `NoPublicKey`."""
        return hashlib.sha256(self._contacts.public_key(self.contact(name))).hexdigest()

    def own_fingerprint(self) -> str:
        """Give the SHA-256 of our own public key, in hex. Raises `NotRegistered`."""
        return hashlib.sha256(self.identity().private_key.public_key()).hexdigest()

    @property
    def has_proven(self) -> bool:
        """Whether this identity has proven itself to its server at some time."""
        return self._greeting.has_proven

    # --- watching and looking after things --------------------------------------------------------------------

    def watch_cursor(self) -> int:
        """Give the number behind which `watch` goes on; at first, behind all that was seen already."""
        text = self._store.settings.get(_WATCH_CURSOR)
        if text is None:
            number = self._store.inbox.last_seen()
            self._store.settings.put(_WATCH_CURSOR, str(number))
            return number
        return int(text)

    def handing_out(self) -> AbstractContextManager[None]:
        """Be the only one who reads the cursor, hands out what lies behind it, and moves it; waits until it is so."""
        return self._store.watcher()

    def move_watch_cursor(self, number: int) -> None:
        """Note that `watch` is done with a message."""
        self._store.settings.put(_WATCH_CURSOR, str(number))

    def server_features(self) -> list[str]:
        """Connect, and give the names of the extension's features; none with the published protocol alone."""
        self._link.connect()
        session = self._greeting.session
        if session is None:
            return []
        return [(feature.name or "").lower().replace("_", " ") for feature in Feature if feature & session.features]

    def changed_names(self) -> list[str]:
        """Give the names for which the server named another key or account than is known."""
        return self._store.pins.changed_names()

    def passphrase_state(self) -> tuple[bool, list[str], list[str]]:
        """Say whether the store has a passphrase, and which files hold a private key encrypted, and which in the clear.

        Raises `InfoFileError`.
        """
        encrypted, plain = (
            look(self._home) for look in (identity_files.with_encrypted_keys, identity_files.with_plain_keys)
        )
        return self._store.sealing.has_passphrase, encrypted, plain

    def damaged_rows(self) -> list[str]:
        """Name the rows of the store whose sealed content was altered or is broken."""
        return self._store.sealing.damaged_rows()

    def waiting_count(self) -> int:
        """Say how many messages wait to be sent."""
        return self._store.outbox.waiting_count()

    def clock_behind(self) -> int | None:
        """Say by how many milliseconds our clock is surely behind the server's; None where nothing tells."""
        return self._store.inbox.clock_behind()

    def _fetch(self, wait: int, progress: Progress | None, *, send_waiting: bool) -> bool:
        """Bring the waiting mail into the store; whether the server can wait for more."""
        me = self.identity().client_id
        self._link.connect()
        if send_waiting and self._greeting.offers(Feature.SEND_ONCE):
            # Where another process does that just now, it is left to it.
            self._outbox.flush(me, wait=False)
        return self._insistence.do(lambda watch: self._fetch_once(wait, watch), progress)

    def _fetch_once(self, wait: int, progress: Progress) -> bool:
        self._link.connect()
        if self._greeting.offers(Feature.FETCH):
            self._inbox.fetch(wait, progress)
            return True
        self._inbox.pull(progress)
        return False

    def _look_up_names(self) -> None:
        with suppress(ClientError):
            # Without the list, a message is shown under its sender's id.
            self.users()

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _time_of(message: Received | SentMessage) -> int:
    return message.queued_at if isinstance(message, SentMessage) else message.accepted_at or message.received_at


def _kept(error: ClientError) -> ClientError:
    """The same failure, of a message that waits in the outbox."""
    return type(error)(str(error), f"{error.advice} {_KEPT}")


def _unexpected(answer: Whole) -> ServerAnsweredNonsense:
    return ServerAnsweredNonsense(
        f"It gave the answer to another request ({type(answer).__name__}).",
        "Check that server.info leads to a MessageU server.",
    )


def _plain(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueRejected("The text is not valid Unicode; nothing was sent.") from error


@contextmanager
def _file_to_send(path: Path) -> Iterator[tuple[int, int]]:
    """Open a regular file; its descriptor and its size in bytes. Raises `FileUnreadable`."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise FileUnreadable("file not found", f"{path}: {problem}. Check the path.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnreadable("file not found", f"{path} is no regular file.")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _encrypted_file(
    descriptor: int, path: Path, size: int, key: SymmetricKey, progress: Progress | None
) -> Iterator[bytes]:
    """The first `size` bytes of an open file, encrypted. Raises `FileUnreadable` where it ends before."""
    cipher = ciphers.Encryptor(key)
    passed = 0
    while passed < size:
        try:
            data = os.read(descriptor, min(CHUNK, size - passed))
        except OSError as error:
            raise FileUnreadable("The file can't be read to its end; nothing was sent.", str(error.strerror)) from error
        if not data:
            raise FileUnreadable(f"{path} became shorter while it was sent; nothing was sent.", "Send it again.")
        passed += len(data)
        part = cipher.update(data)
        if part:
            yield part
        if progress is not None:
            progress(passed, size)
    yield cipher.finish()
