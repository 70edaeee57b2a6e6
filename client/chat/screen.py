"""The terminal of a chat: the prompt, the lines that scroll by above it, and the events of the
other threads.

Owns: the only prompt_toolkit of the project; the keys and the commands that begin with `/`.
Promises: a line is in the outbox before it leaves the prompt; messages that arrive appear above the
prompt and do not disturb what is being typed; the screen always shows how to leave.
Exposure: shows texts and names that strangers chose, sanitized before they come here.

Source: docs/client.md.
"""

import difflib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer, PathCompleter, WordCompleter
from prompt_toolkit.completion.base import CompleteEvent, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from client.chat.conversation import HELP, Conversation, Printed, plain
from client.chat.events import (
    Broken,
    Came,
    Event,
    FileJob,
    Job,
    KeptJob,
    KeyJob,
    Line,
    Moved,
    Passing,
    ResendJob,
    Said,
    TextJob,
)
from client.chat.workers import described
from client.errors import FileUnreadable
from client.mail.outgoing_file import can_be_sent, meant
from client.messages import KeyReceived, KeyRequested, Received, SentMessage
from client.open_home import OpenHome
from client.terminal.sanitize import visible_line
from client.terminal.text_wrap import wrapped
from common.errors import MessageUError

COMMANDS: Final = ("/file", "/help", "/key", "/quit", "/resend")
_STYLE: Final = Style.from_dict({"bar": "reverse", "bad": "bold"})
"""No colours: what is legible on light and on dark alike."""
_KEPT_LINES: Final = 200
"""Of what scrolled by: what is redrawn when the terminal becomes narrower or wider."""
_PUSH_TITLE: Final = "\x1b[22;2t"
_POP_TITLE: Final = "\x1b[23;2t"


class Signs(NamedTuple):
    """How to notify of new mail: by the bell, by the terminal's title."""

    bell: bool = True
    title: bool = True


def can_be_shown() -> bool:
    """Whether this terminal can position a cursor, according to TERM."""
    return not is_dumb_terminal()


class _Completer(Completer):
    """Commands, and behind /file a path."""

    def __init__(self) -> None:
        self._commands = WordCompleter(list(COMMANDS), sentence=True)
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> "Sequence[Completion]":
        text = document.text_before_cursor
        if text.startswith("/file "):
            path = text.removeprefix("/file ").lstrip()
            return list(self._paths.get_completions(Document(path, len(path)), complete_event))
        return list(self._commands.get_completions(document, complete_event)) if text.startswith("/") else []


