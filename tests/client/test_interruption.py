import signal
import threading
from collections.abc import Iterator

import pytest

from client import interruption


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    """Ctrl-C comes while it is finalized."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps

    def __del__(self) -> None:
        self.steps.append("begun")
        signal.raise_signal(signal.SIGINT)
        for _ in range(3):
            self.steps.append("goes on")


def test_ctrl_c_is_a_keyboard_interrupt() -> None:
    interruption.install()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_while_something_is_finalized_it_waits_for_the_end_of_that() -> None:
    interruption.install()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        Interrupted(steps)
        signal.pause()
    assert steps == ["begun", "goes on", "goes on", "goes on"]


@pytest.mark.parametrize("chosen", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_somebody_chose_stays(chosen: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, chosen)
    interruption.install()
    assert signal.getsignal(signal.SIGINT) is chosen


def test_only_the_main_thread_can_take_it_over() -> None:
    thread = threading.Thread(target=interruption.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_once_the_exit_code_is_settled_nothing_changes_it() -> None:
    interruption.install()
    interruption.over()
    signal.raise_signal(signal.SIGINT)
    # Who chose something else keeps it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interruption.over()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
