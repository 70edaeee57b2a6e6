"""What every test may rely on: the signals have their own effects, whatever was there before.

A shell without job control starts what it puts into the background with SIGINT and SIGQUIT ignored,
nohup with SIGHUP ignored, and children inherit that. The tests send these signals to programs of
ours and expect what a user sees. A test that runs a program's main() in this process may leave
such a signal ignored; each test ends with the handlers that it began with, for the same reason.

And no example of a property is judged by how long it took: the machine may be busy.

Slow tests come first, so that no process is left with a long one when the others have nothing to do
any more.

With --cov, slow tests and those of whole programs measure nothing. Measuring makes them take half
as much time again, or twice, and the tests beside a module run its lines anyway.
"""

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import PostgresServer

TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The signals that a program of ours takes over while it runs."""

UNMEASURED = [Path(__file__).parent / name for name in ("bench", "cluster", "deploy", "fuzz", "stories", "torture")]
"""Folders whose tests look at whole programs or at tools, not at a module that is measured."""
MEASURE_PROGRAMS = "COVERAGE_PROCESS_CONFIG"
"""The environment variable that makes a program measure its coverage."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any program is started, in each of the processes that run tests."""
    if config.getoption("numprocesses", default=None) and not hasattr(config, "workerinput"):
        # The processes that run tests begin to measure on their own. Twice would cost twice.
        os.environ.pop(MEASURE_PROGRAMS, None)
    # The health checks for slowness look at the clock too.
    slow = [HealthCheck.too_slow]
    settings.register_profile("untimed", deadline=None, suppress_health_check=slow)
    settings.load_profile("untimed")
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, all else in its order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("slow") is not None or any(folder in item.path.parents for folder in UNMEASURED):
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """No program that a test without coverage starts measures its own."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("no_cover") is not None:
            patch.delenv(MEASURE_PROGRAMS, raising=False)
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def data_folder_of_no_person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have a home that nobody named lie in a folder of the tests, never in that of who
    runs them.
    """
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_effects_of_signals() -> Iterator[None]:
    """Hand no test's handlers of TAKEN to the next test, nor to the programs that it starts."""
    before = {number: signal.getsignal(number) for number in TAKEN}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process; each test takes an empty database."""
    with PostgresServer() as server:
        yield server
