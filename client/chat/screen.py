"""The terminal of a chat: the prompt, what scrolls by above it, and what the threads behind it tell.

Owns: the only prompt_toolkit of the project; the keys and the commands that begin with `/`.
Promises: a line is in the outbox before it leaves the prompt; whatever comes while one types appears above the prompt
and disturbs nothing that is being typed; the way out is always on the screen.
Exposure: shows texts and names that strangers chose, made visible before they come here.

Source: docs/client.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer, PathCompleter, WordCompleter
from prompt_toolkit.completion.base import CompleteEvent, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from client.chat.conversation import HELP, Conversation, Printed, plain
from client.chat.events import Came, Event, FileJob, Job, KeptJob, KeyJob, Line, Moved, Passing, Said, TextJob
from client.messenger import KeyReceived, KeyRequested, Messenger, SentMessage
from client.visible import visible_line
from client.wrapping import wrapped
from common.errors import MessageUError

COMMANDS: Final = ("/file", "/help", "/key", "/quit")
_STYLE: Final = Style.from_dict({"bar": "reverse", "bad": "bold"})
"""No colours: what is legible on light and on dark alike."""


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

    `answer` is what becomes of a received key request.
    """

    def __init__(self, messenger: Messenger, conversation: Conversation, answer: str) -> None:
        self._messenger = messenger
        self._conversation = conversation
        self._give: Callable[[Job], None] = _nobody
        self._answer = answer
        self._session: PromptSession[str] = PromptSession(
            self._prompt,
            completer=_Completer(),
            complete_while_typing=False,
            erase_when_done=True,
            enable_suspend=True,
            key_bindings=self._keys(),
            style=_STYLE,
            refresh_interval=0.5,
        )
        self._session.default_buffer.accept_handler = self._accept

    def post(self, event: Event) -> None:
        """Take an event, from whichever thread."""
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
        """Show `first`, call `begin` once events can be taken, and serve until the user leaves.

        `give` hands a job to the sender. Raises `KeyboardInterrupt` for Ctrl-C.
        """
        self._give = give

        def start() -> None:
            self._verify_mark()
            self._print([*first, plain(f"Chatting with {self._conversation.name}.")])
            begin()
            for message in waiting:
                self._give(KeptJob(self._conversation.draft(message.text, message.path), message))

        try:
            self._session.prompt(pre_run=start)
        except EOFError:
            return

    # --- what the threads tell --------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case Came(message, shown):
                self._verify_mark()
                self._print([self._conversation.received(message)], shown.set)
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
        self._session.app.invalidate()

    def _react(self, content: object) -> None:
        if isinstance(content, KeyRequested):
            if self._answer == "always":
                self._give(KeyJob())
            else:
                self._say("/key makes one and sends it; the next text that you send does so too where there is none.")
        elif isinstance(content, KeyReceived):
            self._session.app.invalidate()

    # --- what is typed ----------------------------------------------------------------------------------------

    def _accept(self, buffer: Buffer) -> bool:
        """Take a line; whether it stays in the prompt."""
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
            case "file", "":
                self._say("/file takes the path of a file.")
                return True
            case "file", path:
                return not self._send_file(path)
            case _:
                self._say(f"There is no command /{command}; /help shows them all. //{command} would be sent as a text.")
                return True
        return False

    def _send(self, text: str) -> bool:
        """Take a text; whether it was taken."""
        try:
            if not self._messenger.has_proven:
                self._give(TextJob(self._conversation.draft(text), text))
                return True
            kept = self._messenger.keep_text(self._conversation.contact.name, text)
        except MessageUError as error:
            self._say(error.told())
            return False
        self._give(KeptJob(self._conversation.draft(text), kept))
        return True

    def _send_file(self, named: str) -> bool:
        try:
            # As the history has it, wherever it is shown.
            path = Path(named).expanduser().absolute()
        except (RuntimeError, OSError) as error:
            self._say(f"There is no file {named}: {error}.")
            return False
        if not path.is_file():
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

        return keys

    # --- what is shown ----------------------------------------------------------------------------------------

    def _verify_mark(self) -> None:
        self._conversation.verified = self._messenger.is_verified(self._conversation.contact)

    def _say(self, sentence: str) -> None:
        self._print([plain(f"* {visible_line(sentence)}")])

    def _print(self, lines: list[Printed], then: Callable[[], None] | None = None) -> None:
        """Let lines scroll by above the prompt.

        The terminal stays as it is: prompt_toolkit's `run_in_terminal` lets it echo meanwhile, and what is typed just
        then would be left among the lines.
        """
        app = self._session.app
        app.renderer.erase()
        for line in lines:
            print_formatted_text(app.output, _styled(line, app.output.get_size().columns), _STYLE)
        app.output.flush()
        app.renderer.reset()
        app.renderer.request_absolute_cursor_position()
        app.invalidate()
        if then is not None:
            then()

    def _prompt(self) -> StyleAndTextTuples:
        # The bar is a part of the prompt: a toolbar at the bottom would be left out by prompt_toolkit where the
        # terminal does not say where its cursor is.
        columns = self._session.app.output.get_size().columns
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
    """Give a line as it scrolls by, broken at spaces."""
    before = f"{line.when} " if line.who else ""
    text = wrapped(f"{before}{line.who}{line.rest}", columns)
    rest = text.removeprefix(before + line.who)
    if rest == text:
        return [("", f"{text}\n")]
    return [("", before), ("bold", line.who), ("", f"{rest}\n")]
