"""scripts/admin about accounts: invitations, deleting, freeing, another key; beside a worker and
without.
"""

import base64
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from common.fail_points import VARIABLE, FailPoint
from common.server_address import parse_address
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    DeleteAccount,
    DeletionGoesOn,
    Done,
    GetProofKey,
    KeyFound,
    Register,
    Registered,
    StoreMessage,
    StoreMessages,
)
from common.values import RefusalReason, Registration
from gateway import certificate
from storage_worker import admin
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.deletion import STEP
from storage_worker.engine.sqlite.invitations import Invitations
from storage_worker.rules.accounts import AccountSettings
from tests.gateway.tls_peer import server_tls
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.worker_process import WorkerProcess, folder_of_workers
from tests.storage_worker.worker_under_test import KEY, TO_VERSION_5, Gateway, SqliteWorker
from torture.programs import wait_until


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[SqliteWorker]:
    """A running worker, as far as the database is concerned. `invite` goes by the real clock."""
    worker = SqliteWorker(tmp_path, accounts=AccountSettings(Registration.INVITED))
    yield worker
    worker.kill()


@pytest.fixture
def gateway(worker: SqliteWorker) -> Gateway:
    return Gateway(worker)


def run(folder: Path, *arguments: str) -> int:
    return admin.main(["--data-folder", str(folder), *arguments])


def invitation_of(link: str) -> bytes:
    found = parse_address(link).invitation
    assert found is not None
    return found


class TestInvite:
    @pytest.fixture(autouse=True)
    def _certificate(self, tmp_path: Path) -> None:
        server_tls(tmp_path)
        certificate.keep_addresses(tmp_path, ["chat.example.org:1358"])

    def test_a_link_that_lets_one_register(
        self, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tmp_path, "invite") == 0
        [link] = capsys.readouterr().out.splitlines()
        assert parse_address(link).place == "chat.example.org:1358"
        invitation = invitation_of(link)
        assert isinstance(gateway.one(Register("alice", KEY, True, None, invitation)), Registered)
        assert gateway.refused(Register("bob", KEY, True, None, invitation)) is RefusalReason.INVITATION
        kept = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("mail.db*")))
        assert invitation not in kept
        assert sha256(invitation).digest() in kept

    def test_uses_days_place_and_picture(
        self, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tmp_path, "invite", "--uses", "3", "--days", "2", "--qr", "[::1]:99") == 0
        link, *picture = capsys.readouterr().out.splitlines()
        assert parse_address(link).place == "[::1]:99"
        assert len(picture) > 10
        [kept] = Invitations(worker.database).all()
        assert kept.uses == 3
        assert kept.digest == sha256(invitation_of(link)).digest()

    def test_they_are_listed_and_revoked(
        self, worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(tmp_path, "invite", "--uses", "30", "--days", "9")
        run(tmp_path, "invite")
        links = capsys.readouterr().out.splitlines()
        ids = [sha256(invitation_of(link)).hexdigest()[:8] for link in links]
        assert run(tmp_path, "invitations") == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["id", "uses", "left", "until", "(UTC)"]
        assert [line.split()[:2] for line in lines] == [[ids[1], "1"], [ids[0], "30"]]
        assert run(tmp_path, "invitation", "revoke", ids[0].upper()) == 0
        assert run(tmp_path, "invitation", "revoke", ids[0]) == 1
        assert run(tmp_path, "invitation", "revoke", "") == 1
        assert "There is no invitation ''" in capsys.readouterr().out
        assert len(Invitations(worker.database).all()) == 1
        request = Register("alice", KEY, True, None, invitation_of(links[0]))
        assert gateway.refused(request) is RefusalReason.INVITATION

    @pytest.mark.parametrize("arguments", [("--uses", "0"), ("--days", "0"), ("--days", "99999"), ("nowhere",)])
    def test_what_can_t_be(
        self, worker: SqliteWorker, tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tmp_path, "invite", *arguments) == 78
        assert capsys.readouterr().err.startswith("admin: ")
        assert Invitations(worker.database).all() == []


@pytest.mark.usefixtures("worker")
def test_without_a_certificate_there_is_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "invite", "chat.example.org:1") == 78
    assert "--tls-listen" in capsys.readouterr().err


@pytest.mark.usefixtures("worker")
def test_without_an_address_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server_tls(tmp_path)
    certificate.keep_addresses(tmp_path, [])
    assert run(tmp_path, "invite") == 78
    assert "admin: " in capsys.readouterr().err


