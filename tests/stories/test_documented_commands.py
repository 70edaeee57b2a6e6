"""Every command that README and docs show runs, word for word.

`README_PLAYS` are README's commands in its own order, each in the state in which a reader of all
that is above it is. `PLAYS` are those of the other documents, in the order in which they run here,
in one checkout with one server and two people. What another test runs, and what no test can, is
named in `ELSEWHERE` and `NOT_RUN`, each with its reason; a command of the documents that stands
nowhere is found, and so is an entry that no document needs any more.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

import bench.__main__
import gateway.options
import scripts.captures
import storage_worker.settings
import tests.fuzz.__main__
import torture.__main__
from tests.stories.checkout import check_out, environment, give_port
from tests.stories.terminals import CTRL_C, Terminal
from tests.stories.test_readme import running
from tests.test_wheel import PROGRAMS
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(
    r"(scripts/[\w./-]+|messageu(-admin|-gateway|-storage-worker)?|(\.venv/bin/)?python3?"
    r"|make|source|openssl|git|pipx"
    r"|/opt/messageu/bin/[\w-]+|useradd|install|systemctl|systemd-analyze|tar|podman[\w-]*)( |$)"
)
"""What a command begins with."""
SETTING = re.compile("PATH=|export ")
"""What a line begins with that changes the terminal for what is typed there afterwards."""
PARSED: Final = re.compile(r"<!-- made: .*?<!-- end -->", re.DOTALL)
"""Written from the parser, and so true of it."""


class Play(NamedTuple):
    """A command as the documents show it, and what becomes of it."""

    shown: str
    expected: str
    """A regular expression that finds something in what is printed, on either stream."""
    runs_as: str = ""
    """With something put in the place of names that stand for others, or with what it
    needs to end.
    """
    code: int = 0
    home: str = "alice"
    typed: tuple[tuple[str, str], ...] | None = None
    """In a terminal: what to wait for, and what is typed then."""
    needs: str = "bash"


TWICE: Final = (("New passphrase", "long secret\r"), ("again: ", "long secret\r"))
QUIT: Final = (("connected", "/quit\r"),)
UNTIL_TEXTS: Final = (
    "set -m; messageu watch --exec ./on-message & until grep -q build texts.txt 2> /dev/null; do sleep 0.1; done; "
    "kill -INT $!; wait $!; cat texts.txt"
)
README_PLAYS: Final = (
    Play("scripts/client --home alice register alice", "^alice$"),
    Play("scripts/client --home bob register bob", "^bob$"),
    Play("scripts/client --home alice chat bob", "Chatting with bob", typed=QUIT),
    Play("scripts/client --home bob chat alice", "Chatting with alice", typed=QUIT),
    Play("messageu whoami", "^alice$"),
    Play("scripts/client --home alice", "110\\) Register", "echo 0 | scripts/client --home alice"),
    Play('scripts/client --home alice send bob "the build is done"', "Sent to bob"),
    Play("make 2>&1 | scripts/client --home alice send bob -", "Sent to bob", needs="make"),
    Play("scripts/client --home bob recv --json", '"text": "the build is done"'),
    Play(".venv/bin/python example.py", "^bob .*written before",
         "scripts/client --home bob send alice 'written before' && .venv/bin/python example.py"),
    Play("scripts/client --home alice verify bob", "safety number 2:"),
    Play("scripts/client --home DIR --published-only", "Registered as dora",
         "printf '110\\ndora\\n0\\n' | scripts/client --home dora --published-only"),
    Play("scripts/client --home alice passphrase set", "encrypted", typed=TWICE),
    Play("messageu register NAME --server HOST:PORT", "^127.0.0.1:[0-9]+$",
         'messageu --home frank register frank --server "$(cat server.info)" && cat frank/server.info'),
    Play("messageu address --qr", "^127.0.0.1:[0-9]+$"),
    Play("scripts/bin/messageu-gateway --help", "--host HOST"),
    Play("scripts/bin/messageu-storage-worker --help",
         "--mailbox-messages(.|\n)*--uploads-of-user(.|\n)*--sender-share"),
    Play("scripts/admin users", "^.*alice"),
    Play("scripts/admin stats", "users"),
    Play("scripts/admin unprove NAME", "alice", "scripts/admin unprove alice"),
    Play("scripts/admin check", ""),
    Play("scripts/admin backup FOLDER", "is a copy of the data folder", "scripts/admin backup backup-of-today"),
)  # fmt: skip
AT_LAST: Final = Play("scripts/admin new-generation", "The store's generation is")
"""README's last one, while the server is stopped."""
MENTIONED: Final = ("messageu", "scripts/client", "scripts/admin")
"""What README speaks of, where a reader need not type it; played below."""
PLAYS: Final = (
    Play("messageu register NAME", "^carol$", "messageu register carol", home="carol"),
    Play("scripts/client", "110\\) Register", "echo 0 | scripts/client"),
    Play("messageu", "110\\) Register", "echo 0 | messageu"),
    Play("messageu whoami", "^alice$"),
    Play("messageu users", "^bob$"),
    Play("messageu key NAME", "public key:", "messageu key bob"),
    Play("messageu chat alice", "Chatting with alice", home="bob", typed=(("connected", "/quit\r"),)),
    Play("messageu send NAME TEXT", "Sent to bob", "messageu send bob hello"),
    Play("messageu recv --wait 60 --json | jq -r 'select(.kind == \"text\") | .text'",
         "^hello$", home="bob", needs="jq"),
    Play("messageu send bob --file report.pdf --file log.txt", "log.txt is sent to bob"),
    Play("messageu recv", "/report.pdf$", home="bob"),
    Play("make 2>&1 | messageu send bob -", "Sent to bob"),
    Play("messageu send NAME --file PATH", "is sent to bob", "messageu send bob --file README.md"),
    Play('messageu send bob "the build is done"', "Sent to bob"),
    Play("messageu watch --exec ./on-message", '^alice: "the build is done"$', UNTIL_TEXTS, home="bob", needs="jq"),
    Play("messageu watch --set-aside", "No message is set aside", home="bob"),
    Play("messageu watch --retry --exec ./on-message", "^$", home="bob"),
    Play("messageu watch --retry --exec CMD", "^$", "messageu watch --retry --exec true", home="bob"),
    Play('messageu history bob --search "build" --json', '"text": "the build is done"'),
    Play("messageu send nobody hello --json 2>&1 | jq -r .error", "^no-such-user$", needs="jq"),
    Play("messageu --quiet register robot", "^robot$", home="robot"),
    Play('messageu verify bob --safety-number "$digits"', "bob is verified",
         'digits=$(MESSAGEU_HOME=bob messageu verify robot | grep "^    "); '
         'messageu verify bob --safety-number "$digits"', home="robot"),
    Play("messageu verify bob --json | jq -e '.state == \"verified\"'", "^true$", home="robot", needs="jq"),
    Play("messageu config show", "^server = 127.0.0.1:[0-9]+  .MESSAGEU_SERVER.$"),
    Play("messageu --home olga import ../other-client/me.info", "^dora$",
         "messageu --home dora --quiet register dora --published-only > dora.txt && "
         "mkdir ../other-client && cp dora/my.info ../other-client/me.info "
         "&& messageu --home olga import ../other-client/me.info"),
    Play("messageu --home olga doctor", "^ok    identity: dora$"),
    Play("messageu chat NAME", "Chatting with alice", "messageu chat alice", home="bob",
         typed=(("connected", "/quit\r"),)),
    Play("messageu send bob --file film.mp4", "film.mp4 is sent to bob"),
    Play("messageu send", "joined by spaces", "messageu send --help"),
    Play('messageu send bob -- "$text"', "Sent to bob", 'text=-h; messageu send bob -- "$text"'),
    Play('messageu send --to bob --to carol -- "$text"', "Sent to carol",
         'text=hi; messageu send --to bob --to carol -- "$text"'),
    Play('messageu send --json bob -- "$text"', '"type": "sent"', 'text=--json; messageu send --json bob -- "$text"'),
    Play("messageu send bob - --json", '"type": "sent"', "echo typed | messageu send bob - --json"),
    Play("messageu send --json bob", '"type": "sent"', "echo typed | messageu send --json bob"),
    Play("messageu watch", "alice sent a file", home="bob", typed=((".mp4", CTRL_C),), code=130),
    Play("messageu verify NAME", "safety number 2:", "messageu verify bob"),
    Play("messageu verify bob --qr", "bob is verified", typed=(("[y/N]", "y\r"),)),
    Play("messageu verify NAME --accept-new", "nothing to accept", "messageu verify bob --accept-new"),
    Play("messageu blocked", "Nobody is blocked or muted"),
    Play("messageu block NAME", "bob.*: blocked", "messageu block bob; messageu unblock bob"),
    Play("messageu mute NAME", "bob.*: muted", "messageu mute bob; messageu unmute bob"),
    Play("messageu address", "^127.0.0.1:[0-9]+$"),
    Play("messageu doctor", "ok    outbox: nothing waits"),
    Play("source <(messageu completion bash)", "_messageu", "source <(messageu completion bash); complete -p messageu"),
    Play("messageu passphrase set", "encrypted", home="bob", typed=TWICE),
    Play("scripts/admin", "new-generation", "scripts/admin --help"),
    Play("scripts/admin unprove NAME", "alice", "scripts/admin unprove alice"),
    Play("scripts/admin users", "alice(.|\n)*live numbers"),
    Play("scripts/admin stats", "^users  *[1-9]"),
    Play("scripts/admin users --json", '"told_by": "worker".*"name": "alice"'),
    Play("scripts/admin stats --json", '"told_by": "worker"'),
    Play("scripts/admin backup", "an empty folder", "scripts/admin backup --help"),
    Play("scripts/admin backup FOLDER", "is a copy of the data folder", "scripts/admin backup one"),
    Play("scripts/admin backup FOLDER --json", '"folder": ".*/two"', "scripts/admin backup two --json"),
    Play("scripts/admin log-level LEVEL", "log from warning on", "scripts/admin log-level warning"),
    Play("scripts/admin disable NAME", "^robot is disabled", "scripts/admin disable robot"),
    Play("scripts/admin enable NAME", "^robot is enabled again", "scripts/admin enable robot"),
    Play("scripts/admin expire DAYS", "^0 messages were deleted", "scripts/admin expire 21"),
    Play("scripts/admin --data-folder FOLDER check", "Nothing is altered", "scripts/admin --data-folder one check"),
    Play("scripts/client_reference.py --write", "docs/client.md was up to date"),
    Play("scripts/man_page.py --write", "docs/messageu.1 was up to date"),
    Play("scripts/library_reference.py --write", "docs/library.md was up to date"),
    Play("scripts/name_table.py", "usage: name_table.py", "scripts/name_table.py --help"),
    Play("scripts/transcript.py --write", "^$"),
    Play("scripts/captures.py --write", "docs/screens.md"),
    Play("scripts/keep_running.py", "usage: keep_running.py", "scripts/keep_running.py --help"),
    Play("python3 -m pstats", "profile statistics browser", "python3 -m pstats < /dev/null"),
)  # fmt: skip

