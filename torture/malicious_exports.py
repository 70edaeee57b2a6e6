"""Drill: exports that were made to reach files outside the importer's home.

Owns: how a good export is altered: columns, tables and pragmas of its store, its files, its
members.
Promises: each is imported with the real command, and if that is done mail is fetched, sent and
looked up with it. Afterwards the bait files outside are as they were and unread, none of their
bytes is at the server, nothing of a refused import is left, and no command ended in a traceback. A
good export, the first one, goes through.
Exposure: none.
"""

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from client.crypto.sealed_storage import ArchiveOpener, ArchiveSealer
from client.identity.archive import export_home
from client.messenger import Messenger
from client.store.home_store import Store
from client.store.inbox import NewMessage
from client.store.sent import Outgoing
from common.info_files import ServerAddress
from common.values import MessageKind, Token
from torture.caller import Caller, new_account, token_of
from torture.checker import judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

NAME: Final = "malicious-exports"
_FULL_EXPORTS: Final = 120
_QUICK_EXPORTS: Final = 12
_PASSPHRASE: Final = "malicious"  # noqa: S105
_SECRET: Final = b"the importer's own words "
_LARGE: Final = 70_000
_NOW: Final = 1_700_000_000_000
_TABLES: Final = (
    "setting", "contact", "shared_key", "pull", "inbox", "outbox", "server", "sent", "pin", "vault", "rewrite",
    "sqlite_sequence",
)  # fmt: skip
_SCHEMA: Final = (
    "CREATE TRIGGER t AFTER UPDATE ON inbox BEGIN DELETE FROM outbox; END",
    "CREATE TRIGGER t AFTER INSERT ON sent BEGIN UPDATE outbox SET spool = '{bait}'; END",
    "CREATE VIEW v AS SELECT * FROM inbox",
    "CREATE TABLE more (a)",
    "CREATE INDEX more ON inbox (kind)",
    "DROP TABLE sent; CREATE VIEW sent AS SELECT * FROM outbox",
    "ALTER TABLE inbox ADD COLUMN more AS (printf('%.*c', 100000000, 'x'))",
    "INSERT INTO rewrite VALUES ('{bait}', 'x')",
    "INSERT INTO rewrite VALUES ('my.info', 'x')",
    "INSERT OR REPLACE INTO setting VALUES ('watch_cursor', '{bait}')",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 1000000",
    "PRAGMA application_id = 1",
)
_TYPES: Final = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.GNUTYPE_SPARSE,
)


class Export(NamedTuple):
    """A file to be imported; `good`: it is one that has to work."""

    what: str
    content: bytes
    good: bool = False


