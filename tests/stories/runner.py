"""Runs a story: a readable script of commands with the output and exit code that are expected.

A story file, one step after the other:

    # a remark
    $ alice send bob hello          the command `messageu` in alice's home; shell quoting
    < text for standard input       zero or more lines
    > expected line on stdout       in order and all of them
    ! expected line on stderr       in order and all of them
    = 0                             the exit code, 0 where it is left out

In expected lines `{TIME}`, `{HEX}`, `{GROUPS}`, `{DIGITS}`, `{NUMBER}`, `{PATH}` and `{ANY}` stand
for what differs from run to run, and `...` alone for any number of lines. In commands `{HOME}` is
the folder of all homes. Further steps: `server stop`, `server start`, `server backup` and `server
restore` (as the documents ask for it, in an orderly way), `server limit OPTION …` (starts it anew
with the worker's options), `server swap NAME OTHER` (names OTHER's public key for NAME), `stranger
SPEECH` (then {STRANGER} is the address of a program that is no MessageU server: it says SPEECH to
whoever connects, and hangs up), `write FILE TEXT`, `remove FILE`, `fill FILE BYTES`, `number NAME
OTHER` (then {NUMBER_OF_NAME} is the safety number that NAME sees with OTHER). `disk BYTES` before a
command lets it write no file that is larger, as a full disk would.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import socketserver
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fastjsonschema

from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import DATABASE_NAME
from torture.patience import HANG_SECONDS
from torture.programs import ROOT
from torture.restored_backup import copy_folder, restore_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torture.programs import Server

SCHEMAS = ROOT / "docs" / "schemas"
STANDS_FOR = {
    "TIME": r"\d{4}-\d\d-\d\d \d\d:\d\d",
    "HEX": r"[0-9a-f]{32,}",
    "GROUPS": r"[0-9a-f]{8}(?: [0-9a-f]{8})*",
    "DIGITS": r"\d{5}(?: \d{5})*",
    "NUMBER": r"\d+",
    "PATH": r"/\S+",
    "ANY": r".*",
}


@dataclass
class Step:
    """A command and what is expected of it."""

    line: int
    command: str
    typed: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def parse(text: str) -> list[Step]:
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), start=1):
        mark, _, rest = line.partition(" ")
        match mark:
            case "$":
                steps.append(Step(number, rest))
            case "<":
                steps[-1].typed.append(rest)
            case ">":
                steps[-1].out.append(rest)
            case "!":
                steps[-1].err.append(rest)
            case "=":
                steps[-1].code = int(rest)
            case _:
                assert line == "" or mark == "#", f"line {number} of the story is no step: {line}"
    return steps


def pattern(lines: list[str]) -> str:
    """The regular expression for lines of expected output."""
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:.*\n)*")
            continue
        escaped = re.escape(line)
        for name, meaning in STANDS_FOR.items():
            escaped = escaped.replace(re.escape(f"{{{name}}}"), meaning)
        parts.append(escaped + r"\n")
    return "".join(parts)


def run_story(path: Path, folder: Path, server: Server) -> None:
    """Run all steps of a story against a server."""
    with contextlib.ExitStack() as strangers:
        _run_steps(path, folder, server, strangers)


def check_json(found: dict[str, Any]) -> None:
    """Hold an object of the command's JSON to its schema in docs/schemas, and to the fields that
    stand there.

    The schemas themselves allow further ones, so that who checks by them can go on when one is
    added.
    """
    schema = json.loads((SCHEMAS / f"{found['type']}.json").read_text())
    fastjsonschema.compile(schema)({**found, "added_later": None})
    fastjsonschema.compile({**schema, "additionalProperties": False})(found)


def _run_steps(path: Path, folder: Path, server: Server, strangers: contextlib.ExitStack) -> None:
    numbers: dict[str, str] = {}
    for step in parse(path.read_text(encoding="utf-8")):
        where = f"{path.name}, line {step.line}: {step.command}"
        words = shlex.split(step.command.replace("{HOME}", str(folder)))
        match words:
            case ["server", "stop"]:
                server.end()
                continue
            case ["server", "start"]:
                server.start()
                continue
            case ["server", "backup"]:
                copy_folder(server, folder / "backup")
                continue
            case ["server", "restore"]:
                restore_folder(server, folder / "backup")
                continue
            case ["server", "limit", *options]:
                server.end()
                server.worker.arguments = options
                server.start()
                continue
            case ["stranger", speech]:
                numbers["{STRANGER}"] = strangers.enter_context(stranger(speech.encode()))
                continue
            case ["fill", name, size]:
                (folder / name).write_bytes(bytes(int(size)))
                continue
            case ["server", "swap", name, other]:
                swap_keys(server, name, other)
                continue
            case ["remove", name]:
                (folder / name).unlink()
                continue
            case ["write", name, text]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
                continue
            case ["number", name, other]:
                # What the other side sees, told by voice.
                known = json.loads(messageu(folder, server.port, name, ["verify", other, "--json"]).stdout)
                numbers[f"{{NUMBER_OF_{name.upper()}}}"] = known["safety_number"]
                continue
        for placeholder, digits in numbers.items():
            words = [word.replace(placeholder, digits) for word in words]
        largest = None
        if words[0] == "disk":
            _, size, *words = words
            largest = int(size)
        typed = "".join(f"{line}\n" for line in step.typed)
        done = messageu(folder, server.port, words[0], words[1:], typed, largest_file=largest)
        said = f"{where}\nstdout:\n{done.stdout}\nstderr:\n{done.stderr}\nexit code {done.returncode}"
        assert done.returncode == step.code, said
        assert re.fullmatch(pattern(step.out), done.stdout), said
        assert re.fullmatch(pattern(step.err), done.stderr), said
        if "--json" in words:
            for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
                check_json(json.loads(line))


def swap_keys(server: Server, name: str, other: str) -> None:
    """Make the server lie: it names the public key of `other` for `name`."""
    server.end()
    # By the worker's own code: what another program writes has no checksums, and is found to be
    # altered.
    database = Database(server.data / DATABASE_NAME)
    with database.transaction():
        statement = "UPDATE user SET public_key = (SELECT public_key FROM user WHERE name = ?) WHERE name = ?"
        database.execute(statement, (other, name))
        assert database.changes() == 1
    database.close()
    server.start()


@contextlib.contextmanager
def stranger(speech: bytes) -> Iterator[str]:
    """Serve something that is no MessageU at an address of its own."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(speech)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
            thread.join()


def messageu(
    folder: Path,
    port: int,
    user: str,
    words: list[str],
    typed: str = "",
    largest_file: int | None = None,
    stdout: IO[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a user's home."""
    # Measuring coverage doubles what a start costs, has no room for its file on a full disk, and
    # here it would find little that the client's own tests do not run too.
    kept_away = ("MESSAGEU_", "COVERAGE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept_away)}
    environment |= {"PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(folder / "config.toml"), "TZ": "UTC"}
    home = folder / user
    home.mkdir(exist_ok=True)
    if not (home / "server.info").exists():
        (home / "server.info").write_text(f"127.0.0.1:{port}\n")
    options = ["--home", str(home), "--save-dir", str(home / "received")]
    return subprocess.run(
        [sys.executable, "-P", "-m", "client", *options, *words],
        input=typed,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
        timeout=HANG_SECONDS,
        check=False,
        preexec_fn=None
        if largest_file is None
        else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
    )


def receives(home: Path) -> bool:
    """Whether a process of this home receives, found out without touching its lock."""
    lock = home / "store.lock"
    return lock.exists() and f":{lock.stat().st_ino} " in Path("/proc/locks").read_text()
