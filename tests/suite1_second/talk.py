"""A home's keys, what it knows of a peer, sealing and opening."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field

from tests.suite1_second import olm, outer
from tests.suite1_second.bundles import Claim, Identity
from tests.suite1_second.outer import OuterKey
from tests.suite1_second.primitives import Refused, number, padme, public_of, u

SESSIONS = 5
SESSION_IDS = 512
DIGESTS = 64
SEALED = 17 << 20


@dataclass
class Home:
    """Private halves of one user; `generation` is that of the fallback key."""

    id: bytes
    ed25519_seed: bytes
    identity: Identity
    curve25519: bytes
    one_time: dict[bytes, bytes]
    fallback: list[bytes]
    outer: list[OuterKey]
    generation: int = 0


@dataclass
class Kept:
    """A session with a peer."""

    session: olm.Session
    retired: bool = False
    renewing: bool = False
    left: bool = False


@dataclass
class Peer:
    """What one home knows of another."""

    id: bytes
    identity: Identity
    outer_number: int
    outer: bytes
    sessions: list[Kept] = field(default_factory=list)
    renew: bool = False
    doubted: bool = False
    sealed: int = 0
    highest: int = 0
    remembered: dict[bytes, int] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)

    @property
    def sending(self) -> Kept | None:
        return next((each for each in self.sessions if not (each.retired or each.left)), None)

    def first(self, kept: Kept) -> None:
        self.sessions = [kept, *(each for each in self.sessions if each is not kept)][:SESSIONS]


@dataclass(frozen=True)
class Opened:
    """What came out of an envelope."""

    form: int
    number: int
    order: str
    missing: int
    renewed: bool
    payload: bytes


RENEW = frozenset(
    {"outer-key-unknown", "outer-damaged", "inner-malformed", "one-time-key-unknown", "used-key", "no-session"}
)


def put_first(peer: Peer, session: olm.Session) -> None:
    """Takes a session that this side starts, as after a claim."""
    kept = Kept(session)
    if peer.renew:
        for each in peer.sessions:
            each.retired = True
        kept.renewing, peer.renew = True, False
    peer.first(kept)


def start(home: Home, peer: Peer, claim: Claim) -> None:
    """After a claim: the outer key is the bundle's, and a session is started."""
    peer.outer_number, peer.outer, peer.doubted = claim.outer_number, claim.outer, False
    one_time = claim.one_time or claim.fallback
    put_first(peer, olm.started(home.curve25519, peer.identity.curve25519, one_time))


def plain_text(home: Home, peer: Peer, form: int, n: int, payload: bytes) -> bytes:
    ids = home.id + peer.id + home.identity.ed25519 + peer.identity.ed25519
    body = u(1, form) + u(4, len(payload)) + u(4, n) + ids + payload
    return body + bytes(padme(106 + len(payload)) - 1 - len(body))


def envelope(peer: Peer, sender: bytes, kind: int, message: bytes) -> bytes:
    sealed = outer.seal(u(1, kind) + message, peer.outer, outer.info_of(sender, peer.id))
    return u(1, 1) + u(4, peer.outer_number) + u(4, len(sealed)) + sealed


def seal(home: Home, peer: Peer, payload: bytes) -> bytes:
    """An envelope; there is a session that sends."""
    kept = peer.sending
    assert kept is not None
    peer.sealed += 1
    plain = plain_text(home, peer, 2 if kept.renewing else 1, peer.sealed, payload)
    return envelope(peer, home.id, *kept.session.encrypt(plain))


def parts(content: bytes, has_stream: bool = False) -> tuple[int, bytes]:
    """The outer key's number and the sealed part: checks 1 to 3."""
    if len(content) < 9:
        raise Refused("malformed")
    if content[0] != 1:
        raise Refused("later-version")
    end = 9 + number(content[5:9])
    if end > 9 + SEALED or end > len(content) or (end < len(content) and not has_stream):
        raise Refused("malformed")
    return number(content[1:5]), content[9:end]


def opened(home: Home, peer: Peer, content: bytes) -> Opened:
    """The message in an envelope; home and peer are changed as the text says, also by a failure."""
    try:
        return checked(home, peer, content)
    except Refused as refused:
        peer.renew = peer.renew or refused.failure in RENEW
        raise


