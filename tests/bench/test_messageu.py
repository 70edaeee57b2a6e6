"""Starting and ending the server's programs, with stand-ins for them, and the whole
command with those.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main, make_parser, variants
from bench.generator import BUILD_FOLDER
from bench.messageu import MessageU, register, synthetic_key
from bench.subject import SubjectFailed, usage_of
from common.client_protocol.responses import ERROR
from tests.bench.scripted_peer import CLOSE
from tests.bench.scripted_server import ScriptedServer

PROJECT = Path(__file__).parent.parent.parent
GATEWAY = f"""
import os, pathlib, sys, threading, signal
sys.path.insert(0, {str(PROJECT)!r})
from tests.bench.scripted_server import ScriptedServer
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def twist(number, answer):
    return TWIST
pathlib.Path(os.environ["MESSAGEU_DATA"]).mkdir()
with ScriptedServer(twist, port=int(pathlib.Path("myport.info").read_text())):
    stop.wait(600)
"""
WORKER = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
stop.wait(600)
"""


def code_folder(folder: Path, twist: str = "answer", worker: str = WORKER) -> Path:
    for program, source in (("gateway", GATEWAY.replace("TWIST", twist)), ("storage_worker", worker)):
        (folder / program).mkdir(parents=True)
        (folder / program / "__main__.py").write_text(source)
    return folder


def test_a_synthetic_key_has_the_size_and_the_frame_of_a_real_one() -> None:
    key = synthetic_key(7)
    assert len(key) == 160
    assert key == synthetic_key(7) != synthetic_key(8)
    # SEQUENCE, BIT STRING, SEQUENCE, INTEGER and the closing INTEGER 17, each as long as it says.
    assert (key[:3].hex(), key[18:22].hex(), key[22:25].hex(), key[25:29].hex()) == (
        "30819d",
        "03818b00",
        "308187",
        "02818100",
    )
    assert key[29] & 0x80
    assert key[157:].hex() == "020111"


def test_users_are_registered_in_order() -> None:
    with ScriptedServer(piece=11) as server:
        ids = register(server.port, [f"user {number}" for number in range(150)])
    assert ids == [number.to_bytes(16, "big") for number in range(1, 151)]


@pytest.mark.parametrize(("answer", "error"), [(ERROR, SubjectFailed), (CLOSE, ConnectionResetError)])
def test_registering_that_fails_is_an_error(answer: bytes | None, error: type[Exception]) -> None:
    with (
        ScriptedServer(registering=lambda number, right: right if number < 3 else answer) as server,
        pytest.raises(error),
    ):
        register(server.port, ["one", "two", "three"])


def test_a_folder_without_the_programs_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(SubjectFailed, match="has no storage_worker and no gateway"):
        MessageU("empty", tmp_path)


def test_programs_are_started_measured_and_ended(tmp_path: Path) -> None:
    subject = MessageU("fake", code_folder(tmp_path / "code"))
    assert subject.version == ""
    with subject.start(tmp_path / "run", recipients=3, senders=2) as running:
        process_ids = dict(running.process_ids)
        assert (tmp_path / "run" / "data").is_dir()
        running.await_accepted()
        usage = usage_of(process_ids["gateway"])
        assert usage.cpu_seconds > 0
        assert usage.resident_bytes > 1_000_000
    assert set(process_ids) == {"gateway", "worker"}
    for process_id in process_ids.values():
        with pytest.raises(SubjectFailed):
            usage_of(process_id)


def test_a_program_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    code = code_folder(tmp_path / "code", worker="raise SystemExit('the disk is on fire')")
    # A gateway that never answers, for an answer could come before the worker's end is seen.
    (code / "gateway" / "__main__.py").write_text("import signal\nsignal.pause()\n")
    with (
        pytest.raises(SubjectFailed, match="the worker ended with 1: the disk is on fire"),
        MessageU("fake", code).start(tmp_path / "run", recipients=1, senders=1),
    ):
        pass


def test_the_version_is_the_commit(tmp_path: Path) -> None:
    code = code_folder(tmp_path)
    git = ["git", "-C", str(code), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *arguments], check=True)
    commit = MessageU("fake", code).version
    assert 7 <= len(commit) <= 12
    (code / "gateway" / "__main__.py").write_text("")
    assert MessageU("fake", code).version == f"{commit}+"