@pytest.fixture
def open_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """At a server where everybody may register."""
    worker = SqliteWorker(tmp_path)
    yield Gateway(worker)
    worker.kill()


class TestDeleteAndFree:
    def test_beside_a_worker(self, open_gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gateway = open_gateway
        alice, bob = gateway.register("alice", "bob")
        gateway.store(bob, alice, b"in the journal alone")
        assert run(tmp_path, "delete", "alice") == 0
        assert run(tmp_path, "free") == 0
        assert capsys.readouterr().out.splitlines()[-1] == "'alice' (is being deleted)"
        assert run(tmp_path, "free", "alice") == 1
        assert "still being deleted" in capsys.readouterr().out
        assert gateway.refused(StoreMessage(bob, False, alice, 3, b"x")) is RefusalReason.RECIPIENT_UNKNOWN
        assert gateway.one(DeleteAccount(alice, True)) == Done()
        assert run(tmp_path, "delete", "alice") == 1
        assert run(tmp_path, "users") == 0
        assert "alice" not in capsys.readouterr().out.splitlines()[-1]
        assert gateway.refused(Register("alice", KEY)) is RefusalReason.NAME_TAKEN
        assert run(tmp_path, "free") == 0
        assert capsys.readouterr().out == "'alice'\n"
        assert run(tmp_path, "free", "alice") == 0
        assert "may be registered again" in capsys.readouterr().out
        [again] = gateway.register("alice")
        assert again != alice
        assert run(tmp_path, "free", "alice") == 1
        assert "`delete alice` comes first" in capsys.readouterr().out
        assert run(tmp_path, "free", "carol") == 1
        assert "Nobody named 'carol' was deleted." in capsys.readouterr().out

    def test_without_one_it_is_done_at_the_next_start(self, tmp_path: Path) -> None:
        worker = SqliteWorker(tmp_path)
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(bob, alice, b"x")
        worker.kill()
        assert run(tmp_path, "delete", "alice") == 0
        worker = SqliteWorker(tmp_path, seed=1_000_000)
        gateway = Gateway(worker)
        assert gateway.one(DeleteAccount(alice, True)) == Done()
        worker.close()
        assert not any(alice in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    def test_nobody(self, open_gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        list(open_gateway.register("alice"))
        assert run(tmp_path, "delete", "Alice") == 1
        assert capsys.readouterr().out == "There is no user named 'Alice'.\n"


class TestDeleteBesideAProcess:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        with folder_of_workers(tmp_path) as folder:
            yield folder

    def with_mail(self, folder: Path, steps: int) -> tuple[bytes, WorkerProcess]:
        """A user with so much mail, and the process that has it and is idle."""
        process = WorkerProcess(folder)
        with FakeGateway(folder) as gateway:
            gateway.hello(b"a" * 16)
            [registered] = gateway.ask(Register("alice", KEY))
            assert isinstance(registered, Registered)
            alice = registered.client_id
            for _ in range(steps):
                gateway.ask(StoreMessages(False, pack_frame(alice, alice, 3, bytes(60_000)) * STEP))
        return alice, process

    def is_gone(self, folder: Path) -> bool:
        database = Database(folder / "mail.db", beside=True)
        kept = list(database.execute("SELECT name FROM deleted_user WHERE erased"))
        left = list(database.execute("SELECT row FROM mail_page"))
        database.close()
        return [*kept, *left] == [("alice",)]

    def test_an_idle_one_does_it_at_once(self, folder: Path) -> None:
        alice, process = self.with_mail(folder, 3)
        assert run(folder, "delete", "alice") == 0
        # Nobody asks it for anything any more.
        wait_until(lambda: self.is_gone(folder), "the end of the deletion")
        assert process.end() == 0
        assert process.log.count(f"deleted user {alice.hex()}") == 1

    def test_a_kill_right_after_it_leaves_a_line_in_the_audit_log(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, f"{FailPoint.DELETION_STEPPED}:1")
        alice, process = self.with_mail(folder, 0)
        assert run(folder, "delete", "alice") == 0
        assert process.wait() == -signal.SIGKILL
        assert process.log.count(f"deleted user {alice.hex()}") == 1


class TestReKey:
    @pytest.fixture
    def key(self) -> RSA.RsaKey:
        return RSA.generate(1024, e=17).public_key()

    @pytest.mark.parametrize("form", ["DER", "PEM", "base64", "base64 in lines"])
    def test_it_is_the_users_key_from_then_on(
        self, open_gateway: Gateway, tmp_path: Path, key: RSA.RsaKey, form: str
    ) -> None:
        [alice] = open_gateway.register("alice")
        der = key.export_key("DER")
        file = tmp_path / "new.key"
        file.write_bytes(
            {
                "DER": der,
                "PEM": key.export_key("PEM"),
                "base64": base64.b64encode(der),
                "base64 in lines": base64.encodebytes(der).replace(b"\n", b"\r\n"),
            }[form]
        )
        assert run(tmp_path, "re-key", "alice", str(file)) == 0
        # She counts as seen: by the real clock, where she registered in 1970.
        beside = Database(tmp_path / "mail.db", beside=True)
        assert beside.row("SELECT registered, seen > 20000 FROM user") == (0, 1)
        beside.close()
        assert open_gateway.one(GetProofKey(alice)) == KeyFound(alice, der)
        # So the new home gets its id.
        assert open_gateway.one(Register("alice", der, True)) == Registered(alice)
        assert open_gateway.refused(Register("alice", KEY, True)) is RefusalReason.NAME_TAKEN

    @pytest.mark.parametrize("content", [b"", b"no key", bytes(160), b"\xff" * 20, base64.b64encode(b"x" * 160)])
    def test_what_is_none(
        self, open_gateway: Gateway, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        [alice] = open_gateway.register("alice")
        (tmp_path / "new.key").write_bytes(content)
        assert run(tmp_path, "re-key", "alice", str(tmp_path / "new.key")) == 78
        assert "has no public key" in capsys.readouterr().err
        assert open_gateway.one(GetProofKey(alice)) == KeyFound(alice, KEY)

    def test_no_file_and_nobody(
        self, open_gateway: Gateway, tmp_path: Path, key: RSA.RsaKey, capsys: pytest.CaptureFixture[str]
    ) -> None:
        list(open_gateway.register("alice"))
        assert run(tmp_path, "re-key", "alice", str(tmp_path / "missing")) == 78
        assert "can't be read" in capsys.readouterr().err
        (tmp_path / "new.key").write_bytes(key.export_key("DER"))
        assert run(tmp_path, "re-key", "bob", str(tmp_path / "new.key")) == 1


def test_a_store_of_an_earlier_version_is_left_to_the_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = SqliteWorker(tmp_path)
    list(Gateway(worker).register("alice"))
    worker.close()
    database = Database(tmp_path / "mail.db")
    list(database.execute(f"{TO_VERSION_5} PRAGMA user_version = 5"))
    database.close()
    assert run(tmp_path, "delete", "alice") == 78
    assert "start the storage worker once" in capsys.readouterr().err
    assert run(tmp_path, "unprove", "alice") == 0
    assert run(tmp_path, "unprove", "bob") == 1
    assert run(tmp_path, "users") == 0
    assert run(tmp_path, "stats") == 0
    assert "users               1 (0 authenticated)" in capsys.readouterr().out


TYPED = "Zoe\u0308"
"""As some keyboards and files have it: the letter and the mark are two characters."""


@pytest.mark.parametrize("command", ["delete", "re-key", "unprove"])
def test_a_name_is_found_however_it_is_typed(
    command: str, open_gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(open_gateway.one(Register("Zoë", KEY, greeted=True)), Registered)
    key_file = tmp_path / "key.der"
    key_file.write_bytes(RSA.generate(1024, e=17).public_key().export_key("DER"))
    assert run(tmp_path, command, TYPED, *([str(key_file)] if command == "re-key" else [])) == 0
    assert capsys.readouterr().out.startswith("Zoë ")


def test_a_name_to_be_freed_is_found_however_it_is_typed(
    open_gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoe = open_gateway.one(Register("Zoë", KEY, greeted=True))
    assert isinstance(zoe, Registered)
    outcomes = [open_gateway.one(DeleteAccount(zoe.client_id, True)) for _ in range(2)]
    assert outcomes == [DeletionGoesOn(), Done()]
    assert run(tmp_path, "free", TYPED) == 0
    assert capsys.readouterr().out.startswith("Zoë may be registered again")


@pytest.mark.parametrize("command", ["delete", "free", "re-key", "unprove", "disable", "enable"])
def test_a_name_with_bytes_that_are_not_characters(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, command, "a\udcff", *(["key"] if command == "re-key" else []))
    assert "a name has no bytes that are not characters" in capsys.readouterr().err