class _Maker:
    """Alters a good export."""

    def __init__(self, folder: Path, plain: bytes, bait: Path, chance: random.Random) -> None:
        self._folder, self._plain, self._bait, self._chance = folder, plain, bait, chance

    def exports(self) -> Iterator[Export]:
        """Return exports without end: a good one, each way once, then by chance."""
        yield Export("a good one", _sealed(self._plain), good=True)
        for table in ("inbox", "outbox"):
            for name in (str(self._bait), os.path.relpath(self._bait, "/tmp/home/store.spool"), "../my.info", ""):  # noqa: S108
                yield self._statement(f"UPDATE {table} SET spool = {_text(name)} WHERE spool IS NOT NULL")  # noqa: S608
        for kind in _TYPES:
            yield self._member(kind)
        for statement in _SCHEMA:
            yield self._statement(statement.format(bait=self._bait))
        yield self._twice()
        while True:
            yield self._chance.choice((self._cell, self._cell, self._cell, self._link, self._cut, self._renamed))()

    def _unpacked(self) -> Path:
        folder = self._folder / "altered"
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(self._plain)) as tar:
            tar.extractall(folder, filter="data")
        return folder

    def _statement(self, statement: str) -> Export:
        folder = self._unpacked()
        connection = apsw.Connection(str(folder / "store.db"))
        connection.execute("PRAGMA journal_mode = DELETE")
        try:
            connection.execute(statement)
        except apsw.Error:
            # Not even SQLite takes it; then it is a good export, or half of it is done.
            statement += " (in part)"
        connection.close()
        return Export(statement, _sealed(_packed(folder)))

    def _cell(self) -> Export:
        table = self._chance.choice(_TABLES)
        folder = self._unpacked()
        connection = apsw.Connection(str(folder / "store.db"))
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] or ["seq"]
        connection.close()
        return self._statement(f"UPDATE {table} SET {self._chance.choice(columns)} = {self._value()}")  # noqa: S608

    def _value(self) -> str:
        numbers = (-1, 0, 1, 3, 2**31, 2**53, 2**63 - 1, -(2**63))
        return self._chance.choice(
            (
                _text(str(self._bait)),
                _text(f"../{self._bait.name}"),
                _text("\x1b]0;x\x07\u202e"),
                _text("x" * 5_000),
                "NULL",
                "x''",
                f"x'{self._chance.randbytes(16).hex()}'",
                f"x'{self._chance.randbytes(300).hex()}'",
                str(self._chance.choice(numbers)),
            )
        )

    def _member(self, kind: bytes) -> Export:
        entry = tarfile.TarInfo(f"store.spool/{'0' * 32}")
        entry.type, entry.linkname = kind, str(self._bait)
        return Export(f"a member of type {kind!r}", _sealed(_with(self._plain, entry, b"")))

    def _twice(self) -> Export:
        return Export("my.info twice", _sealed(_with(self._plain, _entry("my.info", 1), b"x")))

    def _link(self) -> Export:
        """Put a link to the bait in the place of a member."""
        folder = self._unpacked()
        path = self._chance.choice([path for path in folder.rglob("*") if path.is_file()])
        path.unlink()
        path.symlink_to(self._bait)
        return Export(f"a link in the place of {path.name}", _sealed(_packed(folder)))

    def _renamed(self) -> Export:
        name = self._chance.choice(
            (str(self._bait), f"../{self._bait.name}", f"store.spool/../../{self._bait.name}", "store.lock", "a/b", "")
        )
        return Export(f"a member {name!r}", _sealed(_with(self._plain, _entry(name, 1), b"x")))

    def _cut(self) -> Export:
        """Flip bits of the archive within its seal, or end it early."""
        changed = bytearray(self._plain)
        for _ in range(self._chance.randint(1, 20)):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        end = self._chance.choice((len(changed), self._chance.randrange(len(changed))))
        return Export(f"bits changed, {end} bytes", _sealed(bytes(changed[:end])))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def _packed(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or path.is_file():
                tar.add(path, str(path.relative_to(folder)), recursive=False)
    return packed.getvalue()


def _with(plain: bytes, entry: tarfile.TarInfo, content: bytes) -> bytes:
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for member in old:
            tar.addfile(member, old.extractfile(member))
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _sealed(plain: bytes) -> bytes:
    sink = io.BytesIO()
    sealer = ArchiveSealer(sink, _PASSPHRASE, os.urandom)
    sealer.write(plain)
    sealer.finish()
    return sink.getvalue()


class _Stage:
    """A server, an attacker with a mailbox, the export of a home, and the bait."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self._port = folder, port
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.bait = self.outside / "bait"
        self.bait.write_bytes(_SECRET * 4_000)
        # So that whoever reads it leaves a mark, also if a file system notes the first reading
        # alone.
        os.utime(self.bait, ns=(1_000_000_000, 2_000_000_000))
        self._mark = self._seen()
        self.attacker, self._witness = new_account(port, "attacker"), new_account(port, "witness")
        self.messages: list[DrillMessage] = []
        (folder / "passphrase").write_text(f"{_PASSPHRASE}\n")

    def _seen(self) -> tuple[list[str], bytes, int, int]:
        status = self.bait.lstat()
        before = sorted(str(path.relative_to(self.outside)) for path in self.outside.rglob("*"))
        content = b"" if not self.bait.exists() else b"there"
        return before, content, status.st_atime_ns, status.st_mtime_ns

    def plain_export(self) -> bytes:
        """Return the archive of a home with a row in every table that counts, out of its seal."""
        home, target = self.folder / "home", self.folder / "export"
        with Messenger.open(home, ServerAddress("127.0.0.1", self._port), home) as messenger:
            messenger.register("importer")
            messenger.agree_on_key("attacker")
            messenger.home.sending.send_text("attacker", "hello")
        store = Store.open(home)
        spools = [store.spools.new(), store.spools.new()]
        for spool in spools:
            spool.write(bytes(_LARGE))
        names = [spool.keep() for spool in spools]
        large = NewMessage(
            self.attacker.client_id, 3, _LARGE, None, names[0], bytes(32), 7, None, None, sender_proven=False
        )
        small = large._replace(spool=None, content=b"x", size=1, server_number=8)
        store.inbox.add_pulled([large, small], _NOW, store.inbox.begin_pull())
        store.outbox.add(
            self.attacker.client_id, MessageKind.FILE, _LARGE, names[1], Token(b"u" * 16), None, _NOW,
            Outgoing(None, str(self.bait)), None,
        )  # fmt: skip
        store.close()
        export_home(home, target, _PASSPHRASE)
        with target.open("rb") as file:
            opener = ArchiveOpener(file, _PASSPHRASE)
            return b"".join(iter(lambda: opener.read(1 << 20), b""))

    def problems_with(self, export: Export) -> str:
        """Import it and use it; name what went wrong."""
        home, file = self.folder / "imported", self.folder / "malicious"
        shutil.rmtree(home, ignore_errors=True)
        file.write_bytes(export.content)
        given = ("--passphrase-file", str(self.folder / "passphrase"))
        imported = self._client(home, *given, "import", str(file))
        problems = self._after(imported, "import")
        if imported.returncode == 0:
            for words in (("recv",), ("send", "attacker", "more"), ("history",), ("users",), ("recv",)):
                done = self._client(home, *words)
                problems += self._after(done, words[0])
                if export.good and done.returncode not in {0, 9}:
                    problems += f"{words[0]} ended with {done.returncode}: {done.stderr[-300:]!r}; "
        elif export.good:
            problems += f"it was refused: {imported.stderr[-300:]!r}; "
        elif home.exists():
            problems += "a refused import left a home; "
        if not self.bait.is_file() or self._seen() != self._mark:
            problems += "the files outside are not as they were; "
        return problems

    def _client(self, home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        saved = home.parent / "saved"
        saved.mkdir(exist_ok=True)
        options = ("--home", str(home), "--server", f"127.0.0.1:{self._port}", "--save-dir", str(saved))
        return subprocess.run(
            [sys.executable, "-P", "-m", "client", *options, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=HANG_SECONDS,
        )

    @staticmethod
    def _after(done: "subprocess.CompletedProcess[str]", what: str) -> str:
        if "Traceback" in done.stderr or done.returncode < 0:
            return f"{what} ended with {done.returncode}: {done.stderr[-600:]!r}; "
        return ""

    def send_message(self) -> None:
        """Somebody else's mail goes on."""
        message = DrillMessage("witness", "attacker", len(self.messages) + 1)
        with Caller(self._port) as caller:
            caller.prove(self._witness)
            caller.send(
                self._witness.client_id, self.attacker.client_id, message.content(100), token=token_of(str(message))
            )
        self.messages.append(message)

    def received(self) -> tuple[list[DrillMessage], str]:
        """Return the witness's messages in the attacker's mailbox, and what of the bait
        is there.
        """
        with Caller(self._port) as caller:
            caller.prove(self.attacker)
            mail = caller.fetch(self.attacker.client_id, 0)
        stolen = sum(_SECRET[:-1] in one.content for one in mail)
        nothing = DrillMessage("damaged", "damaged", 0)
        messages = [parse_content(one.content) or nothing for one in mail if one.sender == self._witness.client_id]
        return messages, f"{stolen} messages hold the bait" if stolen else ""


def run(place: Place) -> Row:
    """One export after another; between them somebody else's mail goes on."""
    chance = place.chance(NAME)
    folder = place.folder_of(NAME)
    wanted = place.sized(_FULL_EXPORTS, _QUICK_EXPORTS)
    problems: list[str] = []
    with Server(folder / "server").start() as server:
        stage = _Stage(folder, server.port)
        exports = list(_some(_Maker(folder, stage.plain_export(), stage.bait, chance), wanted, chance, place.quick))
        for export in exports:
            found = stage.problems_with(export)
            if found:
                problems.append(f"{export.what[:200]}: {found}")
            stage.send_message()
        received, stolen = stage.received()
    verdict = judge(stage.messages, stage.messages, {"attacker": received})
    for problem in (*problems, stolen, examples(verdict)):
        if problem:
            say(f"  {NAME}: {problem}")
    note = f"{len(exports)} exports, {len(problems)} problems"
    return Row(NAME, 0, verdict, verdict.spotless and not problems and not stolen, note)


def _some(maker: _Maker, wanted: int, chance: random.Random, quick: bool) -> Iterator[Export]:
    """As many; in a quick run some of each kind rather than the first ones."""
    given = 0
    for export in maker.exports():
        if export.good or not quick or not chance.randrange(4):
            yield export
            given += 1
            if given == wanted:
                return
