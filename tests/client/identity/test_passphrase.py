"""A home's passphrase: set, changed, removed; what is on the disk afterwards; what a death in
between leaves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pexpect
import pytest

from client.__main__ import main
from client.crypto.ciphers import PrivateKey, SymmetricKey
from client.crypto.sealed_storage import DataKey
from client.errors import HomeInUse, PassphraseNeeded, PassphraseWrong, StoreUnusable
from client.identity import identity_files
from client.identity.home import open_store
from client.identity.identity_files import Identity, PendingRegistration
from client.identity.passphrase import change_passphrase, remove_passphrase, set_passphrase
from client.messenger import Messenger, Text, Unreadable
from client.store.home_store import Store
from client.store.inbox import InboxRow, NewMessage
from client.store.outbox import OutboxRow
from client.store.sealing import Sealing
from client.store.sent import Outgoing, SentRow
from common.errors import InfoFileError, SettingRejected
from common.server_address import ServerAddress
from common.values import ClientId, MessageKind, PublicKey, Token, Username
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.fake_gateway import FakeGateway


ROOT = Path(__file__).parent.parent.parent.parent
BOB, CAROL = ClientId(b"b" * 16), ClientId(b"c" * 16)
KEY = SymmetricKey(b"the shared key 1")
CONTENT, OUTGOING, TEXT, PATH, SAVED, PROBLEM = (
    b"a content as it came", b"a content to send", "the plan", "/home/alice/plan.pdf", "/home/alice/in", "no such plan",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("cheap")


def incoming(number: int, content: bytes = CONTENT, sender: ClientId = BOB) -> NewMessage:
    return NewMessage(
        sender, MessageKind.TEXT, len(content), content, None, b"d" * 32, number, bytes([number]) * 16, 5, True
    )


def fill(store: Store) -> None:
    """One secret of every kind."""
    store.keys.add_made(BOB, KEY, 1, PublicKey(b"p" * 160))
    store.inbox.add_fetched([incoming(1), incoming(2, b"another content", CAROL)], 2, 1)
    store.keys.add_received(BOB, SymmetricKey(b"the shared key 2"), 3, 1)
    store.inbox.begin_showing(1, Path(SAVED))
    store.inbox.was_shown(1, readable=True)
    store.outbox.add(BOB, MessageKind.TEXT, 3, OUTGOING, Token(b"t" * 16), None, 4, Outgoing(TEXT, None))
    failed = store.outbox.add(CAROL, MessageKind.FILE, 3, b"x", Token(b"u" * 16), None, 4, Outgoing(None, PATH))
    store.outbox.set_aside(failed, PROBLEM)


def picture(store: Store) -> object:
    """All that the secrets say."""
    return (
        store.keys.of(BOB), store.inbox.next_unread(0), list(store.inbox.seen(0)), list(store.outbox.waiting()),
        store.outbox.failed(), store.sent.all(),
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, private_keys: list[PrivateKey]) -> Path:
    """A full home in the clear, with an unfinished registration and one set aside."""
    home = tmp_path / "home"
    home.mkdir()
    identity_files.save(home, Identity(Username("alice"), BOB, private_keys[0]))
    identity_files.save_pending(home, PendingRegistration(Username("carol"), private_keys[1]))
    identity_files.set_pending_aside(home)
    identity_files.save_pending(home, PendingRegistration(Username("dave"), private_keys[2]))
    store = Store.open(home)
    fill(store)
    store.close()
    return home


def bare(home: Path) -> dict[str, bytes]:
    """What lies on the disk, by name; SQLite's own index of the WAL aside."""
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and path.suffix != ".db-shm"}


def in_the_clear(home: Path) -> list[str]:
    """What of the secrets can be read in a home's files."""
    whole = b"\n".join(bare(home).values())
    secrets = {
        "key": KEY, "second key": b"the shared key 2", "content": CONTENT, "outgoing": OUTGOING, "text": TEXT.encode(),
        "path": PATH.encode(), "saved": SAVED.encode(), "problem": PROBLEM.encode(),
    }  # fmt: skip
    return [name for name, secret in secrets.items() if secret in whole]


