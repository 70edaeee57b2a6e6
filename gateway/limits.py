"""How much one client may ask for: by its address, and by the user that it is authenticated as.

Owns: what each address and each user has taken of late, and how many connections an address has.
Promises: pure; time is passed in, in monotonic seconds. What is refused is not charged, and the
time that it is told is the one after which it passes if nothing else comes. Memory is bounded: of
each rate at most `Settings.limit_keys` keys, one float each, in one dict. No address is kept: its
key is a keyed hash, whose secret dies with the process.
Exposure: strangers choose how many addresses they come from and how fast. Nothing that they only
claim is a key: what is sent in the name of a user without a proof counts for the address.

A rate is the generic cell rate algorithm: of each key the moment is kept at which all of its burst
is free again. That is the same as a token bucket, without a second number.

Source: docs/client-protocol.md, "Limits and time-outs"; docs/decisions/0016-limits.md.
"""

from hashlib import blake2b
from math import ceil, floor
from typing import Final, NamedTuple

from common.client_protocol.server_connection import PipelinedSends
from common.storage_protocol.message_format import SEND_FRAME, SEND_ONCE_FRAME, first_frames
from common.storage_protocol.operations import Refused
from common.values import RefusalReason
from gateway.settings import Rate, Settings

_ADDRESS_KEY_SIZE: Final = 12
"""Another size than a user's id has, so that no user's key is an address'."""
_LOOKED_AT: Final = 2
"""Keys, for each new one, one after the other in a circle: those that have all of their burst again
are forgotten.
"""
SECRET_SIZE: Final = 32
_LONGEST_WAIT: Final = 0xFFFFFFFF
"""The longest time, in seconds, that an answer has room for."""


class RateLimiter:
    """One rate, for each of many keys."""

    __slots__ = ("_burst", "_free_at", "_hand", "_interval", "_keys", "_most_keys", "_tolerance")

    def __init__(self, rate: Rate, most_keys: int) -> None:
        self._burst = rate.burst
        self._interval = rate.seconds / rate.amount
        self._tolerance = self._burst * self._interval
        self._most_keys = most_keys
        self._free_at: dict[bytes, float] = {}
        self._keys: list[bytes] = []
        """Those of `_free_at`. The next one to be looked at is number `_hand`."""
        self._hand = 0

    def __len__(self) -> int:
        return len(self._free_at)

    def wait(self, key: bytes, amount: int, now: float) -> float:
        """Seconds until so much, at least 1, passes; 0 where it does now.

        More than the burst passes where all of the burst is free. It is owed afterwards.
        """
        free_at = self._free_at.get(key, now)
        return max(0.0, free_at - now + min(amount, self._burst) * self._interval - self._tolerance)

    def available(self, key: bytes, now: float) -> int:
        """How much passes now."""
        ahead = max(0.0, self._free_at.get(key, now) - now)
        return max(0, floor((self._tolerance - ahead) / self._interval))

    def charge(self, key: bytes, amount: int, now: float) -> None:
        """So much passes."""
        before = self._free_at.get(key)
        if before is None:
            self._remember(key, now)
            before = now
        self._free_at[key] = (before if before > now else now) + amount * self._interval

    def take(self, key: bytes, amount: int, now: float) -> float:
        """Let so much pass, or say for how many seconds it does not."""
        wait = self.wait(key, amount, now)
        if not wait:
            self.charge(key, amount, now)
        return wait

    def take_all(self, key: bytes, amount: int, now: float) -> bool:
        """Let so much, at least 1, pass, or nothing; whether it passed.

        More than the burst never does.
        """
        # As `take`, in one call less: it is asked for every run of messages.
        before = self._free_at.get(key)
        if before is None:
            if amount > self._burst:
                return False
            self._remember(key, now)
            before = now
        elif before < now:
            before = now
        free_at = before + amount * self._interval
        if free_at - now > self._tolerance:
            return False
        self._free_at[key] = free_at
        return True

    def _remember(self, key: bytes, now: float) -> None:
        """Give a key a place. Whoever has all of the burst again needs none."""
        free_at, keys, hand = self._free_at, self._keys, self._hand
        for _ in range(min(_LOOKED_AT, len(keys))):
            if hand >= len(keys):
                hand = 0
            if free_at[keys[hand]] > now:
                hand += 1
                continue
            del free_at[keys[hand]]
            last = keys.pop()
            if hand < len(keys):
                keys[hand] = last
        if len(keys) < self._most_keys:
            keys.append(key)
        else:
            if hand >= len(keys):
                hand = 0
            del free_at[keys[hand]]
            keys[hand] = key
            hand += 1
        self._hand = hand


class RefusedRequests(NamedTuple):
    """So many requests, in a row, are refused, behind the answers to those before them."""

    number: int
    refused: Refused


def _too_fast(wait: float) -> Refused:
    return Refused(RefusalReason.TOO_FAST, min(max(1, ceil(wait)), _LONGEST_WAIT))


