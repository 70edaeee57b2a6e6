import signal
import sys
from pathlib import Path

import psutil
import pytest

from bench.programs import Programs
from bench.subject import SubjectFailed
from torture.patience import HANG_SECONDS

WAITS = "import signal, sys; print('here', flush=True); signal.sigwait([signal.SIGTERM, signal.SIGINT])"


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_programs_run_in_the_folder_and_have_ended_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Programs(folder) as programs:
        programs.start("one", python(f"import os; os.mkdir('made'); {WAITS}"))
        programs.start("two", python(WAITS), stop_signal=signal.SIGINT)
        process_ids = programs.process_ids
        programs.await_answer(lambda _attempt: (folder / "made").rmdir(), 20)
    assert set(process_ids) == {"one", "two"}
    assert not any(psutil.pid_exists(process_id) for process_id in process_ids.values())
    assert sorted(path.name for path in folder.iterdir()) == ["one.log", "two.log"]


def test_a_program_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    def no_answer(_attempt: int) -> None:
        raise ConnectionRefusedError

    with Programs(tmp_path) as programs:
        programs.start("server", python("raise SystemExit('no room')"))
        with pytest.raises(SubjectFailed, match="the server ended with 1: no room"):
            programs.await_answer(no_answer, 20)


def test_a_silent_server_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    asked: list[int] = []

    def no_answer(attempt: int) -> None:
        asked.append(attempt)
        raise SubjectFailed("not yet")

    with Programs(tmp_path) as programs:
        programs.start("server", python(WAITS))
        with pytest.raises(SubjectFailed, match=r"no answer in 0 s \(not yet\); server: "):
            programs.await_answer(no_answer, 0.01)
    assert asked[:2] == [1, 2]


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with Programs(tmp_path) as programs, pytest.raises(SubjectFailed, match="no-such-program can't be started"):
        programs.start("server", ["no-such-program"])


def test_a_program_that_does_not_end_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waits = "pathlib.Path('deaf').touch(); time.sleep(3600)"
    deaf = f"import signal, pathlib, time; signal.signal(15, signal.SIG_IGN); {waits}"
    with Programs(tmp_path, stop_seconds=0.1) as programs:
        programs.start("server", python(deaf))
        programs.await_answer(lambda _attempt: (tmp_path / "deaf").unlink(), HANG_SECONDS)
        (process_id,) = programs.process_ids.values()
    assert not psutil.pid_exists(process_id)
    assert "did not end within 0 s and is killed" in capsys.readouterr().err