class Screen:
    """The screen's thread: `run` returns when the user leaves.

    `answer`: what to do with a received key request.
    """

    def __init__(self, home: OpenHome, conversation: Conversation, answer: str, signs: Signs | None = None) -> None:
        self._signs = signs or Signs()
        self._unseen = 0
        self._lines: deque[Printed] = deque(maxlen=_KEPT_LINES)
        self._columns = 0
        self._began = False
        self._home = home
        self._conversation = conversation
        self._give: Callable[[Job], None] = _nobody
        self._answer = answer
        self._output = terminal = get_app_session().output
        if isinstance(terminal, Vt100_Output):
            # Where the cursor is, is never asked: the answer may come when it is echoed, or is
            # taken for typed.
            terminal.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            self._prompt,
            output=terminal,
            completer=_Completer(),
            complete_while_typing=False,
            erase_when_done=True,
            enable_suspend=True,
            key_bindings=self._keys(),
            style=_STYLE,
            refresh_interval=0.5,
        )
        self._session.default_buffer.accept_handler = self._accept
        self._session.app.before_render += self._draw_anew
        self._session.app.key_processor.before_key_press += self._noticed

    def post(self, event: Event) -> None:
        """Accept an event, from any thread."""
        loop = self._session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._take, event)

    def run(
        self,
        give: Callable[[Job], None],
        begin: Callable[[], None],
        first: list[Printed],
        waiting: list[SentMessage],
    ) -> None:
        """Show `first`, call `begin` once events can be accepted, and serve until the user leaves.

        `give` hands a job to the sender. Raises `KeyboardInterrupt` for Ctrl-C.
        """
        self._give = give

        def start() -> None:
            self._verify_mark()
            loop = self._session.app.loop
            assert loop is not None
            # When the terminal is ready for it, which it is not yet.
            loop.call_soon(self._print, [*first, plain(f"Chatting with {self._conversation.name}.")])
            begin()
            for message in waiting:
                self._give(KeptJob(self._conversation.draft(message.text, message.path), message))

        terminal = self._output
        if self._signs.title:
            terminal.write_raw(_PUSH_TITLE)
            self._show_title()
        keys = self._session.app.input
        try:
            with keys.raw_mode():
                # Enter, typed while the terminal was as it is for everybody, has come as the key
                # that begins a line.
                typed = [KeyPress(Keys.Enter) if key.key == Keys.ControlJ else key for key in keys.read_keys()]
                store_typeahead(keys, typed)
                self._session.prompt(pre_run=start)
        except EOFError:
            return
        finally:
            if self._signs.title:
                terminal.clear_title()
                terminal.write_raw(_POP_TITLE)
                terminal.flush()

    # --- what the threads tell
    # --------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        try:
            self._show(event)
        except Exception as error:
            # The event loop would show it as a traceback in the midst of the screen.
            self._say(self._conversation.broken(Broken("screen", described(error))))
        self._session.app.invalidate()

    def _show(self, event: Event) -> None:
        match event:
            case Came(message, shown) if self._conversation.is_shown(message):
                shown.set()
            case Came(message, shown):
                self._verify_mark()
                self._print([self._conversation.received(message)], shown.set)
                self._notify(message)
                if message.sender == self._conversation.contact.client_id:
                    self._react(message.content)
            case Moved():
                printed = self._conversation.moved(event)
                if printed is not None:
                    self._print([printed])
            case Line():
                news = self._conversation.line(event)
                if news:
                    self._say(news)
            case Passing():
                self._conversation.passing(event)
            case Said(sentence):
                self._say(sentence)
            case Broken():
                self._say(self._conversation.broken(event))

    def _notify(self, message: Received) -> None:
        """Notify of new mail."""
        if isinstance(message.content, KeyReceived):
            return
        self._unseen += 1
        terminal = self._output
        if self._signs.title:
            self._show_title()
        if self._signs.bell and self._conversation.rings():
            terminal.bell()
        terminal.flush()

    def _noticed(self, _: object) -> None:
        """The user types, and so has seen the screen."""
        if self._unseen:
            self._unseen = 0
            if self._signs.title:
                self._show_title()
                self._output.flush()

    def _show_title(self) -> None:
        new = f"({self._unseen}) " if self._unseen else ""
        self._output.set_title(f"{new}{self._conversation.name} - MessageU")

    def _react(self, content: object) -> None:
        if isinstance(content, KeyRequested):
            if self._answer == "always":
                self._give(KeyJob())
            else:
                self._say("/key makes one and sends it; the next text that you send does so too where there is none.")
        elif isinstance(content, KeyReceived):
            self._session.app.invalidate()

    # --- what is typed
    # ----------------------------------------------------------------------------------------

    def _accept(self, buffer: Buffer) -> bool:
        """Process a line; returns whether it stays in the prompt."""
        line = buffer.text.rstrip()
        if not line:
            return False
        if line.startswith("/") and not line.startswith("//"):
            return self._command(*line[1:].split(maxsplit=1))
        return not self._send(line.removeprefix("/") if line.startswith("//") else line)

    def _command(self, command: str = "", argument: str = "") -> bool:
        match command, argument.strip():
            case "quit" | "q" | "exit", _:
                self._session.app.exit(exception=EOFError())
            case "help" | "h" | "?", _:
                self._print([plain(HELP.format(name=self._conversation.name).rstrip("\n"))])
            case "key", _:
                self._give(KeyJob())
            case "resend", _:
                self._give(ResendJob())
            case "file", "":
                self._say("/file takes the path of a file.")
                return True
            case "file", path:
                return not self._send_file(path)
            case _:
                # It would stand before what is typed next; the key for the line before brings it
                # back.
                near = difflib.get_close_matches(f"/{command}", COMMANDS, n=1)
                known = f"Did you mean {near[0]}?" if near else "/help shows them all."
                self._say(f"There is no command /{command}. {known} //{command} would be sent as a text.")
        return False

    def _send(self, text: str) -> bool:
        """Accept a text; returns whether it was accepted."""
        try:
            if not self._home.greeting.has_signed_in:
                self._give(TextJob(self._conversation.draft(text), text))
                return True
            kept = self._home.sending.keep_text(self._conversation.contact.name, text)
        except MessageUError as error:
            self._say(error.told())
            return False
        self._give(KeptJob(self._conversation.draft(text), kept))
        return True

    def _send_file(self, named: str) -> bool:
        try:
            # As the history has it, wherever it is shown.
            path = meant(named).absolute()
            there = can_be_sent(path)
        except FileUnreadable as error:
            self._say(f"There is no file {error.advice}")
            return False
        except (OSError, ValueError) as error:
            self._say(f"There is no file {named}: {error}.")
            return False
        if not there:
            self._say(f"There is no file {path}.")
            return False
        self._give(FileJob(self._conversation.draft(None, path), path))
        return True

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        # The signal: of another program.
        @keys.add("c-c")
        @keys.add("<sigint>")
        def _(event: KeyPressEvent) -> None:
            """Drop what is typed; with nothing typed, leave."""
            if event.current_buffer.text:
                event.current_buffer.reset()
                self._say("Dropped. Ctrl-C once more, or Ctrl-D, leaves.")
            else:
                event.app.exit(exception=KeyboardInterrupt())

        @keys.add("escape", "enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            """Begin a new line."""
            event.current_buffer.newline(copy_margin=False)

        return keys

    # --- what is shown
    # ----------------------------------------------------------------------------------------

    def _verify_mark(self) -> None:
        self._conversation.verified = self._home.directory.is_verified(self._conversation.contact)
        self._conversation.suite = self._home.directory.suite_of(self._conversation.contact)

    def _say(self, sentence: str) -> None:
        self._print([plain(f"* {visible_line(sentence)}")])

    def _print(self, lines: list[Printed], then: Callable[[], None] | None = None) -> None:
        """Print lines above the prompt.

        The terminal stays as it is: prompt_toolkit's `run_in_terminal` lets it echo meanwhile, and
        what is typed just then would be left among the lines.
        """
        app = self._session.app
        app.renderer.erase()
        for line in lines:
            print_formatted_text(app.output, _styled(line, app.output.get_size().columns), _STYLE)
        self._lines.extend(lines)
        self._began = True
        app.output.flush()
        app.renderer.reset()
        app.invalidate()
        if then is not None:
            then()

    def _draw_anew(self, app: "Application[Any]") -> None:
        """If the width has changed, print the last lines again in the new width.

        What some terminals do with lines that no longer fit, others don't: nobody knows where the
        old prompt is now.
        """
        rows, columns = app.output.get_size()
        before, self._columns = self._columns, columns
        if before in {0, columns}:
            return
        # Line by line: a screen that is cleared as a whole goes to what can be scrolled back to.
        for row in range(rows, 0, -1):
            app.output.cursor_goto(row, 1)
            app.output.erase_end_of_line()
        shown: list[StyleAndTextTuples] = []
        room = rows - 2
        for line in reversed(self._lines):
            styled = _styled(line, columns)
            room -= sum(part[1].count("\n") for part in styled)
            if room < 0:
                break
            shown.append(styled)
        for styled in reversed(shown):
            print_formatted_text(app.output, styled, _STYLE)
        app.renderer.reset()

    def _prompt(self) -> StyleAndTextTuples:
        if not self._began:
            # The lines that come first erase this: at the top of a screen, tmux keeps what is
            # erased so.
            return []
        # The bar is a part of the prompt: a toolbar at the bottom would be left out by
        # prompt_toolkit if the terminal does not say where its cursor is.
        columns = self._output.get_size().columns
        above = "".join(f"{line}\n" for line in self._conversation.above_the_prompt(columns))
        left, right, good = self._conversation.bar(columns)
        bar = left.ljust(columns - 1 - len(right))
        return [
            ("", above),
            ("class:bar" if good else "class:bar class:bad", bar),
            ("class:bar", right),
            ("", "\n"),
            ("bold", f"to {self._conversation.name}: "),
        ]


def _nobody(job: Job) -> None:
    raise AssertionError(f"nobody takes {job} before the chat runs")


def _styled(line: Printed, columns: int) -> StyleAndTextTuples:
    """Format a line that scrolls by, wrapped at spaces."""
    before = f"{line.when} " if line.who else ""
    text = wrapped(f"{before}{line.who}{line.rest}", columns)
    rest = text.removeprefix(before + line.who)
    if rest == text:
        return [("", f"{text}\n")]
    return [("", before), ("bold", line.who), ("", f"{rest}\n")]
