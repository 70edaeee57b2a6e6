"""The two threads behind a chat's screen: one sends, one receives.

Owns: the order of sending, trying again, and waiting for mail, each with an `OpenHome` of its own.
Promises: a failure of the server or the store ends neither thread: it is sent as an event, and work
continues when it can. An unexpected error ends a thread, and is shown too. What is interrupted
stays in the outbox, or unread.
Exposure: as `client.home`; shows nothing itself.

Source: docs/client.md.
"""

import contextlib
import queue
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.chat.events import (
    Broken,
    Came,
    FileJob,
    Job,
    KeptJob,
    KeyJob,
    Line,
    Moved,
    Passing,
    Post,
    ResendJob,
    Said,
    TextJob,
)
from client.cli.resend_lines import summary
from client.connection.handshake import lost_sentence
from client.connection.server_link import Progress
from client.errors import ClientError, HomeInUse, OutcomeUnknown, ServerAnsweredError, ServerUnreachable
from client.messages import Received, SentMessage
from client.open_home import OpenHome
from common.errors import MessageUError
from common.values import ClientId

CONNECTED: Final = "connected"
FOLLOWING: Final = "another process of this home receives; what it gets appears here"
NOTHING_PASSES: Final = Passing("", 0, 0)
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 10.0
SERVER_WAIT: Final = 60.0
"""Seconds that one question to the server may take."""
_NEWS_EVERY: Final = 0.1
"""Seconds between two events of one transfer."""

Open = Callable[[Callable[[str], None]], OpenHome]
"""Opens the home once more; the argument is called with what happens automatically."""


class Stopped(Exception):
    """The chat ends: leave everything as it is."""


class _Worker(ABC):
    """A thread with an OpenHome of its own. `start`, `stop` and `join` are for the
    screen's thread.
    """

    def __init__(self, name: str, open_home: Open, post: Post) -> None:
        self._open_home = open_home
        self._post = post
        self._stop = threading.Event()
        self._home: OpenHome | None = None
        # A daemon: if the network makes it wait for longer than a person would, the program ends
        # without it.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Interrupt what is running."""
        self._stop.set()
        if self._home is not None:
            self._home.link.interrupt()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _main(self) -> None:
        try:
            with self._open_home(self._tell) as home:
                self._home = home
                if not self._stop.is_set():
                    self._work(home)
        except Stopped:
            pass
        except MessageUError as error:
            self._post(Said(_sentence(error)))
            self._post(Line("the home can't be used: leave, and see messageu doctor", good=False))
        except Exception as error:
            # Of this thread nobody else would hear that it has ended.
            self._post(Broken(self._thread.name, described(error)))

    @abstractmethod
    def _work(self, home: OpenHome) -> None: ...

    def _tell(self, sentence: str) -> None:
        self._post(Said(sentence))

    def _progress(self, what: str) -> Progress:
        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if self._stop.is_set():
                raise Stopped
            now = time.monotonic()
            if done >= total or now - last >= _NEWS_EVERY:
                last = now
                self._post(Passing(what, done, total))

        return progress


class Sender(_Worker):
    """Does the jobs that `give` hands over, and empties the outbox."""

    def __init__(self, name: str, open_home: Open, post: Post) -> None:
        super().__init__("sender", open_home, post)
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._kept: dict[int, SentMessage] = {}

    def give(self, job: Job) -> None:
        """Hand over a job."""
        self._jobs.put(job)

    def wake(self) -> None:
        """The server is back: check the outbox again."""
        self._jobs.put(None)

    def stop(self) -> None:
        """Interrupt what is running."""
        super().stop()
        self.wake()

    def _tell(self, sentence: str) -> None:
        """The screen shows the state of each message itself."""

    def _work(self, home: OpenHome) -> None:
        pause: float | None = None
        while True:
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=pause)
                if job is not None:
                    self._do(home, job)
            if self._stop.is_set():
                raise Stopped
            if not self._kept and not home.outbox.waiting_count():
                pause = None
            elif self._empty_the_outbox(home):
                pause = FIRST_PAUSE if self._kept else None
            else:
                pause = min((pause or FIRST_PAUSE / 2) * 2, LONGEST_PAUSE)

    def _do(self, home: OpenHome, job: Job) -> None:
        try:
            match job:
                case KeptJob(draft, message):
                    self._kept[draft] = message
                case FileJob(draft, path) if home.greeting.has_signed_in:
                    with contextlib.suppress(ClientError):
                        # So that the server has told how much it takes.
                        home.sending.send_waiting(None, self._progress("sending"))
                    progress = self._progress(f"encrypting {path.name}")
                    self._kept[draft] = kept = home.sending.keep_file(self._name, path, progress)
                    self._post(Moved(draft, kept))
                case FileJob(draft, path):
                    home.key_exchange.agree_on_key(self._name)
                    home.sending.send_file(self._name, path, self._progress(f"sending {path.name}"))
                    self._post(Moved(draft, None))
                case TextJob(draft, text):
                    home.key_exchange.agree_on_key(self._name)
                    home.sending.send_text(self._name, text)
                    self._post(Moved(draft, None))
                case KeyJob():
                    self._send_key(home)
                case ResendJob():
                    for sentence in summary(home.resending.resend(None, self._progress("sending again"))):
                        self._post(Said(sentence))
        except MessageUError as error:
            if isinstance(job, KeyJob):
                self._post(Said(f"The key was not sent. {_sentence(error)}"))
            elif isinstance(job, ResendJob):
                self._post(Said(f"Not all was sent again. {_sentence(error)}"))
            else:
                self._post(Moved(job.draft, None, _sentence(error)))
        finally:
            self._post(NOTHING_PASSES)

    def _send_key(self, home: OpenHome) -> None:
        if home.greeting.has_signed_in:
            home.key_exchange.keep_key(self._name)
        else:
            home.directory.meet(self._name)
            home.key_exchange.send_key(self._name)
        self._post(Said(f"A new symmetric key is made for {home.contacts.shown(home.directory.contact(self._name))}."))

    def _empty_the_outbox(self, home: OpenHome) -> bool:
        newest = max(self._kept.values(), key=lambda message: message.number, default=None)
        try:
            home.sending.send_waiting(newest, self._progress("sending"))
        except MessageUError as error:
            if self._stop.is_set():
                raise Stopped from error
            if newest is not None and isinstance(error, ServerAnsweredError) and not home.sending.now(newest).waiting:
                # Refused for good, as its line will say: nothing is wrong with the server.
                return True
            self._post(_line_of(error))
            return False
        else:
            self._post(Line(CONNECTED, good=True))
            return True
        finally:
            self._post(NOTHING_PASSES)
            for draft, message in list(self._kept.items()):
                now = home.sending.now(message)
                if not now.waiting:
                    del self._kept[draft]
                    self._post(Moved(draft, now))


