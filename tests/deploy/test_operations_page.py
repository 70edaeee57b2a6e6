"""What docs/operations.md says of installing and moving a server, and of its limits.

Commands run here with the system's folders replaced by a test's.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import gateway.options
import storage_worker.settings
from torture.caller import Caller, new_account
from torture.patience import HANG_SECONDS
from torture.programs import Server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PARSERS = {"gateway": gateway.options.parse, "storage worker": storage_worker.settings.parse}


def commands(section: str, program: str) -> list[str]:
    """Those of a section of the page that begin with that program, in its order."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            for line in block.splitlines() if line.startswith(f"{program} ")]  # fmt: skip


def run(command: str, replaced: dict[str, str], folder: Path = ROOT) -> None:
    for one, other in replaced.items():
        assert one in command
        command = command.replace(one, other)
    done = subprocess.run(
        shlex.split(command), cwd=folder, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_what_there_is(tmp_path: Path) -> None:
    for section in ("Install", "Upgrade", "Monitor"):
        for command in commands(section, "install"):
            run(
                command,
                {"=/etc/" if "=/etc/" in command else " /etc/": f"{'=' if '=/etc/' in command else ' '}{tmp_path}/"},
            )
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "messageu/gateway",
        "messageu/storage-worker",
        "systemd/system/messageu-gateway.service",
        "systemd/system/messageu-gateway.socket",
        "systemd/system/messageu-storage-worker.service",
        "systemd/system/messageu-storage-worker.service.d/metrics.conf",
    }


def test_a_server_that_was_moved_goes_on(tmp_path: Path) -> None:
    pack, unpack = commands("Move to another machine", "tar")
    with Server(tmp_path / "old") as old:
        old.start()
        alice, bob = (new_account(old.port, name) for name in ("alice", "bob"))
        with Caller(old.port) as caller:
            caller.send(alice.client_id, bob.client_id, b"hello")
        for program in (old.gateway, old.worker):
            assert program.stop()[0] == 0
    run(pack, {"/var/lib/messageu": str(tmp_path / "old")}, tmp_path)
    with Server(tmp_path / "new") as new:
        run(unpack, {"/var/lib/messageu": str(tmp_path / "new")}, tmp_path)
        new.start()
        with Caller(new.port) as caller:
            assert [user.name for user in caller.users(alice.client_id)] == ["bob"]
            assert [mail.content for mail in caller.pull(bob.client_id)] == [b"hello"]


def test_the_limits_are_the_programs_defaults() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(--[\w-]+)` of the ([\w ]+) \| (\S+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 10
    for option, program, shown in rows:
        parse = PARSERS[program]
        assert vars(parse([option, shown])) == vars(parse([])), option


def test_what_is_installed_as_options_is_taken() -> None:
    for name, parse in PARSERS.items():
        text = (ROOT / "deploy" / "etc" / name.replace(" ", "-")).read_text(encoding="utf-8")
        [words] = re.findall(r"^OPTIONS=(.*)$", text, re.MULTILINE)
        assert parse(shlex.split(words)).log_level == "info"
