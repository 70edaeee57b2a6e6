"""me.info and my.info: who this home's user is.

Owns: the two identity files, and `my.info.pending`, which holds the key of a registration in
progress.
Promises: a file is written whole or not at all (temporary file, sync, rename, sync of the folder),
and private ones are mode 0600. Reading raises `InfoFileError`, which names file and line; writing
raises `FileUnwritten`. Files of other MessageU programs are understood: hex in either case, base64
over several lines, CRLF, all three parts in either file. The private key is plain, or encrypted
PKCS#8 if the home has a passphrase (`client.identity.passphrase`).
Exposure: files may be written by hand, by other programs, or left by a crash.

Source: docs/client-protocol.md, "Files beside the programs".
"""

import base64
import binascii
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey, RandomBytes
from client.errors import AlreadyRegistered, CipherError, NotRegistered, PassphraseNeeded, PassphraseWrong
from common.errors import InfoFileError, ValueRejected
from common.filesystem import sync_folder, writing
from common.names import any_username
from common.values import ClientId, Username, client_id_from_hex

ME_INFO: Final = "me.info"
MY_INFO: Final = "my.info"
PENDING: Final = "my.info.pending"
_UNFINISHED: Final = f"{MY_INFO}.unfinished-"
_NEW: Final = ".new"
_LONGEST_FILE: Final = 64 * 1024
_BASE64_LINE: Final = re.compile(r"[A-Za-z0-9+/=\s]*")


Ask = Callable[[], str]
"""Returns the home's passphrase. Raises `PassphraseNeeded` if there is no source for it."""


def nobody_asked() -> str:
    """For a home that is believed to have no passphrase."""
    raise PassphraseNeeded(
        "This home is locked with a passphrase, and nothing gives it.",
        "Use --passphrase-file or --passphrase-command (or MESSAGEU_PASSPHRASE_FILE, MESSAGEU_PASSPHRASE_COMMAND, "
        "MESSAGEU_PASSPHRASE), or start it at a terminal.",
    )


class Protection(NamedTuple):
    """How a private key is encrypted before it is written."""

    passphrase: str
    random_bytes: RandomBytes


class Identity(NamedTuple):
    """A registered user: name, id, and the key pair."""

    name: Username
    client_id: ClientId
    private_key: PrivateKey


class PendingRegistration(NamedTuple):
    """A registration without an answer so far: the server may know this name under this key
    already.
    """

    name: Username
    private_key: PrivateKey


class _Parts(NamedTuple):
    path: Path
    name: Username
    client_id: ClientId
    key: bytes | None
    """DER, perhaps encrypted."""


def exists(home: Path) -> bool:
    """Whether there is an identity file, usable or not."""
    return any((home / file).exists() for file in (MY_INFO, ME_INFO))


def no_identity() -> NotRegistered:
    """Make the error that this home has no identity."""
    return NotRegistered(
        "This home has no identity yet.", "Register first: `messageu register NAME`, or 110 in the console."
    )


def load(home: Path, ask: Ask = nobody_asked) -> Identity:
    """Read this home's identity; the passphrase is asked for if the key is encrypted.

    Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`, `PassphraseWrong`.
    """
    found = [_read_parts(home / file) for file in (MY_INFO, ME_INFO) if (home / file).exists()]
    if not found:
        raise no_identity()
    first = found[0]
    for other in found[1:]:
        if other.client_id != first.client_id or other.name != first.name:
            raise InfoFileError(other.path, 1, f"names another user than {first.path.name}")
    for parts in found:
        if parts.key is not None:
            return Identity(parts.name, parts.client_id, _private_key(parts.path, 3, parts.key, ask))
    if not (home / MY_INFO).exists():
        raise InfoFileError(
            home / MY_INFO,
            None,
            "is not there, and the private key with it",
            "Restore it from a copy, or import an export.",
        )
    raise InfoFileError(first.path, 3, "expected the private key as base64, found nothing")


def read_foreign(path: Path, ask: Ask = nobody_asked) -> tuple[Identity, str]:
    """Read an identity file of another program; return the identity, and the text of a my.info for
    it.

    An encrypted private key stays encrypted in that text. Raises what `load` raises.
    """
    parts = _read_parts(path)
    if parts.key is None:
        raise InfoFileError(
            path, 3, "expected the private key as base64, found nothing; another file of that client has it (my.info)"
        )
    identity = Identity(parts.name, parts.client_id, _private_key(path, 3, parts.key, ask))
    return identity, _head(identity) + base64.encodebytes(parts.key).decode("ascii")


