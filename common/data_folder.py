"""Where the server keeps its data, and where its two programs meet.

Owns: the data folder's place and mode, the storage link's endpoint, and how a program keeps others of its kind away.
Promises: both programs, given the same folder, come to the same endpoint; folders that are made here are mode 0700. A
lock is gone with the process that held it, however that ended.
Exposure: the folder's owner; a rendezvous folder that belongs to somebody else is refused.

Source: docs/storage-protocol.md, "The link".
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from common.errors import MessageUError, SettingRejected, SlotInUse

DATA_VARIABLE: Final = "MESSAGEU_DATA"
LONGEST_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path, without the closing NUL (unix(7))."""


def data_folder(environment: dict[str, str], working_folder: Path) -> Path:
    """`MESSAGEU_DATA`, or `data/` in the working folder. Made, mode 0700, where it is missing.

    Raises `SettingRejected` where it can't be made or is no folder.
    """
    named = environment.get(DATA_VARIABLE, "")
    folder = (working_folder / named) if named else working_folder / "data"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve(strict=True)
    except OSError as error:
        raise SettingRejected(f"the data folder {folder} can't be used: {error.strerror}") from error


def link_endpoint(folder: Path) -> str:
    """The ZeroMQ endpoint at which the worker binds and the gateway connects, in a folder of mode 0700.

    A data folder whose path is too long for a Unix socket gets its rendezvous in the temporary folder, named by
    the data folder's hash. Raises `SettingRejected` where the rendezvous folder is not safely ours.
    """
    rendezvous = folder / "link"
    path = rendezvous / "storage.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]
        rendezvous = Path(tempfile.gettempdir()) / f"messageu-{os.getuid()}-{digest}"
        path = rendezvous / "storage.sock"
    try:
        rendezvous.mkdir(mode=0o700, exist_ok=True)
        status = rendezvous.lstat()
    except OSError as error:
        raise SettingRejected(f"the folder {rendezvous} can't be used: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SettingRejected(f"{rendezvous} is not a folder of this user")
    if stat.S_IMODE(status.st_mode) != 0o700:
        rendezvous.chmod(0o700)
    return f"ipc://{path}"


@contextmanager
def exclusive(path: Path, refusal: MessageUError) -> Generator[None]:
    """Hold the lock of a file, which is made where it is missing and stays. Raises `refusal` where it is held.

    Raises `SettingRejected` where the file can't be used.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingRejected(f"the lock {path} can't be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield
    finally:
        os.close(descriptor)


def gateway_lock(folder: Path, slot: int) -> AbstractContextManager[None]:
    """Hold a gateway's slot of the data folder. Entering raises `SlotInUse` where somebody else does.

    The worker would not tell: it takes whoever greets last for the one that lives, and the two would break off each
    other's connections until one of them gives up.
    """
    return exclusive(folder / f"gateway-{slot}.lock", SlotInUse(f"another gateway runs on {folder}, slot {slot}"))
