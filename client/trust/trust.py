"""Which key belongs to whom: trust on first use, changes, safety numbers.

Owns: the pins. A pin is the id and the public key under which a name was first met, and whether it
was compared.
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

Source: docs/client.md, "Trust"; docs/security.md, "Safety numbers, and what verified covers".
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from client.errors import KeyChanged, SafetyNumberDiffers
from client.store.home_store import Store
from client.store.pins import PinRow
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
            self._store.pins.move(pin.client_id, client_id)
            known_as = marked(name, "verified" if pin.verified_at is not None else None)
            self._tell(f"{known_as} has another id at the server now, and the same key as before.")
            return False
        known = (pin.offered_id, pin.offered_key) == (client_id, key)
        self._store.pins.offer(pin.client_id, client_id, key, pin.offered_since if known else self._now())
        return True

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

    def changed(self, pin: PinRow, name: str) -> KeyChanged:
        """Make the error for a change."""
        old_number, new_number = self.number(pin), self.offered_number(pin) or "not known"
        is_verified = pin.verified_at is not None
        met = pin.verified_at or pin.since
        since = pin.offered_since or self._now()
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
        """Return the safety number with somebody, by the pinned key."""
        return safety_number(self._me(), (pin.client_id, pin.public_key))

    def offered_number(self, pin: PinRow) -> str | None:
        """Return the safety number by the key that the server names now, if it is another one."""
        if pin.offered_id is None or pin.offered_key is None:
            return None
        return safety_number(self._me(), (pin.offered_id, pin.offered_key))

    def accept(self, pin: PinRow, name: str) -> None:
        """Accept the new key: it is pinned, not verified, and no earlier symmetric key encrypts any
        more.
        """
        if pin.offered_id is not None and pin.offered_key is not None:
            self._store.pins.replace(pin.client_id, pin.offered_id, name, pin.offered_key, self._now())

    def verify(self, pin: PinRow) -> None:
        """Record that both sides saw the same number."""
        self._store.pins.verify(pin.client_id, pin.public_key, self._now())

    def is_verified(self, client_id: ClientId) -> bool:
        """Whether somebody's key was compared, and no other one is named now."""
        pin = self._store.pins.of_id(client_id)
        return pin is not None and pin.verified_at is not None and pin.offered_key is None


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
