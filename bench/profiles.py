"""Profiles of a server program's processor time during a measurement.

Owns: how a program is started under the standard library's cProfile, and the text made of what it
wrote.
Promises: the programs themselves know nothing of it. A profiled program is slower, most where small
functions are called often: read the shares, not the rates.
"""

import io
import pstats
import sys
from pathlib import Path
from typing import Final

_FUNCTIONS: Final = 60


def profiled(program: str, file: Path, python: str = sys.executable) -> list[str]:
    """The command that runs a Python program as a module, and writes its profile to
    `file` when it has ended. `python`: the interpreter.
    """
    return [python, "-P", "-m", "cProfile", "-o", str(file), "-m", program]


def write_text(file: Path) -> Path:
    """Make a text beside a profile, and give its path: the functions that took most by themselves,
    then with all that they called. Raises `OSError` where there is no profile, since a killed
    program wrote none.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} was not written")
    said = io.StringIO()
    stats = pstats.Stats(str(file), stream=said).strip_dirs()
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(_FUNCTIONS)
    text = file.with_suffix(".txt")
    text.write_text(said.getvalue())
    return text
