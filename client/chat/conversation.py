"""The text on a chat's screen: the lines that scroll by, and those above the prompt.

Owns: the state of messages in flight, of transfers and of the connection, and their wording.
Promises: uses no terminal; everything that others wrote is sanitized. A message in flight is shown
above the prompt until its state is final, and only then scrolls by: nothing that has scrolled by
becomes wrong.
Exposure: shows texts and names that strangers chose.

    a message of ours   where it stands        leaves when
    ─────────────────   ────────────────────   ────────────────────────────────────────────────────────
    waiting             above the prompt       the server has it → stored; refused for good → not sent
    stored, not sent    among what scrolls by  never

Source: docs/client.md.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from client.chat.events import Broken, Line, Moved, Passing
from client.cli import message_lines
from client.messages import Received, SavedFile, SentMessage, Text
from client.terminal import local_time
from client.terminal.sanitize import command, marked, visible_line
from client.trust.contacts import Contact

HISTORY: Final = 20
"""How many messages of before are shown at the beginning."""
_MOST_WAITING_LINES: Final = 4
_BAR: Final = 20
"""Columns."""
_RINGS_EVERY: Final = 1.0
"""Seconds between two bells."""
HELP: Final = """\
What you type is sent to {name} when you press Enter.
/file PATH   send a file; Tab completes the path, or drag the file here
/key         make a new symmetric key and send it
/resend      send again everything that may be lost since the server was restored from a backup
/help        show this list
/quit        leave; Ctrl-D does the same
A line that begins with // is sent as a text that begins with /.
Alt-Enter or Ctrl-J begins a new line.
While there is no server, what you send is kept. It is sent when the server is back.
"""


class Printed(NamedTuple):
    """A line that scrolls by: the time, who speaks (shown bold), and the rest."""

    when: str
    who: str
    rest: str


class _Draft(NamedTuple):
    kind: str
    """What precedes `what`."""
    what: str
    queued_at: int


class Conversation:
    """The state of one chat. Used from the screen's thread."""

    def __init__(
        self, contact: Contact, now: Callable[[], int], monotonic: Callable[[], float], *, with_oneself: bool = False
    ) -> None:
        self.contact = contact
        self._notes: Counter[str | None] | None = Counter() if with_oneself else None
        """In a chat with oneself: the texts that were shown as they were sent; None: files."""
        self.verified = False
        self.suite = 0
        """The cipher suite of what is sent; 0 is the published one."""
        self._now = now
        self._monotonic = monotonic
        self._drafts: dict[int, _Draft] = {}
        self._last = 0
        self._line = Line("connecting", good=True)
        self._broken = ""
        self._rang: float | None = None
        self._passing: Passing | None = None
        self._began = 0.0

    @property
    def name(self) -> str:
        """The other user's name, with a mark if their key was verified."""
        return marked(self.contact.name, "verified" if self.verified else None)

    @property
    def is_broken(self) -> bool:
        """Whether a part of the chat has ended with an unexpected error."""
        return bool(self._broken)

    # --- what happens
    # -----------------------------------------------------------------------------------------

    def draft(self, text: str | None, path: Path | None = None) -> int:
        """Note that a message of ours is in flight; returns its number in this chat."""
        self._last += 1
        if self._notes is not None:
            self._notes[text] += 1
        kind, what = ("", message_lines.indented(text)) if text is not None else ("the file ", visible_line(str(path)))
        self._drafts[self._last] = _Draft(kind, what, self._now())
        return self._last

    def moved(self, event: Moved) -> Printed | None:
        """Update the state of a message of ours; returns the line that scrolls by if the state is
        final.
        """
        draft = self._drafts.get(event.draft)
        message = event.message
        if draft is None or (message is not None and message_lines.state_of(message) == "waiting"):
            return None
        del self._drafts[event.draft]
        if message is not None:
            return self.sent(message)
        state = f"not sent: {event.problem}" if event.problem else "stored"
        return self._ours(self._now(), state, f"{draft.kind}{draft.what}")

    def is_shown(self, message: Received) -> bool:
        """Whether a message is a note to oneself that this chat showed when it was sent. Called
        once per message.
        """
        match message.content:
            case Text(text):
                note: str | None = text
            case SavedFile():
                note = None
            case _:
                return False
        if self._notes is None or message.sender != self.contact.client_id or not self._notes[note]:
            return False
        self._notes[note] -= 1
        return True

    def line(self, event: Line) -> str:
        """Update the state of the connection; returns what to print about it, if anything."""
        news = event.why if event.why != self._line.why else ""
        self._line = event
        return news

    def broken(self, event: Broken) -> str:
        """Note that a part of the chat has ended; returns what to print about it. The status bar
        says so from now on.
        """
        self._broken = f"the {event.part} has stopped: leave, and start the chat again"
        return (
            f"The {event.part} of this chat ended with an unexpected error: {event.error}. What is kept is not "
            "lost: leave with /quit, and start the chat again."
        )

    def rings(self) -> bool:
        """Whether to notify of a new message: once a second is enough."""
        now = self._monotonic()
        if self._rang is not None and now - self._rang < _RINGS_EVERY:
            return False
        self._rang = now
        return True

    def passing(self, event: Passing) -> None:
        """Update the progress of a transfer."""
        if event.done >= event.total:
            self._passing = None
            return
        if self._passing is None or self._passing.what != event.what or event.done < self._passing.done:
            self._began = self._monotonic()
        self._passing = event

    # --- lines that scroll by
    # ---------------------------------------------------------------------------------

    def received(self, message: Received) -> Printed:
        """Show a message. One from somebody else is marked, because an answer would not go
        there.
        """
        name, rest = message_lines.received_parts(message)
        elsewhere = "" if message.sender == self.contact.client_id else " (not in this chat)"
        return Printed(self._time(message.accepted_at or message.received_at), name, f"{elsewhere}{rest}")

    def sent(self, message: SentMessage) -> Printed:
        """Show a message of ours with its state."""
        state = message_lines.state_of(message)
        if state == "failed":
            state = f"not sent: {message.problem}"
        elif message.lost:
            state = message_lines.LOST_MARK
        return self._ours(message.stored_at or message.queued_at, state, message_lines.sent_content(message))

    def _ours(self, when: int, state: str, what: str) -> Printed:
        return Printed(self._time(when), "you", f" [{visible_line(state)}]: {what}")

    def history(self, messages: list[Received | SentMessage]) -> list[Printed]:
        """Show the newest messages of this conversation, and how to see the rest if there
        is more.
        """
        if self._notes is not None:
            self._notes.update(one.text for one in messages if isinstance(one, SentMessage))
        lines = [self.received(one) if isinstance(one, Received) else self.sent(one) for one in messages]
        if len(lines) <= HISTORY:
            return lines
        return [
            plain(f"{command('history', self.contact.name)} shows earlier messages."),
            *lines[-HISTORY:],
        ]

    # --- what stands above the prompt
    # --------------------------------------------------------------------------

    def above_the_prompt(self, columns: int) -> list[str]:
        """Messages in flight, one per line, and the progress of a transfer."""
        drafts = list(self._drafts.values())
        lines = []
        if len(drafts) > _MOST_WAITING_LINES:
            lines.append(f"({len(drafts) - _MOST_WAITING_LINES} more are waiting)")
        for draft in drafts[-_MOST_WAITING_LINES:]:
            first, _, more = draft.what.partition("\n")
            before = f"{self._time(draft.queued_at)} you [waiting]: {draft.kind}"
            if draft.kind:
                # Of a path, its end tells most.
                first = _end_of(first, columns - 1 - len(before))
            lines.append(f"{before}{first}{' …' if more else ''}")
        if self._passing is not None:
            lines.append(self._transfer(self._passing))
        return [shortened(line, columns - 1) for line in lines]

    def _transfer(self, event: Passing) -> str:
        seconds = self._monotonic() - self._began
        rate = event.done / seconds if seconds > 0 else 0.0
        full = _BAR * event.done // event.total
        # Before there is a rate worth the name, nothing is said of the time.
        left = f", {_clock(round((event.total - event.done) / rate))} left" if rate > 0 and seconds >= 1 else ""
        return (
            f"{visible_line(event.what)} [{'#' * full}{'.' * (_BAR - full)}] {100 * event.done // event.total}% "
            f"of {_size(event.total)}, {_size(rate)}/s{left}"
        )

    def bar(self, columns: int) -> tuple[str, str, bool]:
        """The status bar: the state of the connection on the left, the commands on the right; and
        whether all is well.
        """
        way_out = "/help  /quit or Ctrl-D "
        room = columns - len(way_out) - 3
        words, good = (self._broken, False) if self._broken else (self._line.words, self._line.good)
        with_suite = f"{words}, suite {self.suite}"
        if self.suite and good and len(with_suite) <= room:
            words = with_suite
        return f" {shortened(visible_line(words), room)}", way_out, good

    def farewell(self) -> str | None:
        """What to print at the end about messages still in flight."""
        if not self._drafts:
            return None
        many = "One message is" if len(self._drafts) == 1 else f"{len(self._drafts)} messages are"
        return f"{many} not stored by the server yet; pending messages are kept, and sent before anything else."

    def _time(self, milliseconds: int) -> str:
        when, now = local_time.local(milliseconds), local_time.local(self._now())
        is_today = when is not None and now is not None and when.date() == now.date()
        return f"{when:%H:%M}" if is_today else local_time.shown(milliseconds)


def plain(text: str) -> Printed:
    """Return a line of ours."""
    return Printed("", "", text)


def shortened(line: str, columns: int) -> str:
    """Shorten a line to a width in terminal columns."""
    from prompt_toolkit.utils import get_cwidth  # noqa: PLC0415 - only a chat needs it

    if get_cwidth(line) <= columns:
        return line
    kept = ""
    for letter in line:
        if get_cwidth(kept + letter) >= columns:
            break
        kept += letter
    return f"{kept}…"


def _end_of(path: str, columns: int) -> str:
    """Shorten a path at its beginning, to a width in terminal columns."""
    return shortened(path[::-1], columns)[::-1]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
