"""Results of `scripts/admin` as JSON: exact objects, and nothing else on standard output.

Those of `users`, `stats`, `expire`, `backup` and other commands that ask a running worker are in
the tests of their modules; so is that of `store`.
"""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from common.server_address import parse_address, pin_text
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    DeleteAccount,
    DeletionGoesOn,
    Done,
    MarkAuthenticated,
    Register,
)
from gateway import certificate
from storage_worker import admin
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.invitations import Invitations
from tests.gateway.tls_peer import server_tls
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker

SLY = "alice (is being deleted)"
"""A name that looks like the remark of `free`."""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[SqliteWorker]:
    """A running worker, as far as the database is concerned."""
    worker = SqliteWorker(tmp_path)
    yield worker
    worker.kill()


@pytest.fixture
def gateway(worker: SqliteWorker) -> Gateway:
    return Gateway(worker)


def run(folder: Path, *arguments: str) -> int:
    return admin.main(["--data-folder", str(folder), *arguments])


def objects(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[object]:
    """What a command prints with `--json`, and nothing is on standard error."""
    capsys.readouterr()
    assert run(folder, *arguments, "--json") == code
    found = capsys.readouterr()
    assert found.err == ""
    assert found.out.isascii()
    return [json.loads(line) for line in found.out.splitlines()]


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that does nothing says on standard error; nothing is on standard output."""
    capsys.readouterr()
    assert run(folder, *arguments, "--json") == 1
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def test_every_command_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        admin.main(["--help"])
    found = re.search(r"\{([\w,-]+)\}", capsys.readouterr().out)
    assert found is not None
    commands = found[1].split(",")
    assert {"users", "check", "unprove", "re-key", "store"} < set(commands)
    for command in commands:
        with pytest.raises(SystemExit, match="0"):
            admin.main([command, "--help"])
        assert re.search(r"--json +print JSON, one object per line", capsys.readouterr().out), command


class TestInvitations:
    @pytest.fixture(autouse=True)
    def _certificate(self, tmp_path: Path) -> None:
        server_tls(tmp_path)
        certificate.keep_addresses(tmp_path, ["chat.example.org:1358", "[::1]:1358"])

    def test_made_listed_and_revoked(
        self, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        [made] = objects(tmp_path, capsys, "invite", "--uses", "3", "--days", "2")
        assert isinstance(made, dict)
        links = made.pop("links")
        assert [parse_address(link).place for link in links] == ["chat.example.org:1358", "[::1]:1358"]
        [kept] = Invitations(worker.database).all()
        assert {sha256(parse_address(link).invitation or b"").digest() for link in links} == {kept.digest}
        until = datetime.fromtimestamp(kept.expires_at // 1000, UTC)
        expected = {
            "type": "invitation",
            "id": kept.digest.hex()[:8],
            "uses_left": 3,
            "until": until.isoformat().replace("+00:00", "Z"),
            "over": False,
        }
        assert made == expected
        assert 0 < until.timestamp() - time.time() <= 2 * 24 * 3600
        assert objects(tmp_path, capsys, "invitations") == [expected]
        revoked = objects(tmp_path, capsys, "invitation", "revoke", kept.digest.hex()[:8])
        assert revoked == [{"type": "invitation-revoked", "id": kept.digest.hex()[:8]}]
        assert objects(tmp_path, capsys, "invitations") == []
        assert refusal(tmp_path, capsys, "invitation", "revoke", "1") == "admin: There is no invitation '1'.\n"

    def test_one_that_is_over(self, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(tmp_path, "invite") == 0
        worker.database.execute("UPDATE invitation SET expires_at = 86400000")
        [kept] = Invitations(worker.database).all()
        assert objects(tmp_path, capsys, "invitations") == [
            {
                "type": "invitation",
                "id": kept.digest.hex()[:8],
                "uses_left": 1,
                "until": "1970-01-02T00:00:00Z",
                "over": True,
            }
        ]

    @pytest.mark.parametrize("command", ["invite", "address"])
    def test_a_picture_is_no_json(
        self, command: str, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, command, "--qr", "--json")
        assert "argument --qr: not allowed with argument --json" in capsys.readouterr().err
        assert Invitations(worker.database).all() == []


class TestUsers:
    def test_deleted_listed_and_freed(
        self, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        alice, _sly = gateway.register("alice", SLY)
        assert objects(tmp_path, capsys, "delete", "alice") == [{"type": "deleted", "name": "alice"}]
        assert objects(tmp_path, capsys, "free") == [{"type": "kept-name", "name": "alice", "being_deleted": True}]
        still = "admin: alice is still being deleted; try again when the storage worker has done it.\n"
        assert refusal(tmp_path, capsys, "free", "alice") == still
        assert [gateway.one(DeleteAccount(alice, True)) for _ in range(2)] == [DeletionGoesOn(), Done()]
        assert objects(tmp_path, capsys, "free") == [{"type": "kept-name", "name": "alice", "being_deleted": False}]
        assert objects(tmp_path, capsys, "free", "alice") == [{"type": "freed", "name": "alice"}]
        assert objects(tmp_path, capsys, "free") == []
        assert refusal(tmp_path, capsys, "free", "alice") == "admin: Nobody named 'alice' was deleted.\n"
        assert refusal(tmp_path, capsys, "free", SLY) == f"admin: {SLY} is registered: `delete {SLY}` comes first.\n"
        assert refusal(tmp_path, capsys, "delete", "alice") == "admin: There is no user named 'alice'.\n"

    def test_a_name_that_looks_like_the_remark(
        self, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _alice, sly = gateway.register("alice", SLY)
        assert [gateway.one(DeleteAccount(sly, True)) for _ in range(2)] == [DeletionGoesOn(), Done()]
        assert run(tmp_path, "delete", "alice") == 0
        capsys.readouterr()
        assert run(tmp_path, "free") == 0
        assert capsys.readouterr().out == f"'alice' (is being deleted)\n'{SLY}'\n"
        assert objects(tmp_path, capsys, "free") == [
            {"type": "kept-name", "name": "alice", "being_deleted": True},
            {"type": "kept-name", "name": SLY, "being_deleted": False},
        ]

    def test_another_key(self, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gateway.one(Register("Zoë", KEY, greeted=True))
        key = RSA.generate(1024, e=17).public_key().export_key("DER")
        (tmp_path / "new.key").write_bytes(key)
        assert objects(tmp_path, capsys, "re-key", "Zoë", str(tmp_path / "new.key")) == [
            {"type": "re-keyed", "name": "Zoë", "key_sha256": sha256(key).hexdigest()}
        ]
        nobody = refusal(tmp_path, capsys, "re-key", "bob", str(tmp_path / "new.key"))
        assert nobody == "admin: There is no user named 'bob'.\n"

    def test_without_proof(self, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        list(gateway.register("alice"))
        assert objects(tmp_path, capsys, "unprove", "alice") == [{"type": "unproven", "name": "alice"}]
        assert refusal(tmp_path, capsys, "unprove", "bob") == "admin: There is no user named 'bob'.\n"

    def test_who_is_being_deleted_is_no_user(
        self, worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(MarkAuthenticated(alice))
        worker.flush()
        assert run(tmp_path, "delete", "alice") == 0
        (tmp_path / "new.key").write_bytes(RSA.generate(1024, e=17).public_key().export_key("DER"))
        for command in (["unprove", "alice"], ["delete", "alice"], ["re-key", "alice", str(tmp_path / "new.key")]):
            capsys.readouterr()
            assert run(tmp_path, *command) == 1
            assert capsys.readouterr().out == "There is no user named 'alice'.\n"
            assert refusal(tmp_path, capsys, *command) == "admin: There is no user named 'alice'.\n"
        assert worker.database.row("SELECT proven FROM user WHERE name = 'alice'") == (1,)


class TestCertificates:
    def test_each_step_and_the_addresses(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        server_tls(tmp_path)
        certificate.keep_addresses(tmp_path, ["chat.example.org:1358"])
        assert run(tmp_path, "address") == 0
        [first] = [pin_text(one) for one in parse_address(capsys.readouterr().out.strip()).pins]
        assert objects(tmp_path, capsys, "tls", "show") == [{"type": "tls", "pin": first, "next_pin": None}]
        [made] = objects(tmp_path, capsys, "tls", "next")
        assert run(tmp_path, "address") == 0
        [_, second] = [pin_text(one) for one in parse_address(capsys.readouterr().out.strip()).pins]
        assert made == {"type": "tls", "pin": first, "next_pin": second}
        assert objects(tmp_path, capsys, "address") == [
            {
                "type": "address",
                "address": f"messageu://{first},{second}@chat.example.org:1358",
                "server": "chat.example.org:1358",
                "transport": "tls",
                "pins": [first, second],
            }
        ]
        assert objects(tmp_path, capsys, "tls", "switch") == [{"type": "tls", "pin": second, "next_pin": None}]


class TestTheStore:
    def test_nothing_is_altered(self, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        worker.close()
        for arguments in (["check"], ["check", "--drop"]):
            assert objects(tmp_path, capsys, *arguments) == [
                {
                    "type": "check",
                    "altered": [],
                    "without_checksum": 0,
                    "altered_before": [],
                    "rewritten_pages": [],
                    "dropped_pages": [],
                    "dropped_contents": [],
                }
            ]

    def test_what_is_altered_and_dropped(
        self, worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 5), Chunk(1, b"large"), CommitUpload(1))
        worker.flush()
        [content] = (tmp_path / "bodies").iterdir()
        altered = bytearray(content.read_bytes())
        altered[1] ^= 1
        content.write_bytes(altered)
        gateway.store(alice, bob, b"small")
        worker.flush()
        worker.close()
        database = Database(tmp_path / "mail.db")
        [(row,)] = database.execute("SELECT row FROM mail_page WHERE body IS NULL")
        list(database.execute(f"UPDATE mail_page SET checksum = 1 WHERE row = {row}"))
        database.close()
        nothing: dict[str, object] = {
            "type": "check",
            "altered": [],
            "without_checksum": 0,
            "altered_before": [],
            "rewritten_pages": [],
            "dropped_pages": [],
            "dropped_contents": [],
        }
        assert run(tmp_path, "check") == 1
        problems = capsys.readouterr().out.splitlines()[:2]
        assert f"mail.db: page {row} of the mailbox of 'bob' ({bob.hex().upper()}) is altered" in problems[0]
        assert f"in the mailbox of 'alice' ({alice.hex().upper()})" in problems[1]
        assert objects(tmp_path, capsys, "check", code=1) == [{**nothing, "altered": problems}]
        assert objects(tmp_path, capsys, "check", "--drop") == [
            {**nothing, "altered_before": problems, "dropped_pages": [row], "dropped_contents": [int(content.name)]}
        ]
        assert objects(tmp_path, capsys, "check") == [nothing]

    def test_a_new_generation_and_a_recovered_journal(
        self, worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        worker.close()
        [begun] = objects(tmp_path, capsys, "new-generation")
        again = SqliteWorker(tmp_path)
        assert begun == {"type": "generation", "generation": again.facts.generation}
        again.close()
        [recovered] = objects(tmp_path, capsys, "recover-journal")
        last = SqliteWorker(tmp_path)
        kept = sorted(str(path) for path in tmp_path.glob("*.damaged-*"))
        assert isinstance(recovered, dict)
        assert recovered | {"kept": sorted(recovered["kept"])} == {
            "type": "recovered-journal",
            "turns": 0,
            "gaps": 0,
            "kept": kept,
            "generation": last.facts.generation,
        }
        assert len(kept) == 2
        last.kill()
