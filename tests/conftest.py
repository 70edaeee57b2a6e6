"""What every test may rely on: the signals have their own effects, whatever was there before.

A shell without job control starts what it puts into the background with SIGINT and SIGQUIT ignored,
nohup with SIGHUP ignored, and children inherit that. The tests send these signals to programs of
ours and expect what a user sees. A test that runs a program's main() in this process may leave
such a signal ignored; each test ends with the handlers that it began with, for the same reason.

And no example of a property is judged by how long it took: the machine may be busy.

Slow tests come first, so that no process is left with a long one when the others have nothing to do
any more.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The signals that a program of ours takes over while it runs."""


def pytest_configure() -> None:
    """Before any program is started, in each of the processes that run tests."""
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, all else in its order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