def save(home: Path, identity: Identity, protection: Protection | None = None) -> None:
    """Write my.info, then me.info, and drop the pending registration."""
    head = _head(identity)
    write_whole(home / MY_INFO, head + _base64(identity.private_key, protection))
    write_whole(home / ME_INFO, head)
    drop_pending(home)


def renamed(home: Path, name: Username, client_id: ClientId) -> dict[str, str]:
    """Return the text of my.info and of me.info for the same key under another name or id. Writes
    nothing.

    The key stays as it is in its file, encrypted or not: no passphrase is asked for. Raises
    `NotRegistered`, `InfoFileError`.
    """
    found = [_read_parts(home / file) for file in (MY_INFO, ME_INFO) if (home / file).exists()]
    key = next((parts.key for parts in found if parts.key is not None), None)
    if key is None:
        raise no_identity()
    head = f"{name}\n{client_id.hex()}\n"
    return {MY_INFO: head + base64.encodebytes(key).decode("ascii"), ME_INFO: head}


def rename(home: Path, name: Username, client_id: ClientId) -> None:
    """Rewrite both files, for the same key under another name or id. Raises what `renamed` raises,
    and `FileUnwritten`.
    """
    for file, text in renamed(home, name, client_id).items():
        write_whole(home / file, text)


def complete(home: Path, identity: Identity) -> None:
    """Complete a registration that was interrupted after my.info was written."""
    if (home / PENDING).exists():
        if not (home / ME_INFO).exists():
            write_whole(home / ME_INFO, _head(identity))
        drop_pending(home)


def save_pending(home: Path, pending: PendingRegistration, protection: Protection | None = None) -> None:
    """Write the key to disk before the server learns of it."""
    write_whole(home / PENDING, f"{pending.name}\n{_base64(pending.private_key, protection)}")


def pending_name(home: Path) -> Username | None:
    """Return the name of the registration that was begun and not completed, if there is one. Raises
    `InfoFileError`.
    """
    path = home / PENDING
    return _name_in(path, _read_lines(path)) if path.exists() else None


def load_pending(home: Path, ask: Ask = nobody_asked) -> PendingRegistration | None:
    """Read the registration that was begun and not completed, if there is one. Raises what `load`
    raises.
    """
    path = home / PENDING
    if not path.exists():
        return None
    lines = _read_lines(path)
    key = _key_in(path, lines, 1)
    if key is None:
        raise InfoFileError(path, 2, "expected the private key as base64, found nothing")
    return PendingRegistration(_name_in(path, lines), _private_key(path, 2, key, ask))


def drop_pending(home: Path) -> None:
    """Remove a registration that was completed or definitely refused."""
    with writing(home / PENDING):
        (home / PENDING).unlink(missing_ok=True)
        sync_folder(home)


def set_pending_aside(home: Path) -> Path:
    """Move the key of a registration that can't be completed to a file name of its own."""
    for number in range(1, 1000):
        aside = home / f"{_UNFINISHED}{number}"
        if not aside.exists():
            with writing(aside):
                (home / PENDING).rename(aside)
                sync_folder(home)
            return aside
    raise AlreadyRegistered(
        f"There are too many unfinished registrations in {home}.",
        f"Remove those you don't need ({_UNFINISHED}*).",
    )


def holds_key(name: str) -> bool:
    """Whether a file of this name may hold a private key."""
    number = name.removeprefix(_UNFINISHED)
    return name in {MY_INFO, ME_INFO, PENDING} or (number != name and number.isascii() and number.isdigit())


def with_encrypted_keys(home: Path) -> list[str]:
    """Return the names of the files whose private key is encrypted. Raises `InfoFileError`."""
    return [path.name for path, _, _, key in _keys(home) if ciphers.is_encrypted(key)]


def with_plain_keys(home: Path) -> list[str]:
    """Return the names of the files whose private key is not encrypted. Raises `InfoFileError`."""
    return [path.name for path, _, _, key in _keys(home) if not ciphers.is_encrypted(key)]


def rewritten(home: Path, ask: Ask, protection: Protection | None) -> dict[str, str]:
    """Return the new text of every file that holds a private key, encrypted in another way. Writes
    nothing.

    Raises `InfoFileError`, also if a file is a link or has further hard links: rewriting it would
    leave the old key there. Raises `PassphraseNeeded`, `PassphraseWrong`.
    """
    for path, _, _, _ in _keys(home):
        _refuse_another_name(path)
    return {
        path.name: "".join(f"{line.strip()}\n" for line in head)
        + _base64(_private_key(path, first, key, ask), protection)
        for path, head, first, key in _keys(home)
    }


