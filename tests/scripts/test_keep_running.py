"""The keeper's rules with a clock that is set by hand, then the same with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from scripts.keep_running import (
    Keeper,
    ancestors_of,
    as_exit_code,
    display_name,
    keepers_of,
    kept_program,
    main,
    open_all,
    parent_of,
    reason,
)
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KEEPER = Path(__file__).parent.parent.parent / "scripts" / "keep_running.py"
NEVER = float("inf")


class FakeChild:
    """Ends by itself after `life` seconds with `code`, or `ends_in` seconds after a
    signal with `code_on_signal`.
    """

    def __init__(self, world: World, life: float, code: int, ends_in: float = NEVER, code_on_signal: int = 0) -> None:
        self._world = world
        self._end = world.now + life
        self._code = code
        self._ends_in = ends_in
        self._code_on_signal = code_on_signal

    @property
    def end(self) -> float:
        return self._end

    def poll(self) -> int | None:
        return self._code if self._world.now >= self._end else None

    def send_signal(self, sig: int, /) -> None:
        self._world.events.append((self._world.now, f"signal {sig}"))
        if self._world.now + self._ends_in < self._end:
            self._end = self._world.now + self._ends_in
            self._code = self._code_on_signal

    def kill(self) -> None:
        self._world.events.append((self._world.now, "kill"))
        self._end = self._world.now
        self._code = -signal.SIGKILL


class World:
    """Clock, signals and processes of a keeper under test; whatever happens is written
    down with its time.
    """

    def __init__(self, *lives: Callable[[World], FakeChild], signals: Sequence[tuple[float, int]] = ()) -> None:
        self.now = 0.0
        self.events: list[tuple[float, str]] = []
        self.logged: list[str] = []
        self._lives = list(lives)
        self._signals = list(signals)
        self._child: FakeChild | None = None

    def start(self) -> FakeChild:
        self.events.append((self.now, "start"))
        self._child = self._lives.pop(0)(self)
        return self._child

    def wait(self, timeout: float) -> list[int]:
        assert timeout >= 0
        wake = self.now + timeout
        if self._child is not None and self._child.end > self.now:
            wake = min(wake, self._child.end)
        if self._signals and self._signals[0][0] <= wake:
            at, number = self._signals.pop(0)
            self.now = max(self.now, at)
            return [number]
        self.now = wake
        return []

    def keep(self, **settings: float | bool | Callable[[], bool]) -> int:
        return Keeper(self.start, self.wait, lambda: self.now, self.logged.append, **settings).run()  # type: ignore[arg-type]

    def starts(self) -> list[float]:
        return [round(at, 6) for at, what in self.events if what == "start"]


def lives(seconds: float, code: int) -> Callable[[World], FakeChild]:
    return lambda world: FakeChild(world, seconds, code)


def obeys(ends_in: float = 0.5, code: int = 0) -> Callable[[World], FakeChild]:
    return lambda world: FakeChild(world, NEVER, 0, ends_in, code)


@pytest.mark.parametrize("code", [0, 2, 78])
def test_a_final_code_is_handed_on_without_a_restart(code: int) -> None:
    world = World(lives(3, code))
    assert world.keep() == code
    assert world.starts() == [0]
    assert world.logged == []


def test_failures_are_followed_by_restarts_with_growing_delays() -> None:
    world = World(*[lives(0, 1)] * 8, lives(0, 0))
    assert world.keep() == 0
    starts = world.starts()
    delays = [round(later - earlier, 6) for earlier, later in pairwise(starts)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert world.logged[0] == "ended with code 1; starting it again in 0.1 s"
    assert len(world.logged) == 8


def test_a_death_by_signal_is_followed_by_a_restart() -> None:
    world = World(lives(1, -signal.SIGKILL), lives(0, 0))
    assert world.keep() == 0
    assert world.starts() == [0, 1.1]
    assert world.logged == ["was ended by SIGKILL; starting it again in 0.1 s"]


def test_ten_healthy_seconds_begin_the_count_anew() -> None:
    world = World(lives(0, 1), lives(0, 1), lives(10, 1), lives(9.9, 1), lives(0, 0))
    world.keep()
    assert [line[-5:] for line in world.logged] == ["0.1 s", "0.2 s", "0.1 s", "0.2 s"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_the_end_awaited(number: int) -> None:
    world = World(obeys(ends_in=2), signals=[(7, number), (7.5, signal.SIGTERM), (8, signal.SIGINT)])
    assert world.keep() == 0
    assert world.events == [(0, "start"), (7, f"signal {number}")]
    assert world.now == 9


def test_a_program_that_fails_on_its_way_out_is_not_started_again() -> None:
    world = World(obeys(code=3), signals=[(1, signal.SIGTERM)])
    assert world.keep() == 3
    assert world.starts() == [0]


def test_a_program_that_the_signal_itself_ended_gives_the_shells_code() -> None:
    world = World(obeys(code=-signal.SIGTERM), signals=[(1, signal.SIGTERM)])
    assert world.keep() == 143


def test_a_program_that_does_not_end_is_killed() -> None:
    world = World(obeys(ends_in=NEVER), signals=[(1, signal.SIGTERM)])
    assert world.keep() == 137
    assert world.events == [(0, "start"), (1, f"signal {signal.SIGTERM}"), (5.5, "kill")]
    assert world.logged == ["has not ended within 4.5 s; killing it"]


def test_the_time_to_end_in_is_a_setting() -> None:
    world = World(obeys(ends_in=NEVER), signals=[(1, signal.SIGTERM)])
    world.keep(kill_after=2.0)
    assert world.events[-1] == (3, "kill")


def test_a_young_program_gets_its_signal_when_it_has_settled() -> None:
    world = World(obeys(), signals=[(0.25, signal.SIGINT)])
    world.keep(settle=1.0)
    assert world.events == [(0, "start"), (1, f"signal {signal.SIGINT}")]


def test_a_program_that_has_settled_gets_its_signal_at_once() -> None:
    world = World(obeys(), signals=[(1.25, signal.SIGINT)])
    world.keep(settle=1.0)
    assert world.events[-1] == (1.25, f"signal {signal.SIGINT}")


def test_a_signal_is_held_back_while_others_have_to_end_first() -> None:
    world = World(obeys(), signals=[(1, signal.SIGTERM)])
    assert world.keep(others_run=lambda: world.now < 3) == 0
    assert world.events == [(0, "start"), (3, f"signal {signal.SIGTERM}")]


def test_a_signal_is_not_held_back_for_ever() -> None:
    world = World(obeys(ends_in=NEVER), signals=[(1, signal.SIGTERM)])
    assert world.keep(others_run=lambda: True) == 137
    assert world.events == [(0, "start"), (5, f"signal {signal.SIGTERM}"), (5.5, "kill")]


def test_others_are_asked_for_only_when_the_end_was_asked_for() -> None:
    world = World(lives(3, 1), lives(0, 0))

    def others_run() -> bool:
        raise AssertionError("nobody asked for the end")

    assert world.keep(others_run=others_run) == 0


def test_a_program_that_ends_while_its_signal_is_held_back_is_not_started_again() -> None:
    world = World(lives(2, 1), signals=[(1, signal.SIGTERM)])
    assert world.keep(others_run=lambda: True) == 1
    assert world.events == [(0, "start")]


def test_kept_once_means_no_restart() -> None:
    world = World(lives(1, 5))
    assert world.keep(restart=False) == 5
    assert world.starts() == [0]


def test_a_signal_between_two_starts_ends_it_there() -> None:
    world = World(lives(1, 1), signals=[(1.05, signal.SIGTERM)])
    assert world.keep() == 0
    assert world.starts() == [0]


def test_a_signal_that_meets_a_program_just_dead_ends_it_too() -> None:
    world = World(lambda world: FakeChild(world, 1, -signal.SIGTERM), signals=[(1, signal.SIGTERM)])
    assert world.keep() == 143
    assert world.starts() == [0]


def test_a_program_that_cannot_be_started_is_told() -> None:
    world = World()

    def start() -> FakeChild:
        raise FileNotFoundError("no such program")

    assert Keeper(start, world.wait, lambda: world.now, world.logged.append).run() == 127
    assert world.logged == ["cannot be started: no such program"]


def test_words_for_ends() -> None:
    assert reason(3) == "ended with code 3"
    assert reason(-9) == "was ended by SIGKILL"
    assert reason(-63) == "was ended by signal 63"
    assert [as_exit_code(code) for code in (0, 78, -15)] == [0, 78, 143]


@pytest.mark.parametrize(
    ("command", "name"),
    [(["python", "-P", "-m", "gateway"], "gateway"), (["/usr/bin/sleep", "5"], "sleep"), (["a", "-m"], "a")],
)
def test_the_name_in_the_log(command: list[str], name: str) -> None:
    assert display_name(command) == name


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "command" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux")
def test_ancestors_are_watched_as_far_as_asked() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    assert ancestors_of(os.getpid(), 0) == []
    assert ancestors_of(os.getpid(), 1) == [os.getppid()]
    [descriptor] = open_all([os.getpid()])
    os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux")
def test_who_has_ended_has_no_descriptor() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert open_all([ended.pid]) == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["python", "scripts/keep_running.py", "--ancestors", "2", "--", "python", "-P", "-m", "gateway"], "gateway"),
        (["python", "/a/keep_running.py", "--after", "gateway", "--", "/b/sleep", "5"], "sleep"),
        (["python", "scripts/keep_running.py", "--"], None),
        (["python", "-P", "-m", "gateway"], None),
        (["vi", "--", "scripts/keep_running.py"], None),
        ([], None),
    ],
)
def test_keepers_are_known_by_their_command_lines(words: list[str], name: str | None) -> None:
    assert kept_program(b"".join([os.fsencode(word) + b"\0" for word in words])) == name


# Real processes from here on. The kept program writes its number into a file, one line per start.

PROGRAM = """
import os, signal, sys, time
out, on_term = sys.argv[1], sys.argv[2]
def end(number, frame):
    open(out, "a").write(f"got {number}\\n")
    if on_term == "obey":
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(out, "a").write(f"{os.getpid()}\\n")
if on_term.isdigit():
    sys.exit(int(on_term))