def test_what_is_on_the_disk(home: Path, private_keys: list[PrivateKey]) -> None:
    opened = Store.open(home)
    before = picture(opened)
    opened.close()
    assert len(in_the_clear(home)) == 8
    assert set_passphrase(home, "correct horse")
    assert in_the_clear(home) == []
    assert identity_files.with_plain_keys(home) == []
    assert len(identity_files.with_encrypted_keys(home)) == 3
    plain = [key.der().hex() for key in private_keys]
    assert not any(key in data.hex() for data in bare(home).values() for key in plain)
    assert {path.stat().st_mode & 0o077 for path in home.iterdir() if path.is_file()} == {0}

    store = open_store(home)
    assert store.sealing.is_locked
    store.sealing.unlock("correct horse")
    assert picture(store) == before
    store.close()
    loaded = identity_files.load(home, lambda: "correct horse")
    assert loaded.private_key.der() == private_keys[0].der()

    assert remove_passphrase(home, lambda: "correct horse")
    assert len(in_the_clear(home)) == 8
    assert identity_files.load(home).private_key.der() == private_keys[0].der()
    opened = Store.open(home)
    assert picture(opened) == before
    opened.close()


def test_what_is_written_later_is_sealed_too(home: Path) -> None:
    Store.open(home).close()
    shutil.rmtree(home)
    home.mkdir()
    Store.open(home).close()
    set_passphrase(home, "correct horse")
    store = open_store(home)
    store.sealing.unlock("correct horse")
    fill(store)
    assert in_the_clear(home) == []
    assert store.sealing.damaged_rows() == []
    store.close()
    assert in_the_clear(home) == []


def test_every_column_is_sealed_or_known_to_be_visible(home: Path) -> None:
    """A column that is added later has to be thought about."""
    from client.store.sealing import SECRETS

    database = apsw.Connection(str(home / "store.db"))
    columns = {
        f"{table}.{column}"
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        for (column, kind) in database.execute(f"SELECT name, type FROM pragma_table_info('{table}')")
        if kind in {"TEXT", "BLOB"} and not table.startswith("sqlite_")
    }
    database.close()
    assert columns - {f"{secret.table}.{secret.column}" for secret in SECRETS} == {
        "setting.name", "setting.value", "contact.client_id", "contact.name", "contact.public_key",
        "shared_key.contact", "shared_key.sealed_to", "inbox.sender", "inbox.spool", "inbox.digest", "inbox.token",
        "outbox.token", "outbox.recipient", "outbox.spool", "server.server_id", "sent.recipient", "pin.client_id",
        "pin.name", "pin.public_key", "pin.offered_id", "pin.offered_key", "vault.wrapped", "rewrite.name",
        "rewrite.content", "outbox.digest", "acknowledged.token", "acknowledged.recipient", "acknowledged.digest",
        "silenced.client_id", "own_keys.client_id", "own_keys.server_id", "peer.client_id", "peer.ed25519",
        "peer.curve25519", "peer.offered_ed25519", "peer.offered_curve25519", "inbox.payload_id", "inbox.mark",
        "sent.payload_id",
    }  # fmt: skip


def test_another_passphrase_rewraps_one_value(home: Path) -> None:
    set_passphrase(home, "old")
    with pytest.raises(PassphraseWrong):
        change_passphrase(home, "new", lambda: "wrong")
    rows = "SELECT number, key FROM shared_key"
    database = apsw.Connection(str(home / "store.db"))
    sealed = list(database.execute(rows))
    database.close()
    assert change_passphrase(home, "new", lambda: "old")
    database = apsw.Connection(str(home / "store.db"))
    assert list(database.execute(rows)) == sealed
    database.close()
    for wrong in ("old", "new "):
        with pytest.raises(PassphraseWrong):
            identity_files.load(home, iter([wrong]).__next__)
        store = open_store(home)
        with pytest.raises(PassphraseWrong):
            store.sealing.unlock(wrong)
        store.close()
    store = open_store(home)
    store.sealing.unlock("new")
    store.close()


