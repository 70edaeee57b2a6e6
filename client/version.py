"""The client's version, where `--version` finds it without reading any package's metadata.

Owns: one number, the same as in pyproject.toml.
Promises: a test compares the two.

Source: CHANGELOG.md.
"""

from typing import Final

VERSION: Final = "0.1.0"
