"""The keys of the link between machines, as files.

Owns: the folder `link-keys/` of the data folder, mode 0700, with files of mode 0600. `worker` and
`gateway` are key pairs, of whichever program runs on this machine. `allowed` has a line for each
gateway that the worker takes: its public key, and a name for people.
Promises: a file is there whole or not at all; a pair is never replaced. A file that others can read
is refused. What a worker has been told to allow it sees at the next handshake.
Exposure: whoever may read the data folder.

CurveZMQ's keys are those of Curve25519, 32 bytes each. The `LinkKeys` of a connection are what its
socket needs.

Source: RFC 26/CURVEZMQ (rfc.zeromq.org); docs/security.md, "The link between machines".
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from common.errors import SettingRejected, ValueRejected
from common.link_address import key_text, parse_key

FOLDER: Final = "link-keys"
WORKER: Final = "worker"
GATEWAY: Final = "gateway"
_ALLOWED: Final = "allowed"
_LONGEST_FILE: Final = 1 << 20
_LONGEST_NAME: Final = 64


class KeyPair(NamedTuple):
    """32 bytes each."""

    public: bytes
    secret: bytes


class LinkKeys(NamedTuple):
    """What a gateway's socket needs: the worker's public key, and its own pair."""

    worker: bytes
    own: KeyPair


def load(folder: Path, name: str) -> KeyPair | None:
    """The pair of a program, or None if none was made. Raises `SettingRejected`."""
    path = folder / FOLDER / name
    text = _read(path)
    if text is None:
        return None
    values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    try:
        return KeyPair(parse_key(values["public"]), parse_key(values["secret"]))
    except (KeyError, ValueRejected) as error:
        raise SettingRejected(
            f"{path} is no key of the link: put it back from a backup, or make another one"
        ) from error


def keep(folder: Path, name: str, pair: KeyPair) -> None:
    """Write a pair where there is none. Raises `SettingRejected`."""
    path = folder / FOLDER / name
    if path.exists():
        raise SettingRejected(f"there is a key already: {path}")
    _write(path, f"public {key_text(pair.public)}\nsecret {key_text(pair.secret)}\n")


def allowed(folder: Path) -> dict[bytes, str]:
    """The gateways' public keys that the worker takes, with their names. Raises
    `SettingRejected`.
    """
    path = folder / FOLDER / _ALLOWED
    found: dict[bytes, str] = {}
    for number, line in enumerate((_read(path) or "").splitlines(), 1):
        key, _, name = line.partition(" ")
        try:
            found[parse_key(key)] = name
        except ValueRejected as error:
            raise SettingRejected(f"{path}, line {number}: {error}") from error
    return found


def write_allowed(folder: Path, keys: Mapping[bytes, str]) -> None:
    """Replace that list. Raises `SettingRejected`."""
    _write(folder / FOLDER / _ALLOWED, "".join(f"{key_text(key)} {name}\n" for key, name in keys.items()))


def name_for_people(text: str) -> str:
    """Check the name of a gateway: one line of at most 64 characters. Raises `SettingRejected`."""
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise SettingRejected(f"the name of a gateway has at most {_LONGEST_NAME} characters, all of them printable")
    return text


class AllowedKeys:
    """That list for a worker that runs: read again when the file has changed. A file that can't be
    used allows nobody.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark: tuple[int, int, int] | None = None
        self._keys: frozenset[bytes] = frozenset()

    def __call__(self) -> frozenset[bytes]:
        """The keys that are allowed now. Raises `SettingRejected` where the file can't be used."""
        try:
            status = (self._folder / FOLDER / _ALLOWED).stat()
        except OSError:
            self._mark, self._keys = None, frozenset()
            return self._keys
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        if mark != self._mark:
            self._keys = frozenset()
            self._keys = frozenset(allowed(self._folder))
            self._mark = mark
        return self._keys


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingRejected(f"{path} can't be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingRejected(f"others can read {path}, mode {stat.S_IMODE(mode):04o}: `chmod 600 {path}`")
        try:
            return file.read(_LONGEST_FILE).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingRejected(f"{path} can't be read: {error}") from error


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingRejected(f"{path} can't be written: {error.strerror}") from error
