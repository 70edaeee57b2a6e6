"""Where the server keeps its data, who may use it, and how its two programs find each other.

Owns: the data folder's place, mode and owner, the storage link's endpoint, and how a program
excludes other instances of itself.
Promises: both programs, given the same folder, use the same endpoint; folders that are made here
are mode 0700. A lock is gone with the process that held it, however that ended. If the system does
not permit something, the `SettingRejected` says what command the file's owner or root has to run.
Exposure: the folder's owner; a rendezvous folder that belongs to somebody else is refused.

Source: docs/storage-protocol.md, "The link".
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import stat
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.errors import MessageUError, SettingRejected

DATA_VARIABLE: Final = "MESSAGEU_DATA"
LONGEST_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path, without the closing NUL (unix(7))."""


def data_folder(environment: dict[str, str], working_folder: Path) -> Path:
    """`MESSAGEU_DATA`, or `data/` in the working folder. Made with mode 0700 if it is missing.

    Raises `SettingRejected` if it can't be made or is not a folder, and if its path is not UTF-8.
    """
    folder = folder_named(environment, working_folder)
    require_utf8(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.resolve(strict=True)
    except PermissionError as error:
        raise SettingRejected(
            f"the data folder {folder} can't be made: {error.strerror}. As root, `{_command('mkdir', '-p', folder)} && "
            f"{_command('chown', user_name(os.geteuid()), folder)}` makes it for this user"
        ) from error
    except OSError as error:
        raise SettingRejected(f"the data folder {folder} can't be used: {error.strerror}") from error
    require_utf8(found)
    return found


def require_utf8(folder: Path) -> None:
    """Raise `SettingRejected` for a path that is not UTF-8: SQLite opens no file there."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = ascii(str(folder))
        raise SettingRejected(
            f"the data folder's path {shown} is not UTF-8. Rename the folder, or name another one"
        ) from None


def folder_named(environment: dict[str, str], working_folder: Path) -> Path:
    """`MESSAGEU_DATA`, or `data/` in the working folder, whether it is there or not."""
    named = environment.get(DATA_VARIABLE, "")
    return (working_folder / named) if named else working_folder / "data"


def user_name(user_id: int) -> str:
    """The name of a user of this system, or the number if there is no name."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _command(*words: str | Path) -> str:
    return shlex.join([str(word) for word in words])


def _mend(folder: Path) -> str:
    command = _command("chown", "-R", user_name(os.geteuid()), folder)
    return f"As root, `{command}` gives all that is in there to this user, {user_name(os.geteuid())}"


def refuse_foreign_files(folder: Path, names: Iterable[str]) -> None:
    """Check that this process may read and write the data folder, and those of `names` that exist
    in it.

    Otherwise files left by root would end the storage worker at each start. Raises
    `SettingRejected`.
    """
    for path in (folder, *[folder / name for name in names]):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingRejected(f"{path} can't be used: {error.strerror}") from error
        is_folder = stat.S_ISDIR(status.st_mode)
        if os.access(path, os.R_OK | os.W_OK | (os.X_OK if is_folder else 0)):
            continue
        if status.st_uid != os.geteuid():
            raise SettingRejected(f"{path} belongs to {user_name(status.st_uid)}: Permission denied. {_mend(folder)}")
        raise SettingRejected(
            f"{path} can't be read and written, with mode {stat.S_IMODE(status.st_mode):04o}: "
            f"`{_command('chmod', '-R', 'u+rwX', folder)}` permits it, unless the disk is read-only"
        )


def become_owner(folder: Path) -> None:
    """If this process is root, switch to the folder's owner for good, so that new files belong to
    the storage worker's user.

    Other users stay as they are. Raises `SettingRejected` if this user can't use the folder.
    """
    try:
        status = folder.stat()
        if os.geteuid() == 0 and status.st_uid != 0:
            os.setgroups([])
            os.setgid(status.st_gid)
            os.setuid(status.st_uid)
    except OSError as error:
        raise SettingRejected(f"the data folder {folder} can't be used: {error.strerror}") from error
    owner = user_name(status.st_uid)
    if status.st_uid != os.geteuid() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingRejected(f"the data folder {folder} belongs to {owner}: run this command as {owner}, or as root")


def link_endpoint(folder: Path) -> str:
    """The ZeroMQ endpoint at which the worker binds and the gateway connects, in a folder of mode
    0700.

    A data folder whose path is too long for a Unix socket gets its rendezvous in the temporary
    folder, named by the data folder's hash. Raises `SettingRejected` where the rendezvous folder is
    not safely ours.
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
    except PermissionError as error:
        raise SettingRejected(f"the folder {rendezvous} can't be used: {error.strerror}. {_mend(folder)}") from error
    except OSError as error:
        raise SettingRejected(f"the folder {rendezvous} can't be used: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingRejected(f"{rendezvous} is no folder. Move it away")
    if status.st_uid != os.getuid():
        mend = _mend(folder if rendezvous.parent == folder else rendezvous)
        raise SettingRejected(f"{rendezvous} is not a folder of this user. {mend}")
    if stat.S_IMODE(status.st_mode) != 0o700:
        rendezvous.chmod(0o700)
    return f"ipc://{path}"


@contextmanager
def exclusive(path: Path, refusal: MessageUError) -> Generator[None]:
    """Hold the lock of a file, which is made if it is missing and is not deleted. Raises `refusal`
    if another process holds it.

    Raises `SettingRejected` where the file can't be used.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise SettingRejected(f"the lock {path} can't be used: {error.strerror}. {_mend(path.parent)}") from error
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