def test_a_wrong_passphrase_changes_nothing(home: Path) -> None:
    set_passphrase(home, "right")
    before = bare(home)
    for attempt in (
        lambda: change_passphrase(home, "new", lambda: "wrong"),
        lambda: remove_passphrase(home, lambda: "wrong"),
        lambda: set_passphrase(home, "new", lambda: "right"),
        lambda: Messenger.open(home, ServerAddress("localhost", 1), passphrase=lambda: "wrong"),
        lambda: Messenger.open(home, ServerAddress("localhost", 1)),
    ):
        with pytest.raises((PassphraseWrong, PassphraseNeeded, SettingRejected)):
            attempt()
    assert {name: data for name, data in bare(home).items() if not name.endswith("-wal")} == before


def test_the_same_passphrase_typed_another_way(home: Path) -> None:
    set_passphrase(home, "caf\u00e9 \u043f\u0430\u0440\u043e\u043b\u044c")
    store = open_store(home)
    store.sealing.unlock("cafe\u0301 \u043f\u0430\u0440\u043e\u043b\u044c")
    store.close()


def test_nothing_changes_while_another_has_the_home_open(home: Path) -> None:
    other = Store.open(home)
    before = picture(other)
    with pytest.raises(HomeInUse):
        set_passphrase(home, "secret")
    with other.receiver(), pytest.raises(HomeInUse):
        set_passphrase(home, "secret")
    # The attempt cost nobody his lock.
    assert picture(other) == before
    with pytest.raises(HomeInUse):
        set_passphrase(home, "secret")
    other.close()
    assert set_passphrase(home, "secret")


def test_a_key_with_a_passphrase_of_its_own(tmp_path: Path, private_key: PrivateKey) -> None:
    """An encrypted my.info that was brought along, and a store that has none yet."""
    home = tmp_path / "home"
    home.mkdir()
    protection = identity_files.Protection("theirs", os.urandom)
    identity_files.save(home, Identity(Username("alice"), BOB, private_key), protection)
    with pytest.raises(PassphraseNeeded):
        set_passphrase(home, "mine")
    with pytest.raises(PassphraseWrong, match=r"my\.info"):
        set_passphrase(home, "mine", lambda: "wrong")
    assert set_passphrase(home, "mine", lambda: "theirs")
    assert identity_files.load(home, lambda: "mine").private_key.der() == private_key.der()


def test_all_parts_in_one_me_info(tmp_path: Path, private_key: PrivateKey) -> None:
    """As another client writes it: no plain key stays behind."""
    home = tmp_path / "home"
    home.mkdir()
    identity_files.save(home, Identity(Username("alice"), BOB, private_key))
    shutil.copy(home / "my.info", home / "me.info")
    set_passphrase(home, "secret")
    assert identity_files.with_encrypted_keys(home) == ["me.info", "my.info"]
    (home / "my.info").unlink()
    assert identity_files.load(home, lambda: "secret").private_key.der() == private_key.der()


