"""Which key belongs to whom: trust on first use, changes, safety numbers.

Owns: the pins. A pin is the id and the public key under which a name was first met, and whether it
was compared. Whoever has shown keys of cipher suite 1 is known by those as well, and compared by
safety number 2; number 1 counts for the others, and for those who were compared by it until the
user has decided about the new keys.
Promises: only the user's consent replaces a pinned key; while the server names another key for a
pinned name, or assigns the name or the id to somebody else, nothing is sent to that name. Another
id with the same name and key is the same person, which is reported. Exposure: this module detects a
lying server; a key that was never compared is trusted from first use.

    state      means                                           leaves when
    ────────   ─────────────────────────────────────────────   ────────────────────────────────────────────
    pinned     met, not compared                               compared → verified; another key → changed
    verified   both sides saw the same safety number           another key → changed
    changed    the server names another key or account         it names the old one again → as before;
                                                               the user accepts it → pinned
    undecided  compared by number 1, has shown keys of suite   the user accepts them → pinned
               1 since

Source: docs/client.md, "Trust"; docs/security.md, "Safety numbers, and what verified covers".
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from client.errors import KeyChanged, SafetyNumberDiffers
from client.store.home_store import Store
from client.store.peers import PeerRow
from client.store.pins import PinRow
from client.suite1 import identity_numbers
from client.suite1.own_keys import OwnKeys
from client.suite1.values import Identity
from client.terminal import local_time
from client.terminal.sanitize import command, marked, visible_name
from common.values import ClientId, PublicKey

_CONTEXT: Final = b"MessageU safety number 1\0"
_ROUNDS: Final = 5200
_GROUPS: Final = 6


def number_differs(name: str) -> SafetyNumberDiffers:
    """Make the error that the number on the other side is not ours."""
    return SafetyNumberDiffers(
        f"That is not the safety number with {visible_name(name)}; nothing was changed.",
        "Compare again. If it still differs, somebody else may be reading: send nothing secret.",
    )


class Trust:
    """The pins of one home."""

    def __init__(
        self,
        store: Store,
        me: Callable[[], tuple[ClientId, PublicKey]],
        now: Callable[[], int],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._store = store
        self._me = me
        self._now = now

    def pin(self, name: str) -> PinRow | None:
        """Return what is known of a name."""
        return self._store.pins.of_name(name)

    def meet(self, client_id: ClientId, name: str, key: PublicKey) -> bool:
        """Compare the id and key that the server names for a name with the pin; return whether they
        differ.
        """
        if self._store.pins.add(client_id, name, key, self._now()):
            return False
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(client_id)
        assert pin is not None
        if (pin.client_id, pin.name, pin.public_key) == (client_id, name, key):
            self._store.pins.offer(pin.client_id, None, None, None)
            return False
        if (pin.name, pin.public_key) == (name, key) and self._store.pins.of_id(client_id) is None:
            # The holder of the private key registered the name again.
            self._store.keys.copy(pin.client_id, client_id, self._now())
            self._store.silenced.move(pin.client_id, client_id)
            self._move_keys(pin, client_id)
            self._store.pins.move(pin.client_id, client_id)
            known_as = marked(name, "verified" if pin.verified_at is not None else None)
            self._tell(f"{known_as} has another id at the server now, and the same key as before.")
            return False
        known = (pin.offered_id, pin.offered_key) == (client_id, key)
        self._store.pins.offer(pin.client_id, client_id, key, pin.offered_since if known else self._now())
        return True

    def _move_keys(self, pin: PinRow, client_id: ClientId) -> None:
        """Know somebody's keys of suite 1 by another id. What that id has shown itself before is
        the server's word alone: a published key, which the server has too, does not vouch for it.
        """
        peer = self._store.peers.of_id(client_id)
        is_compared = self.has_compared_old_key(pin.client_id) and not self._store.peers.is_known(pin.client_id)
        if is_compared and peer is not None and peer.verified_at is None:
            with self._store.database.transaction():
                self._store.peers.offer(client_id, peer.identity, self._now())
        self._store.peers.move(pin.client_id, client_id)

    def meet_self(self, client_id: ClientId, name: str, key: PublicKey) -> None:
        """Pin our own account: verified, and replacing any other account of our name."""
        if self.meet(client_id, name, key):
            pin = self._store.pins.of_name(name) or self._store.pins.of_id(client_id)
            assert pin is not None
            self._store.pins.replace(pin.client_id, client_id, name, key, self._now())
        if not self.is_verified(client_id):
            self._store.pins.verify(client_id, key, self._now())
        self._store.settings.add_own(client_id)

    def moved(self, client_id: ClientId, name: str) -> bool:
        """Whether the server gives a known name to another id, or another name to a known id."""
        by_name, by_id = self._store.pins.of_name(name), self._store.pins.of_id(client_id)
        return (by_name is not None and by_name.client_id != client_id) or (by_id is not None and by_id.name != name)

    def check(self, client_id: ClientId, name: str) -> None:
        """Raise `KeyChanged` if the server named another key or account for somebody who is known
        here.
        """
        pin = self._store.pins.of_name(name) or self._store.pins.of_id(client_id)
        if pin is not None and (pin.offered_key is not None or self.moved(client_id, name)):
            raise self.changed(pin, name)
        peer = self._store.peers.of_id(client_id)
        if peer is not None and peer.offered is not None:
            raise self.changed_keys(client_id)

    def changed(self, pin: PinRow, name: str) -> KeyChanged:
        """Make the error for a change."""
        peer = self._store.peers.of_id(pin.client_id)
        verified_at = pin.verified_at if peer is None or peer.is_undecided else peer.verified_at
        return self._changed(
            name, self.number(pin), self.offered_number(pin) or "not known", verified_at, pin.since, pin.offered_since
        )

    def changed_keys(self, client_id: ClientId) -> KeyChanged:
        """Make the error for a change of somebody's keys of suite 1, or to them."""
        peer, pin = self._store.peers.of_id(client_id), self._store.pins.of_id(client_id)
        assert peer is not None
        if pin is not None and peer.is_undecided:
            return self._undecided(pin, peer)
        name = client_id.hex() if pin is None else pin.name
        offered = self._suite_number(client_id, peer.offered) or "not known"
        number = self._suite_number(client_id, peer.identity) or "not known"
        return self._changed(name, number, offered, peer.verified_at, peer.since, peer.offered_since)

    def _undecided(self, pin: PinRow, peer: PeerRow) -> KeyChanged:
        """Make the error for keys of suite 1 that nobody has compared, of somebody who was verified
        before.
        """
        shown = visible_name(pin.name)
        new_number = self._suite_number(pin.client_id, peer.identity) or "not known"
        return KeyChanged(
            f"{shown} was verified by the key of the old cipher suite, and has shown keys of the modern one since. "
            f"Nobody has compared the new yet; nothing was sent. The new safety number: {grouped(new_number)}.",
            f"Compare it with {shown} by voice; then {command('verify', pin.name, '--accept-new')} accepts the keys. "
            "The same goes on without comparing.",
            name=pin.name, old_number=self.number(pin), new_number=new_number, met=pin.verified_at or pin.since,
            since=peer.offered_since or self._now(),
        )  # fmt: skip

    def _changed(
        self, name: str, old_number: str, new_number: str, verified_at: int | None, met: int, offered_since: int | None
    ) -> KeyChanged:
        is_verified = verified_at is not None
        met = verified_at or met
        since = offered_since or self._now()
        return KeyChanged(
            f"The key of {marked(name, 'was verified' if is_verified else None)} has changed; nothing was sent. "
            f"Either {visible_name(name)} registered again, or the server is lying. "
            f"{'Verified' if is_verified else 'Known'} since {day(met)}, changed since {day(since)}. "
            f"Old safety number: {grouped(old_number)}; new one: {grouped(new_number)}.",
            f"Compare the new number with {visible_name(name)} by voice; then "
            f"{command('verify', name, '--accept-new')} accepts it.",
            name=name, old_number=old_number, new_number=new_number, met=met, since=since,
        )  # fmt: skip

    def number(self, pin: PinRow) -> str:
        """Return the safety number with somebody, by the pinned key: number 2 if they have shown
        keys of suite 1, and the user has not to decide about these yet.
        """
        peer = self._store.peers.of_id(pin.client_id)
        number = None if peer is None or peer.is_undecided else self._suite_number(pin.client_id, peer.identity)
        return number or safety_number(self._me(), (pin.client_id, pin.public_key))

    def offered_number(self, pin: PinRow) -> str | None:
        """Return the safety number by the key that the server names now, if it is another one."""
        offered_id = pin.offered_id or pin.client_id
        peer = self._store.peers.of_id(offered_id)
        if peer is not None and (peer.offered is not None or pin.offered_id is not None):
            return self._suite_number(offered_id, peer.offered or peer.identity)
        if pin.offered_id is None or pin.offered_key is None:
            return None
        return safety_number(self._me(), (pin.offered_id, pin.offered_key))

    def accept(self, pin: PinRow, name: str) -> None:
        """Accept the new key: it is pinned, not verified, and no earlier symmetric key encrypts any
        more. Nothing that was sealed to other keys of suite 1 is sent once more.
        """
        self._accept_keys(pin.offered_id or pin.client_id)
        if pin.offered_id is not None and pin.offered_key is not None:
            self._store.pins.replace(pin.client_id, pin.offered_id, name, pin.offered_key, self._now())

    def _accept_keys(self, client_id: ClientId) -> None:
        """Accept the keys of suite 1 about which the user has decided, if there are any."""
        with self._store.database.transaction():
            peer = self._store.peers.of_id(client_id)
            if peer is None or peer.offered is None:
                return
            if not peer.is_undecided:
                # What was sealed to the identity of before is not for who has this one.
                self._store.sent.withhold(client_id)
            self._store.peers.accept(client_id, self._now())
            self._store.inbox.call_back(client_id)

    def verify(self, pin: PinRow) -> None:
        """Record that both sides saw the same number."""
        peer = self._store.peers.of_id(pin.client_id)
        if peer is None:
            self._store.pins.verify(pin.client_id, pin.public_key, self._now())
        else:
            self._store.peers.verify(pin.client_id, peer.identity, self._now())

    def verify_fingerprint(self, client_id: ClientId, fingerprint: bytes) -> bool:
        """Record that somebody's keys of suite 1 are those of a link, if they are; return whether.
        If it is the link of what they were changed to, that is accepted.
        """
        peer = self._store.peers.of_id(client_id)
        if peer is None:
            return False
        if peer.offered is not None and identity_numbers.fingerprint(client_id, peer.offered) == fingerprint:
            self._accept_keys(client_id)
            peer = self._store.peers.of_id(client_id)
            assert peer is not None
        if identity_numbers.fingerprint(client_id, peer.identity) != fingerprint:
            return False
        return self._store.peers.verify(client_id, peer.identity, self._now())

    def is_verified(self, client_id: ClientId) -> bool:
        """Whether somebody's keys were compared, and no other ones are named now."""
        pin, peer = self._store.pins.of_id(client_id), self._store.peers.of_id(client_id)
        if pin is not None and pin.offered_key is not None:
            return False
        if peer is not None:
            return peer.verified_at is not None and peer.offered is None
        return pin is not None and pin.verified_at is not None

    def has_compared_old_key(self, client_id: ClientId) -> bool:
        """Whether somebody else was compared by safety number 1."""
        pin = self._store.pins.of_id(client_id)
        return pin is not None and pin.verified_at is not None and not self._store.settings.is_own(client_id)

    def peer(self, client_id: ClientId) -> PeerRow | None:
        """Return what is known of somebody who has shown keys of suite 1."""
        return self._store.peers.of_id(client_id)

    def explain(self, client_id: ClientId) -> None:
        """Say once, of somebody who was verified by safety number 1, that number 2 counts now."""
        pin, peer = self._store.pins.of_id(client_id), self._store.peers.of_id(client_id)
        if peer is None or peer.told:
            return
        self._store.peers.was_told(client_id)
        if pin is not None and pin.verified_at is not None and peer.verified_at is None:
            shown = visible_name(pin.name)
            self._tell(
                f"From now on messages to and from {shown} are under the modern cipher suite, which has keys and a "
                f"safety number of its own. What you compared with {shown} before was the key of the old suite, so "
                f"{shown} is not marked as verified any more, and nothing is sent to {shown} until you decide: compare "
                f"the new number once, with {command('verify', pin.name)}. Then the mark also says who wrote a message."
            )

    def own_identity(self) -> tuple[ClientId, Identity] | None:
        """Return our id and our keys of suite 1; None before there are any. Raises
        `StoreUnusable`, `CipherError`.
        """
        row = self._store.own_keys.get()
        return None if row is None else (self._me()[0], OwnKeys.from_bytes(row.state).identity)

    def _suite_number(self, client_id: ClientId, identity: Identity | None) -> str | None:
        own = self.own_identity()
        return None if own is None or identity is None else identity_numbers.safety_number(own, (client_id, identity))


