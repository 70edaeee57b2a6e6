"""Received messages of cipher suite 1: from what came to what was said.

Owns: opening a message, once, and what a failure leads to.
Promises: what a message was opened to is on disk in the transaction that advances the session and
uses up the keys; whatever breaks before, it is opened again from the same state. The same payload
is shown once, however often it comes. What can't be opened because one of the two homes is an old
copy is asked for again, at most once an hour of each sender who does not answer, and a message of
ours that somebody else could not open is sent again, twice at most.
Exposure: opens what strangers sent; a failure is a value, and is noted with the message.

    mark                  means
    ───────────────────   ──────────────────────────────────────────────────────────────────────
    next                  opened, and it follows the one before
    gap N                 opened; N messages before it did not come
    late                  opened; one that was sent later was shown before
    … renewed             opened, as the words before say; its sender has begun new sessions with it
    later-version         opened, and of a later version: its payload is kept
    payload-malformed     opened, and its sender does not follow the rules
    another word          refused: the failure of docs/suite-1.md, "Failures"

Source: docs/suite-1.md, "Opening" and "Failures"; docs/decisions/0030-a-ratchet-in-the-store.md.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from client.crypto.ciphers import RandomBytes
from client.errors import CipherError, ClientError, StoreUnusable
from client.mail.outgoing_file import CHUNK
from client.mail.suite_sealing import SuiteSealing
from client.store.home_store import Store
from client.store.inbox import InboxRow
from client.store.sent import MOST_REPEATS
from client.suite1 import layout, messages, peers
from client.suite1.messages import NotOpened, Opened, Order
from client.suite1.payloads import MAX_IDS, CouldNotOpen, Payload, PayloadMalformed, decoded
from client.suite1.values import ASK_AT_MOST, RENEWING, OpenFailure, Pair
from client.trust.suite_keys import SuiteKeys, put_request_to_repeat
from common import fail_points
from common.fail_points import FailPoint
from common.tables import complete
from common.values import ClientId

NO_KEYS: Final = "sender-unknown"
_RENEWED: Final = "renewed"
_LATER: Final = "later-version"
_MALFORMED: Final = "payload-malformed"
_NO_MATTER: Final = OpenFailure.REPEATED
_PROBLEMS: Final = complete(
    "_PROBLEMS of client.mail.opening",
    {
        NO_KEYS: "the server gives no keys of its sender",
        OpenFailure.MALFORMED: "it was cut, or is no message of the modern cipher suite",
        OpenFailure.VERSION: "it is of a later version of the cipher suite; install a newer MessageU",
        OpenFailure.USED_KEY: "its key was used before: it is a repeat, or its sender's home was restored from a copy",
        OpenFailure.OUTER_KEY_UNKNOWN: "it is sealed to a key that this home does not have, or not any more",
        OpenFailure.OUTER_DAMAGED: "it was altered on its way, or is not from the sender that the server names",
        OpenFailure.INNER_MALFORMED: "its sender does not follow the rules of the cipher suite",
        OpenFailure.OTHER_IDENTITY: "it is not from the one whom you know by this name",
        OpenFailure.ONE_TIME_KEY_UNKNOWN: "it begins with a key that was used already, or that this home does not have",
        OpenFailure.TOO_MANY_SESSIONS: "its sender begins sessions without end",
        OpenFailure.NO_SESSION: "it was altered, or one of the two homes was restored from a copy",
        OpenFailure.WRONG_IDS: "it was written for somebody else, or by somebody else",
        OpenFailure.WRONG_KEYS: "it was written for other keys, or by other keys",
        _MALFORMED: "its sender does not follow the rules of the cipher suite",
    },
    ({*OpenFailure} - {_NO_MATTER}) | {NO_KEYS, _MALFORMED},
)
_MAY_OPEN: Final = frozenset({None, NO_KEYS, OpenFailure.OTHER_IDENTITY})
"""After these it is worth trying: with other failures trying again changes nothing."""


class Revealed(NamedTuple):
    """What a message says. `missing`: how many before it did not come; `overtaken`: a later one was
    shown before it.
    """

    row: InboxRow
    payload: Payload
    missing: int = 0
    overtaken: bool = False
    renewed: bool = False


class Stream(NamedTuple):
    """What follows the envelope of a message: its size, and its bytes in parts."""

    size: int
    parts: Iterator[bytes]


class Opening:
    """Opens the messages of one home."""

    def __init__(
        self,
        store: Store,
        keys: SuiteKeys,
        sealing: SuiteSealing,
        me: Callable[[], ClientId],
        now: Callable[[], int],
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._keys = keys
        self._sealing = sealing
        self._me = me
        self._now = now
        self._random_bytes = random_bytes
        self.has_repeated = False
        """Whether messages were put into the outbox once more, and not sent yet."""

    def reveal(self, row: InboxRow) -> Revealed | None:
        """Return what a message says, opening it if that was not done yet; None: it is a repeat of
        another one, and nothing is to be shown. Raises `CipherError` if it can't be opened.
        """
        if row.opened is None and row.mark in _MAY_OPEN:
            row = self._opened(row)
        return self.read(row)

    def read(self, row: InboxRow) -> Revealed | None:
        """As `reveal`, of a message that was opened, or refused, before. Changes nothing."""
        mark = row.mark or NO_KEYS
        if mark == _NO_MATTER:
            return None
        if row.opened is None or row.content is None:
            raise CipherError(_PROBLEMS.get(mark, "it can't be opened"))
        try:
            payload = decoded(row.content[: row.opened])
        except PayloadMalformed as error:
            raise CipherError(_PROBLEMS[_MALFORMED]) from error
        words = mark.split()
        return Revealed(
            row,
            payload,
            int(words[1]) if words[0] == Order.GAP else 0,
            overtaken=words[0] == Order.LATE,
            renewed=words[-1] == _RENEWED,
        )

    def stream(self, row: InboxRow) -> Stream:
        """Return what follows the envelope of a message that was opened."""
        if row.spool is None:
            rest = (row.content or b"")[row.opened or 0 :]
            return Stream(len(rest), iter([rest]))
        head = layout.envelope(next(self._store.spools.read(row.spool, CHUNK), b""))
        start = row.size if head is None else min(head.size, row.size)
        return Stream(row.size - start, self._store.spools.read(row.spool, CHUNK, start))

    def _opened(self, row: InboxRow) -> InboxRow:
        try:
            envelope, rest = self._parts(row)
        except CipherError:
            envelope, rest = b"", b""
        pair = Pair(row.sender, self._me())
        with self._store.database.transaction():
            # Another process of this home may have opened it meanwhile.
            present = self._store.inbox.numbered(row.number)
            if present is None or present.opened is not None:
                return present or row
            keys, peer = self._keys.own(), self._keys.peer(row.sender)
            if keys is None or peer is None:
                return self._store.inbox.was_refused(row, NO_KEYS, ask=False)
            is_note = pair.sender == pair.recipient
            result = (messages.open_note if is_note else messages.open_message)(keys, peer, pair, envelope)
            if result.keys != keys:
                self._keys.keep_own(result.keys)
            if isinstance(result, Opened):
                row = self._accepted(row, result, rest)
            else:
                row = self._refused(row, result, is_note=is_note)
        fail_points.reach(FailPoint.CLIENT_OPENED)
        return row

    def _refused(self, row: InboxRow, result: NotOpened, *, is_note: bool) -> InboxRow:
        failure, peer = result.failure, result.peer
        if is_note:
            # Nobody else is to be told, and no session to be begun.
            self._store.peers.put_state(row.sender, peer.to_bytes())
            return self._store.inbox.was_refused(row, failure, ask=False)
        if failure is OpenFailure.OTHER_IDENTITY:
            # The next message claims keys anew, which shows the other identity.
            peer = peers.doubted(peer)
        self._store.peers.put_state(row.sender, peer.to_bytes())
        self._keys.renew_after(failure)
        return self._store.inbox.was_refused(row, failure, ask=failure in RENEWING)

    def _accepted(self, row: InboxRow, result: Opened, rest: bytes) -> InboxRow:
        peer, payload_id = result.peer, None
        mark: str = result.order
        if result.order is Order.GAP:
            mark = f"{result.order} {result.missing}"
        if result.renewed:
            mark = f"{mark} {_RENEWED}"
        try:
            payload = decoded(result.payload)
        except PayloadMalformed:
            mark = _MALFORMED
        else:
            payload_id = payload.about.id
            if self._store.inbox.has_payload(row.sender, payload_id, row.number):
                mark, payload_id = _NO_MATTER, None
            if isinstance(payload, CouldNotOpen):
                peer = peers.to_claim_anew(peer)
        if result.form not in {layout.PAYLOAD, layout.RENEWED}:
            mark = _LATER
        self._store.peers.put_state(row.sender, peer.to_bytes())
        if not result.retired:
            self._store.peers.has_answered(row.sender)
        return self._store.inbox.was_opened(row, result.payload, rest, payload_id, mark)

    def _parts(self, row: InboxRow) -> tuple[bytes, bytes]:
        """The envelope of a message, and what follows it, unless that is in a file. Raises
        `CipherError`.
        """
        if row.spool is None:
            content = row.content or b""
            head = layout.envelope(content)
            size = len(content) if head is None or head.version != 1 else head.size
            return content[:size], content[size:]
        beginning = b""
        size = CHUNK
        for part in self._store.spools.read(row.spool, CHUNK):
            beginning += part
            head = layout.envelope(beginning)
            if head is not None:
                if head.is_too_long:
                    raise CipherError(_PROBLEMS[OpenFailure.MALFORMED])
                size = head.size
            if len(beginning) >= size:
                break
        return beginning[:size], b""

    # --- what follows from failures
    # ---------------------------------------------------------------------------------------

    def ask_again(self) -> bool:
        """Put requests into the outbox to send again what could not be opened; return whether there
        are any. Who has not answered is asked once an hour: what is to be asked for then waits.
        Nobody is asked while keys of ours are replaced and not published: the answer would be
        sealed to those before.
        """
        if self._keys.are_replaced():
            return False
        is_asking, now = False, self._now()
        for sender, tokens in self._store.inbox.to_ask().items():
            with self._store.database.transaction():
                peer = self._store.peers.of_id(sender)
                # The request may be one that its recipient can't open, and asks for.
                if peer is None or (peer.asked_at is not None and peer.asked_at <= now < peer.asked_at + ASK_AT_MOST):
                    continue
                asked = tuple(tokens[:MAX_IDS])
                put_request_to_repeat(self._store, sender, asked, now, self._random_bytes)
                self._store.peers.was_asked(sender, now)
                for one in asked:
                    self._store.inbox.was_asked(sender, one)
            is_asking = True
        return is_asking

    def repeat(self, sender: ClientId, request: CouldNotOpen) -> tuple[int, int]:
        """Send again what somebody could not open, each message once, and once more if that could
        not be opened either; return how many are sent again, and how many can't be. Done twice, it
        changes nothing more.
        """
        again = not_again = 0
        unknown: list[bytes] = []
        for name in request.ids:
            sent, most = self._store.sent.by_payload(sender, name), 1
            if sent is None:
                sent, most = self._store.sent.by_repeat(sender, name), MOST_REPEATS
            if sent is not None and sent.withheld:
                not_again += 1
                continue
            if sent is None:
                # It may have asked for something itself, as it is not in the history.
                unknown.append(name)
                continue
            if sent.waiting and not self._store.outbox.may_be_there(sent.outbox or 0):
                continue
            if sent.repeats >= most:
                again += 1
                continue
            try:
                again += self._sealing.repeat(sent)
                self.has_repeated = True
            except StoreUnusable:
                raise
            except ClientError:
                not_again += 1
        if unknown:
            with self._store.database.transaction():
                asked = self._store.peers.take_requests(sender, unknown)
                self._store.inbox.ask_once_more(sender, asked)
        return again, not_again
