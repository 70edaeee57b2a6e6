"""What `verify` does where somebody who was compared by number 1 has shown keys of suite 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.cli.output import Output
from client.cli.verifying import verify
from client.errors import KeyChanged, SafetyNumberDiffers
from tests.client.fake_gateway import SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)


def test_the_new_number_is_shown_and_compared_or_nothing_changes(
    make: Callable[..., Messenger], capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = make("alice", suite_1=False), make("bob", suite_1=False)
    alice.register("alice")
    bob.register("bob")
    alice.verification("bob")
    alice.mark_verified("bob")
    alice.close()
    bob.close()
    bob, alice = make("bob"), make("alice")
    bob.users()
    output = Output(as_json=False, quiet=False)
    with pytest.raises(KeyChanged):
        verify(alice.home, output, "bob", None, qr=False, accept_new=False)
    shown = capsys.readouterr().out
    assert shown.startswith("bob [was verified]\n")
    assert "\nsafety number:\n" in shown
    assert "\nnew safety number:\n" in shown
    old, new = bob.verification("alice"), alice.verification("bob")
    assert new.new_number == old.number
    with pytest.raises(SafetyNumberDiffers):
        verify(alice.home, output, "bob", "1" * 60, qr=False, accept_new=True)
    assert alice.verification("bob") == new
    assert verify(alice.home, output, "bob", new.new_number, qr=False, accept_new=True) == 0
    shown, said = capsys.readouterr()
    assert shown.startswith("bob [verified]\n")
    assert "\nsafety number 2:\n" in shown
    assert "The new key of bob is accepted." in said
    assert "bob is verified." in said
