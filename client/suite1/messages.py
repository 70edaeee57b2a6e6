"""Sealing and opening a message of type 5.

Owns: the order of all checks, and what a failure changes.
Promises: a message that comes back opened was sealed by the pinned identity, for us, and was never
opened before. Every call returns new states, also with a failure; the caller saves them in the
transaction that saves the message, or drops them together.
Exposure: opens what strangers and the server sent; any bytes end in a value.

Source: docs/suite-1.md, "Sealing", "Opening" and "Failures".
"""

import hashlib
from enum import StrEnum
from typing import Final, NamedTuple

from client.errors import ClientError
from client.suite1 import layout, olm, outer
from client.suite1.layout import Inner
from client.suite1.own_keys import OwnKeys
from client.suite1.peers import DIGEST_SIZE, Peer, PeerSession, to_claim_anew, with_session
from client.suite1.values import (
    MAX_DIGESTS,
    MAX_PAYLOAD,
    MAX_SESSION_IDS,
    RENEWING,
    REPLACING,
    VERSION,
    OpenFailure,
    Pair,
)

_LAST_NUMBER: Final = 2**32 - 1


class NoSession(ClientError):
    """A message can't be sealed before a claim."""


class Sealed(NamedTuple):
    """A sealed message. `envelope` is the content; what `client.suite1.file_stream` makes follows
    it if there is a file.
    """

    peer: Peer
    envelope: bytes
    number: int
    renewing: bool


class Order(StrEnum):
    """How a message's number follows the numbers of those before."""

    NEXT = "next"
    GAP = "gap"
    LATE = "late"


class Opened(NamedTuple):
    """An opened message. `form` is `layout.PAYLOAD` or `layout.RENEWED`; any other is of a later
    version, and its payload is kept as it is. `missing`: with `GAP`, how many messages before this
    one did not come. `renewed`: the peer started a new session because an earlier one failed.
    `retired`: it came in a session that this home has given up.
    """

    keys: OwnKeys
    peer: Peer
    form: int
    payload: bytes
    number: int
    order: Order
    missing: int
    renewed: bool
    retired: bool


class NotOpened(NamedTuple):
    """A message that was refused, and why."""

    keys: OwnKeys
    peer: Peer
    failure: OpenFailure


def seal(keys: OwnKeys, peer: Peer, pair: Pair, payload: bytes) -> Sealed:
    """Seal a payload. Raises `NoSession` if `peers.claim_due` says so."""
    session = peer.sending
    if session is None:
        raise NoSession("no session with the recipient was started yet")
    assert len(payload) <= MAX_PAYLOAD
    assert peer.sent < _LAST_NUMBER
    number = peer.sent + 1
    form = layout.RENEWED if session.renewing else layout.PAYLOAD
    plain = layout.packed(Inner(form, number, pair, keys.identity.ed25519, peer.identity.ed25519, payload))
    advanced, message = olm.encrypt(session.olm, plain)
    sessions = tuple(each._replace(olm=advanced) if each is session else each for each in peer.sessions)
    sealed = outer.seal(peer.outer.public, pair, bytes([message.kind]) + message.data)
    after = peer._replace(sessions=sessions, sent=number)
    return Sealed(after, layout.enveloped(peer.outer.number, sealed), number, session.renewing)


def seal_note(keys: OwnKeys, peer: Peer, pair: Pair, payload: bytes) -> tuple[OwnKeys, Sealed]:
    """Seal a payload for oneself; `peer` is what is kept of oneself. The session is of this note
    alone, and only its one-time key stays, until the note is opened.
    """
    account, (one_time_key,) = olm.with_one_time_keys(keys.account, 1)
    started = olm.outbound(account, keys.identity.curve25519, one_time_key)
    assert started is not None
    session = PeerSession(started, retired=False, renewing=False)
    sealed = seal(keys, peer._replace(outer=keys.outer[-1].public, sessions=(session,)), pair, payload)
    return keys._replace(account=account), sealed._replace(peer=sealed.peer._replace(sessions=()))


def open_note(keys: OwnKeys, peer: Peer, pair: Pair, envelope: bytes) -> Opened | NotOpened:
    """As `open_message`, of what was sealed for oneself. No session stays, and no failure changes
    anything: neither is another home to begin anew, nor are published keys in doubt.
    """
    result = open_message(keys, peer, pair, envelope)
    after = peer._replace(highest=result.peer.highest, digests=result.peer.digests)
    return result._replace(keys=keys._replace(account=result.keys.account), peer=after)


def open_message(keys: OwnKeys, peer: Peer, pair: Pair, envelope: bytes) -> Opened | NotOpened:
    """Open a message of `pair.sender`, whom the server names and whose identity `peer` pins, to us.

    `envelope`: the content up to the attachment (`layout.envelope` tells its size).
    """
    head = layout.envelope(envelope)
    if head is not None and head.version != VERSION:
        return NotOpened(keys, peer, OpenFailure.VERSION)
    if head is None or head.is_too_long or head.size != len(envelope):
        return NotOpened(keys, peer, OpenFailure.MALFORMED)
    digest = hashlib.sha256(envelope).digest()[:DIGEST_SIZE]
    if digest in peer.digests:
        return NotOpened(keys, peer, OpenFailure.REPEATED)
    seed = keys.outer_seed(head.outer_number)
    if seed is None:
        return _refused(keys, peer, OpenFailure.OUTER_KEY_UNKNOWN)
    unsealed = outer.open_sealed(seed, pair, envelope[layout.ENVELOPE.size :])
    if unsealed is None:
        return _refused(keys, peer, OpenFailure.OUTER_DAMAGED)
    if not unsealed or not olm.is_well_formed(message := olm.OlmMessage(unsealed[0], unsealed[1:])):
        return _refused(keys, peer, OpenFailure.INNER_MALFORMED)
    decrypted = _decrypted(keys, peer, message)
    if isinstance(decrypted, OpenFailure):
        return _refused(keys, peer, decrypted)
    before = peer.sessions
    keys, peer, plain, is_new, retired = decrypted
    peer = peer._replace(digests=(digest, *peer.digests)[:MAX_DIGESTS])
    inner = layout.unpacked(plain)
    failure = _inner_failure(keys, peer, pair, inner)
    if failure is not None:
        # What a message that is not meant so has started sends nothing.
        return _refused(keys, peer._replace(sessions=before) if is_new else peer, failure)
    assert inner is not None
    return _accepted(keys, peer, inner, is_new=is_new, retired=retired)


