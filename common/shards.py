"""Which shard a user belongs to.

Owns: the rule. Promises: pure; gateways, workers and operators' commands agree. Ids are random, so
shards have as many users each, about.
Exposure: none of its own.

Source: docs/storage-protocol.md, "Shards".
"""

from typing import Final

NUMBERS_OF_SHARDS: Final = tuple(2**exponent for exponent in range(9))
"""How many shards there may be."""
DIRECTORY: Final = 0
"""The shard that has the list of users."""


def shard_of(client_id: bytes, shards: int) -> int:
    """The shard of a user: a prefix of the id decides."""
    return int.from_bytes(client_id[:2], "big") * shards >> 16


def shards_by_first_byte(shards: int) -> bytes:
    """The same as a table, by an id's first byte: no more shards than it has values."""
    return bytes(shard_of(bytes((first, 0)), shards) for first in range(256))