def _refuse_another_name(path: Path) -> None:
    try:
        link, names = path.is_symlink(), path.stat().st_nlink
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
    if link:
        raise InfoFileError(
            path,
            None,
            f"is a symbolic link to {os.path.realpath(path)}, where the private key would stay unchanged; nothing was "
            "changed",
            "Put the file itself in the place of the link, and try again.",
        )
    if names > 1:
        raise InfoFileError(
            path,
            None,
            f"has {names} names (hard links), and the private key would stay unchanged under the others; nothing was "
            "changed",
            f"`find DIR -samefile {shlex.quote(str(path))}` finds them. Remove the others, and try again.",
        )


def drop_half_written(home: Path) -> None:
    """Remove temporary files that a killed program left: there may be a key in them.

    Raises `FileUnwritten`.
    """
    with writing(home):
        for path in home.iterdir():
            if path.name.startswith(".") and path.name.endswith(_NEW) and holds_key(path.name[1 : -len(_NEW)]):
                path.unlink(missing_ok=True)
        sync_folder(home)


def _keys(home: Path) -> Iterator[tuple[Path, list[str], int, bytes]]:
    """Each file with a private key: its path, the lines before the key, the key's first
    line, the DER.
    """
    try:
        paths = sorted(home.iterdir()) if home.is_dir() else []
    except OSError as error:
        raise InfoFileError(home, None, f"can't be read ({error.strerror})") from error
    for path in paths:
        if holds_key(path.name):
            lines = _read_lines(path)
            before = 2 if path.name in {MY_INFO, ME_INFO} else 1
            key = _key_in(path, lines, before)
            if key is not None:
                yield path, lines[:before], before + 1, key


def write_whole(path: Path, text: str) -> None:
    """Write a private file (0600) completely or not at all, even after a power cut."""
    beside = path.with_name(f".{path.name}{_NEW}")
    with writing(path):
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _head(identity: Identity) -> str:
    return f"{identity.name}\n{identity.client_id.hex()}\n"


def _base64(private_key: PrivateKey, protection: Protection | None) -> str:
    if protection is None:
        der = private_key.der()
    else:
        passphrase = ciphers.passphrase_bytes(protection.passphrase)
        der = private_key.encrypted_der(passphrase, protection.random_bytes)
    return base64.encodebytes(der).decode("ascii")


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
    if len(raw) > _LONGEST_FILE:
        raise InfoFileError(path, None, "is far too long for an identity")
    lines: list[str] = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InfoFileError(path, number, "is not plain text") from error
    return lines


def _read_parts(path: Path) -> _Parts:
    lines = _read_lines(path)
    name = _name_in(path, lines)
    if len(lines) < 2:
        raise InfoFileError(path, 2, "expected the id as 32 hex digits, found nothing")
    try:
        client_id = client_id_from_hex(lines[1])
    except ValueRejected as error:
        raise InfoFileError(path, 2, f"expected the id as 32 hex digits, found {lines[1][:40]!r}") from error
    return _Parts(path, name, client_id, _key_in(path, lines, 2))


def _name_in(path: Path, lines: list[str]) -> Username:
    if not lines:
        raise InfoFileError(path, 1, "expected a user name, found nothing")
    try:
        return any_username(lines[0].strip())
    except ValueRejected as error:
        raise InfoFileError(path, 1, f"expected a user name, and {error}") from error


def _key_in(path: Path, lines: list[str], first: int) -> bytes | None:
    """Return the private key's DER from the lines from index `first` on; None if they are empty."""
    text = "".join("".join(line.split()) for line in lines[first:])
    if not text:
        return None
    for number, line in enumerate(lines[first:], start=first + 1):
        if not _BASE64_LINE.fullmatch(line):
            raise InfoFileError(path, number, "expected the private key as base64, found other characters")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InfoFileError(path, first + 1, f"the private key is no whole base64 ({error})") from error


def _private_key(path: Path, line: int, der: bytes, ask: Ask) -> PrivateKey:
    passphrase = ciphers.passphrase_bytes(ask()) if ciphers.is_encrypted(der) else None
    try:
        return PrivateKey.from_der(der, passphrase)
    except PassphraseWrong as error:
        raise PassphraseWrong(f"That is not the passphrase of the private key in {path}.", error.advice) from error
    except CipherError as error:
        raise InfoFileError(path, line, f"the private key can't be used: {error}") from error
