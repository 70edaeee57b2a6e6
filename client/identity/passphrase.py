"""The home's passphrase: set, changed, removed.

Owns: the order in which store.db and the identity files change.
Promises: a home is either unchanged or fully changed, whenever the program dies: one commit of the
store decides, and files that were left to be written are written by whoever opens the home next
(`client.identity.home`). Nothing changes if another process has the home open, or a private key
would stay as it is under another name of its file (a link). Afterwards neither the file's free
space nor its WAL holds the earlier content.
Exposure: the passphrase is held in memory; it is written nowhere.

    step                                       died here, the next opening
    ────────────────────────────────────────   ───────────────────────────────────
    all rows converted, files noted, commit    before: nothing happened. After: ↓
    each identity file written                 writes them again
    the note deleted, commit                   ↓
    free space erased, WAL emptied             erases

Source: docs/client.md, "messageu passphrase"; docs/security.md, "A passphrase at rest".
"""

import os
from pathlib import Path

from client.crypto.ciphers import RandomBytes
from client.identity import identity_files
from client.identity.home import open_store
from client.identity.identity_files import Ask, Protection, nobody_asked
from client.store.home_store import Store
from common.errors import FileUnwritten, SettingRejected


def has_passphrase(home: Path) -> bool:
    """Whether a home has one."""
    store = open_store(home)
    try:
        return store.sealing.has_passphrase
    finally:
        store.close()


def check_passphrase(home: Path, ask: Ask) -> None:
    """Raise `PassphraseWrong`, or `SettingRejected` if there is none, and change nothing."""
    _unlocked(home, ask).close()


def set_passphrase(home: Path, new: str, ask_old: Ask = nobody_asked, random_bytes: RandomBytes = os.urandom) -> bool:
    """Encrypt a home that has no passphrase. Returns and raises what `change_passphrase` does.

    `ask_old` is called if the private key has a passphrase already, as an imported one may have.
    """
    store = open_store(home)
    try:
        if store.sealing.has_passphrase:
            raise SettingRejected(f"{home} has a passphrase already: `messageu passphrase change` changes it.")
        return _reseal(home, store, ask_old, new, random_bytes)
    finally:
        store.close()


def change_passphrase(home: Path, new: str, ask_old: Ask, random_bytes: RandomBytes = os.urandom) -> bool:
    """Replace the passphrase of the private keys and of the store's data key.

    Returns whether traces of the old content are erased already; otherwise the next start does
    that. Raises `PassphraseWrong`, `PassphraseNeeded`, `SettingRejected`, `HomeInUse`,
    `StoreUnusable`, `InfoFileError`; then nothing was changed.
    """
    store = _unlocked(home, ask_old)
    try:
        return _reseal(home, store, ask_old, new, random_bytes)
    finally:
        store.close()


def remove_passphrase(home: Path, ask_old: Ask, random_bytes: RandomBytes = os.urandom) -> bool:
    """Decrypt everything again. Returns and raises what `change_passphrase` does."""
    store = _unlocked(home, ask_old)
    try:
        return _reseal(home, store, ask_old, None, random_bytes)
    finally:
        store.close()


def _unlocked(home: Path, ask: Ask) -> Store:
    store = open_store(home)
    try:
        if not store.sealing.has_passphrase:
            raise SettingRejected(f"{home} has no passphrase: `messageu passphrase set` sets one.")
        store.sealing.unlock(ask())
    except BaseException:
        store.close()
        raise
    return store


def _reseal(home: Path, store: Store, ask_old: Ask, new: str | None, random_bytes: RandomBytes) -> bool:
    protection = None if new is None else Protection(new, random_bytes)
    # No other process may register, receive or read in between.
    with store.receiver(), store.alone():
        files = identity_files.rewritten(home, ask_old, protection)
        identity_files.drop_half_written(home)
        store.sealing.seal_under(new, files)
        try:
            store.sealing.settle(lambda name, content: identity_files.write_whole(home / name, content))
        except FileUnwritten as error:
            problem = f"{error.problem}; it is decided all the same, and the next command writes this file"
            raise FileUnwritten(error.path, problem, error.advice) from error
    return store.erase_traces()
