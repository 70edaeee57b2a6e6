"""What this home keeps of one peer: the pinned identity, the outer key, the sessions, the counters.

Owns: which session sends, when a claim is due, what a claim changes, how long sessions are kept.
Promises: at most five sessions; a session that was given up sends nothing more. Every function
returns a new value.
Exposure: none; claims were checked by `client.suite1.bundles`.

Source: docs/suite-1.md, "Sessions".
"""

from enum import StrEnum
from typing import Final, NamedTuple

from client.suite1 import olm
from client.suite1.own_keys import OwnKeys
from client.suite1.state_codec import packed, sized, unpacked, unusable
from client.suite1.values import (
    DAY,
    HOUR,
    KEY_SIZE,
    MAX_SESSIONS,
    OUTER_PUBLIC_SIZE,
    RENEW_AT_MOST,
    Bundle,
    BundleFailure,
    BundleRefused,
    Claim,
    Identity,
    OuterKey,
)

_NAME: Final = "peer"
DIGEST_SIZE: Final = 16
"""Bytes of SHA-256 by which a content is remembered."""


class PeerSession(NamedTuple):
    """One session. `retired`: it opens, and sends no more. `renewing`: it was started because an
    earlier one failed, and the peer has not answered in it. `left`: the peer has begun anew; it
    sends no more until it opens something.
    """

    olm: olm.OlmSession
    retired: bool
    renewing: bool
    left: bool = False


class Peer(NamedTuple):
    """The state. `sessions`: the one that opened last, or was started last, first. `renew`: the
    next message starts a new session. `doubted`: the outer key may be replaced already. `sent`: the
    number of the last message that was sealed; `highest`: the highest that was opened. Times in
    Unix milliseconds.
    """

    identity: Identity
    outer: OuterKey
    sessions: tuple[PeerSession, ...] = ()
    renew: bool = False
    renewed_at: int = 0
    doubted: bool = False
    claimed_at: int = 0
    sent: int = 0
    highest: int = 0
    session_ids: tuple[tuple[bytes, int], ...] = ()
    digests: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the state as bytes; they are secret."""
        return packed(_NAME, (*self.identity, *self.outer, *self[2:-1], b"".join(self.digests)))

    @classmethod
    def from_bytes(cls, state: bytes) -> "Peer":
        """Read a state. Raises `StoreUnusable`."""
        match unpacked(_NAME, state):
            case [
                bytes(ed25519), bytes(curve25519), int(number), int(valid_until), bytes(public), list(sessions),
                bool(renew), int(renewed_at), bool(doubted), int(claimed_at), int(sent), int(highest), list(ids),
                bytes(digests),
            ] if 0 <= number < 2**32 and 0 <= sent < 2**32:  # fmt: skip
                return cls(
                    Identity(sized(_NAME, ed25519, KEY_SIZE), sized(_NAME, curve25519, KEY_SIZE)),
                    OuterKey(number, valid_until, sized(_NAME, public, OUTER_PUBLIC_SIZE)),
                    tuple(_session(each) for each in sessions),
                    renew,
                    renewed_at,
                    doubted,
                    claimed_at,
                    sent,
                    highest,
                    tuple(_id(each) for each in ids),
                    tuple(digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE)),
                )
        raise unusable(_NAME)

    @property
    def sending(self) -> PeerSession | None:
        """The session that the next message goes in, if no new one is due."""
        return next((session for session in self.sessions if not (session.retired or session.left)), None)


class ClaimReason(StrEnum):
    """Why a claim (645) is due before the next message."""

    NO_SESSION = "no-session"
    RENEWAL = "renewal"
    OUTER_KEY = "outer-key"


def met(bundle: Bundle) -> Peer:
    """Return what is kept of somebody who is met, or whose new identity the user accepted."""
    return Peer(bundle.identity, bundle.outer)


def oneself(keys: OwnKeys) -> Peer:
    """Return what is kept of oneself, for notes: no session ever."""
    return Peer(keys.identity, keys.outer[-1].public)


def claim_due(peer: Peer, now: int) -> ClaimReason | None:
    """Return why a claim is due before the next message is sealed; None if none is.

    A message can be sealed without it only if the reason is `OUTER_KEY`.
    """
    if peer.sending is None:
        return ClaimReason.NO_SESSION
    if peer.renew and not peer.renewed_at <= now < peer.renewed_at + RENEW_AT_MOST:
        return ClaimReason.RENEWAL
    is_old = peer.doubted or peer.outer.valid_until <= now
    # An owner who is away goes on having an old one, and each claim takes a one-time key.
    is_away = not peer.doubted and peer.outer.valid_until <= peer.claimed_at
    if is_old and not peer.claimed_at <= now < peer.claimed_at + (DAY if is_away else HOUR):
        return ClaimReason.OUTER_KEY
    return None


def claimed(keys: OwnKeys, peer: Peer, claim: Claim, now: int) -> Peer:
    """Take over a claim: the newer outer key, and a new session if one is due. Raises
    `BundleRefused` if the claim's keys can't start one.
    """
    reason = claim_due(peer, now)
    if claim.bundle.identity != peer.identity:
        raise BundleRefused(BundleFailure.IDENTITY_CHANGED)
    peer = peer._replace(outer=claim.bundle.outer, doubted=False, claimed_at=now)
    if reason not in {ClaimReason.NO_SESSION, ClaimReason.RENEWAL}:
        return peer
    started = olm.outbound(keys.account, peer.identity.curve25519, claim.one_time_key or claim.bundle.fallback)
    if started is None:
        raise BundleRefused(BundleFailure.SESSION_KEY)
    others = peer.sessions
    if peer.renew:
        others = tuple(session._replace(retired=True) for session in others)
        peer = peer._replace(renew=False, renewed_at=now)
        return with_session(peer, PeerSession(started, retired=False, renewing=True), others)
    return with_session(peer, PeerSession(started, retired=False, renewing=False), others)


def with_session(peer: Peer, session: PeerSession, others: tuple[PeerSession, ...]) -> Peer:
    """Put a session first, and keep the newest others."""
    return peer._replace(sessions=(session, *others)[:MAX_SESSIONS])


def restored(peer: Peer) -> Peer:
    """Return what is kept of a peer after the home was restored from an old copy: no session sends,
    as its message keys may have been used since, and the next message starts a new one.
    """
    sessions = tuple(session._replace(retired=True) for session in peer.sessions)
    return peer._replace(sessions=sessions, renew=True, renewed_at=0, doubted=True, claimed_at=0)


def doubted(peer: Peer) -> Peer:
    """Note that a peer's outer key may be another one by now."""
    return peer._replace(doubted=True)


def to_claim_anew(peer: Peer) -> Peer:
    """Note that a peer has said itself that it could not open something, or has begun new sessions.
    A claim of the last hour may be from before, so that nothing more is sealed without another.
    """
    return peer._replace(doubted=True, claimed_at=0)


def _session(fields: object) -> PeerSession:
    match fields:
        case [[str(pickle), bytes(session_id)], bool(retired), bool(renewing), bool(left)]:
            return PeerSession(olm.OlmSession(pickle, session_id), retired, renewing, left)
    raise unusable(_NAME)


def _id(fields: object) -> tuple[bytes, int]:
    match fields:
        case [bytes(session_id), int(generation)]:
            return session_id, generation
    raise unusable(_NAME)
