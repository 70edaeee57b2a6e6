"""What a test does to the signals of its process is not there for the next test.

A signal that is ignored stays ignored in every program that the process starts. The order of the
two tests is the order of the file.
"""

import signal

from tests.conftest import TAKEN

LEFT_BEHIND: set[signal.Signals] = set()
"""What the first test ignored, for the second to look at."""


def test_a_test_may_ignore_signals() -> None:
    for number in TAKEN:
        signal.signal(number, signal.SIG_IGN)
        LEFT_BEHIND.add(number)
    assert all(signal.getsignal(number) is signal.SIG_IGN for number in TAKEN)


def test_the_next_test_finds_none_of_them_ignored() -> None:
    assert not [number for number in LEFT_BEHIND if signal.getsignal(number) is signal.SIG_IGN]
