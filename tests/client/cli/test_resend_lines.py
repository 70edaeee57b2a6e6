"""What is printed about messages that are possibly lost."""

from __future__ import annotations

from client.cli.resend_lines import summary
from client.messages import Resent


def test_what_is_said_of_it() -> None:
    assert list(summary(Resent([], 0, 0, 0, []))) == ["Nothing is possibly lost."]
    assert list(summary(Resent([], 1, 0, 2, ["A file is gone."]))) == [
        "A file is gone.",
        "One message is sent again.",
        "2 messages are still marked as possibly lost; `messageu resend --forget` takes the marks away.",
    ]
    assert list(summary(Resent([], 0, 3, 0, []))) == [
        "3 messages are kept, and sent again as soon as the server takes them."
    ]