while True:
    time.sleep(3600)
"""


class Kept:
    """A keeper that runs, and what its program wrote."""

    def __init__(self, folder: Path, on_term: str, *options: str) -> None:
        self.out = folder / "out"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, KEEPER, *options, "--", sys.executable, "-c", PROGRAM, self.out, on_term],
                stderr=log,
                start_new_session=True,
            )

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines() if self.out.exists() else []

    def pid(self, start: int = 1) -> int:
        """Wait for the start of that number and return the program's pid."""
        eventually(lambda: len(self.lines()) >= start)
        return int(self.lines()[start - 1])


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    started: list[Kept] = []

    def start(on_term: str, *options: str) -> Kept:
        started.append(Kept(tmp_path, on_term, *options))
        return started[-1]

    yield start
    for kept in started:
        kept.keeper.kill()
        kept.keeper.wait()


def test_real_restart_after_kill_and_orderly_end(keep: Callable[..., Kept]) -> None:
    kept = keep("obey")
    first = kept.pid(1)
    os.kill(first, signal.SIGKILL)
    second = kept.pid(2)
    assert second != first
    # The whole group gets the signal, as honcho and a terminal send it; the program gets it once
    # all the same.
    os.killpg(kept.keeper.pid, signal.SIGTERM)
    assert kept.keeper.wait(HANG_SECONDS) == 0
    assert kept.lines() == [str(first), str(second), f"got {signal.SIGTERM:d}"]
    assert is_gone(second)
    assert "was ended by SIGKILL; starting it again in 0.1 s" in kept.log.read_text()