ELSEWHERE: Final = {
    "scripts/run": ("tests/stories/test_readme.py", "blocks()"),
    "git clone": ("tests/stories/checkout.py", '"clone"'),
    "messageu-admin": ("tests/test_wheel.py", '"messageu-admin"'),
    "messageu-gateway": ("tests/test_wheel.py", '"messageu-gateway"'),
    "messageu-storage-worker": ("tests/test_wheel.py", '"messageu-storage-worker"'),
    "scripts/admin recover-journal": ("tests/storage_worker/engine/sqlite/test_recovery.py", '"recover-journal"'),
    "scripts/admin drain": ("tests/storage_worker/test_admin_orders.py", '"drain"'),
    "scripts/admin check --drop": ("tests/storage_worker/engine/sqlite/test_damage.py", '"check", "--drop"'),
    "messageu account delete": ("tests/journeys/test_accounts.py", '"account", "delete", "--yes"'),
    "messageu account move ADDRESS": ("tests/client/test_moving.py", '"account", "move", str(to.address), "--yes"'),
    "messageu account move 'messageu://PIN@HOST:PORT#INVITATION'": (
        "tests/journeys/test_moving.py",
        '"account", "move", link, "--yes"',
    ),
    "scripts/client account move ADDRESS": (
        "tests/client/test_moving.py",
        '"account", "move", str(to.address), "--yes"',
    ),
    "scripts/admin invite": ("tests/storage_worker/test_admin_accounts.py", '"invite"'),
    "scripts/admin invite --qr": ("tests/storage_worker/test_admin_accounts.py", '"--qr"'),
    "scripts/admin invite --uses 30 --days 14 --qr": ("tests/storage_worker/test_admin_accounts.py", '"--uses", "3"'),
    "scripts/admin invitations": ("tests/storage_worker/test_admin_accounts.py", '"invitations"'),
    "scripts/admin invitation revoke ID": ("tests/storage_worker/test_admin_accounts.py", '"invitation", "revoke"'),
    "scripts/admin delete NAME": ("tests/storage_worker/test_admin_accounts.py", '"delete", "alice"'),
    "scripts/admin free": ("tests/storage_worker/test_admin_accounts.py", '"free")'),
    "scripts/admin free NAME": ("tests/storage_worker/test_admin_accounts.py", '"free", "alice"'),
    "scripts/admin re-key NAME KEYFILE": ("tests/storage_worker/test_admin_accounts.py", '"re-key", "alice"'),
    "scripts/admin address": ("tests/gateway/test_tls_programs.py", '"address"'),
    "/opt/messageu/bin/messageu-admin --data-folder /var/lib/messageu/data address": (
        "tests/gateway/test_tls_programs.py",
        '"address"',
    ),
    "scripts/admin address --qr": ("tests/gateway/test_tls_programs.py", '"--qr"'),
    "scripts/admin tls next": ("tests/gateway/test_tls_programs.py", '"tls", "next"'),
    "scripts/admin tls switch": ("tests/gateway/test_tls_programs.py", '"tls", "switch"'),
    "messageu resend": ("tests/stories/restored.story", "$ alice resend"),
    "messageu verify LINK": ("tests/journeys/test_user_links.py", '"verify", link'),
    "install -D --mode=644 --target-directory=/etc/systemd/system deploy/systemd/messageu-gateway.service "
    "deploy/systemd/messageu-storage-worker.service": (
        "tests/deploy/test_operations_page.py",
        'commands(section, "install")',
    ),
    "install -D --mode=644 --target-directory=/etc/messageu deploy/etc/gateway deploy/etc/storage-worker": (
        "tests/deploy/test_operations_page.py",
        'commands(section, "install")',
    ),
    "install -D --mode=644 deploy/systemd/messageu-storage-worker-metrics.conf "
    "/etc/systemd/system/messageu-storage-worker.service.d/metrics.conf": (
        "tests/deploy/test_operations_page.py",
        'commands(section, "install")',
    ),
    "install -D --mode=644 --target-directory=/etc/systemd/system deploy/systemd/messageu-gateway.socket": (
        "tests/deploy/test_operations_page.py",
        'commands(section, "install")',
    ),
    "tar --create --file=messageu.tar --directory=/var/lib/messageu data": (
        "tests/deploy/test_operations_page.py",
        'commands("Move to another machine", "tar")',
    ),
    "tar --extract --file=messageu.tar --directory=/var/lib/messageu --same-owner": (
        "tests/deploy/test_operations_page.py",
        'commands("Move to another machine", "tar")',
    ),
    "systemd-analyze verify": ("tests/deploy/test_units.py", '"verify"'),
    "systemd-analyze security --offline=true": ("tests/deploy/test_units.py", '"security", "--offline=true"'),
    "openssl pkey": ("tests/client/crypto/test_ciphers.py", '"openssl", "pkey"'),
    "scripts/bench --quick": ("tests/bench/test_quick_run.py", '"--quick"'),
    "messageu-admin store create --store URL": ("tests/storage_worker/test_admin_store.py", 'run("create", url)'),
    "messageu-admin store new-generation --store URL": (
        "tests/storage_worker/test_admin_store.py",
        'run("new-generation", url)',
    ),
    "messageu-admin store create --store URL --shard 0/4": (
        "tests/storage_worker/test_admin_store.py",
        'run("create", url, "--shard", "0/2")',
    ),
    "messageu-admin store new-generation --store URL --shard 0/4": (
        "tests/storage_worker/test_admin_store.py",
        'run("new-generation", url, "--shard", "1/2")',
    ),
    "scripts/cluster up --workers 4 --gateways 2": ("tests/cluster/test_main.py", '"up", "--workers", "2"'),
    "scripts/cluster kill primary": ("tests/cluster/test_main.py", '("primary",)'),
    "scripts/cluster status": ("tests/cluster/test_main.py", 'told("status")'),
    "scripts/cluster down": ("tests/cluster/test_main.py", '("down",)'),
    "messageu-storage-worker --store URL --shard 0/4 --data-folder DIR": (
        "torture/sharded_server.py",
        '"--store", url, "--shard"',
    ),
    "messageu-gateway --slot 1 --worker tcp://KEY@HOST:PORT --worker tcp://KEY@HOST:PORT": (
        "torture/sharded_server.py",
        'addresses = [word for one in folders for word in ("--worker"',
    ),
    "scripts/shards": ("tests/bench/shards/test_measure.py", "cost(place, 2"),
    "scripts/admin re-key": ("tests/storage_worker/test_admin_accounts.py", '"re-key", "alice"'),
    "messageu-admin re-key": ("tests/storage_worker/test_admin_accounts.py", '"re-key", "alice"'),
    "messageu-admin unprove": ("tests/storage_worker/test_admin_accounts.py", '"unprove", "alice"'),
    "messageu-admin check": ("tests/storage_worker/test_admin_backup.py", '"check"'),
    "messageu-admin drain": ("tests/storage_worker/test_admin_orders.py", '"drain"'),
    "messageu-admin move SOURCE TARGET": ("tests/storage_worker/test_admin_move.py", '["move", source.place'),
    "messageu-admin move data postgresql://messageu@db.example.org/messageu": (
        "tests/storage_worker/test_admin_move.py",
        '["move", stores["sqlite"].place, url]',
    ),
    "scripts/cluster up": ("tests/cluster/test_main.py", '"up", "--workers", "2"'),
    "scripts/bench suite": ("tests/bench/test_suite.py", 'main(["suite", "--seconds"'),
    "python -m tests.client.suite1.make_vectors": ("tests/client/suite1/test_vectors.py", "make_vectors.made()"),
    "messageu-admin link-key worker": ("tests/storage_worker/test_admin_link_key.py", "run(folder, program)"),
    "messageu-admin link-key gateway": ("tests/storage_worker/test_admin_link_key.py", "run(folder, program)"),
    "messageu-admin link-key allow KEY NAME": ("tests/storage_worker/test_admin_link_key.py", '"allow", KEY'),
    "messageu-admin link-key list": ("tests/storage_worker/test_admin_link_key.py", 'run(folder, "list")'),
    "messageu-admin link-key forbid KEY": ("tests/storage_worker/test_admin_link_key.py", 'run(folder, "forbid", KEY)'),
}
"""Where each is run by another test, and what stands there."""
MINUTES: Final = "loads the machine for minutes; tests/bench runs the same program with --quick"
HALF_AN_HOUR: Final = "kills programs for half an hour; tests/journeys/test_torture.py runs seconds of each drill"
BY_ROOT: Final = "changes the machine, as root; tests/deploy looks at the files that it is about"
NOT_RUN: Final = {
    "useradd --system --user-group --home-dir /var/lib/messageu --shell /usr/sbin/nologin messageu": BY_ROOT,
    "python3 -m venv /opt/messageu": BY_ROOT,
    "/opt/messageu/bin/pip install --requirement requirements.txt .": BY_ROOT,
    "systemctl daemon-reload": BY_ROOT,
    "systemctl enable --now messageu-storage-worker messageu-gateway": BY_ROOT,
    "systemctl restart messageu-storage-worker messageu-gateway": BY_ROOT,
    "systemctl disable --now messageu-gateway messageu-storage-worker": BY_ROOT,
    "systemctl status messageu-gateway": BY_ROOT,
    "systemctl stop messageu-gateway": BY_ROOT,
    "systemctl enable --now messageu-gateway.socket": BY_ROOT,
    "systemctl start messageu-gateway": BY_ROOT,
    "systemctl stop messageu-gateway.socket messageu-gateway": BY_ROOT,
    "install --directory --mode=700 --owner=messageu --group=messageu /var/lib/messageu": BY_ROOT,
    "podman-compose --file deploy/compose.yaml up --detach": "fetches an image; tests/deploy reads the files",
    "pipx install .": "needs a network; tests/test_wheel.py builds and installs the same wheel without one",
    "scripts/captures.py --pictures DIR": "four times what --write does, which is run",
    "scripts/test": "is what runs this",
    "scripts/fuzz --minutes 10": "takes minutes; tests/fuzz/test_targets.py runs each target for a moment",
    "messageu-gateway --health": "tests/common/test_status_server.py asks, and tests/gateway/test_health.py says",
    "messageu-storage-worker --health": "tests/storage_worker/test_main.py asks a worker that runs",
    "scripts/bench": MINUTES,
    "scripts/torture --only flood": MINUTES,
    "scripts/torture --only floods": MINUTES,
    "scripts/torture --only fairness": MINUTES,
    "scripts/torture --only lying-server": MINUTES,
    "scripts/torture --only middleman": MINUTES,
    "scripts/torture --only stolen-home": MINUTES,
    "scripts/bench --tls --rival none --only 50x32 --only 50x1 --only idle": MINUTES,
    "scripts/bench --limits --rival none --only 50x32 --only 50x1": MINUTES,
    "scripts/bench --all": MINUTES,
    "scripts/bench --store postgresql --only 50x32 --only drain": MINUTES,
    "scripts/bench --install": "installs packages of the system, as root",
    "scripts/bench suite --install": "fetches packages; tests/bench/test_suite.py runs it without them",
    "scripts/bench --store postgresql": MINUTES,
    "scripts/bench --store postgresql --rounds 3 --seconds 3": MINUTES,
    "scripts/bench --only 50x32 --only drain --rounds 5 --seconds 10": MINUTES,
    "scripts/bench --rounds 3 --seconds 2": MINUTES,
    "scripts/bench --all --rounds 1 --seconds 2 --only 50x1 --only 50x32 --only 1000x1": MINUTES,
    "scripts/bench --only 50x32@4K --rival redis --rival redis-everysec": MINUTES,
    "scripts/bench --server . --server before=../messageu-of-last-week --only 50x32 --rival none": MINUTES,
    "scripts/bench --only 50x32 --rival none --rounds 1 --profile profiles": MINUTES,
    "scripts/bench --requests extension --only 50x32 --only drain": MINUTES,
    "scripts/bench --python ../venv-of-3.13/bin/python --rival none --only 1x1 --only 50x32": MINUTES,
    "scripts/bench --table bench/results/2026-01-31.json": "shows a run of a day that was not",
    "scripts/bench --table bench/results/2026-01-31.json --plot docs/benchmarks.svg": "the same",
    "scripts/torture": HALF_AN_HOUR,
    "scripts/torture --store postgresql": HALF_AN_HOUR,
}
"""What is not run is at least understood: `test_what_is_not_run_is_taken`."""


