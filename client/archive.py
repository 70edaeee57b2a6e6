"""One encrypted file of a whole home, and a home out of such a file.

Owns: what belongs to a home, and the file's contents: a tar archive, sealed by `client.ciphers`.
Promises: an export is a consistent picture, mode 0600, and overwrites nothing; an import writes into a home that has
neither identity nor store, all or nothing but for a crash, and takes nothing out of the file but what it knows.
Exposure: imports a file that somebody may have altered; it is authenticated before a byte of it is looked at.

Source: docs/client.md, "Export and import".
"""

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Final

from client import vault
from client.ciphers import RandomBytes
from client.identity_files import ME_INFO, MY_INFO, PENDING
from client.passphrase import open_store
from client.store import SPOOL_FOLDER, STORE_FILE
from common.errors import AlreadyRegistered, InfoFileError, SettingRejected

_TEXTS: Final = (MY_INFO, ME_INFO, PENDING, "server.info")
_KNOWN: Final = re.compile(
    "|".join([*map(re.escape, (*_TEXTS, STORE_FILE)), re.escape(SPOOL_FOLDER) + r"/[0-9a-f]{32}"])
)


def export_home(home: Path, target: Path, passphrase: str, random_bytes: RandomBytes = os.urandom) -> None:
    """Write all of a home into one new file. Raises `StoreBroken`, `HomeInUse`, `InfoFileError`."""
    store = open_store(home)
    try:
        with store.receiver():
            members = {STORE_FILE: store.whole()}
            try:
                for name in _TEXTS:
                    if (home / name).is_file():
                        members[name] = (home / name).read_bytes()
                if (home / SPOOL_FOLDER).is_dir():
                    for path in sorted((home / SPOOL_FOLDER).iterdir()):
                        members[f"{SPOOL_FOLDER}/{path.name}"] = path.read_bytes()
            except OSError as error:
                raise InfoFileError(home, None, f"can't be read ({error.strerror})") from error
    finally:
        store.close()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    _write_new(target, vault.seal_archive(packed.getvalue(), passphrase, random_bytes))


def import_home(home: Path, source: Path, passphrase: str) -> None:
    """Make a home out of an exported file.

    Raises `AlreadyRegistered` where there is an identity or a store, `SettingRejected` for a wrong passphrase.
    """
    for name in (MY_INFO, ME_INFO, PENDING, STORE_FILE):
        if (home / name).exists():
            raise AlreadyRegistered(
                f"{home / name} exists, and it is not replaced; nothing was imported.", "Use --home for a new folder."
            )
    try:
        sealed = source.read_bytes()
    except OSError as error:
        raise InfoFileError(source, None, f"can't be read ({error.strerror})") from error
    opened = vault.open_archive(sealed, passphrase)
    if opened is None:
        raise SettingRejected(f"{source} can't be opened: another passphrase, a damaged file, or no export.")
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(opened), mode="r:") as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() and _KNOWN.fullmatch(entry.name) else None
            if content is None:
                raise InfoFileError(source, None, f"holds {entry.name!r}, which belongs to no home")
            members[entry.name] = content.read()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The identity last: a home without one is not taken for whole.
        for name in sorted(members, key=lambda name: (name in _TEXTS, name)):
            path = home / name
            if name == "server.info" and path.exists():
                continue
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_new(path, members[name])
    except OSError as error:
        raise InfoFileError(home, None, f"can't be written ({error.strerror})") from error


def _write_new(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError as error:
        raise InfoFileError(path, None, "exists, and it is not overwritten") from error
    except OSError as error:
        raise InfoFileError(path, None, f"can't be written ({error.strerror})") from error
