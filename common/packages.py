"""Missing third-party packages, as in a checkout that has not been set up.

Owns: the sentence that names the next step.
Promises: a missing module of our own stays the error that it is.
Exposure: none.

Source: README.md.
"""

import sys
from typing import Final, NoReturn

_OURS: Final = frozenset({"client", "common", "gateway", "messageu", "storage_worker"})


def end_without(error: ModuleNotFoundError, code: int) -> NoReturn:
    """End the program if a third-party package can't be imported, else re-raise the error. `code`:
    the exit code.
    """
    package = (error.name or "").partition(".")[0]
    if package in _OURS:
        raise error
    sys.stderr.write(
        f"The package {package} is not installed for {sys.executable}. In a checkout, scripts/run and scripts/client "
        "install all of them into .venv and use that; so do the commands in scripts/bin.\n"
    )
    sys.exit(code)