def checked(home: Home, peer: Peer, content: bytes) -> Opened:
    outer_number, sealed = parts(content)
    digest = hashlib.sha256(content).digest()[:16]
    if digest in peer.digests:
        raise Refused("repeated")
    private = next((each for each in home.outer if each.number == outer_number), None)
    if private is None:
        raise Refused("outer-key-unknown")
    inside = outer.opened(sealed, private, outer.info_of(peer.id, home.id))
    before = list(peer.sessions)
    kept, plain, is_new = decrypted(home, peer, inside)
    peer.digests = [*peer.digests, digest][-DIGESTS:]
    kept.renewing = kept.left = False
    if not kept.retired:
        peer.first(kept)
    try:
        return compared(home, peer, kept, plain, is_new)
    except Refused:
        if is_new:
            peer.sessions = before
        raise


def decrypted(home: Home, peer: Peer, inside: bytes) -> tuple[Kept, bytes, bool]:
    """The session, its plain text, and whether the message started it: checks 7 to 13."""
    pre_key: olm.PreKey | None = None
    try:
        match inside[:1]:
            case b"\0":
                pre_key = olm.PreKey.parsed(inside[1:])
                normal = olm.Normal.parsed(pre_key.inner)
            case b"\1":
                normal = olm.Normal.parsed(inside[1:])
            case _:
                raise olm.NotOlm
    except olm.NotOlm as error:
        raise Refused("inner-malformed") from error
    sessions = peer.sessions
    if pre_key is not None:
        sessions = [each for each in sessions if each.session.session_id == pre_key.session_id]
        if not sessions:
            return (*answered(home, peer, pre_key), True)
    used_up = False
    for each in sessions:
        try:
            return each, each.session.open(normal), False
        except olm.UsedUp:
            used_up = True
        except olm.DoesNotOpen:
            pass
    raise Refused("used-key" if used_up else "no-session")


def answered(home: Home, peer: Peer, message: olm.PreKey) -> tuple[Kept, bytes]:
    """A session that the peer starts: checks 9 to 11."""
    peer.remembered = {each: g for each, g in peer.remembered.items() if g + 2 > home.generation}
    if message.session_id in peer.remembered:
        raise Refused("used-key")
    if len(peer.remembered) >= SESSION_IDS:
        raise Refused("too-many-sessions")
    if message.identity != peer.identity.curve25519:
        raise Refused("other-identity")
    private = home.one_time.get(message.one_time)
    if private is None:
        private = next((each for each in home.fallback if public_of(each) == message.one_time), None)
    if private is None:
        raise Refused("one-time-key-unknown")
    try:
        session, plain = olm.answered(home.curve25519, private, message)
    except olm.DoesNotOpen as error:
        raise Refused("no-session") from error
    home.one_time.pop(message.one_time, None)
    peer.remembered[session.session_id] = home.generation
    return Kept(session), plain


def compared(home: Home, peer: Peer, kept: Kept, plain: bytes, is_new: bool) -> Opened:
    """The plain text's own checks, 14 to 16, and its place in the order."""
    size = number(plain[1:5]) if len(plain) >= 105 else -1
    if size < 0 or len(plain) != padme(106 + size) - 1 or any(plain[105 + size :]):
        raise Refused("inner-malformed")
    if plain[9:41] != peer.id + home.id:
        raise Refused("wrong-ids")
    if plain[41:105] != peer.identity.ed25519 + home.identity.ed25519:
        raise Refused("wrong-keys")
    form, n, h = plain[0], number(plain[5:9]), peer.highest
    renewed = form == 2 and is_new
    if renewed:
        for each in peer.sessions:
            each.left = each is not kept
        peer.doubted, peer.renew = True, False
    is_late = n <= h and not renewed
    order = "late" if is_late else "next" if n <= h + 1 else "gap"
    missing = n - h - 1 if order == "gap" else 0
    peer.highest = h if is_late else n
    return Opened(form, n, order, missing, renewed, plain[105 : 105 + size])


def put_back(home: Home, peer: Peer) -> tuple[Home, Peer]:
    """Copies, which later changes of the originals do not touch."""
    return copy.deepcopy(home), copy.deepcopy(peer)
