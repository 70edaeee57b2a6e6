"""What is wrong, in words: doctor.

Owns: the checks, ordered so that an earlier one can explain a later failure. Promises: changes
nothing, and asks the server only for a greeting and the list of users.

Source: docs/client.md.
"""

import contextlib
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from client.cli import exit_codes
from client.cli.output import Output
from client.cli.server_route import pinned_address
from client.connection import about
from client.connection.handshake import lost_sentence
from client.connection.server_pins import route
from client.errors import ClientError, StoreUnusable
from client.identity import identity_files
from client.identity.home import convert, require_somebody, what_is_there
from client.open_home import OpenHome
from client.paths import temporary_folder
from client.settings import Settings
from client.store.database import told
from client.terminal.sanitize import command, visible_line
from client.terminal.text_wrap import columns_of, wrapped
from common.errors import InfoFileError, MessageUError
from common.info_files import DEFAULT_PORT
from common.server_address import ServerAddress

PRIVATE: Final = (
    "my.info",
    "my.info.pending",
    "store.db",
    "store.db-wal",
    "store.lock",
    "store.use",
    "outbox.lock",
    "watch.lock",
)
CLOCK_TOLERANCE: Final = 60_000
"""Milliseconds."""
_MOST_NAMED: Final = 5


class _Complaint(Exception):
    """A check failed: what is wrong, and what to do."""


class Doctor:
    """Runs the checks."""

    def __init__(self, settings: Settings, output: Output, passphrase: Callable[[], str]) -> None:
        self._passphrase = passphrase
        self._settings = settings
        self._output = output
        self._worst = exit_codes.DONE

    def run(self) -> int:
        """Run them all; return the exit code of the first that failed."""
        with contextlib.suppress(ClientError, OSError):
            # An unusable store is reported below.
            convert(self._settings.home, self._output.say, to_read=True)
        self._check("server address", self._route)
        self._check("file modes", lambda: _modes(self._settings.home))
        try:
            address = self._settings.server()
        except MessageUError:
            address = ServerAddress("localhost", DEFAULT_PORT)
            reachable = False
        else:
            reachable = True
        # Opening a folder without a home would leave a store there.
        nobodys = _is_nobodys(self._settings.home)
        with _nobodys_home() if nobodys else contextlib.nullcontext(self._settings.home) as folder:
            return self._look_at(folder, address, reachable=reachable)

    def _look_at(self, folder: Path, address: ServerAddress, *, reachable: bool) -> int:
        try:
            home = OpenHome.open(folder, address, consent=lambda _: None, passphrase=self._passphrase, to_read=True)
        except MessageUError as error:
            failure = error
            self._check("store", lambda: _raise(failure))
            return self._worst
        with home:
            self._check("store", lambda: _store(home))
            self._check("passphrase", lambda: _protection(home))
            registered = self._check("identity", lambda: self._identity(home))
            if reachable and (not registered or home.diagnosis.unwritable is not None):
                # With a copy of the store, what a greeting has to remember would be forgotten.
                self._check("server", lambda: self._greeted(address, home))
            elif reachable and self._check("server", lambda: _features(home)):
                self._check("account", lambda: _account(home))
            self._check("keys", lambda: _keys(home))
            self._check("suite", lambda: _suite(home))
            self._check("outbox", lambda: _outbox(home))
            self._check("watch", lambda: _set_aside(home))
            self._check("clock", lambda: _clock(home))
        return self._worst

    def _route(self) -> str:
        address = pinned_address(self._settings)
        return f"{address.place}, {route(address)}"

    def _greeted(self, address: ServerAddress, home: OpenHome) -> str:
        """Greet the server without an identity, by the pins that the home knows, when the identity
        or the home can't be used.
        """
        address = address._replace(pins=home.server_pins.accepted(address), invitation=None)
        with _nobodys_home() as folder, OpenHome.open(folder, address) as nobody:
            return _features(nobody)

    def _identity(self, home: OpenHome) -> str:
        require_somebody(self._settings.home)
        return home.account.identity().name

    def _check(self, name: str, look: Callable[[], str]) -> bool:
        code, advice = exit_codes.DONE, ""
        try:
            sentence = found = look()
        except _Complaint as complaint:
            sentence = found = str(complaint)
            code = exit_codes.UNEXPECTED
        except MessageUError as error:
            sentence, found, advice = error.told(), str(error), error.advice
            code, _ = exit_codes.of_failure(error)
        good = code == exit_codes.DONE
        line = f"{'ok   ' if good else 'WRONG'} {name}: {visible_line(sentence)}"
        shown = wrapped(line, columns_of(sys.stdout), indent=" " * len("WRONG "))
        self._output.data("check", shown, name=name, ok=good, text=found, advice=advice)
        self._worst = self._worst or code
        return good


@contextlib.contextmanager
def _nobodys_home() -> Iterator[Path]:
    """A temporary folder, removed afterwards."""
    with contextlib.ExitStack() as opened:
        with told(temporary_folder()):
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="messageu-"))
        yield Path(folder)


