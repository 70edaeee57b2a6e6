#!/usr/bin/env python3
"""How long the client's store takes for a message and a name after a long history:
`scripts/long_history.py [ROWS]`.

Owns: a throw-away home, filled with empty messages of one sender and with as many names. Promises:
prints milliseconds for each number of rows, and leaves nothing. Exposure: none. To be run by hand;
the tests count steps instead.
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("run")

from client.store.home_store import Store
from client.store.inbox import NewMessage
from client.trust.contacts import Contacts
from common.values import ClientId

NOW = 1_700_000_000_000
SENDER = ClientId(b"s" * 16)
BATCH = 256
FEWEST = 2_000
"""A hundredth of them, 20, are shown."""
EMPTY = hashlib.sha256(b"").digest()


def empty(number: int) -> NewMessage:
    """Give an empty message as a 643 brings it."""
    return NewMessage(SENDER, 1, 0, b"", None, EMPTY, number, number.to_bytes(16, "big"), NOW, sender_proven=True)


def took(what: str, do: Callable[[], object], times: int = 1) -> None:
    """Do it, and print how long one of it took."""
    began = time.perf_counter()
    do()
    print(f"  {what:44} {(time.perf_counter() - began) / times * 1000:10.3f} ms", flush=True)


def measure(store: Store, rows: int) -> None:
    """Bring the store to so many messages and names, and print what one more costs."""
    first = store.inbox.next_unread(0)
    known = 0 if first is None else int(store.database.value("SELECT max(number) FROM inbox") or 0)
    print(f"{rows:,} messages of one sender, {rows:,} names")

    def fill() -> None:
        for at in range(known + 1, rows + 1, BATCH):
            store.inbox.add_fetched([empty(number) for number in range(at, min(at + BATCH, rows + 1))], NOW, 1)

    took("a message that is fetched", fill, max(1, rows - known))
    took("the oldest unread one", lambda: store.inbox.next_unread(0))
    took("conversations", store.inbox.by_sender)

    def show() -> None:
        for _ in range(20):
            row = store.inbox.next_unread(0)
            assert row is not None
            store.inbox.begin_showing(row.number, None)
            store.inbox.was_shown(row.number, readable=True)

    took("a message that is shown", show, 20)
    names = ((ClientId(number.to_bytes(16, "big")), f"user{number:07}") for number in range(rows))
    took("a list of users, each", lambda: store.contacts.replace_list(names), rows)
    contacts = Contacts(store)
    took("to find a name", lambda: contacts.listed(f"user{rows - 1:07}"))
    took("names near to one that nobody has", lambda: contacts.unknown("User000x"))


def rows(words: Sequence[str]) -> int:
    """Read the command line: how many at most."""
    parser = argparse.ArgumentParser(
        description="What a message and a name cost the client's store.", allow_abbrev=False
    )
    parser.add_argument("rows", metavar="ROWS", nargs="?", type=int, default=100_000, help="2,000 or more (100,000)")
    most: int = parser.parse_args(words).rows
    if most < FEWEST:
        parser.error(f"ROWS has to be {FEWEST:,} or more")
    return most


def main() -> None:
    """Measure at a hundredth, a tenth, and all of the rows."""
    most = rows(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        store.server.remember(b"s" * 16, 1, 0)
        for some in (most // 100, most // 10, most):
            measure(store, some)
        store.close()
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB at most")


if __name__ == "__main__":
    main()