SWAPS = {
    "keys": "UPDATE shared_key SET key = (SELECT s.key FROM shared_key s WHERE s.number != shared_key.number)",
    "a key's contact": "UPDATE shared_key SET contact = x'63636363636363636363636363636363'",
    "who made a key": "UPDATE shared_key SET made = 1 - made",
    "whom a key was sealed to": "UPDATE shared_key SET sealed_to = zeroblob(160)",
    "contents": "UPDATE inbox SET content = (SELECT i.content FROM inbox i WHERE i.number != inbox.number)",
    "senders": "UPDATE inbox SET sender = x'61616161616161616161616161616161'",
    "a kind": "UPDATE inbox SET kind = 4",
    "one bit": "UPDATE inbox SET content = CAST(substr(content, 1, 20) || x'00' || substr(content, 22) AS BLOB)",
    "a short content": "UPDATE inbox SET content = x'00'",
    "a plain content": "UPDATE inbox SET content = x'61626364'",
    "outgoing recipients": "UPDATE outbox SET recipient = x'61616161616161616161616161616161'",
    "outgoing contents": "UPDATE outbox SET content = (SELECT o.content FROM outbox o WHERE o.number != outbox.number)",
    "sent texts": "UPDATE sent SET text = path, path = text",
    "a sent text in the clear": "UPDATE sent SET text = 'a lie', path = NULL",
    "sent recipients": "UPDATE sent SET recipient = x'61616161616161616161616161616161'",
    "saved paths": "UPDATE inbox SET saved_path = '/etc/passwd'",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_altered_and_swapped_rows_are_not_believed(home: Path, swap: str) -> None:
    set_passphrase(home, "secret")
    database = apsw.Connection(str(home / "store.db"))
    database.execute(SWAPS[swap])
    assert database.changes() > 0
    database.close()
    store = open_store(home)
    store.sealing.unlock("secret")
    assert store.sealing.damaged_rows() != []
    failed = [row for row, _ in store.outbox.failed()]
    rows: list[InboxRow | OutboxRow | SentRow] = [
        *store.inbox.seen(0),
        *store.outbox.waiting(),
        *failed,
        *store.sent.all(),
    ]
    unread = store.inbox.next_unread(0)
    damaged = [row for row in [*rows, *([unread] if unread else [])] if row.damaged]
    if swap.startswith(("keys", "a key", "who", "whom")):
        believed = {(row.key, row.made) for row in store.keys.of(BOB) + store.keys.of(CAROL)}
        # Whatever is still believed stands in the row that it was made for.
        assert believed <= {(KEY, True), (SymmetricKey(b"the shared key 2"), False)}
        assert len(believed) < 2
    else:
        assert damaged
        assert not any(getattr(row, field, None) for row in damaged for field in ("content", "text", "path"))
    store.close()
    # The passphrase can be changed with such rows, which stay as they are; it can't be removed with
    # them.
    before = bare(home)
    with pytest.raises(StoreUnusable, match="was altered"):
        remove_passphrase(home, lambda: "secret")
    assert bare(home)["my.info"] == before["my.info"]
    assert change_passphrase(home, "another", lambda: "secret")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/cron.d/x", "myport.info", "store.db", "my.info.unfinished-", "my.info.unfinished-/x"]
)
def test_a_store_can_not_name_other_files_to_be_written(home: Path, name: str) -> None:
    database = apsw.Connection(str(home / "store.db"))
    database.execute("INSERT INTO rewrite VALUES (?, 'x')", (name,))
    database.close()
    before = bare(home)
    with pytest.raises(StoreUnusable, match="altered it"):
        open_store(home)
    assert {name: data for name, data in bare(home).items() if name[:5] != "store"} == {
        name: data for name, data in before.items() if name[:5] != "store"
    }


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("name", ["my.info", "my.info.pending", "my.info.unfinished-1"])
def test_a_key_that_has_another_name_is_refused(home: Path, tmp_path: Path, kind: str, name: str) -> None:
    other = tmp_path / "dotfiles"
    if kind == "symbolic":
        (home / name).rename(other)
        (home / name).symlink_to(other)
    else:
        other.hardlink_to(home / name)
    before = bare(home)
    with pytest.raises(InfoFileError, match="nothing was changed") as caught:
        set_passphrase(home, "secret")
    assert str(home / name) in str(caught.value)
    assert ("symbolic link" if kind == "symbolic" else "2 names") in str(caught.value)
    assert bare(home) == {**before, "store.lock": b""}
    assert (home / name).is_symlink() == (kind == "symbolic")
    # As it says: one name for the file, and then it works.
    other.replace(home / name) if kind == "symbolic" else other.unlink()
    set_passphrase(home, "secret")
    assert in_the_clear(home) == []


def test_a_key_that_a_killed_registration_left_half_written_goes(home: Path) -> None:
    (home / ".my.info.pending.new").write_bytes((home / "my.info").read_bytes())
    (home / ".other.new").write_text("not ours")
    set_passphrase(home, "secret")
    assert not (home / ".my.info.pending.new").exists()
    assert (home / ".other.new").exists()


def test_a_damaged_message_is_named_and_the_others_are_shown(
    alice: Messenger, bob: Messenger, tmp_path: Path, gateway: FakeGateway
) -> None:
    alice.agree_on_key("bob")
    for text in ("one", "two", "three"):
        alice.home.sending.send_text("bob", text)
    bob.close()
    home = tmp_path / "bob"
    set_passphrase(home, "secret")
    again = Messenger.open(home, gateway.address, passphrase=lambda: "secret")
    again.home.receiving.fetch()
    again.close()
    database = apsw.Connection(str(home / "store.db"))
    database.execute("UPDATE inbox SET content = zeroblob(60) WHERE number = 3")
    database.close()
    again = Messenger.open(home, gateway.address, passphrase=lambda: "secret")
    contents = [message.content for message in again.receive()]
    assert contents[1] == Text("one")
    assert isinstance(contents[2], Unreadable)
    assert "altered" in contents[2].problem
    assert contents[3] == Text("three")
    assert isinstance([message.content for message in again.seen()][2], Unreadable)
    again.close()