class Receiver(_Worker):
    """Waits for mail, or follows another process of the home that does. `after`: the newest message
    shown so far; `contact`: the other user.
    """

    def __init__(
        self, after: int, contact: ClientId, open_home: Open, post: Post, wake_sender: Callable[[], None]
    ) -> None:
        super().__init__("receiver", open_home, post)
        self._contact = contact
        self._after = after
        self._wake_sender = wake_sender
        self._connected = False
        self._lost = 0

    def _work(self, home: OpenHome) -> None:
        home.account.identity()
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                self._follow(home)
                got = self._receive(home)
            except HomeInUse:
                self._connected = False
                self._post(Line(FOLLOWING, good=True))
                self._rest(FIRST_PAUSE)
            except MessageUError as error:
                self._connected = False
                if self._stop.is_set():
                    raise Stopped from error
                self._post(_line_of(error))
                self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                if not self._connected:
                    self._connected = True
                    self._post(Line(CONNECTED, good=True))
                    self._say_lost(home)
                    self._wake_sender()
                elif not got and time.monotonic() - began < FIRST_PAUSE:
                    # A server that can't let us wait.
                    self._rest(FIRST_PAUSE * 2)

    def _say_lost(self, home: OpenHome) -> None:
        """Report what is possibly lost, whenever the number has changed."""
        count = home.resending.count()
        if count and count != self._lost:
            self._post(Said(lost_sentence(count, "/resend")))
        self._lost = count

    def _receive(self, home: OpenHome) -> bool:
        """Show pending messages, or those that arrive within a while; returns whether there were
        any.
        """
        got = False
        # The first question is answered at once: then we know that the server is there.
        wait = SERVER_WAIT if self._connected else 0.0
        progress, saving = self._progress("receiving"), self._progress("decrypting")
        with contextlib.closing(home.receiving.receive(wait, progress, send_waiting=False, saving=saving)) as received:
            for message in received:
                got = True
                if self._is_passed_over(home, message):
                    continue
                shown = threading.Event()
                self._post(Came(message, shown))
                while not shown.wait(FIRST_PAUSE):
                    if self._stop.is_set():
                        # Not shown: it comes again, marked.
                        raise Stopped
                self._after = max(self._after, message.number)
        return got

    def _follow(self, home: OpenHome) -> None:
        """Show what another process received."""
        for message in home.inbox.seen(self._after):
            if not self._is_passed_over(home, message):
                self._post(Came(message, threading.Event()))
            self._after = message.number

    def _is_passed_over(self, home: OpenHome, message: Received) -> bool:
        """Whether it is from somebody else who is muted or blocked."""
        return message.sender != self._contact and home.blocking.is_silent(message.sender)

    def _rest(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped


def described(error: Exception) -> str:
    """Name an unexpected error, and the place in the program where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(one.filename).name}, line {one.lineno})" for one in place)
    return f"{type(error).__name__}: {error}{where}"


def _line_of(error: MessageUError) -> Line:
    if isinstance(error, ServerUnreachable):
        words = "no server"
    elif isinstance(error, OutcomeUnknown):
        words = "no answer"
    else:
        words = "trouble"
    return Line(f"{words}; trying again", good=False, why=_sentence(error))


def _sentence(error: MessageUError) -> str:
    return error.told()