def _is_nobodys(home: Path) -> bool:
    try:
        return what_is_there(home) is None
    except StoreUnusable:
        # Whoever opens it says why not.
        return False


def _raise(error: MessageUError) -> str:
    raise error


def _complain(sentence: str) -> str:
    raise _Complaint(sentence)


def _modes(home: Path) -> str:
    names = set(PRIVATE)
    # In homes of other programs, me.info holds the private key. An unreadable file is reported by
    # the check of the identity.
    with contextlib.suppress(InfoFileError):
        names |= {*identity_files.with_plain_keys(home), *identity_files.with_encrypted_keys(home)}
    for name in sorted(names):
        path = home / name
        with told(home):
            open_to_others = path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
        if open_to_others:
            return _complain(f"Others can open {path}. Do: chmod 600 {path}")
    return "private files are private"


def _store(home: OpenHome) -> str:
    home.diagnosis.check_store()
    if home.diagnosis.unwritable is not None:
        raise StoreUnusable(f"{home.diagnosis.unwritable} What is in it can be read.", home.diagnosis.unwritable.advice)
    damaged = home.diagnosis.damaged_rows()
    if damaged:
        return _complain(
            f"Rows of store.db were altered or are damaged, and are not believed: {', '.join(damaged[:10])}. "
            "Restore an export, or continue without them."
        )
    return "store.db can be used"


def _protection(home: OpenHome) -> str:
    sealed, encrypted, plain = home.diagnosis.key_protection()
    if sealed and plain:
        return _complain(f"The private key in {', '.join(plain)} is not encrypted: `messageu passphrase change`.")
    if not sealed and encrypted:
        return _complain(
            f"The private key in {', '.join(encrypted)} is encrypted, the store is not: `messageu passphrase set`."
        )
    return "private key and store are encrypted" if sealed else "none: whoever can read the home can read all of it"


def _account(home: OpenHome) -> str:
    others = len(home.directory.users())
    return f"the server knows it, and {others} other{'' if others == 1 else 's'}"


def _features(home: OpenHome) -> str:
    features = home.diagnosis.server_features()
    if not features:
        return "answers, and speaks only the published protocol"
    told = home.diagnosis.server_about()
    says = "" if told is None else f"; {about.sentence(told)}"
    if told is not None and told.text.strip():
        says += f'. Its operator says: "{about.operators_text(told)}"'
    return f"answers, and speaks the extension: {', '.join(features)}{says}"


def _keys(home: OpenHome) -> str:
    changed = home.diagnosis.changed_keys()
    if changed:
        names = ", ".join(home.contacts.shown(contact) for contact in changed)
        return _complain(f"The key of {names} has changed. Compare it: {command('verify', changed[0].name)}.")
    return "no key has changed"


def _suite(home: OpenHome) -> str:
    state = home.diagnosis.suite_1()
    if state is None:
        return "the published one alone: the account has not signed in to a server that has the modern one"
    if state.kept is None or state.out_of_date:
        return _complain("The keys of the modern cipher suite are not published, or out of date: sign in once.")
    return f"the modern one, suite 1: our keys are published{_suites_in_use(home)}"


def _suites_in_use(home: OpenHome) -> str:
    """How many conversations are under suite 1, and with whom they are not."""
    contacts = [summary.contact for summary in home.history.conversations()]
    if not contacts:
        return ""
    published = [home.contacts.shown(contact) for contact in contacts if not home.directory.suite_of(contact)]
    count = len(contacts) - len(published)
    many = "1 conversation is" if count == 1 else f"{count or 'no'} conversations are"
    if not published:
        return f"; {many} under it"
    more = len(published) - _MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f"; {many} under it; under the published one: {', '.join(published[:_MOST_NAMED])}{rest}"


def _outbox(home: OpenHome) -> str:
    waiting, failed = home.outbox.waiting_count(), len(home.outbox.failed())
    if lost := home.resending.count():
        return _complain(lost_sentence(lost, "`messageu resend`"))
    if failed:
        return _complain(f"{failed} were refused for good and are kept aside: `messageu history` shows them.")
    return f"{waiting} wait to be sent" if waiting else "nothing waits"


def _set_aside(home: OpenHome) -> str:
    count = len(home.watch_cursor.messages_set_aside())
    if count:
        were, them = ("message was", "it") if count == 1 else ("messages were", "them")
        return _complain(
            f"{count} {were} set aside, because the command of `messageu watch --exec` did not take {them}. "
            f"`messageu watch --set-aside` lists {them}, `messageu watch --retry --exec CMD` hands {them} out again."
        )
    return "no message is set aside"


def _clock(home: OpenHome) -> str:
    ahead = home.diagnosis.clock_behind()
    if ahead is None:
        return "nothing to compare it with yet"
    if ahead > CLOCK_TOLERANCE:
        return _complain(f"This machine's clock is {ahead // 1000} s behind the server's. Set it.")
    return "not behind the server's"
