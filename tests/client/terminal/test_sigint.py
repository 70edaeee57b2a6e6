import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from client.terminal import sigint


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before, hook = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    yield
    signal.signal(signal.SIGINT, before)
    sys.unraisablehook = hook


def wait_for_it() -> None:
    """Until a signal ends it. A signal that comes just before pause() would not end that."""
    while True:
        time.sleep(0.001)


class Thing:
    """Something to refer to."""


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
    sigint.install()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_while_something_is_finalized_it_comes_again_after_that() -> None:
    sigint.install()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        Interrupted(steps)
        wait_for_it()
    assert steps[0] == "begun"


def test_in_a_callback_of_a_weak_reference_it_comes_again_after_that() -> None:
    sigint.install()
    thing = Thing()
    reference = weakref.ref(thing, lambda _reference: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        del thing
        wait_for_it()
    assert reference() is None


def test_so_does_an_end_from_outside() -> None:
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        sigint.install_end()
        thing = Thing()
        reference = weakref.ref(thing, lambda _reference: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(sigint.Ended) as ended:
            del thing
            wait_for_it()
        assert (reference(), ended.value.number) == (None, signal.SIGTERM)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_what_else_is_ignored_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_value))
    sigint.install()
    thing = Thing()
    reference = weakref.ref(thing, lambda _reference: int("nothing"))
    del thing
    assert reference() is None
    assert [type(one) for one in told] == [ValueError]


@pytest.mark.parametrize("chosen", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_somebody_chose_stays(chosen: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, chosen)
    sigint.install()
    assert signal.getsignal(signal.SIGINT) is chosen


def test_only_the_main_thread_can_take_it_over() -> None:
    thread = threading.Thread(target=sigint.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_once_the_exit_code_is_settled_nothing_changes_it() -> None:
    sigint.install()
    sigint.over()
    signal.raise_signal(signal.SIGINT)
    # Who chose something else keeps it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sigint.over()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_from_outside_is_heard_once(number: signal.Signals) -> None:
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        sigint.install_end()
        with pytest.raises(sigint.Ended) as ended:
            signal.raise_signal(number)
        assert ended.value.number == number
        assert ended.value.code == 128 + number
        # What it cleans up is not broken off.
        signal.raise_signal(signal.SIGTERM)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_an_end_that_somebody_chose_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ending = signal.getsignal(signal.SIGTERM)
    try:
        sigint.install_end()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, ending)
