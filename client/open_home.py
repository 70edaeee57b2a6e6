"""An open home: its account, store and connection, and every use case built on them.

Owns: how the client's objects are constructed from each other; opening and closing a home.
Promises: no behaviour of its own beyond that. The parts belong to one home, one connection and one
thread. The command, the console and a chat take from here the part that they use;
`client.messenger` is the interface for other programs.
Exposure: none of its own.

Source: docs/architecture.md.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Self

from client import paths
from client.client_context import ClientContext
from client.connection import server_file
from client.connection.handshake import Consent, Greeting, Tell, if_registered_here
from client.connection.retry import PAUSES, Retry
from client.connection.server_link import REPLY_TIMEOUT, ServerLink
from client.connection.server_pins import ServerPins
from client.crypto.ciphers import PrivateKey, RandomBytes
from client.diagnosis import Diagnosis
from client.identity.account import Account
from client.identity.home import open_store
from client.identity.identity_files import Ask, Identity, nobody_asked
from client.identity.leaving import Leaving
from client.identity.registration import Registration
from client.mail import received_files
from client.mail.history import History
from client.mail.inbox import Inbox
from client.mail.message_iterator import Messages
from client.mail.opening import Opening
from client.mail.outbox import Outbox
from client.mail.receiving import Receiving
from client.mail.resending import Resending
from client.mail.send_path import SendPath
from client.mail.sending import Sending
from client.mail.suite_choice import SuiteChoice
from client.mail.suite_receiving import SuiteReceiving
from client.mail.suite_sealing import SuiteSealing
from client.mail.watch_cursor import WatchCursor
from client.settings import Setting, address_of, expanded
from client.store.home_store import Store
from client.trust.blocking import Blocking
from client.trust.contacts import Contacts
from client.trust.directory import Directory
from client.trust.key_exchange import KeyExchange
from client.trust.suite_keys import SuiteKeys
from client.trust.trust import Trust
from common.errors import SettingRejected
from common.server_address import ServerAddress
from common.values import ClientId

Clock = Callable[[], float]
"""Returns the Unix time in seconds."""


def tell_nobody(_: str) -> None:
    """A `Tell` for scripts that rely on what methods return and raise."""


class OpenHome:
    """One open home. Used from one thread, except for `link.interrupt`; each thread opens its own.

    `account`: the home's user. `registration`, `leaving`: how the account begins and ends.
    `contacts`: known users; `directory`: users as the server lists them now, with their keys
    compared. `blocking`: blocked and muted senders. `key_exchange`: symmetric keys. `sending`,
    `outbox`, `resending`: outgoing messages. `receiving`, `inbox`: incoming ones. `history`: both.
    `watch_cursor`: how far `watch` has come. `diagnosis`: facts for `doctor`. `link`, `greeting`:
    the connection, and the greeting on it. `server_pins`: the server's accepted certificates.
    `store`: what all of them keep on disk.
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
        suite_1: bool = True,
    ) -> None:
        """`suite_1`: use cipher suite 1 where server and recipient have it; False is for tests, and
        makes a client of before it.
        """
        if store.sealing.is_locked:
            store.sealing.unlock(passphrase())
        self._folder = home
        self._save_dir = save_dir
        self.store = store
        self._clock = clock
        self._monotonic = monotonic
        self._tell = tell
        self.account = Account(home, store, passphrase, random_bytes, identity)
        self.contacts = Contacts(store)
        self.server_pins = ServerPins(home, store, tell)
        trust = Trust(store, self.account.me, self._now, tell)
        self.suite_keys = SuiteKeys(store, self.contacts, trust, self._now, random_bytes, tell)
        self.greeting = Greeting(
            store, self.account.identity_or_none, consent, tell, self._now, self.server_pins, says_lost=says_lost,
            publish=self.suite_keys.publish if suite_1 else None,
        )  # fmt: skip
        self.link = ServerLink(
            server, reply_timeout=reply_timeout, greet=self.greeting.greet, tell=tell, monotonic=monotonic,
            pins=self.server_pins,
        )  # fmt: skip
        retry = Retry(self.link.rest, tell, pauses)
        context = ClientContext(self.account, store, self.link, self.greeting)
        self.suite_choice = SuiteChoice(
            self.account, self.link, self.greeting, self.suite_keys, self._fetch, store.server.known
        )
        sealing = SuiteSealing(
            store, self.contacts, self.suite_choice, self.suite_keys, self._my_id, self._now, random_bytes
        )
        self.outbox = Outbox(store, self.link, self.contacts, tell, self._now, random_bytes, sealing)
        opening = Opening(store, self.suite_keys, sealing, self._my_id, self._now, random_bytes)
        self.inbox = Inbox(
            store, self.link, self.contacts, self.account.identity, home, save_dir, self._now, trust.is_verified,
            opening,
        )  # fmt: skip
        self.history = History(store, self.contacts, self.inbox)
        self.registration = Registration(
            context, lambda: new_private_key(random_bytes), self._remember if remember_server else lambda: None, tell
        )
        self.leaving = Leaving(context)
        self.directory = Directory(self.account, store, self.link, self.contacts, trust, self.suite_choice)
        self.blocking = Blocking(context, self.contacts, self.directory)
        send_path = SendPath(context, self.contacts, self.outbox, retry, tell, self._now)
        self.key_exchange = KeyExchange(
            store, self.contacts, self.directory, send_path, self.outbox, self.greeting, self.suite_choice
        )
        self.sending = Sending(
            context, self.contacts, self.directory, self.key_exchange, send_path, self.outbox, self.history, retry,
            self.suite_choice,
        )  # fmt: skip
        self.resending = Resending(context, self.contacts, trust, self.outbox, self.history, retry)
        self.suite_receiving = SuiteReceiving(
            store, opening, self.suite_choice, self.suite_keys, self.outbox, self._my_id
        )
        self.receiving = Receiving(
            context,
            self.inbox,
            self.outbox,
            retry,
            self.directory.look_up_names,
            self._now,
            monotonic,
            self.suite_receiving,
        )
        self.watch_cursor = WatchCursor(store, self.inbox)
        self.diagnosis = Diagnosis(home, store, self.link, self.greeting, self._now)

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
        the beginning of a path is the user's home folder. Without `save_dir` received files are
        saved in the temporary folder. `published_only`: whether the account keeps to the published
        protocol, for good; None leaves it as it was. What a process that was killed left
        half-written in `save_dir` is removed. `remember_server`: a registration writes the server's
        address into the home's server.info. `consent` is asked before the account's first proof,
        `tell` is called with what happens automatically, `passphrase` is asked if the home has one.
        `to_read`: if the home can't be written (a full or read-only disk), a copy in memory of its
        store is opened. What only reads works with it, and every change raises `StoreUnwritable`.
        Raises `StoreUnusable`, `PassphraseNeeded`, `PassphraseWrong`, `InfoFileError`, and
        `SettingRejected` if `published_only` comes too late, or something else can't be used.
        """
        address = address_of("server", server) if isinstance(server, str) else server
        folder = expanded(Setting("home", os.fspath(home), "home"))
        files = expanded(Setting("save_dir", os.fspath(save_dir or paths.temporary_folder()), "save_dir"))
        with suppress(OSError):
            # Opening the store reports it with a better sentence.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = open_store(folder, to_read=to_read)
        try:
            opened = cls(
                folder, address, store, save_dir=files, consent=consent, tell=tell, passphrase=passphrase,
                remember_server=remember_server,
            )  # fmt: skip
        except BaseException:
            store.close()
            raise
        try:
            if published_only is not None:
                opened.published_only(wanted=published_only)
            received_files.sweep(files)
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def conversion(self) -> str | None:
        """A sentence for the user if opening the home converted a store of an earlier version, else
        None.
        """
        return self.store.conversion

    def another(self, tell: Tell) -> Self:
        """Open the same home once more, for the thread that calls this; no passphrase is asked, nor
        for consent.

        What is possibly lost after a backup was restored is not reported, only counted by
        `Resending.count`. Raises `StoreUnusable`.
        """
        store = self.store.another()
        try:
            return type(self)(
                self._folder,
                self.link.address,
                store,
                save_dir=self._save_dir,
                tell=tell,
                passphrase=self.account.passphrase,
                identity=self.account.loaded,
                says_lost=False,
            )
        except BaseException:
            store.close()
            raise

    def published_only(self, *, wanted: bool) -> None:
        """Choose whether this account keeps to the published protocol.

        Raises `SettingRejected` if it has signed in before.
        """
        if wanted and self.greeting.has_signed_in:
            raise SettingRejected(
                "--published-only comes too late: this account has signed in, and the server insists on that. "
                "Its operator can take it back with scripts/admin unprove NAME."
            )
        self.greeting.published_only(wanted=wanted)

    def messages(self, wait: float | None) -> Messages:
        """Iterate over messages as they arrive. See `Messenger.messages`."""
        return Messages(self.receiving.receive, wait, self._monotonic, self.link.rest)

    def close(self) -> None:
        """Close the connection and the store."""
        self.link.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remember(self) -> None:
        sentence = server_file.remember(self._folder, self.link.address)
        if sentence is not None:
            self._tell(sentence)

    def _fetch(self) -> None:
        self.receiving.fetch()

    def _my_id(self) -> ClientId:
        return self.account.identity().client_id

    def _now(self) -> int:
        return int(self._clock() * 1000)