def lines_on(page: Path) -> Iterator[str]:
    """What of a page may be typed in a terminal, in its order."""
    fence: str | None = None
    for line in PARSED.sub("", page.read_text(encoding="utf-8")).splitlines():
        if line.startswith("```"):
            fence = line[3:] if fence is None else None
        elif fence == "":
            yield line.removeprefix("$ ")
        elif fence is None:
            if line.startswith("    "):
                yield line.strip()
            yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", line)


def command_in(line: str) -> str | None:
    """The command that a line is, without what is said of it behind two spaces."""
    command = re.split(r" {2,}", line)[0]
    # What has an ellipsis in it is no whole command.
    return command if PROGRAM.match(command) and "…" not in command else None


def commands(pages: Sequence[Path] = PAGES) -> Iterator[tuple[str, str]]:
    """Every command that is shown, and the page it stands on."""
    for page in pages:
        for line in lines_on(page):
            command = command_in(line)
            if command is not None:
                yield command, page.name


class World:
    """A checkout, and a terminal in it. `environment`: of a home."""

    def __init__(self, folder: Path, environment: Callable[[str], dict[str, str]]) -> None:
        self.folder = folder
        self.environment = environment
        self.settings: list[str] = []
        """What was typed in the terminal to change it."""

    def runs(self, play: Play) -> None:
        """Run it, and look at what it prints and how it ends."""
        command = ["bash", "-c", "\n".join([*self.settings, play.runs_as or play.shown])]
        if play.typed is None:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment(play.home), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
            )  # fmt: skip
            printed, code = f"{done.stdout}{done.stderr}", done.returncode
        else:
            with Terminal(
                self.folder / play.home, command=command, environment=self.environment(play.home)
            ) as terminal:
                for awaited, typed in play.typed:
                    terminal.until(awaited).types(typed, end="")
                code = terminal.ends() or 0
                printed = str(terminal)
        assert code == play.code, f"{play.shown}\n{printed}"
        assert re.search(play.expected, printed, re.MULTILINE), f"{play.shown}\n{printed}"