class Limits:
    """One for the gateway. `secret`: `SECRET_SIZE` random bytes."""

    def __init__(self, settings: Settings, secret: bytes) -> None:
        keys = settings.limit_keys
        self._keyed = blake2b(key=secret, digest_size=_ADDRESS_KEY_SIZE)
        self._connections = settings.limit_connections
        self._open: dict[bytes, int] = {}
        self._handshakes = RateLimiter(settings.limit_handshakes, keys)
        self.registrations = RateLimiter(settings.limit_registrations, keys)
        self.messages = RateLimiter(settings.limit_messages, keys)
        self.uploaded = RateLimiter(settings.limit_bytes, keys)
        self.requests = RateLimiter(settings.limit_requests, keys)
        self.claims = RateLimiter(settings.limit_claims, keys)
        self.claimed = RateLimiter(settings.limit_claimed, keys)
        self.claims_of_pair = RateLimiter(settings.limit_claims_of_pair, keys)
        self.bytes_of_request = settings.bytes_of_request

    def connected(self, network: str, now: float, *, with_handshake: bool) -> "Allowance | None":
        """A connection came from this network; None where it has to be closed."""
        hashed = self._keyed.copy()
        hashed.update(network.encode())
        address = hashed.digest()
        number = self._open.get(address, 0)
        if number >= self._connections or (with_handshake and self._handshakes.take(address, 1, now)):
            return None
        self._open[address] = number + 1
        return Allowance(self, address)

    def disconnected(self, address: bytes) -> None:
        """A connection of those ended."""
        number = self._open.pop(address) - 1
        if number:
            self._open[address] = number


class Allowance:
    """What one connection may ask for, which it shares with others of its address and its user.

    `user`, in what follows: whom it is authenticated as, if anybody.
    """

    __slots__ = ("_address", "_limits", "_messages")

    def __init__(self, limits: Limits, address: bytes) -> None:
        self._limits = limits
        self._messages = limits.messages
        self._address = address

    def ended(self) -> None:
        """The connection is gone. Once."""
        self._limits.disconnected(self._address)

    def register(self, now: float) -> Refused | None:
        """One registration; why not."""
        wait = self._limits.registrations.take(self._address, 1, now)
        return _too_fast(wait) if wait else None

    def send(self, user: bytes | None, now: float) -> Refused | None:
        """One message with a content up to `Settings.inline_content`; why not."""
        wait = self._messages.take(user or self._address, 1, now)
        return _too_fast(wait) if wait else None

    def ask(self, user: bytes | None, number: int, now: float) -> Refused | None:
        """One request that counts as `number`, at least 1; why not."""
        wait = self._limits.requests.take(user or self._address, number, now)
        return _too_fast(wait) if wait else None

    def answer(self, user: bytes | None, size: int, now: float) -> None:
        """A request that passed has so many bytes of answer, which are owed."""
        number = size // self._limits.bytes_of_request
        if number:
            self._limits.requests.charge(user or self._address, number, now)

    def claim(self, user: bytes, subject: bytes, now: float) -> bool:
        """Whether the user may get a one-time key of another one, which is then counted."""
        limits = self._limits
        rates = ((limits.claims_of_pair, user + subject), (limits.claims, user), (limits.claimed, subject))
        if any(rate.wait(key, 1, now) for rate, key in rates):
            return False
        for rate, key in rates:
            rate.charge(key, 1, now)
        return True

    def upload(self, user: bytes | None, size: int, now: float) -> Refused | None:
        """One message with a larger content, of so many bytes; why not."""
        key = user or self._address
        messages, uploaded = self._messages, self._limits.uploaded
        wait = max(messages.wait(key, 1, now), uploaded.wait(key, size, now))
        if wait:
            return _too_fast(wait)
        messages.charge(key, 1, now)
        uploaded.charge(key, size, now)
        return None

    def send_all(self, user: bytes | None, run: PipelinedSends, now: float) -> bool:
        """All messages of a run, or none of them; whether they pass."""
        return self._messages.take_all(user or self._address, len(run.recipients), now)

    def divide(
        self, user: bytes | None, run: PipelinedSends, now: float
    ) -> tuple[PipelinedSends, RefusedRequests | None]:
        """Those of a run that pass, which are its first ones, and what becomes of the others.

        The time is that after which the next one passes.
        """
        if self.send_all(user, run, now):
            return run, None
        key = user or self._address
        messages = self._messages
        wanted = len(run.recipients)
        count = min(wanted, messages.available(key, now))
        if count:
            messages.charge(key, count, now)
        if count == wanted:
            return run, None
        refused = RefusedRequests(wanted - count, _too_fast(messages.wait(key, 1, now)))
        size = first_frames(run.frames, count, SEND_ONCE_FRAME if run.once else SEND_FRAME)
        return PipelinedSends(run.requester, run.recipients[:count], run.frames[:size], run.once), refused