def test_real_code_78_ends_it(keep: Callable[..., Kept]) -> None:
    kept = keep("78")
    assert kept.keeper.wait(HANG_SECONDS) == 78
    assert len(kept.lines()) == 1


def test_real_program_that_does_not_listen_is_killed(keep: Callable[..., Kept]) -> None:
    kept = keep("ignore", "--kill-after", "0.3")
    pid = kept.pid()
    kept.keeper.terminate()
    assert kept.keeper.wait(HANG_SECONDS) == 137
    assert is_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_real_program_dies_with_its_keeper(keep: Callable[..., Kept]) -> None:
    kept = keep("ignore")
    pid = kept.pid()
    kept.keeper.kill()
    kept.keeper.wait()
    eventually(lambda: is_gone(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux")
def test_real_keeper_ends_with_its_grandparent(tmp_path: Path) -> None:
    out = tmp_path / "out"
    keeper = [sys.executable, str(KEEPER), "--ancestors", "2", "--", sys.executable, "-c", PROGRAM, str(out), "obey"]
    middle = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *keeper]
    top = subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *middle])
    try:
        eventually(lambda: out.exists() and out.read_text().count("\n") == 1)
        pid = int(out.read_text())
    finally:
        top.kill()
        top.wait()
    eventually(lambda: is_gone(pid))
    assert out.read_text().splitlines()[1:] == [f"got {signal.SIGTERM:d}"]