def test_a_damaged_outgoing_message_is_set_aside(
    alice: Messenger, bob: Messenger, tmp_path: Path, gateway: FakeGateway, told: list[str]
) -> None:
    assert bob.is_registered()
    alice.agree_on_key("bob")
    alice.close()
    home = tmp_path / "alice"
    set_passphrase(home, "secret")
    again = Messenger.open(home, gateway.address, passphrase=lambda: "secret", tell=told.append)
    contact = again.contact("bob")
    again.home.outbox.put(contact.client_id, MessageKind.TEXT, 16, b"0" * 16)
    again.home.store.database.run("UPDATE outbox SET content = zeroblob(44)")
    before = len(gateway.mailroom.boxes[contact.client_id])
    again.home.outbox.flush(again.identity().client_id)
    assert len(gateway.mailroom.boxes[contact.client_id]) == before
    assert ["altered" in failed.problem for failed in again.failed()] == [True]
    again.close()


# Does what it is told to, and kills itself at the given step; tells how many steps it took where it
# lived.
STEPS = """
import os, sys, pathlib
import apsw
from client.crypto import ciphers, sealed_storage; from client.identity import passphrase
ciphers.SCRYPT_COST = sealed_storage.SCRYPT_COST = 16
from client.store.home_store import Store
from tests.client.dying import Life
home, what = pathlib.Path(sys.argv[1]), sys.argv[2]
life = Life(int(sys.argv[3]))

class Connection(apsw.Connection):
    pass

life.around(Connection, "execute")
apsw.Connection = Connection
life.around(os, "fsync", "replace", "unlink", "open")
life.around(pathlib.Path, "replace")
{"set": lambda: passphrase.set_passphrase(home, "new"),
 "change": lambda: passphrase.change_passphrase(home, "new", lambda: "old"),
 "remove": lambda: passphrase.remove_passphrase(home, lambda: "old")}[what]()
print(life.steps)
"""


