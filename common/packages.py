"""Packages of others that are not there, as in a checkout that has not been set up.

Owns: the sentence that names the way on.
Promises: a module of our own that is missing stays the error it is.
Exposure: none.

Source: README.md.
"""

import sys
from typing import Final, NoReturn

_OURS: Final = frozenset({"client", "common", "gateway", "messageu", "storage_worker"})


def end_without(error: ModuleNotFoundError, code: int) -> NoReturn:
    """End the program where a package of others can't be imported, else raise the error
    again. `code`: to exit with.
    """
    package = (error.name or "").partition(".")[0]
    if package in _OURS:
        raise error
    sys.stderr.write(
        f"The package {package} is not installed for {sys.executable}. In a checkout, scripts/run and scripts/client "
        "install all of them into .venv and use that; so do the commands in scripts/bin.\n"
    )
    sys.exit(code)
