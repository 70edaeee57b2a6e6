"""`messageu-admin move`: everything is there afterwards, in all directions and of all parts, and a
move that breaks off costs nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from common.shards import shard_of
from common.storage_protocol.frames import Superseded
from common.storage_protocol.message_format import pack_frame_once
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    DeleteAccount,
    DeletionGoesOn,
    Done,
    Fetch,
    Fetched,
    Forget,
    KeyClaimed,
    KeysKept,
    MarkAuthenticated,
    MessagesStored,
    PublishKeys,
    Register,
    Registered,
    RepeatedFrame,
    SetBlock,
    Stored,
    StoreMessage,
    StoreMessagesOnce,
    TellOthers,
)
from common.values import RefusalReason
from storage_worker import admin
from storage_worker.engine.errors import StoreFull, StoreSuperseded, StoreUnusable
from storage_worker.engine.paged import moving
from storage_worker.engine.sqlite.folder import refuse_lost_database
from storage_worker.engine.sqlite.moving import SqliteSource, SqliteTarget
from tests.storage_worker.worker_under_test import KEY, Gateway, PostgresWorker, SqliteWorker, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from storage_worker.engine.paged.page import NewPage
    from tests.postgres import PostgresServer
    from tests.storage_worker.worker_under_test import WorkerUnderTest

LARGE = bytes(range(256)) * 10_000
"""More than one piece in PostgreSQL."""
TOKEN = b"T" * 16
STEPS = 10
"""More are one or another of these again."""


class Store:
    """One engine's store: opened by a worker, or closed."""

    def __init__(self, place: str, open_: Callable[[int], WorkerUnderTest]) -> None:
        self.place = place
        self._open = open_
        self._lives = 0

    def open(self) -> WorkerUnderTest:
        self._lives += 1
        return self._open(self._lives * 10_000_000)


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.empty_database()


@pytest.fixture
def stores(url: str, tmp_path: Path) -> dict[str, Store]:
    folder = tmp_path / "data"

    def embedded(seed: int) -> SqliteWorker:
        folder.mkdir(exist_ok=True)
        return SqliteWorker(folder, seed=seed)

    return {
        "sqlite": Store(str(folder), embedded),
        "postgres": Store(url, lambda seed: PostgresWorker(url, seed=seed)),
    }


def other(name: str) -> str:
    return "postgres" if name == "sqlite" else "sqlite"


class People:
    """Who is in the store that is moved, and what waits for them."""

    def __init__(self, worker: WorkerUnderTest) -> None:
        self.gateway = gateway = Gateway(worker)
        self.names = ["alice", "bob", "carol", "dave"]
        self.alice, self.bob, self.carol, dave = gateway.register(*self.names)
        assert gateway.one(MarkAuthenticated(self.alice)) == Done()
        self.fetched = gateway.store(self.bob, self.alice, *[b"fetched before"] * 3)
        self.waiting = gateway.store(self.bob, self.alice, *[b"%d" % number * 50 for number in range(700)])
        assert gateway.one(SetBlock(self.alice, True, self.carol, True)) == Done()
        [sent] = gateway.ask(StoreMessage(self.alice, True, self.bob, 3, b"with a token", TOKEN))
        assert isinstance(sent, Stored)
        self.sent = sent
        *_, uploaded = gateway.ask(
            BeginUpload(1, self.bob, False, self.alice, 4, len(LARGE), None), Chunk(1, LARGE), CommitUpload(1)
        )
        assert isinstance(uploaded, Stored)
        # Alice is away after this; she has the first three.
        assert len(self.mail(gateway, self.alice, self.fetched[-1])) == 701
        gateway.ask(BeginUpload(2, self.bob, False, self.alice, 4, 10, None), Chunk(2, b"half"))
        gateway.one(DeleteAccount(dave, True))
        self.last = gateway.next_batch(StoreMessage(self.bob, False, self.alice, 3, b"the last one"))
        self.answered = gateway.send(self.last)
        self.highest = worker.rules.highest
        self.identity = gateway.welcome

    @staticmethod
    def mail(gateway: Gateway, user: bytes, ack: int) -> list[tuple[int, bytes]]:
        """What waits behind `ack`, of which the server keeps nothing."""
        answer = gateway.one(Fetch(user, True, ack, 2**40, 54, 2**23, False))
        assert isinstance(answer, Fetched)
        return [(piece.sequence, piece.content) for piece in pieces(answer.page)]


