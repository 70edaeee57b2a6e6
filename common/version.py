"""The project's version, where `--version` of every program finds it without reading any package's
metadata.

Owns: one number, the same as in pyproject.toml.
Promises: a test compares the two.
Exposure: none.

Source: CHANGELOG.md.
"""

from typing import Final

VERSION: Final = "0.2.0"
