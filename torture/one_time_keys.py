"""One-time keys that a user publishes and another one claims, while the programs die.

Owns: what was published, and who got what. Promises: `problems` names every one-time key that was
given out twice or was never published, and every one that is missing beyond the answers that were
lost.
Exposure: none.
"""

import hashlib
from collections import Counter

from common.values import ONE_TIME_KEY_SIZE

BUNDLE = bytes(1389)
_AT_ONCE = 5


class OneTimeKeys:
    """Those of one user."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._published: set[bytes] = set()
        self._claimed: Counter[bytes] = Counter()
        self.lost_answers = 0
        """Claims of which nobody knows what they were given."""

    def fresh(self) -> bytes:
        """The next ones to publish: the same bytes have to be sent until they are answered."""
        numbers = range(len(self._published), len(self._published) + _AT_ONCE)
        keys = [hashlib.sha512(f"{self._label} {number}".encode()).digest().ljust(96, b"\1") for number in numbers]
        self._published.update(keys)
        return b"".join(keys)

    def claimed(self, key: bytes) -> None:
        """Somebody got this one."""
        self._claimed[key] += 1

    def problems(self, kept: int) -> list[str]:
        """What is wrong, where the server keeps so many now."""
        assert all(len(key) == ONE_TIME_KEY_SIZE for key in self._published)
        found = [f"a one-time key was given out {times} times" for times in self._claimed.values() if times > 1]
        found += ["a one-time key that nobody published" for key in self._claimed if key not in self._published]
        missing = len(self._published) - len(self._claimed) - kept
        if not 0 <= missing <= self.lost_answers:
            found.append(
                f"{len(self._published)} one-time keys published, {len(self._claimed)} claimed, {kept} kept, "
                f"{self.lost_answers} answers lost"
            )
        return found