def check(people: People, worker: WorkerUnderTest, tmp_path: Path) -> None:
    """All that clients and gateways had is there."""
    gateway = people.gateway
    gateway.worker = worker
    assert worker.rules.highest == people.highest
    # The same gateway goes on under its epoch: what it asks again is answered as it was.
    assert gateway.send(people.last) == people.answered
    later = Gateway(worker, slot=7)
    facts, before = later.welcome.facts, people.identity.facts  # type: ignore[union-attr] # a Welcome
    assert (facts.server_id, facts.generation) == (before.server_id, before.generation)
    mail = People.mail(later, people.alice, people.fetched[-1])
    assert [sequence for sequence, _ in mail][:700] == people.waiting
    assert [content for _, content in mail] == [
        *[b"%d" % number * 50 for number in range(700)],
        LARGE,
        b"the last one",
    ]
    assert later.one(StoreMessage(people.alice, True, people.bob, 3, b"with a token", TOKEN)) == people.sent
    assert later.store(people.carol, people.alice, b"blocked")[0] > people.highest
    assert len(People.mail(later, people.alice, people.fetched[-1])) == 702
    assert later.store(people.bob, people.alice, b"more")[0] == worker.rules.highest
    assert People.mail(later, people.alice, mail[-1][0])[-1][1] == b"more"
    user = worker.users.find(people.alice)
    assert user is not None
    assert user.must_authenticate
    assert worker.users.name_is_kept("dave")
    [registered] = later.register("erin")
    assert isinstance(registered, bytes)


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_everything_is_there_and_goes_back(
    stores: dict[str, Store], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = stores[name], stores[other(name)]
    worker = source.open()
    people = People(worker)
    accounts = list(worker.users.accounts(0, 10))
    worker.close()
    assert admin.main(["move", source.place, target.place, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["type"], said["messages"], said["large"]) == ("moved", 703, 1)
    moved = target.open()
    assert list(moved.users.accounts(0, 10)) == accounts
    check(people, moved, tmp_path)
    moved.close()


def test_a_move_there_and_back_is_the_same_store(
    stores: dict[str, Store], url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = stores["sqlite"].open()
    people = People(worker)
    worker.close()
    assert admin.main(["move", stores["sqlite"].place, url]) == 0
    back = tmp_path / "back"
    assert admin.main(["move", url, str(back)]) == 0
    assert "Start none on the old one any more" in capsys.readouterr().out
    with SqliteSource(tmp_path / "data") as before, SqliteSource(back) as after:
        assert before.facts()[:5] == after.facts()[:5]
        for table in moving.TABLES:
            assert list(after.rows(table)) == list(before.rows(table)), table
        assert entries(after) == entries(before)
    check(people, SqliteWorker(back, seed=90_000_000), tmp_path)


def entries(source: moving.Source) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for page in source.pages():
        found[page.recipient] = found.get(page.recipient, b"") + page.entries
    return found


class Breaking:
    """A target that breaks off at a step."""

    def __init__(self, target: moving.Target, steps: int) -> None:
        self._target = target
        self._steps = steps
        self.page_bytes = target.page_bytes

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise StoreFull("no room")

    def begin(self, facts: moving.StoreFacts) -> None:
        self._step()
        self._target.begin(facts)

    def write_rows(self, table: str, rows: Sequence[moving.Row]) -> None:
        self._step()
        self._target.write_rows(table, rows)

    def write_pages(self, pages: Sequence[NewPage]) -> None:
        self._step()
        self._target.write_pages(pages)

    def write_content(self, recipient: int, blob_id: int, parts: Iterable[bytes]) -> None:
        self._step()
        self._target.write_content(recipient, blob_id, parts)

    def finish(self, facts: moving.StoreFacts) -> None:
        self._step()
        self._target.finish(facts)


def test_a_token_that_was_used_again_moves_with_its_last_use(stores: dict[str, Store]) -> None:
    """The engine sqlite has it twice, where PostgreSQL can't."""
    worker = stores["sqlite"].open()
    assert isinstance(worker, SqliteWorker)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")

    def sent(*numbers: int) -> MessagesStored:
        frames = [pack_frame_once(alice, number.to_bytes(16, "big"), alice, 3, b"x") for number in numbers]
        [outcome] = gateway.ask(StoreMessagesOnce(True, b"".join(frames)))
        assert isinstance(outcome, MessagesStored)
        assert outcome.refused == []
        return outcome

    first = sent(*range(1000)).first
    worker.flush()
    sent(*range(1000, 1600))
    again = sent(0)
    assert again.repeated == [], "there are 1,599 newer ones"
    worker.close()
    assert admin.main(["move", stores["sqlite"].place, stores["postgres"].place]) == 0
    gateway.worker = moved = stores["postgres"].open()
    assert sent(0, 577).repeated == [RepeatedFrame(0, again.first), RepeatedFrame(1, first + 577)]
    assert sent(576).repeated == []
    moved.close()


def test_one_to_postgresql_that_breaks_off_leaves_nothing(
    stores: dict[str, Store], url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from storage_worker.engine.postgres.moving import PostgresTarget
    from storage_worker.engine.postgres.schema import Place

    worker = stores["sqlite"].open()
    people = People(worker)
    worker.close()
    files = files_of(tmp_path / "data")
    for steps in range(STEPS):
        with (
            pytest.raises(StoreFull),
            SqliteSource(tmp_path / "data") as source,
            PostgresTarget(url, Place(0, 1)) as target,
        ):
            moving.move(source, Breaking(target, steps))
        with pytest.raises(StoreUnusable, match="has no store"):
            open_engine(url)
    assert files_of(tmp_path / "data") == files
    assert admin.main(["move", stores["sqlite"].place, url]) == 0
    assert files_of(tmp_path / "data") == files
    capsys.readouterr()
    assert admin.main(["move", stores["sqlite"].place, url]) == 78
    assert "has a store in the schema messageu_0 already" in capsys.readouterr().err
    check(people, stores["postgres"].open(), tmp_path)


def open_engine(url: str) -> None:
    from storage_worker.engine.postgres import opening
    from storage_worker.engine.postgres.schema import Place

    opening.open_engine(url, Place(0, 1), bytes, 1)


def files_of(folder: Path) -> dict[str, bytes]:
    # SQLite makes its index of the log anew for each reader.
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", ".lock", "-wal"))
    }


def test_one_from_postgresql_that_breaks_off_can_not_be_served(
    stores: dict[str, Store], url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from storage_worker.engine.postgres.moving import PostgresSource

    worker = stores["postgres"].open()
    people = People(worker)
    worker.close()
    for steps in range(1, STEPS):
        folder = tmp_path / f"broken {steps}"
        with (
            pytest.raises(StoreFull),
            PostgresSource(url) as source,
            SqliteTarget(folder, bytes) as target,
        ):
            moving.move(source, Breaking(target, steps))
        assert not (folder / "mail.db").exists()
        capsys.readouterr()
        assert admin.main(["move", url, str(folder)]) == 78
        assert "what is left of a move that broke off" in capsys.readouterr().err
        if any((folder / "bodies").iterdir()):
            with pytest.raises(StoreUnusable, match="is missing"):
                refuse_lost_database(folder)
    whole = tmp_path / "whole"
    assert admin.main(["move", url, str(whole)]) == 0
    check(people, SqliteWorker(whole, seed=90_000_000), tmp_path)


def test_a_worker_that_has_the_source_ends_and_none_gets_it_meanwhile(
    stores: dict[str, Store], url: str, tmp_path: Path
) -> None:
    from storage_worker.engine.postgres.moving import PostgresSource

    worker = stores["postgres"].open()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    worker.engine.log.flush(worker.now_ms)  # type: ignore[attr-defined] # of this engine
    with PostgresSource(url) as source:
        assert source.facts().sequence == 0
        with pytest.raises(StoreSuperseded):
            gateway.store(alice, alice, b"x")
    with pytest.raises(StoreSuperseded):
        gateway.store(alice, alice, b"x")


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_a_source_whose_worker_was_killed_is_refused(
    stores: dict[str, Store], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = stores[name].open()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"in the journal alone")
    worker.kill()
    words = ["move", stores[name].place, stores[other(name)].place + ("-2" if name == "postgres" else "")]
    assert admin.main(words) == 78
    assert "did not end in order" in capsys.readouterr().err
    stores[name].open().close()
    assert admin.main(words) == 0


def test_what_is_altered_is_not_moved(stores: dict[str, Store], url: str, tmp_path: Path) -> None:
    worker = stores["postgres"].open()
    People(worker)
    worker.close()
    from storage_worker.engine.postgres.connection import Connection

    beside = Connection(url, "messageu_0")
    with beside.transaction():
        beside.change("UPDATE mail_page SET messages = messages + 1 WHERE recipient = $1", 2)
    beside.close()
    folder = tmp_path / "target"
    assert admin.main(["move", url, str(folder)]) == 1
    assert not (folder / "mail.db").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data", "more"], "SOURCE or TARGET, or both, begin with postgresql://"),
        (["postgresql:///a", "postgresql:///a"], "are the same database"),
        (["mysql://somewhere", "data"], "begins with postgresql://"),
    ],
)
def test_what_can_not_be_a_move(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert admin.main(["move", *words]) == 78
    assert sentence in capsys.readouterr().err


def test_a_part_that_is_there_is_not_written_over(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        assert admin.main(["store", "create", "--store", url, "--shard", f"{number}/2"]) == 0
    worker = SqliteWorker(tmp_path, seed=1)
    Gateway(worker).register("alice")
    worker.close()
    capsys.readouterr()
    assert admin.main(["move", str(tmp_path), url]) == 78
    assert "has a store in the schema messageu_0" in capsys.readouterr().err
    for number in (0, 1):
        PostgresWorker(url, shard=(number, 2)).close()


DAY_MS = 24 * 3600 * 1000


def user_id(first: int, number: int) -> bytes:
    """An id that a client may ask for, of the part that its first byte says."""
    return bytes([first, number, 0, 0, 0, 0, 0x40, 0, 0x80, *bytes(7)])


class Parts:
    """Two parts, which count the same numbers for different things: who is in them, and what waits.

    The second one is the quiet one. Alice (part 0) and Bob (part 1) are away when it moves.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.workers = [PostgresWorker(url, shard=(number, 2), seed=number * 1_000_000) for number in (0, 1)]
        self.gateways = [Gateway(worker) for worker in self.workers]
        directory, beside = self.gateways
        people = {"alice": (0x10, 1), "bob": (0xE0, 2), "carol": (0xE0, 3), "dave": (0xE0, 4)}
        for name, place in people.items():
            [answer] = directory.ask(Register(name, KEY, wanted=user_id(*place)))
            assert answer == Registered(user_id(*place))
        self.alice, self.bob, self.carol, self.dave = [user_id(*place) for place in people.values()]
        for one in (self.alice, self.bob):
            assert directory.one(MarkAuthenticated(one)) == TellOthers()
            assert beside.one(Forget(one)) == Done()
            assert directory.one(MarkAuthenticated(one, told=True)) == Done()
        self.fetched = directory.store(self.carol, self.alice, *[b"fetched before"] * 40)
        assert People.mail(directory, self.alice, self.fetched[-1]) == []
        self.waiting = [b"%d" % number * 50 for number in range(700)]
        directory.store(self.carol, self.alice, *self.waiting)
        beside.store(self.carol, self.bob, b"one", b"two", b"three")
        assert [number for number, _ in People.mail(beside, self.bob, 1)] == [2, 3]
        for gateway, recipient, content in ((directory, self.alice, LARGE), (beside, self.bob, LARGE[::-1])):
            upload = BeginUpload(1, self.carol, False, recipient, 4, len(LARGE), None)
            *_, stored = gateway.ask(upload, Chunk(1, content), CommitUpload(1))
            assert isinstance(stored, Stored)
        for worker in self.workers:
            worker.engine.log.flush(worker.now_ms)
        assert [worker.beside.rows("SELECT max(blob) FROM mail_page") for worker in self.workers] == [[(1,)]] * 2
        self.sends = [self.send(beside, self.alice, self.bob, number) for number in range(3)]
        self.sends += [self.send(directory, self.bob, self.alice, number) for number in range(3, 6)]
        # One sender, in turns at both.
        self.sends += [self.send(directory, self.alice, self.alice, 6), self.send(beside, self.alice, self.bob, 7)]
        assert beside.one(PublishKeys(self.bob, True, False, b"bob's bundle", bytes(96))) == KeysKept(1)
        assert directory.one(PublishKeys(self.alice, True, False, b"alice's bundle", bytes(96))) == KeysKept(1)
        assert beside.one(SetBlock(self.bob, True, self.carol, True)) == Done()
        # Nobody has begun with what there is of Dave.
        beside.store(self.carol, self.dave, b"for somebody who goes")
        assert directory.one(DeleteAccount(self.dave, True)) == DeletionGoesOn()
        self.last = directory.next_batch(StoreMessage(self.carol, False, self.alice, 3, b"the last one"))
        directory.send(self.last)
        self.highest = [worker.rules.highest for worker in self.workers]
        assert self.highest[0] > 700
        assert self.highest[1] < 100

    def send(self, gateway: Gateway, sender: bytes, recipient: bytes, number: int) -> tuple[StoreMessage, Stored]:
        for worker in self.workers:
            worker.now_ms += 1000
        message = StoreMessage(sender, True, recipient, 3, b"with token %d" % number, b"%d" % number * 16)
        stored = gateway.one(message)
        assert isinstance(stored, Stored)
        return message, stored

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def check(self, whole: Gateway, of: Callable[[bytes], Gateway] | None = None) -> None:
        """All is there, at a gateway of one worker, or at that of a user."""
        at = of or (lambda _user: whole)
        for message, stored in self.sends:
            assert at(message.recipient).one(message) == stored, "it is not stored twice"
        mail = People.mail(at(self.alice), self.alice, self.fetched[-1])
        expected = [*self.waiting, LARGE, b"with token 3", b"with token 4", b"with token 5", b"with token 6"]
        assert [content for _, content in mail] == [*expected, b"the last one"]
        assert [number for number, _ in mail[:700]] == list(range(41, 741))
        # Bob's home has the first one.
        mail = People.mail(at(self.bob), self.bob, 1)
        numbers = [stored.sequence for message, stored in self.sends if message.recipient == self.bob]
        assert [number for number, _ in mail] == [2, 3, 4, *numbers]
        assert [content for _, content in mail[:3]] == [b"two", b"three", LARGE[::-1]]
        assert at(self.carol).store(self.carol, self.bob, b"blocked")
        [new] = at(self.bob).store(self.alice, self.bob, b"new", authenticated=True)
        assert new > numbers[-1]
        assert People.mail(at(self.bob), self.bob, numbers[-1])[-1] == (new, b"new")
        claimed = at(self.bob).one(ClaimKey(self.alice, True, self.bob, True))
        assert claimed == KeyClaimed(b"bob's bundle", bytes(96))
        claimed = at(self.alice).one(ClaimKey(self.bob, True, self.alice, True))
        assert claimed == KeyClaimed(b"alice's bundle", bytes(96))
        assert whole.refused(Register("carol", KEY)) is RefusalReason.NAME_TAKEN
        assert whole.refused(Register("dave", KEY)) is RefusalReason.NAME_TAKEN


def test_several_parts_become_one_data_folder(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], postgres: PostgresServer
) -> None:
    parts = Parts(url)
    parts.close()
    folder = tmp_path / "whole"
    assert admin.main(["move", url, str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["users"], said["large"]) == (4, 2)
    worker = SqliteWorker(folder, seed=90_000_000)
    # A gateway of two workers that lives can't go on; nothing of its batches is done again.
    assert isinstance(worker.handle(parts.last)[0], Superseded)
    gateway = Gateway(worker)
    before = parts.gateways[0].welcome.facts  # type: ignore[union-attr] # a Welcome
    facts = gateway.welcome.facts  # type: ignore[union-attr] # the same
    assert (facts.server_id, facts.generation, facts.shards) == (before.server_id, before.generation, 1)
    assert worker.rules.highest == max(parts.highest)
    parts.check(gateway)
    for _ in range(10):
        worker.now_ms += 1000
        worker.processor.maintain(worker.now_ms)
    rows = list(worker.database.execute("SELECT DISTINCT recipient FROM mail_page ORDER BY 1"))
    assert rows == [(1,), (2,)], "nothing is left of Dave"
    worker.close()
    # And on from there, into parts of another number.
    further = postgres.empty_database("target")
    assert admin.main(["move", str(folder), further, "--shards", "4"]) == 0
    quarters = [PostgresWorker(further, shard=(number, 4), seed=number * 1_000_000 + 10**9) for number in range(4)]
    gateways = [Gateway(one) for one in quarters]
    for message, stored in parts.sends:
        assert gateways[shard_of(message.recipient, 4)].one(message) == stored
    for one in quarters:
        one.close()


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_several_parts_become_others(url: str, shards: int, postgres: PostgresServer) -> None:
    parts = Parts(url)
    parts.close()
    target = postgres.empty_database("target")
    assert admin.main(["move", url, target, "--shards", str(shards)]) == 0
    workers = [
        PostgresWorker(target, shard=(number, shards), seed=number * 1_000_000 + 10**9) for number in range(shards)
    ]
    gateways = [Gateway(worker) for worker in workers]
    parts.check(gateways[0], lambda user: gateways[shard_of(user, shards)])
    for worker in workers:
        worker.close()


def test_mail_of_a_quiet_part_does_not_expire_with_a_busy_ones(url: str, tmp_path: Path) -> None:
    parts = Parts(url)
    directory, beside = parts.gateways
    for worker in parts.workers:
        worker.now_ms += 5 * DAY_MS
    directory.store(parts.carol, parts.alice, b"later")
    beside.store(parts.alice, parts.bob, b"new, with a low sequence", authenticated=True)
    parts.close()
    assert admin.main(["move", url, str(tmp_path / "whole")]) == 0
    whole = SqliteWorker(tmp_path / "whole", seed=90_000_000, now_ms=parts.workers[0].now_ms)
    day = whole.now_ms // DAY_MS
    assert whole.engine.mailboxes.accepted_before(day) < parts.highest[1] + 1
    whole.now_ms += DAY_MS
    gateway = Gateway(whole)
    gateway.store(parts.alice, parts.bob, b"after the move", authenticated=True)
    whole.flush()
    # From the first day behind the move on, all that is older is known to be.
    assert whole.engine.mailboxes.accepted_before(day + 1) > parts.highest[0]
    whole.close()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("DROP SCHEMA messageu_1 CASCADE", "part 1 of 2 is not in this database"),
        ("UPDATE messageu_1.store SET shards = 4", "messageu_1 is shard 1 of 4, not 1 of 2"),
        ("UPDATE messageu_1.store SET shard = 0", "messageu_1 is shard 0 of 2, not 1 of 2"),
        ("UPDATE messageu_1.store SET version = 77", "part 1 of 2: a later version of MessageU"),
        ("UPDATE messageu_1.store SET version = 2", "part 1 of 2: the store has schema version 2"),
        ("UPDATE messageu_1.store SET server_id = 'x'", "part 1 of 2 is of another server than part 0"),
        ("INSERT INTO messageu_1.journal VALUES (1, 'x')", "part 1 of 2: the last storage worker did not end in order"),
        ("UPDATE messageu_1.mail_page SET recipient = 1", "part 1 of 2 has mail of somebody who is no user of part 0"),
        ("DELETE FROM messageu_0.account WHERE name = 'bob'", "part 1 of 2 has mail of somebody"),
    ],
)
def test_parts_that_are_not_one_store_are_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, sentence: str
) -> None:
    from storage_worker.engine.postgres.connection import Connection

    parts = Parts(url)
    parts.close()
    beside = Connection(url, "messageu_0")
    beside.run_script(damage)
    owners = beside.rows("SELECT epoch FROM owner")
    capsys.readouterr()
    assert admin.main(["move", url, str(tmp_path / "whole")]) == 78
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "whole").exists()
    if "mail of somebody" not in sentence:
        assert beside.rows("SELECT epoch FROM owner") == owners, "no worker lost anything"
    beside.close()


def test_a_part_that_a_worker_has_is_refused_or_lost_to_it(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = Parts(url)
    directory, beside = parts.gateways
    parts.workers[0].engine.log.flush(parts.workers[0].now_ms)
    beside.store(parts.alice, parts.bob, b"in the journal alone", authenticated=True)
    capsys.readouterr()
    assert admin.main(["move", url, str(tmp_path / "whole")]) == 78
    assert "part 1 of 2: the last storage worker did not end in order" in " ".join(capsys.readouterr().err.split())
    # Nothing was changed: both go on.
    directory.store(parts.bob, parts.alice, b"more", authenticated=True)
    beside.store(parts.alice, parts.bob, b"more", authenticated=True)
    for worker in parts.workers:
        worker.engine.log.flush(worker.now_ms)
    assert admin.main(["move", url, str(tmp_path / "whole")]) == 0
    for gateway, user in ((directory, parts.alice), (beside, parts.bob)):
        with pytest.raises(StoreSuperseded):
            gateway.store(user, user, b"late", authenticated=True)


def test_one_of_several_parts_that_breaks_off_begins_again(url: str, tmp_path: Path, postgres: PostgresServer) -> None:
    from storage_worker.engine.postgres.moving import PostgresSource, PostgresTarget
    from storage_worker.engine.postgres.schema import Place

    parts = Parts(url)
    parts.close()
    target = postgres.empty_database("target")
    for steps in (1, 6, 12, 14):
        folder = tmp_path / f"broken {steps}"
        with pytest.raises(StoreFull), PostgresSource(url) as source, SqliteTarget(folder, bytes) as one:
            moving.move(source, Breaking(one, steps))
        assert not (folder / "mail.db").exists()
        with pytest.raises(StoreFull), PostgresSource(url) as source, PostgresTarget(target, Place(0, 4)) as other_one:
            moving.move(source, Breaking(other_one, steps))
        with pytest.raises(StoreUnusable, match="has no store"):
            open_engine(target)
    assert admin.main(["move", url, str(tmp_path / "whole")]) == 0
    worker = SqliteWorker(tmp_path / "whole", seed=90_000_000)
    parts.check(Gateway(worker))
    worker.close()


def test_tokens_of_a_sender_come_in_few_pages(stores: dict[str, Store], url: str, tmp_path: Path) -> None:
    """In the order of sequences each has one of every sender's, and each of these had a page."""
    worker = stores["postgres"].open()
    gateway = Gateway(worker)
    senders = list(gateway.register(*[f"user {number}" for number in range(50)]))
    for turn in range(40):
        frames = [
            pack_frame_once(sender, bytes([turn, number]) * 8, senders[0], 3, b"x")
            for number, sender in enumerate(senders)
        ]
        assert isinstance(gateway.one(StoreMessagesOnce(True, b"".join(frames))), MessagesStored)
    worker.close()
    assert admin.main(["move", url, str(tmp_path / "back")]) == 0
    moved = SqliteWorker(tmp_path / "back", seed=90_000_000)
    # One a sender, and one more where 500 tokens end between two of a sender's.
    assert moved.database.row("SELECT count(*), sum(tokens) FROM token_page") == (52, 2000)
    moved.close()


def test_parts_are_for_postgresql_and_a_power_of_two(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ends, said in (((url, str(tmp_path / "back")), "is for a move into PostgreSQL"), ((str(tmp_path), url), "two")):
        assert admin.main(["move", *ends, "--shards", "3"]) == 78
        assert said in capsys.readouterr().err


def test_where_one_part_is_there_none_is_made(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main(["store", "create", "--store", url, "--shard", "0/4"]) == 0
    assert admin.main(["store", "create", "--store", url, "--shard", "2/4"]) == 0
    worker = PostgresWorker(url, shard=(2, 4))
    worker.beside.run_script("ALTER SCHEMA messageu_0 RENAME TO elsewhere")
    embedded = SqliteWorker(tmp_path, seed=1)
    Gateway(embedded).register("alice")
    embedded.close()
    capsys.readouterr()
    assert admin.main(["move", str(tmp_path), url, "--shards", "4"]) == 78
    assert "has a store in the schema messageu_2 already" in capsys.readouterr().err
    assert worker.beside.rows("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'messageu%'") == [(1,)]
    worker.beside.run_script("DROP SCHEMA elsewhere CASCADE")
    worker.kill()


def test_there_has_to_be_a_source(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main(["move", str(tmp_path / "nothing"), url]) == 78
    assert "there is no store in" in capsys.readouterr().err
    assert admin.main(["move", url, str(tmp_path / "target")]) == 78
    assert "has no store" in capsys.readouterr().err
