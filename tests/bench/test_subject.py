import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench.messageu import RunningMessageU
from bench.subject import Shape, SubjectFailed, usage_of, usage_when_calm

WORKS_LATER = """
import sys, time
def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
work(0.25)
print(flush=True)
sys.stdin.readline()
time.sleep(0.3)
work(0.2)
sys.stdin.read()
"""


@pytest.fixture(params=["itself", "its child"])
def worker(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that, itself or by a child, works for 0.25 s, is ready, and after a line
    works for 0.2 s again soon.
    """
    command = [sys.executable, "-c", WORKS_LATER]
    if request.param == "its child":
        command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_a_shape_is_named_as_it_is_written() -> None:
    assert str(Shape(50, 32)) == "50x32"
    assert Shape(50, 32).in_flight == 1600


def test_the_whole_tree_of_processes_is_counted(worker: subprocess.Popen[bytes]) -> None:
    usage = usage_of(worker.pid)
    assert usage.cpu_seconds > 0.19
    assert usage.resident_bytes > 4_000_000


def test_work_that_is_put_off_is_counted_too(worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    running = RunningMessageU(0, {"worker": worker.pid})
    with monkeypatch.context() as at_once_only:
        at_once_only.delattr(time, "sleep")
        at_once = usage_when_calm(running, 0.0)["worker"].cpu_seconds
    assert worker.stdin is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    begin = time.monotonic()
    assert usage_when_calm(running, 1.0)["worker"].cpu_seconds > at_once + 0.18
    assert time.monotonic() - begin > 1.0


def test_calm_is_not_waited_for_without_end(worker: subprocess.Popen[bytes]) -> None:
    begin = time.monotonic()
    usage_when_calm(RunningMessageU(0, {"worker": worker.pid}), 60.0, limit=0.5)
    assert time.monotonic() - begin < 60


def test_a_process_that_is_gone_can_not_be_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    with pytest.raises(SubjectFailed):
        usage_of(process.pid)
