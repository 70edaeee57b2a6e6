"""Incoming mail: from the server into the store, and from the store to the user.

Owns: fetching by 604 and by 643, decrypting.
Promises: a message is on disk before the server learns, or shown by the next request, that we have
it, and before anybody sees it; what was fetched is returned once, or once more and marked if the
program died meanwhile.
Exposure: accepts and decrypts whatever strangers sent; saving files is in
`client.mail.received_files`.

Source: docs/client-protocol.md, "643, fetch"; docs/journeys.md.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from client import paths
from client.connection.server_link import Progress, ServerLink
from client.connection.unparsed_response import UnparsedAnswer
from client.crypto import ciphers
from client.errors import CipherError, FileUnsaved, InvalidServerResponse, ServerAnsweredError
from client.identity.identity_files import Identity
from client.mail import received_files, suite_files
from client.mail.intake import Intake, check_list
from client.mail.opening import Opening, Revealed
from client.messages import (
    Content,
    KeyReceived,
    KeyRequested,
    Received,
    Renewed,
    SavedFile,
    Text,
    UnknownKind,
    Unreadable,
)
from client.store.home_store import Store
from client.store.inbox import InboxRow, NewMessage
from client.store.relocation import left_account
from client.store.settings import ServerRow
from client.suite1 import payloads
from client.suite1.file_stream import FileOpener
from client.suite1.values import Pair
from client.trust.contacts import Contacts
from common import fail_points
from common.client_protocol.client_connection import ListBegins, UnparsedPart
from common.client_protocol.requests import FetchRequest, PullRequest, RequestCode
from common.client_protocol.responses import ResponseCode
from common.fail_points import FailPoint
from common.values import ClientId, MessageKind, RefusalReason

CHUNK: Final = 256 * 1024
LONGEST_TEXT: Final = 16 * 1024 * 1024
"""Bytes. A longer text is returned as a file."""
FETCH_BYTES: Final = 1024 * 1024
"""Bytes of messages that one 643 asks for, unless a single one is larger; a larger mailbox is shown
in parts.
"""
LONGEST_SERVER_WAIT: Final = 300
"""Seconds that a 643 may ask the server to wait."""
_ASK_AGAIN: Final = 1024 * 1024
"""Bytes. After a 2104 of this size or more, more may wait than the server puts into one answer."""
_NO_KEY: Final = "no symmetric key is shared with the sender"
_NOT_TAKEN: Final = "the key was not sealed to this account's public key"
_DAMAGED: Final = "its row in store.db was altered or is damaged"
_NOT_BELIEVED: Final = (
    "it came under the published cipher suite, which its sender does not use any more: anybody who controls the "
    "server could have written it"
)
_ASK: Final = "Ask the sender, by another way, whether it is theirs."


class UnreadEnd(NamedTuple):
    """How many messages were returned, why a file, if any, has to wait, and whether the caller has
    had enough.
    """

    given: int
    unsaved: FileUnsaved | None
    enough: bool = False


class Inbox:
    """The store's received messages, and the link that fetches them."""

    def __init__(
        self,
        store: Store,
        link: ServerLink,
        contacts: Contacts,
        identity: Callable[[], Identity],
        home: Path,
        save_dir: Path,
        now: Callable[[], int],
        is_verified: Callable[[ClientId], bool],
        opening: Opening,
    ) -> None:
        self._is_verified = is_verified
        self._opening = opening
        self._store = store
        self._link = link
        self._contacts = contacts
        self._identity = identity
        self._home = home
        self._save_dir = save_dir
        self._saving: Progress | None = None
        self._now = now

    # --- from the server into the store
    # -----------------------------------------------------------------------

    def pull(self, progress: Progress | None) -> bool:
        """Fetch pending mail by one 604; return whether there may be more. The messages may be
        shown before the next 604.

        Raises what `ServerLink.ask_list` raises, and `ServerAnsweredError`.
        """
        return self._pull_once(progress) >= _ASK_AGAIN

    def _pull_once(self, progress: Progress | None) -> int:
        """Send one 604. Returns the answer's size in bytes."""
        size = pull = 0

        def keep(batch: list[NewMessage]) -> None:
            self._store.inbox.add_pulled(batch, self._now(), pull)

        intake: Intake | None = None
        unparsed = UnparsedAnswer(self._home)
        try:
            for event in self._link.ask_list(PullRequest(self._identity().client_id), salvage=True):
                if isinstance(event, UnparsedPart):
                    unparsed.add(event.data)
                    continue
                if intake is not None and intake.takes(event):
                    continue
                check_list(event, RequestCode.PULL, ResponseCode.WAITING)
                if isinstance(event, ListBegins) and event.payload_size:
                    size = event.payload_size
                    pull = self._store.inbox.begin_pull()
                    intake = Intake(self._store, size, keep, progress)
        except InvalidServerResponse as error:
            raise unparsed.told(error) from error
        finally:
            unparsed.close()
            if intake is not None:
                intake.close()
        if intake is not None:
            self._store.inbox.end_pull(pull)
        return size

    def fetch(self, wait: int, progress: Progress | None) -> bool:
        """Fetch by 643 until nothing is pending, and acknowledge; the server may take `wait`
        seconds for its first answer.

        Stops earlier if enough has arrived to be shown first; returns whether it did. Raises what
        `ServerLink.ask_list` raises, and `ServerAnsweredError`.
        """
        came = 0
        while True:
            try:
                size = self._fetch_once(wait, progress)
                wait = 0
                came += size
                if not size or came >= FETCH_BYTES // 2:
                    return size > 0
            except ServerAnsweredError as error:
                server = self._store.server.known()
                if error.reason not in {None, RefusalReason.MALFORMED} or server is None or not server.ack:
                    raise
                # The server does not know this acknowledgement, because it lost that history. Fetch
                # once from the beginning; what comes again is recognised.
                self._store.server.forget_ack()

    def _fetch_once(self, wait: int, progress: Progress | None) -> int:
        """Send one 643. Returns the answer's size in bytes; the next 643 acknowledges its
        messages.
        """
        size = 0
        me = self._identity().client_id
        server = self._server()

        def request() -> FetchRequest:
            # An acknowledgement that was meant for an earlier store would make the present one
            # delete other mail.
            nonlocal server
            server = self._server()
            return FetchRequest(me, server.ack, FETCH_BYTES, wait)

        def keep(batch: list[NewMessage]) -> None:
            self._store.inbox.add_fetched(batch, self._now(), server.generation)
            fail_points.reach(FailPoint.CLIENT_FETCHED)

        intake: Intake | None = None
        try:
            for event in self._link.ask_list(request, silence=wait):
                if intake is not None and intake.takes(event):
                    continue
                check_list(event, RequestCode.FETCH, ResponseCode.FETCHED)
                if isinstance(event, ListBegins) and event.payload_size:
                    intake = Intake(
                        self._store,
                        event.payload_size,
                        keep,
                        progress,
                        server.ack,
                    )
                    size = event.payload_size
        finally:
            if intake is not None:
                intake.close()
        return size

    def _server(self) -> ServerRow:
        server = self._store.server.known()
        assert server is not None
        return server

    # --- out of the store to the user
    # -------------------------------------------------------------------------

    def unread(
        self, look_up_names: Callable[[], None], most: int | None = None, saving_progress: Progress | None = None
    ) -> Generator[Received, bool | None, UnreadEnd]:
        """Yield the messages that nobody has seen yet, oldest first, at most `most`.

        A message counts as seen when the caller asks for the next one, or sends True, which ends
        the iteration. `saving_progress` is called with the progress of decrypting a file.
        """
        self._saving = saving_progress
        asked = False
        given = 0
        unsaved: FileUnsaved | None = None
        passed_over = 0
        while True:
            row = self._store.inbox.next_unread(passed_over) if most is None or given < most else None
            if row is None:
                return UnreadEnd(given, unsaved)
            try:
                content = None if self._is_own_key(row) else self._open(row)
            except FileUnsaved as error:
                # It must not stand in the way of what came after it.
                unsaved, passed_over = error, row.number
                continue
            if content is None:
                self._store.inbox.was_shown(row.number, readable=True)
                continue
            if row.late and isinstance(content, Unreadable):
                # The new key was not the right one; the user knows already that this can't be read.
                self._store.inbox.was_shown(row.number, readable=False)
                continue
            if not asked and self._contacts.name_of(row.sender) is None:
                asked = True
                look_up_names()
            self._begin_showing(row, content)
            given += 1
            enough = yield self._received(row, content)
            kept = self._without_key(row) if isinstance(content, SavedFile) else None
            self._store.inbox.was_shown(row.number, readable=not isinstance(content, Unreadable), payload=kept)
            if enough:
                return UnreadEnd(given, unsaved, enough=True)

    def _without_key(self, row: InboxRow) -> bytes | None:
        """What stays of a file of suite 1 that is saved; None: it is none."""
        opened = self._store.inbox.numbered(row.number) if row.kind == MessageKind.SEALED else None
        if opened is None or opened.opened is None or opened.content is None:
            return None
        return suite_files.without_key(opened.content[: opened.opened])

    def _begin_showing(self, row: InboxRow, content: Content) -> None:
        path = content.path if isinstance(content, SavedFile) else None
        try:
            self._store.inbox.begin_showing(row.number, path)
        except BaseException:
            if path is not None and (row.saved_path is None or path != paths.from_kept(row.saved_path)):
                # Not noted, so it is saved again next time.
                path.unlink(missing_ok=True)
            raise

    def seen(self, after: int) -> Iterator[Received]:
        """Yield the messages that were seen already, after number `after`, oldest first. Changes
        nothing.
        """
        for row in self._store.inbox.seen(after):
            content = None if self._was_own_key(row) else self._look_at(row)
            if content is not None:
                yield self._received(row, content)

    def last_seen(self) -> int:
        """Return the number of the newest message that was received; 0 if there is none."""
        return self._store.inbox.last_seen()

    def recent(self, sender: ClientId, most: int) -> list[Received]:
        """The newest messages of one sender that were seen, oldest first. Changes nothing."""
        rows = self._store.inbox.recent(sender, most)
        looked_at = [(row, self._look_at(row)) for row in rows if not self._was_own_key(row)]
        return [self._received(row, content) for row, content in looked_at if content is not None]

    def _is_own_key(self, row: InboxRow) -> bool:
        """Whether it carries a key that was made here, for notes to oneself, and so is known
        already.
        """
        if row.kind != MessageKind.KEY or row.content is None or not self._store.settings.is_own(row.sender):
            return False
        with suppress(CipherError):
            key = self._identity().private_key.open_key(row.content)
            return any(known.made and known.key == key for known in self._store.keys.near(row.sender, row.number))
        return False

    def _was_own_key(self, row: InboxRow) -> bool:
        """As `_is_own_key`, for a message that was seen: without the private key."""
        return (
            row.kind == MessageKind.KEY
            and self._store.settings.is_own(row.sender)
            and self._store.keys.came_unasked(row.number) is None
        )

    def _received(self, row: InboxRow, content: Content) -> Received:
        revealed: Revealed | None = None
        if row.kind == MessageKind.SEALED:
            with suppress(CipherError):
                revealed = self._opening.read(self._store.inbox.numbered(row.number) or row)
        return Received(
            row.number,
            row.sender,
            self._contacts.name_of(row.sender),
            content,
            row.received_at,
            row.accepted_at,
            row.sender_proven,
            row.late,
            row.repeated,
            self._is_verified(row.sender) and (revealed is not None or self._is_published_note(row)),
            row.message_id,
            int(row.kind == MessageKind.SEALED),
            0 if revealed is None else revealed.missing,
            revealed is not None and revealed.overtaken,
            revealed is not None and revealed.renewed,
        )

    def _is_believed(self, row: InboxRow) -> bool:
        """Whether a message of the published suite may be from its sender: not behind the first
        keys of suite 1 that they have shown.
        """
        peer = self._store.peers.of_id(row.sender)
        return peer is None or row.number <= peer.after

    def _is_published_note(self, row: InboxRow) -> bool:
        """Whether it is a note to oneself of before this home's notes went under suite 1."""
        return row.kind != MessageKind.SEALED and self._store.settings.is_own(row.sender) and self._is_believed(row)

    def _look_at(self, row: InboxRow) -> Content | None:
        """As `_open`, without storing a key or saving a file a second time."""
        if row.damaged:
            return Unreadable(_DAMAGED, lost=True)
        if row.kind == MessageKind.SEALED:
            try:
                return self._sealed_content(row, look=True)
            except CipherError as error:
                return Unreadable(str(error))
        if row.saved_path is not None:
            return SavedFile(paths.from_kept(row.saved_path))
        if not self._is_believed(row):
            return Unreadable(_NOT_BELIEVED, lost=True, advice=_ASK)
        match row.kind:
            case MessageKind.KEY:
                unasked = self._store.keys.came_unasked(row.number)
                if unasked is None:
                    return Unreadable(_NOT_TAKEN)
                return KeyReceived(unasked, unasked and self._is_verified(row.sender))
            case MessageKind.FILE:
                return Unreadable(_NO_KEY)
            case _:
                return self._open(row)

    def _open(self, row: InboxRow) -> Content | None:
        """What a message says; None: a repeat of another one, which is not shown."""
        try:
            if row.damaged:
                raise CipherError(_DAMAGED)
            if row.kind == MessageKind.SEALED:
                return self._sealed_content(row, look=False)
            if not self._is_believed(row):
                return Unreadable(_NOT_BELIEVED, lost=True, advice=_ASK)
            match row.kind:
                case MessageKind.KEY_REQUEST:
                    return KeyRequested()
                case MessageKind.KEY:
                    return self._open_key(row)
                case MessageKind.TEXT:
                    return self._open_text(row)
                case MessageKind.FILE:
                    return self._open_file(row)
                case _:
                    return UnknownKind(row.kind)
        except CipherError as error:
            return Unreadable(str(error), lost=row.damaged)

    def _sealed_content(self, row: InboxRow, *, look: bool) -> Content | None:
        """What a message of suite 1 says; with `look`, without changing anything. Raises
        `CipherError`.
        """
        revealed = self._opening.read(row) if look else self._opening.reveal(row)
        if revealed is None:
            return None
        row, payload = revealed.row, revealed.payload
        if isinstance(payload, payloads.File):
            if look and row.saved_path is not None:
                return SavedFile(paths.from_kept(row.saved_path), payload.caption)
            try:
                return self._sealed_file(row, payload)
            except CipherError:
                if not look:
                    # Its envelope is opened, and the key of that used up: only another one helps.
                    self._store.inbox.was_damaged(row.number)
                raise
        if self._opening.stream(row).size:
            raise CipherError("something is behind it that does not belong to it")
        match payload:
            case payloads.Text(_, text):
                return Text(text)
            case payloads.CouldNotOpen():
                again, lost = (len(payload.ids), 0) if look else self._opening.repeat(row.sender, payload)
                return Renewed(len(payload.ids), again, lost)
            case payloads.KeysWanted():
                return KeyRequested()
            case payloads.NewKeys():
                return KeyReceived()
            case payloads.Unknown(_, kind, text):
                return UnknownKind(kind, text)

    def _sealed_file(self, row: InboxRow, file: payloads.File) -> SavedFile:
        known = self._saved_before(row)
        if known is not None:
            return SavedFile(known, file.caption)
        if self._opening.stream(row).size != suite_files.stream_size(file):
            raise CipherError("the file is not whole")
        sender = self._contacts.name_of(row.sender) or row.sender.hex()
        name, end = suite_files.safe_name(file, sender, row.number)
        ids = [self._identity().client_id]
        left = left_account(self._store)
        if left is not None:
            # What came before the account moved is sealed for the id that it had.
            ids.append(left.client_id)
        for me in ids:
            stream = self._opening.stream(row)
            opener = FileOpener(file.key, Pair(row.sender, me), file.size, file.digest)
            sealed = received_files.Sealed(stream.parts, stream.size, opener)
            try:
                return SavedFile(received_files.save(sealed, self._save_dir, name, self._saving, end), file.caption)
            except CipherError:
                if me == ids[-1]:
                    raise
        raise AssertionError("there is one id at least")

    def _open_key(self, row: InboxRow) -> KeyReceived:
        if row.content is None:
            raise CipherError("it is far too long for a key")
        key = self._identity().private_key.open_key(row.content)
        self._store.keys.add_received(row.sender, key, self._now(), row.number)
        unasked = bool(self._store.keys.came_unasked(row.number))
        return KeyReceived(unasked, unasked and self._is_verified(row.sender))

    def _open_text(self, row: InboxRow) -> Text | SavedFile:
        if row.size > LONGEST_TEXT:
            return self._open_file(row)
        content = b"".join(self._content(row))
        problem = CipherError(_NO_KEY)
        for key in self._contacts.decrypting_keys(row.sender, row.number):
            try:
                return Text(ciphers.decrypt_text(key, content))
            except CipherError as error:
                problem = error
        raise problem

    def _saved_before(self, row: InboxRow) -> Path | None:
        """Where the file of a message is already, if it is."""
        if row.saved_path is None:
            return None
        # Whoever made an imported store chose the path: it is ours only if it is in the folder for
        # received files.
        path = paths.from_kept(row.saved_path)
        return path if path.parent == self._save_dir and path.is_file() and not path.is_symlink() else None

    def _open_file(self, row: InboxRow) -> SavedFile:
        known = self._saved_before(row)
        if known is not None:
            return SavedFile(known)
        problem = CipherError(_NO_KEY)
        # Hardly ever: only the padding shows whether a key fits, and one wrong key in 256 passes.
        for key in self._contacts.file_keys(row.sender):
            try:
                sealed = received_files.Sealed(self._content(row), row.size, ciphers.Decryptor(key))
                return SavedFile(received_files.save(sealed, self._save_dir, self._file_name(row), self._saving))
            except CipherError as error:
                problem = error
        raise problem

    def _file_name(self, row: InboxRow) -> str:
        return received_files.base_name(self._contacts.name_of(row.sender) or row.sender.hex(), row.number)

    def _content(self, row: InboxRow) -> Iterator[bytes]:
        if row.spool is None:
            if row.content is None:
                raise CipherError("it is too large to be kept with the history, and an earlier version dropped it")
            yield row.content
            return
        yield from self._store.spools.read(row.spool, CHUNK)
