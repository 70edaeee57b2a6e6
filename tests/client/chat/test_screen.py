"""The screen of a chat, on a simulated terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from client.chat.conversation import Conversation, plain
from client.chat.events import Said
from client.chat.screen import Screen
from client.messenger import Contact
from common.values import ClientId

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pytest
    from prompt_toolkit.input import PipeInput

    from client.chat.events import Job
    from client.messenger import Messenger


def test_what_comes_while_one_types_leaves_the_terminal_as_it_is(
    alice: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In cooked mode it would echo what is typed in that moment, among the lines that scroll by."""
    cooked: list[str] = []
    sink = io.StringIO()
    given: list[Job] = []
    with (
        create_pipe_input() as typed,
        create_app_session(input=typed, output=Vt100_Output(sink, lambda: Size(rows=24, columns=80))),
    ):
        real = type(typed).cooked_mode

        def noted(self: PipeInput) -> AbstractContextManager[None]:
            cooked.append("cooked")
            return real(self)

        monkeypatch.setattr(type(typed), "cooked_mode", noted)
        screen = Screen(alice.home, Conversation(Contact(ClientId(bytes(16)), "bob"), lambda: 0, lambda: 0.0), "never")

        def begin() -> None:
            for number in range(3):
                screen.post(Said(f"news {number}"))
            typed.send_text("/key\r/quit\r")

        screen.run(given.append, begin, [plain("before")], [])
    shown = sink.getvalue()
    assert [shown.count(line) for line in ("before\r\n", "* news 0\r\n", "* news 1\r\n", "* news 2\r\n")] == [1] * 4
    assert len(given) == 1
    assert cooked == []