IN_ORDER = """
import os, pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def say(what):
    with open(folder / "said", "a") as file:
        file.write(f"{name} {what}\\n")
def end(number, frame):
    say("got")
    while name == "first" and not (folder / "go").exists():
        time.sleep(0.01)
    say("ended")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
say("started")
while True:
    time.sleep(3600)
"""
"""The program `first` takes until the file `go` is there to end."""


def pidfds_of(pid: int) -> int:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.append(str(entry.readlink()))
    return len([link for link in links if "pidfd" in link])


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux")
def test_real_programs_end_one_after_the_other(tmp_path: Path) -> None:
    said = tmp_path / "said"
    keepers: list[subprocess.Popen[bytes]] = []
    for name in ("first", "second"):
        # By its name one keeper finds the other; both are children of this process, as honcho's are
        # of honcho.
        (tmp_path / name).symlink_to(sys.executable)
        after = ["--after", "first"] if name == "second" else []
        options = ["--kill-after", str(HANG_SECONDS), *after, "--", tmp_path / name, "-c", IN_ORDER, name, tmp_path]
        keepers.append(subprocess.Popen([sys.executable, KEEPER, *options]))
    first, second = keepers
    try:
        eventually(lambda: said.exists() and said.read_text().count("started") == 2)
        assert keepers_of("first", os.getpid()) == [first.pid]
        assert first.pid in keepers_of("first", 1)
        assert keepers_of("first", second.pid) == []
        second.terminate()
        # It waits for its parent's end already.
        eventually(lambda: second.poll() is not None or pidfds_of(second.pid) == 2)
        first.terminate()
        eventually(lambda: "first got" in said.read_text())
        (tmp_path / "go").touch()
        assert [keeper.wait(HANG_SECONDS) for keeper in keepers] == [0, 0]
    finally:
        for keeper in keepers:
            keeper.kill()
            keeper.wait()
    assert said.read_text().splitlines()[2:] == ["first got", "first ended", "second got", "second ended"]


def test_each_program_of_the_procfile_has_its_keeper() -> None:
    lines = (KEEPER.parent.parent / "Procfile").read_text().splitlines()
    assert lines == [
        f"{name}: exec .venv/bin/python scripts/keep_running.py --ancestors 2 {after}-- .venv/bin/python -P -m {name}"
        for name, after in (("gateway", ""), ("storage_worker", "--after gateway "))
    ]
