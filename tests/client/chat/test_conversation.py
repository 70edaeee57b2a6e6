"""What a chat's screen shows, without a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.chat.conversation import Conversation, Printed, shortened
from client.chat.events import Line, Moved, Passing
from client.messenger import Contact, Received, SavedFile, SentMessage, Text
from common.values import ClientId

BOB, CAROL = ClientId(b"b" * 16), ClientId(b"c" * 16)
NOW = int(datetime(2026, 3, 4, 12, 30, tzinfo=UTC).timestamp() * 1000)
A_DAY = 24 * 3600 * 1000


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def conversation(clock: Clock | None = None) -> Conversation:
    return Conversation(Contact(BOB, "bob"), lambda: NOW, clock or Clock())


def received(text: str, sender: ClientId = BOB, name: str = "bob", at: int = NOW) -> Received:
    return Received(1, sender, name, Text(text), at, at, sender_proven=True, late=False, repeated=False)


def sent(text: str, *, problem: str | None = None, waiting: bool = False, stored: bool = True) -> SentMessage:
    stored_at = NOW if stored and not waiting and problem is None else None
    return SentMessage(1, Contact(BOB, "bob"), text, None, NOW, stored_at, None, problem, waiting)


def test_a_note_to_oneself_is_shown_once() -> None:
    chat = Conversation(Contact(BOB, "bob"), lambda: NOW, Clock(), with_oneself=True)
    chat.history([sent("of before")])
    chat.draft("one")
    chat.draft("one")
    chat.draft(None, Path("a.txt"))
    file = received("")._replace(content=SavedFile(Path("/saved/a.txt")))
    shown = [chat.is_shown(one) for one in (received("one"), received("one"), received("of before"), file)]
    assert shown == [True] * 4
    # Of another process of this home, or of another sender.
    assert not chat.is_shown(received("one"))
    assert not chat.is_shown(file)
    chat.draft("two")
    assert not chat.is_shown(received("two", ClientId(b"C" * 16)))
    other = conversation()
    other.draft("one")
    assert not other.is_shown(received("one"))


def test_a_message_stands_above_the_prompt_until_its_state_is_final() -> None:
    chat = conversation()
    first, second = chat.draft("one"), chat.draft("two\nlines")
    assert chat.above_the_prompt(80) == ["12:30 you [waiting]: one", "12:30 you [waiting]: two …"]
    assert chat.moved(Moved(first, sent("one", waiting=True))) is None
    assert chat.moved(Moved(first, sent("one"))) == Printed("12:30", "you", " [stored]: one")
    assert chat.moved(Moved(first, sent("one"))) is None
    assert "One message is not stored" in (chat.farewell() or "")
    refused = sent("two\nlines", problem="Too\x07 large.")
    assert chat.moved(Moved(second, refused)) == Printed("12:30", "you", " [not sent: Too\\x07 large.]: two\n    lines")
    assert chat.above_the_prompt(80) == []
    assert chat.farewell() is None


def test_what_is_possibly_lost_is_marked() -> None:
    (line,) = conversation().history([sent("hello")._replace(lost=True)])
    assert (line.who, line.rest) == ("you", " [possibly lost]: hello")


def test_what_never_reached_the_history() -> None:
    chat = conversation()
    assert chat.moved(Moved(chat.draft("x"), None)) == Printed("12:30", "you", " [stored]: x")
    file = chat.draft(None, Path("/a b"))
    assert chat.moved(Moved(file, None, "It is gone.")) == Printed(
        "12:30", "you", " [not sent: It is gone.]: the file /a b"
    )


def test_more_than_there_is_room_for() -> None:
    chat = conversation()
    for number in range(6):
        chat.draft(f"text {number} " + "x" * 100)
    lines = chat.above_the_prompt(40)
    assert lines[0] == "(2 more are waiting)"
    assert lines[1].startswith("12:30 you [waiting]: text 2 xxx")
    assert len(lines) == 5
    assert all(len(line) < 40 and line.endswith("…") for line in lines[1:])
    assert "6 messages are not stored" in (chat.farewell() or "")


def test_history_is_harmless_and_says_how_to_see_the_rest() -> None:
    chat = conversation()
    lines = chat.history(
        [
            received("yesterday", at=NOW - A_DAY),
            sent("mine"),
            sent("nobody knows", stored=False),
            received("\x1b[31mred\nFrom: eve"),
        ]
    )
    assert ["".join([line.when, " ", line.who, line.rest]) for line in lines] == [
        "2026-03-03 12:30 bob: yesterday",
        "12:30 you [stored]: mine",
        "12:30 you [unknown]: nobody knows",
        "12:30 bob: \\x1b[31mred\n    >From: eve",
    ]
    assert chat.received(received("hi", CAROL, "carol")).rest == " (not in this chat): hi"
    lines = chat.history([received(str(number)) for number in range(21)])
    assert len(lines) == 21
    assert (lines[0].rest, lines[1].rest) == ("`messageu history bob` shows earlier messages.", ": 1")


def test_a_path_that_is_too_long_is_cut_at_its_beginning() -> None:
    chat = conversation()
    chat.draft(None, Path("/home/alice/pictures/of/the/holidays/beach.png"))
    assert chat.above_the_prompt(50) == ["12:30 you [waiting]: the file …holidays/beach.png"]
    assert chat.above_the_prompt(80) == ["12:30 you [waiting]: the file /home/alice/pictures/of/the/holidays/beach.png"]


def test_a_verified_name_is_marked() -> None:
    chat = Conversation(Contact(BOB, "bob\u202e"), lambda: NOW, Clock())
    assert chat.name == '"bob\\u202e"'
    chat.verified = True
    assert chat.name == '"bob\\u202e" [verified]'


def test_a_transfer_has_a_rate_and_the_time_left() -> None:
    clock = Clock()
    chat = conversation(clock)
    chat.passing(Passing("sending", 0, 40_000_000))
    assert chat.above_the_prompt(100) == ["sending [....................] 0% of 40.0 MB, 0 B/s"]
    clock.now = 2.0
    chat.passing(Passing("sending", 10_000_000, 40_000_000))
    assert chat.above_the_prompt(100) == ["sending [#####...............] 25% of 40.0 MB, 5.0 MB/s, 0:06 left"]
    clock.now = 10.0
    # It starts over.
    chat.passing(Passing("sending", 0, 40_000_000))
    clock.now = 12.0
    chat.passing(Passing("sending", 4000, 40_000_000))
    assert chat.above_the_prompt(100)[0].endswith("0% of 40.0 MB, 2.0 kB/s, 5:33:18 left")
    chat.passing(Passing("sending", 40_000_000, 40_000_000))
    assert chat.above_the_prompt(100) == []


def test_the_bar_says_how_the_connection_does_and_where_the_way_out_is() -> None:
    chat = conversation()
    assert chat.bar(80) == (" connecting", "/help  /quit or Ctrl-D ", True)
    why = "There is no server at here:1."
    assert chat.line(Line("no server; trying again", good=False, why=why)) == why
    assert chat.line(Line("no server; trying again", good=False, why=why)) == ""
    assert chat.bar(40) == (" no server; tr…", "/help  /quit or Ctrl-D ", False)
    assert chat.line(Line("connected", good=True)) == ""


def test_wide_letters_are_cut_by_their_width() -> None:
    assert shortened("中文字符", 8) == "中文字符"
    assert shortened("中文字符", 7) == "中文字…"
    assert shortened("中文字符", 6) == "中文…"
