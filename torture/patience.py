"""How long drills and tests wait before they call a wait a hang.

Owns: that one number. Promises: nothing else limits a wait, so a machine that is many times slower
than another gets the same results, only later. A wait that ends with this limit has found a hang,
never a slow machine.
Exposure: none.
"""

from typing import Final

HANG_SECONDS: Final = 240.0
"""Seconds. pytest's own limit in pyproject.toml is longer, so that the wait that hung
names itself.
"""