@pytest.mark.slow
def test_the_command_prints_a_table_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = code_folder(tmp_path / "code")
    arguments = ["--quick", "--only", "5x2", "--only", "drain", "--only", "idle", "--python-generator"]
    arguments += [
        "--requests",
        "published",
        "--server",
        f"fake={code}",
        "--disk",
        str(tmp_path),
        "--keep",
        str(tmp_path / "kept"),
    ]
    assert main([*arguments, "--date", "2026-01-31"]) == 0
    printed = capsys.readouterr()
    assert "5x2   fake" in printed.out
    assert "generator in Python, as asked" in printed.out
    assert (tmp_path / "kept" / "2026-01-31.txt").read_text() == printed.out
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    assert [one["errors"] for one in kept["rounds"]] == [0, 0, 0, 0]
    assert main(["--table", str(tmp_path / "kept" / "2026-01-31.json")]) == 0
    assert capsys.readouterr().out == printed.out
    # Nothing stays in the folder of the runs.
    assert {path.name for path in tmp_path.iterdir()} == {"code", "kept"}


def names_compared(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    options = make_parser().parse_args(arguments)
    servers, firsts = variants(options.server or [MessageU("ours", PROJECT)], options)
    return [server.name for server in servers], firsts


@pytest.mark.parametrize(
    ("arguments", "names", "firsts"),
    [
        ([], ["ours", "ours 642/643"], {"ours 642/643": "ours"}),
        (["--requests", "published"], ["ours"], {}),
        (["--requests", "extension"], ["ours 642/643"], {}),
        (["--close-each"], ["ours"], {}),
        (["--tls"], ["ours", "ours TLS"], {"ours TLS": "ours"}),
        (["--limits"], ["ours", "ours with limits"], {"ours with limits": "ours"}),
        (
            ["--python", sys.executable, "--requests", "published"],
            ["ours", f"ours Python {platform.python_version()}"],
            {f"ours Python {platform.python_version()}": "ours"},
        ),
        (["--store", "postgresql"], ["ours", "ours PostgreSQL"], {"ours PostgreSQL": "ours"}),
        (
            ["--store", "postgresql", "--requests", "extension"],
            ["ours 642/643", "ours PostgreSQL 642/643"],
            {"ours PostgreSQL 642/643": "ours 642/643"},
        ),
        (
            ["--server", f"a={PROJECT}", "--server", f"b={PROJECT}"],
            ["a", "a 642/643", "b", "b 642/643"],
            {"b": "a", "b 642/643": "a 642/643"},
        ),
    ],
)
def test_a_server_is_loaded_in_both_ways_and_compared_with_the_first_in_the_same_way(
    arguments: list[str], names: list[str], firsts: dict[str, str]
) -> None:
    assert names_compared(arguments) == (names, firsts)


def test_a_wrong_answer_makes_the_command_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = code_folder(tmp_path / "code", twist="answer if number != 3 else answer[:-6] + bytes(6)")
    arguments = ["--quick", "--only", "1x1", "--server", f"fake={code}", "--disk", str(tmp_path), "--python-generator"]
    arguments += ["--requests", "published"]
    assert main(arguments) == 1
    assert "1 (1 wrong)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "fast"], "'fast' is neither CONNECTIONSxWINDOW[@SIZE] nor drain nor waiting nor large nor idle"),
        (["--only", "0x1"], "neither"),
        (["--date", "tomorrow"], "'tomorrow' is no date"),
        (["--server", "/"], "has no storage_worker and no gateway"),
        (["--server", f"a={PROJECT}", "--server", f"a={PROJECT}"], "two servers have the same name"),
        (["--server", f"Redis AOF always={PROJECT}"], "two servers have the same name"),
        (["--requests", "both", "--tls"], "--tls, --limits and --close-each are measured with --requests published"),
        (["--limits", "--tls"], "--limits goes with neither --tls nor --store"),
        (["--rival", "oracle"], "invalid choice: 'oracle'"),
        (["--table", "no-such-file"], "no-such-file can't be read as a results file"),
    ],
)
def test_arguments_that_make_no_sense_are_told(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_command_runs_as_a_module() -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-m", "bench", "--help"],
        cwd=PROJECT.parent,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--quick" in said.stdout


def test_what_is_built_stays_out_of_the_repository() -> None:
    ignored = (PROJECT / "bench" / ".gitignore").read_text().split()
    assert {f"{BUILD_FOLDER.name}/", ".work/"} <= set(ignored)
