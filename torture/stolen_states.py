"""What a thief finds in the copy of a home: its state of suite 1, and whatever earlier states the
copied files still hold.

Owns: reading a copy as somebody does who does not keep to the program.
Promises: changes nothing in the copy. Each state that SQLite's log holds is found.
Exposure: none.
"""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from client.identity.home import open_store
from client.store.home_store import STORE_FILE, Store
from client.store.sealing import Sealing
from client.suite1 import payloads
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import File, PayloadMalformed
from client.suite1.peers import Peer
from common.values import MessageKind

_WAL_HEAD: Final = struct.Struct(">8I")
_FRAME_HEAD: Final = struct.Struct(">6I")


class State(NamedTuple):
    """One state of a home: its own keys, the sessions with each peer, and the payloads of files
    that its history has.
    """

    keys: OwnKeys
    peers: dict[bytes, Peer]
    files: tuple[File, ...]


def stolen_states(copy: Path, passphrase: str | None) -> list[State]:
    """Return the states that a copied home holds, the present one first."""
    with tempfile.TemporaryDirectory(prefix="messageu-thief-") as folder:
        sealing: Sealing | None = None
        found: dict[bytes, State] = {}
        for number, database in enumerate(reversed(list(_databases(copy)))):
            home = Path(folder) / str(number)
            home.mkdir()
            (home / STORE_FILE).write_bytes(database)
            if sealing is None:
                store = open_store(home)
                if store.sealing.is_locked:
                    assert passphrase is not None
                    store.sealing.unlock(passphrase)
                sealing = store.sealing
            else:
                store = Store.open(home, sealing)
            state = _state(store)
            if state is not None:
                key = state.keys.to_bytes() + b"".join(peer.to_bytes() for peer in state.peers.values())
                found.setdefault(key, state)
            store.close()
        return list(found.values())


def _databases(copy: Path) -> Iterator[bytes]:
    """The database as it was after each transaction that the log holds, the newest last."""
    pages = bytearray((copy / STORE_FILE).read_bytes())
    if pages:
        yield bytes(pages)
    wal = copy / f"{STORE_FILE}-wal"
    log = wal.read_bytes() if wal.exists() else b""
    if len(log) < _WAL_HEAD.size:
        return
    _, _, page_size, _, *salts, _, _ = _WAL_HEAD.unpack_from(log)
    at = _WAL_HEAD.size
    while at + _FRAME_HEAD.size + page_size <= len(log):
        page, pages_after, *of_frame, _, _ = _FRAME_HEAD.unpack_from(log, at)
        if of_frame != salts:
            return
        start = at + _FRAME_HEAD.size
        end = page * page_size
        pages.extend(bytes(max(0, end - len(pages))))
        pages[end - page_size : end] = log[start : start + page_size]
        at = start + page_size
        if pages_after:
            yield bytes(pages[: pages_after * page_size])


def _state(store: Store) -> State | None:
    row = store.own_keys.get()
    if row is None:
        return None
    peers = {bytes(peer.client_id): Peer.from_bytes(peer.state) for peer in store.peers.all() if peer.state is not None}
    files = []
    for kept in store.inbox.seen(0):
        if kept.kind == MessageKind.SEALED and kept.opened is not None and kept.content is not None:
            try:
                payload = payloads.decoded(kept.content[: kept.opened])
            except PayloadMalformed:
                continue
            if isinstance(payload, File):
                files.append(payload)
    return State(OwnKeys.from_bytes(row.state), peers, tuple(files))
