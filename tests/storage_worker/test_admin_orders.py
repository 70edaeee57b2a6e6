"""`scripts/admin log-level` and `drain`, on a server of both programs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.values import RefusalReason
from storage_worker import admin, admin_orders
from storage_worker.engine.errors import StoreFailed
from torture.caller import Caller, Refused, new_account, new_key, public_half
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    mask = os.umask(0o022)
    with Server(tmp_path / "server") as server:
        yield server.start()
    os.umask(mask)


def run(server: Server, *arguments: str) -> int:
    return admin.main(["--data-folder", str(server.data), *arguments])


def test_both_programs_log_from_another_level_on(server: Server) -> None:
    assert run(server, "log-level", "debug") == 0
    wait_until(lambda: "the log level is debug now" in server.gateway.said(), "a line of the gateway")
    assert "the log level is debug now" in server.worker.said()
    assert server.answers()
    with pytest.raises(SystemExit, match="2"):
        run(server, "log-level", "loud")


def test_what_was_done_is_said_as_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    new_account(server.port, "alice")
    for arguments, found in (
        (["log-level", "info"], {"type": "log-level", "level": "info"}),
        (["disable", "alice"], {"type": "disabled", "name": "alice"}),
        (["enable", "alice"], {"type": "enabled", "name": "alice"}),
    ):
        assert run(server, *arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out) == found
    assert run(server, "enable", "bob", "--json") == 1
    assert capsys.readouterr() == ("", "admin: there is no user named 'bob'\n")
    assert run(server, "drain", "--json") == 0
    drained = json.loads(capsys.readouterr().out)
    assert 0 <= drained.pop("seconds") <= admin_orders.DRAINED_WITHIN
    assert drained == {"type": "drained"}


def test_mail_expires_now(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "expire", "30") == 0
    assert capsys.readouterr().out == "0 messages were deleted, 0 bytes of content.\n"
    assert run(server, "expire", "30", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"type": "expired", "messages": 0, "bytes": 0}
    for days in ("0", "36501"):
        assert run(server, "expire", days) == 78
        assert capsys.readouterr().err == f"admin: DAYS is 1 to 36500, not {days}\n"


def test_a_user_is_disabled_and_enabled(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    account = new_account(server.port, "alice")
    assert run(server, "disable", "alice") == 0
    assert capsys.readouterr().out == "alice is disabled: what is sent to them is kept.\n"
    with Caller(server.port) as caller, pytest.raises(Refused) as refused:
        caller.prove(account)
    assert refused.value.reason == RefusalReason.DISABLED
    assert run(server, "enable", "alice") == 0
    with Caller(server.port) as caller:
        caller.prove(account)
    assert run(server, "disable", "nobody") == 1
    assert capsys.readouterr().err == "admin: there is no user named 'nobody'\n"


def test_a_user_is_disabled_however_the_name_is_typed(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with Caller(server.port) as caller:
        caller.hello()
        caller.register("Zoë", public_half(new_key("Zoë")))
    for command, said in (
        ("disable", "Zoë is disabled: what is sent to them is kept.\n"),
        ("enable", "Zoë is enabled again.\n"),
    ):
        assert run(server, command, "Zoe\u0308") == 0
        assert capsys.readouterr().out == said


def test_names_where_the_output_has_not_their_letters(server: Server) -> None:
    with Caller(server.port) as caller:
        caller.hello()
        caller.register("Zoë", public_half(new_key("Zoë")))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(server.data), "users"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"admin: live numbers of the storage worker\n")
    assert done.stdout.splitlines()[-1].endswith(b"  Zo\\xeb")


def test_a_drain_ends_both_in_order(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "drain") == 0
    assert "The server has ended, after " in capsys.readouterr().out
    assert [program.process.wait(HANG_SECONDS) for program in server.programs] == [0, 0]
    for program in server.programs:
        assert program.said().rstrip().endswith("stopped"), program.said()
    server.start()
    assert server.answers()


@pytest.mark.parametrize("arguments", [["drain"], ["log-level", "info"], ["expire", "7"], ["disable", "alice"]])
def test_without_a_worker(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    mask = os.umask(0o022)
    assert admin.main(["--data-folder", str(tmp_path), *arguments]) == 78
    os.umask(mask)
    assert capsys.readouterr().err == f"admin: no storage worker is running on {tmp_path}\n"


def test_a_worker_that_does_not_end(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(admin_orders, "DRAINED_WITHIN", 0.0)
    monkeypatch.setattr(admin_orders, "is_served", lambda _endpoint: True)
    with pytest.raises(StoreFailed, match="did not end within 0 s"):
        admin_orders.drain(server.data, print)