def died_at(home: Path, what: str, step: int) -> str | None:
    """Run it to its death; what it printed where it lived."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(home), what, str(step)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode == -9:
        return None
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state_of(home: Path, passphrases: tuple[str | None, str | None], key: PrivateKey, before: object) -> str | None:
    """Open it as whoever comes next does: under which of the two passphrases everything,
    and nothing half, is.
    """
    store = open_store(home)
    try:
        if not store.sealing.has_passphrase:
            current = None
            assert identity_files.with_encrypted_keys(home) == []
        else:
            assert identity_files.with_plain_keys(home) == []
            current = next(
                one
                for one in passphrases
                if one is not None and DataKey.unwrap(store.sealing.wrapped or b"", one, os.urandom)
            )
            store.sealing.unlock(current)
        assert current in passphrases
        assert identity_files.load(home, lambda: current or "").private_key.der() == key.der()
        assert identity_files.load_pending(home, lambda: current or "") is not None
        assert picture(store) == before
        assert store.erase_traces()
    finally:
        store.close()
    assert bool(in_the_clear(home)) == (current is None)
    return current


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "old", "new"), [("set", None, "new"), ("change", "old", "new"), ("remove", "old", None)]
)
def test_a_death_at_any_step_leaves_the_one_or_the_other(
    home: Path, tmp_path: Path, private_key: PrivateKey, what: str, old: str | None, new: str | None
) -> None:
    store = Store.open(home)
    before = picture(store)
    store.close()
    if old is not None:
        set_passphrase(home, old)
    shutil.copytree(home, tmp_path / "whole")
    total = int(died_at(tmp_path / "whole", what, 0) or 0)
    assert total > 40
    found = []
    # Every step around the commit and the files, and samples of the many before it.
    for step in sorted({*range(total, total - 60, -7), *range(total - 60, 0, -29)}):
        copy = tmp_path / f"{what}-{step}"
        shutil.copytree(home, copy)
        assert died_at(copy, what, step) is None
        found.append(state_of(copy, (old, new), private_key, before))
        shutil.rmtree(copy)
    # Once it is the new one, it never is the old one again.
    assert found == sorted(found, key=lambda state: state == new)
    assert {found[0], found[-1]} == {old, new}


@pytest.mark.parametrize("pages", [0, 1])
def test_a_full_disk_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    store = Store.open(home)
    store.inbox.add_fetched([incoming(number, os.urandom(2000)) for number in range(3, 100)], 2, 1)
    before = picture(store)
    store.close()
    prepare = Sealing.seal_under

    def without_room(sealing: Sealing, passphrase: str | None, files: dict[str, str]) -> None:
        (count,) = next(sealing.database.connection.execute("PRAGMA page_count"))
        sealing.database.connection.execute(f"PRAGMA max_page_count = {count + pages}")
        prepare(sealing, passphrase, files)

    monkeypatch.setattr(Sealing, "seal_under", without_room)
    with pytest.raises(StoreUnusable, match="no room"):
        set_passphrase(home, "secret")
    assert identity_files.with_encrypted_keys(home) == []
    store = open_store(home)
    assert not store.sealing.has_passphrase
    assert picture(store) == before
    store.close()


def test_traces_that_can_not_be_erased_now_are_erased_at_the_next_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "erase_traces", lambda _: False)
        assert not set_passphrase(home, "secret")
    store = open_store(home)
    store.close()
    assert in_the_clear(home) == []


def test_a_home_with_a_passphrase_works_like_any_other(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path, bob: Messenger
) -> None:
    home = tmp_path / "alice"
    home.mkdir()
    Store.open(home).close()
    set_passphrase(home, "secret")
    asked = []

    def ask() -> str:
        asked.append(1)
        return "secret"

    with Messenger.open(home, gateway.address, passphrase=ask) as alice:
        alice.register("alice")
        alice.agree_on_key("bob")
        alice.home.sending.send_text("bob", "hello")
        bob.agree_on_key("alice")
        assert [message.content for message in bob.receive()][-1] == Text("hello")
        bob.home.sending.send_text("alice", "from bob")
        assert [message.content for message in alice.receive()][-1] == Text("from bob")
    assert identity_files.with_plain_keys(home) == []
    whole = b"".join(bare(home).values())
    assert b"hello" not in whole
    assert b"from bob" not in whole
    with Messenger.open(home, gateway.address, passphrase=ask) as alice:
        assert len(alice.history()) > 2
        assert re.fullmatch("[0-9a-f]{64}", alice.own_fingerprint())
    assert asked


def test_it_is_asked_once_at_a_terminal_even_where_the_input_is_a_pipe(home: Path) -> None:
    set_passphrase(home, "right")
    command = f"echo piped | {sys.executable} -P -m client --home {home} history"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": "/nonexistent"}
    for typed, code, said in (("wrong", 2, "not the passphrase"), ("right", 0, TEXT)):
        child = pexpect.spawn("sh", ["-c", command], env=environment, encoding="utf-8", timeout=HANG_SECONDS)
        child.expect(f"Passphrase of {home}: ")
        child.sendline(typed)
        child.expect(said)
        child.expect(pexpect.EOF)
        child.close()
        # What was typed was not shown.
        assert child.exitstatus == code
        assert typed not in (child.before or "")


def test_a_short_passphrase_in_the_commands(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "pass"
    short.write_text("x")
    options = ["--home", str(home), "--quiet"]
    for words in (
        ["export", str(tmp_path / "backup"), "--passphrase-file", str(short)],
        ["passphrase", "set", "--new-passphrase-file", str(short)],
        [
            "passphrase",
            "change",
            "--passphrase-file",
            str(short),
            "--new-passphrase-file",
            str(short),
        ],
    ):
        before = bare(home)
        assert main([*options, *words]) == 2
        assert "--weak-passphrase" in capsys.readouterr().err
        assert bare(home) == before
        assert main([*options, *words, "--weak-passphrase"]) == 0
    # A home that has a short one goes on working.
    assert main([*options, "history", "--passphrase-file", str(short)]) == 0
