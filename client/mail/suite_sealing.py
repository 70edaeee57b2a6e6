"""Messages of the outbox in the form in which they may leave: under cipher suite 1, or as they are.

Owns: when a waiting message is sealed, and what becomes of one that waited under the published
suite.
Promises: the sealed bytes are on disk, in the transaction that advances the session, before any of
them leaves; whatever breaks then, the same bytes are sent again. So no key of a message seals
twice. A message is sealed when it is first sent: with the keys of that moment, in the order of
sending. Whoever is known by keys of suite 1 gets nothing of types 1 to 4, and nothing at all while
the user has to decide about the keys. What was sealed for somebody is not sealed once more for who
has other keys.
Exposure: keys come from a server that may lie (`client.trust.suite_keys`).

    in the outbox                        leaves when
    ──────────────────────────────────   ─────────────────────────────────────────────────────────
    published, its recipient has keys    put under suite 1, token and place kept → unsealed; a
                                         symmetric key or a request for one → gone
    unsealed                             a claim, where one is due, and the session → sealed
    sealed                               sent, until the server has answered

Source: docs/suite-1.md, "Sealing"; docs/decisions/0030-a-ratchet-in-the-store.md.
"""

from collections.abc import Callable, Iterator
from typing import Final

from client import paths
from client.crypto import ciphers
from client.crypto.ciphers import RandomBytes
from client.errors import CipherError, ClientError, KeyChanged, KeysWithheld
from client.mail.outgoing_file import CHUNK, file_to_send
from client.mail.suite_choice import SuiteChoice
from client.mail.suite_files import SealedFile, name_of, read_parts, seal_parts
from client.store.home_store import Store
from client.store.outbox import OutboxRow
from client.store.sent import Outgoing, SentRow
from client.suite1 import messages
from client.suite1.payloads import About, File, KeysWanted, NewKeys, Text, encoded
from client.suite1.peers import ClaimReason, claim_due
from client.suite1.values import MAX_PAYLOAD, Pair
from client.trust.contacts import Contacts
from client.trust.suite_keys import SuiteKeys
from common import fail_points
from common.client_protocol.responses import LARGEST_CONTENT
from common.errors import ValueRejected
from common.fail_points import FailPoint
from common.values import TOKEN_SIZE, ClientId, MessageKind, Token, token

_MOST_CLAIMS: Final = 3
_NOT_FOR_THEM: Final = "it was written for other keys than its recipient has now; send it as a new message"