@pytest.mark.slow
def test_readme_in_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "messageu"
    check_out(folder)
    give_port(folder)
    (folder / "example.py").write_text(block("python", README))
    # Nothing on the PATH but what is said to be put there.
    plain = environment(folder) | {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    world = World(folder, lambda _: plain)
    plays = {play.shown: play for play in README_PLAYS}
    with running(folder, tmp_path / "log"):
        for line in lines_on(README):
            if SETTING.match(line):
                world.settings.append(line)
            play = plays.pop(command_in(line) or "", None)
            if play is not None and shutil.which(play.needs) is not None:
                world.runs(play)
    world.runs(AT_LAST)
    assert not plays


def test_readme_is_played_in_its_order() -> None:
    shown = list(dict.fromkeys(command for command, _ in commands([README])))
    played = [play.shown for play in (*README_PLAYS, AT_LAST)]
    assert [command for command in shown if command not in {*ELSEWHERE, *NOT_RUN, *MENTIONED}] == played


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "messageu"
    check_out(folder)
    (folder / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    (folder / "report.pdf").write_bytes(b"%PDF-1.7\n")
    (folder / "log.txt").write_text("all is well\n")
    (folder / "on-message").write_text(block("sh", ROOT / "docs" / "for-scripters.md"))
    (folder / "on-message").chmod(0o755)
    with Server(tmp_path / "server") as server:
        server.start()
        everybody = environment(folder) | {
            "MESSAGEU_SERVER": f"127.0.0.1:{server.port}",
            "MESSAGEU_DATA": str(server.data),
            "MESSAGEU_SAVE_DIR": str(folder / "received"),
        }
        # Somebody who has one home need not name it.
        world = World(folder, lambda home: everybody | {"MESSAGEU_HOME": str(folder / home)})
        for name in ("alice", "bob"):
            world.runs(Play(f"scripts/client register {name}", name, home=name))
        for play in PLAYS:
            if shutil.which(play.needs) is not None:
                world.runs(play)
    # What was made anew says what the documents say; of numbers, pictures and the moment of a
    # transfer not the same.
    for page in ("README.md", "docs/client.md", "docs/screens.md"):
        assert lasting((folder / page).read_text()) == lasting((ROOT / page).read_text())


def test_before_anything_is_set_up(tmp_path: Path) -> None:
    """Every script sets itself up, or says in one sentence why it can't; here, because of
    the folder's name.
    """
    folder = tmp_path / "a:b"
    check_out(folder, set_up=False)
    scripts = [path for path in (folder / "scripts").rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    assert {path.name for path in scripts if path.parent.name == "bin"} == set(PROGRAMS)
    assert {"run", "test", "captures.py"} < {path.name for path in scripts}
    for path in scripts:
        if path.name == "keep_running.py":
            # Needs nothing.
            continue
        done = subprocess.run(
            [path, "--help"], cwd=tmp_path, env=environment(folder), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
        )  # fmt: skip
        if path.name == "run":
            # It says how it is used before it looks at anything.
            assert done.returncode == 0, done
            assert done.stdout.lower().startswith("usage: scripts/run"), done
            continue
        *_, sentence = done.stderr.splitlines()
        assert done.returncode == 1, f"{path.name}: {done}"
        assert "cannot live in a folder with a colon in its name" in sentence
        assert "Traceback" not in done.stderr


def lasting(text: str) -> list[str]:
    """What in captured screens does not differ from run to run."""
    text = re.sub(r"[0-9a-f]{32}|[0-9]+", "N", text)
    lines = [" ".join(re.sub(r"[█▀▄]", " ", line).split()) for line in text.splitlines()]
    return [line for line in lines if not line.startswith(("Encrypting ", "Sending "))]


def block(language: str, page: Path) -> str:
    """The block of a page in a language other than the shell's of a terminal."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_command_of_the_documents_is_accounted_for() -> None:
    shown = dict(commands())
    readme = [play.shown for play in (*README_PLAYS, AT_LAST)]
    elsewhere = [*ELSEWHERE, *NOT_RUN]
    # Two of README's may be those of another page too.
    for played in (readme, [play.shown for play in PLAYS]):
        assert len([*played, *elsewhere]) == len({*played, *elsewhere})
    known = [*dict.fromkeys([*readme, *(play.shown for play in PLAYS)]), *elsewhere]
    assert {command: page for command, page in shown.items() if command not in known} == {}, "no test knows of these"
    assert [command for command in known if command not in shown] == [], "no document shows these"
    for path, words in ELSEWHERE.values():
        assert words in (ROOT / path).read_text(), f"{path} does not run it any more"


def test_what_is_not_run_is_taken(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for command in NOT_RUN:
        program, *words = shlex.split(command.replace("../messageu-of-last-week", str(ROOT)))
        match program:
            case "scripts/bench":
                parser = bench.suite.make_parser() if words[:1] == ["suite"] else bench.__main__.make_parser()
                parser.parse_args(words[1:] if words[:1] == ["suite"] else words)
            case "scripts/torture":
                torture.__main__.parse(words)
            case "scripts/fuzz":
                tests.fuzz.__main__.parser().parse_args(words)
            case "pipx":
                assert words == ["install", "."]
            case "scripts/captures.py":
                scripts.captures.arguments(words)
            case "messageu-gateway":
                assert gateway.options.parse(words).health
            case "messageu-storage-worker":
                assert storage_worker.settings.parse(words).health
            case "systemctl":
                units = [word for word in words[1:] if not word.startswith("--")]
                names = [unit if unit.endswith(".socket") else f"{unit}.service" for unit in units]
                assert all((ROOT / "deploy" / "systemd" / name).is_file() for name in names)
            case "/opt/messageu/bin/pip":
                assert all((ROOT / word).exists() for word in words if not word.startswith("--") and word != "install")
            case "podman-compose":
                assert (ROOT / words[1]).is_file()
            case "useradd" | "install" | "python3":
                assert NOT_RUN[command] == BY_ROOT
            case _:
                assert (program, words) == ("scripts/test", [])