def _refused(keys: OwnKeys, peer: Peer, failure: OpenFailure) -> NotOpened:
    # A stranger's word makes nobody replace their keys.
    if failure in REPLACING and (peer.sent or peer.highest):
        keys = keys._replace(suspect=True)
    return NotOpened(keys, peer._replace(renew=True) if failure in RENEWING else peer, failure)


class _Decrypted(NamedTuple):
    keys: OwnKeys
    peer: Peer
    plain: bytes
    is_new: bool
    retired: bool


def _decrypted(keys: OwnKeys, peer: Peer, message: olm.OlmMessage) -> _Decrypted | OpenFailure:
    """Find the session of a message, or start it."""
    candidates = peer.sessions
    if message.kind == olm.PRE_KEY:
        session_id = olm.session_id_of(message.data)
        candidates = tuple(each for each in candidates if each.olm.session_id == session_id)
        if not candidates:
            return _started(keys, peer, message, session_id)
    is_used = False
    for session in candidates:
        result = olm.decrypt(session.olm, message)
        if isinstance(result, olm.OlmFailure):
            is_used = is_used or result is olm.OlmFailure.KEY_USED
            continue
        advanced, plain = result
        after = session._replace(olm=advanced, renewing=False, left=False)
        return _Decrypted(keys, _moved(peer, session, after), plain, is_new=False, retired=after.retired)
    return OpenFailure.USED_KEY if is_used else OpenFailure.NO_SESSION


def _moved(peer: Peer, session: PeerSession, after: PeerSession) -> Peer:
    """The session that opened something sends the next message, unless it was given up."""
    if after.retired:
        return peer._replace(sessions=tuple(after if each is session else each for each in peer.sessions))
    others = tuple(each for each in peer.sessions if each is not session)
    return peer._replace(sessions=(after, *others))


def _started(keys: OwnKeys, peer: Peer, message: olm.OlmMessage, session_id: bytes) -> _Decrypted | OpenFailure:
    generation = keys.fallback_generation
    # A fallback key starts the same session any number of times; it is gone two generations later.
    remembered = tuple(each for each in peer.session_ids if each[1] + 2 > generation)
    if any(known == session_id for known, _ in remembered):
        return OpenFailure.USED_KEY
    if len(remembered) >= MAX_SESSION_IDS:
        return OpenFailure.TOO_MANY_SESSIONS
    result = olm.inbound(keys.account, peer.identity.curve25519, message.data)
    if isinstance(result, olm.OlmFailure):
        return _START_FAILURES[result]
    account, session, plain = result
    keys = keys._replace(account=account, kept=None if keys.kept is None else max(0, keys.kept - 1))
    peer = peer._replace(session_ids=((session_id, generation), *remembered))
    started = PeerSession(session, retired=False, renewing=False)
    return _Decrypted(keys, with_session(peer, started, peer.sessions), plain, is_new=True, retired=False)


_START_FAILURES: Final = {
    olm.OlmFailure.OTHER_IDENTITY: OpenFailure.OTHER_IDENTITY,
    olm.OlmFailure.ONE_TIME_KEY_UNKNOWN: OpenFailure.ONE_TIME_KEY_UNKNOWN,
    olm.OlmFailure.KEY_USED: OpenFailure.NO_SESSION,
    olm.OlmFailure.NOT_OPENED: OpenFailure.NO_SESSION,
}


def _inner_failure(keys: OwnKeys, peer: Peer, pair: Pair, inner: Inner | None) -> OpenFailure | None:
    if inner is None:
        return OpenFailure.INNER_MALFORMED
    if inner.pair != pair:
        return OpenFailure.WRONG_IDS
    if (inner.sender_key, inner.recipient_key) != (peer.identity.ed25519, keys.identity.ed25519):
        return OpenFailure.WRONG_KEYS
    return None


def _accepted(keys: OwnKeys, peer: Peer, inner: Inner, *, is_new: bool, retired: bool) -> Opened:
    renewed = inner.form == layout.RENEWED and is_new
    order, missing = Order.NEXT, 0
    if inner.number > peer.highest + 1:
        order, missing = Order.GAP, inner.number - peer.highest - 1
    elif inner.number <= peer.highest and not renewed:
        order = Order.LATE
    highest = inner.number if renewed else max(peer.highest, inner.number)
    peer = peer._replace(highest=highest)
    if renewed:
        # Whoever renews may have been restored, and have replaced the outer key too.
        peer = to_claim_anew(peer._replace(sessions=_after_renewal(peer.sessions), renew=False))
    return Opened(keys, peer, inner.form, inner.payload, inner.number, order, missing, renewed, retired)


def _after_renewal(sessions: tuple[PeerSession, ...]) -> tuple[PeerSession, ...]:
    """Leave all sessions but the one that the peer has just started, which is the first. If the
    peer writes in one of them still, as where both have begun anew at once, that one is taken up.
    """
    return (sessions[0], *(each._replace(left=True) for each in sessions[1:]))
