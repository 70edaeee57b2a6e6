"""The limits of this process: how many files it may have open, and that its memory is not dumped to
disk.

Owns: the limits of the process. Promises: the limit of open files is never lowered. A crash leaves
no core file; with `forbid_looking` nothing of the memory goes to a crash reporter either, and no
other process of the same user reads it.
Exposure: none.
"""

import contextlib
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def raise_open_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or as near as the system allows. Returns the limit
    in force.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft >= wanted:
        return soft
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        # What the system does not let us have shows in what is asked below.
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def forbid_core_dumps() -> None:
    """Write no core file. Lowering a limit is always allowed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_looking() -> None:
    """Linux: keep the memory from crash reporters and from other processes of this user.

    The limit of `forbid_core_dumps` does not keep the kernel from piping it to the program that its
    core pattern names. Tools that look into a process of the same user no longer work for this one.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - the client starts sooner where it is not needed

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