class SuiteSealing:
    """Puts the outbox's messages under suite 1."""

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        choice: SuiteChoice,
        keys: SuiteKeys,
        me: Callable[[], ClientId],
        now: Callable[[], int],
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._choice = choice
        self._keys = keys
        self._me = me
        self._now = now
        self._random_bytes = random_bytes

    # --- into the outbox
    # -------------------------------------------------------------------------------------------

    def keep_text(self, recipient: ClientId, text: str) -> int:
        """Write a text to disk, to be sealed when it is sent. Gives its outbox number. Raises
        `ValueRejected` (too long).
        """
        name = self._new_token()
        payload = encoded_text(name, self._now(), text)
        outgoing = Outgoing(text, None, MessageKind.TEXT, name)
        return self._kept(self._store.outbox.add_payload(recipient, payload, None, name, self._now(), outgoing))

    def keep_file(
        self,
        recipient: ClientId,
        parts: Iterator[bytes],
        path: str | None,
        check: Callable[[int], None],
    ) -> int:
        """Write a file to disk, its content sealed; the rest is sealed when it is sent. `path` is
        what the history shows, and `check` as in `seal_parts`. Gives its outbox number. Raises
        `StoreUnusable` (no room).
        """
        name = self._new_token()
        sealed = seal_parts(self._store.spools, parts, self._pair(recipient), self._random_bytes, check)
        payload = encoded_file(name, self._now(), path, sealed)
        outgoing = Outgoing(None, path, MessageKind.FILE, name)
        number = self._store.outbox.add_payload(
            recipient, payload, sealed.spool, name, self._now(), outgoing, sealed.digest
        )
        return self._kept(number)

    def keep_wish(self, recipient: ClientId) -> int:
        """Write to disk, to be sealed when it is sent, that we ask for a new session. Gives its
        outbox number.
        """
        name, now = self._new_token(), self._now()
        with self._store.database.transaction():
            payload = encoded(KeysWanted(About(name, now)))
            return self._store.outbox.insert_payload(recipient, payload, name, now)

    def keep_new_session(self, recipient: ClientId) -> int:
        """Begin a new session with the next message, and write that message to disk. Gives its
        outbox number.
        """
        name, now = self._new_token(), self._now()
        with self._store.database.transaction():
            peer = self._keys.peer(recipient)
            if peer is not None and recipient != self._me():
                state = peer._replace(renew=True, renewed_at=0).to_bytes()
                self._store.peers.put_state(recipient, state)
            payload = encoded(NewKeys(About(name, now)))
            return self._store.outbox.insert_payload(recipient, payload, name, now)

    def _kept(self, number: int) -> int:
        fail_points.reach(FailPoint.CLIENT_PAYLOAD_KEPT)
        return number

    def again(self, sent: SentRow, check: Callable[[SealedFile], None]) -> tuple[bytes, str | None]:
        """Return the payload of a message of the history once more, under its own id, and the spool
        file with what follows it. `check` may refuse a file. Raises `CipherError`,
        `FileUnreadable`.
        """
        name = sent.payload_id
        if name is None or sent.damaged or (sent.text is None and sent.path is None):
            raise CipherError("what this home has of it is damaged, or was not kept")
        if sent.withheld:
            raise CipherError(_NOT_FOR_THEM)
        if sent.text is not None:
            return encoded_text(Token(name), sent.queued_at, sent.text), None
        path = paths.from_kept(sent.path or "")
        with file_to_send(path) as file:
            parts = read_parts(file, path, None)
            sealed = seal_parts(
                self._store.spools, parts, self._pair(sent.recipient), self._random_bytes, lambda _: None
            )
        try:
            check(sealed)
        except BaseException:
            self._store.spools.forget(sealed.spool)
            raise
        return encoded_file(Token(name), sent.queued_at, sent.path, sealed), sealed.spool

    def repeat(self, sent: SentRow) -> bool:
        """Put a message that its recipient could not open into the outbox once more, sealed anew
        under its own id; return whether that was not done before. Raises as `again`.
        """
        digests: list[bytes] = []
        payload, spool = self.again(sent, lambda sealed: digests.append(sealed.digest))
        digest = digests[0] if digests else None
        return self._store.outbox.repeat(sent, payload, spool, self._new_token(), self._now(), digest) is not None

    # --- out of the outbox
    # -------------------------------------------------------------------------------------------

    def fit(self, row: OutboxRow, published: Callable[[OutboxRow], Iterator[OutboxRow]]) -> Iterator[OutboxRow]:
        """Return what may be sent for a waiting message: sealed, or what `published` makes of it,
        or nothing.

        Raises `CipherError` if it can't be sent at all; `KeyChanged`, `KeysWithheld` and what
        `ServerLink.ask` raises if not now.
        """
        if row.kind == MessageKind.SEALED:
            self._require_suite(row.recipient)
            yield self._sealed(row) if row.unsealed else row
        elif not self._choice.uses(row.recipient):
            yield from published(row)
        elif row.kind in {MessageKind.KEY, MessageKind.KEY_REQUEST}:
            self._store.outbox.drop(row.number)
        else:
            converted = self._under_suite_1(row)
            self._require_suite(row.recipient)
            yield self._sealed(converted)

    def _require_suite(self, recipient: ClientId) -> None:
        if not self._choice.is_on():
            raise self.not_offered(recipient)
        self._keys.require_decided(recipient)

    def not_offered(self, recipient: ClientId) -> KeysWithheld:
        """Make the error for a connection that has no suite 1, and a recipient who uses it."""
        shown = self._contacts.shown_id(recipient)
        return KeysWithheld(
            f"This server offers no modern cipher suite now, which {shown} uses; nothing of the published one goes "
            "there any more.",
            "Ask the server's operator.",
        )

    def _sealed(self, row: OutboxRow) -> OutboxRow:
        claimed = False
        for _ in range(_MOST_CLAIMS):
            with self._store.database.transaction():
                sealed = self._seal(row, may_wait=not claimed)
            if sealed is not None:
                fail_points.reach(FailPoint.CLIENT_SEALED)
                return sealed
            self._claim(row.recipient)
            claimed = True
        raise KeysWithheld(
            f"No session with {self._contacts.shown_id(row.recipient)} could be begun.", "Try again later."
        )

    def _claim(self, recipient: ClientId) -> None:
        """Claim keys. If the present session can do without, only another identity is a reason not
        to use it.
        """
        peer = self._keys.peer(recipient)
        optional = peer is not None and claim_due(peer, self._now()) is ClaimReason.OUTER_KEY
        try:
            self._choice.claim(recipient)
        except KeyChanged:
            raise
        except ClientError:
            if not optional:
                raise

    def _seal(self, row: OutboxRow, *, may_wait: bool) -> OutboxRow | None:
        """Within a transaction: seal a message, and keep it with its session; None: a claim is
        due.
        """
        sent = self._store.sent.by_outbox(row.number)
        if sent is not None and sent.withheld and (row.again or row.token != sent.payload_id):
            # It left before, under keys that are not those of now.
            raise CipherError(_NOT_FOR_THEM)
        keys, peer = self._keys.own(), self._keys.peer(row.recipient)
        if keys is None or peer is None:
            return None
        pair = self._pair(row.recipient)
        if pair.recipient == pair.sender:
            keys, sealed = messages.seal_note(keys, peer, pair, row.content or b"")
            self._keys.keep_own(keys)
        else:
            due = claim_due(peer, self._now())
            if due is not None and (due is not ClaimReason.OUTER_KEY or may_wait):
                return None
            sealed = messages.seal(keys, peer, pair, row.content or b"")
        behind = 0 if row.spool is None else self._store.spools.size(row.spool)
        if len(sealed.envelope) + behind > LARGEST_CONTENT:
            raise CipherError("it is too large")
        self._store.peers.put_state(row.recipient, sealed.peer.to_bytes())
        return self._store.outbox.sealed(row, sealed.envelope, len(sealed.envelope) + behind, self._now())

    def _under_suite_1(self, row: OutboxRow) -> OutboxRow:
        """Put a text or a file that waits under the published suite under suite 1."""
        sent = self._store.sent.by_outbox(row.number)
        if row.kind == MessageKind.TEXT and sent is not None and sent.text is not None:
            payload = encoded_text(row.token, row.queued_at, sent.text)
            return self._store.outbox.to_suite_1(row, payload, None, None)
        key = self._contacts.key_numbered(row.recipient, row.under)
        if row.kind != MessageKind.FILE or key is None:
            raise CipherError("its recipient uses the modern cipher suite since, and what is here of it is damaged")
        sealed = seal_parts(
            self._store.spools, self._plain(row, key), self._pair(row.recipient), self._random_bytes, lambda _: None
        )
        payload = encoded_file(row.token, row.queued_at, None if sent is None else sent.path, sealed)
        return self._store.outbox.to_suite_1(row, payload, sealed.spool, sealed.digest)

    def _plain(self, row: OutboxRow, key: ciphers.SymmetricKey) -> Iterator[bytes]:
        decryptor = ciphers.Decryptor(key)
        parts = [row.content or b""] if row.spool is None else self._store.spools.read(row.spool, CHUNK)
        for part in parts:
            yield decryptor.update(part)
        yield decryptor.finish()

    def _pair(self, recipient: ClientId) -> Pair:
        return Pair(self._me(), recipient)

    def _new_token(self) -> Token:
        return token(self._random_bytes(TOKEN_SIZE))


def encoded_text(name: Token, sent_at: int, text: str) -> bytes:
    """Return the payload of a text. Raises `ValueRejected` if it is too long."""
    if len(text.encode("utf-8")) > MAX_PAYLOAD - 1024:
        raise ValueRejected("The text is longer than 16 MB; send it as a file")
    return encoded(Text(About(name, sent_at), text))


def encoded_file(name: Token, sent_at: int, path: str | None, sealed: SealedFile) -> bytes:
    """Return the payload of a file."""
    about = About(name, sent_at)
    return encoded(File(about, name_of(path), "", sealed.size, sealed.digest, sealed.key, ""))
