"""The programs beside the worker's tests that break the disk under its storage code, as processes.

Owns: how they are started and what they tell. Promises: one that breaks off is an error that shows
its last words.
Exposure: none.
"""

import subprocess
import sys

from torture.programs import ROOT


def told_by(program: str, **options: object) -> dict[str, int]:
    """Run `python -m tests.storage_worker.PROGRAM --OPTION VALUE …`; the numbers of its
    one line, by name.
    """
    command = [sys.executable, "-P", "-m", f"tests.storage_worker.{program}"]
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    told = done.stdout.split()
    if not told:
        raise RuntimeError(f"{program} broke off with {done.returncode}: {done.stderr[-600:]}")
    return dict(zip(told[::2], map(int, told[1::2]), strict=True))