def safety_number(one: tuple[ClientId, PublicKey], other: tuple[ClientId, PublicKey]) -> str:
    """Return the 60 digits that both sides see."""
    return "".join(sorted((_half(*one), _half(*other))))


def grouped(number: str) -> str:
    """Return a safety number in groups of five digits."""
    return " ".join(number[at : at + 5] for at in range(0, len(number), 5)) if number.isdigit() else number


def block(label: str, groups: str) -> str:
    """Return a long number as a block of lines that no terminal breaks, four groups on each, under
    its label.
    """
    each = groups.split(" ")
    lines = [" ".join(each[at : at + 4]) for at in range(0, len(each), 4)]
    return "\n    ".join([f"{label}:", *lines])


@functools.lru_cache(maxsize=64)
def _half(client_id: ClientId, key: PublicKey) -> str:
    digest = hashlib.sha512(_CONTEXT + client_id + key).digest()
    for _ in range(_ROUNDS - 1):
        digest = hashlib.sha512(digest + client_id + key).digest()
    numbers = [int.from_bytes(digest[at * 5 : at * 5 + 5], "big") for at in range(_GROUPS)]
    return "".join(f"{number % 100_000:05d}" for number in numbers)


def day(milliseconds: int) -> str:
    """Return a time for a person."""
    return local_time.shown(milliseconds)


class Verification(NamedTuple):
    """What `verify` knows of somebody. `new_number`: by the key that the server names now, if that
    is another.
    """

    name: str
    client_id: ClientId
    number: str
    since: int
    verified_at: int | None
    new_number: str | None
    changed_at: int | None
    suite: int = 0
    """0: number 1, of the published suite; 1: number 2, of cipher suite 1."""
