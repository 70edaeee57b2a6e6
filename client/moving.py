"""Moving this home's account to another server.

Owns: the steps of a move; the folder `.moving`, which is in the home during one.
Promises: nothing is left at the old server unfetched, unless that is asked for. The home works with
the old server or with the new one, whenever the program dies, and never with a mixture: one commit
of the store decides (`client.store.relocation`), once the account has registered at the new server
and signed in there. Whoever opens the home next writes the files that go with it. A second run
continues where the first stopped: the new server knows name and key already, and gives the same
account. The private key is not copied. The old account stays, unless its deletion was requested;
then it is deleted last.
Exposure: talks to two servers, each of which may lie about itself. The new one learns the public
key, the name, and the ids of those who are blocked; nothing is signed for one server that another
could use, because a proof names its server.

    step                                           died here, the home works with
    ────────────────────────────────────────────   ──────────────────────────────────────────────────
    what waits is fetched                          the old server
    the new server registers name and key          the old server; registered there already
    signed in there; what came meanwhile fetched   the old server
    the store's commit                             the new server
    my.info, me.info, server.info are written      the new server: the next opening writes them again
    the folder `.moving` is removed                the new server
    the old account is deleted, where asked for    the new server; asked for again, it is deleted

Source: docs/client.md, "Moving to another server".
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from client.connection import handshake, server_pins
from client.connection.handshake import PUBLISHED_ONLY, Tell
from client.errors import (
    ClientError,
    HomeInUse,
    InvalidServerResponse,
    OutcomeUnknown,
    ServerAnsweredError,
    ServerUnreachable,
    WrongServer,
)
from client.identity import identity_files, leaving
from client.identity.home import open_store, write_settled
from client.identity.identity_files import Identity
from client.open_home import OpenHome
from client.settings import MOVING
from client.store.home_store import Store
from client.store.relocation import LeftAccount, Relocation, left_account, note_deletion, relocate
from common.client_protocol.versions import Feature
from common.errors import FileUnwritten, SettingRejected
from common.filesystem import writing
from common.info_files import SERVER_INFO
from common.names import any_username, normal_form
from common.server_address import MOST_PINS, ServerAddress
from common.values import Username

_OF_SERVER: Final = (*handshake.OF_SERVER, *server_pins.OF_SERVER, leaving.ASKED)
_SERVER_FAILED: Final = (ServerUnreachable, OutcomeUnknown, ServerAnsweredError, InvalidServerResponse, WrongServer)


class Moved(NamedTuple):
    """Where the account is now."""

    identity: Identity
    address: ServerAddress
    """The address, as the home's server.info names it."""


class Wanted(NamedTuple):
    """The options of a move."""

    address: ServerAddress
    name: str | None = None
    """The name at the new server; None: the same as now."""
    leave_waiting: bool = False
    """Move even if the old server can't be reached: pending mail is left there, and the outbox is
    set aside.
    """
    delete_old: bool = False
    """Delete the old account afterwards."""


def is_there_already(home: OpenHome, address: ServerAddress) -> bool:
    """Whether an earlier run has moved this account to an address. Raises `SettingRejected` if it
    was there from the start.
    """
    left = left_account(home.store)
    if left is not None and left.moved_to == address.place:
        return True
    if home.link.address.place == address.place:
        raise SettingRejected(f"This account is at {address.place}; name another server's address.")
    return False


def loses_encryption(home: OpenHome, address: ServerAddress) -> bool:
    """Whether the home's server is reached over TLS, and the new one is not."""
    return not address.pins and bool(home.link.address.pins or home.server_pins.known)


def check(home: OpenHome, wanted: Wanted) -> None:
    """Raise if a move can't be made: `SettingRejected`, `HomeInUse`. Asks no server."""
    _refuse_unsent(home.store, wanted)
    with home.store.alone():
        # Checked now, rather than after everything else is done.
        pass


def move(home: OpenHome, wanted: Wanted, tell: Tell) -> Moved:
    """Move the account. The home has to be closed; afterwards it belongs to the new server.

    Raises `SettingRejected`, `HomeInUse`, `ValueRejected` (the name), and what asking either server
    raises; then the home is as before.
    """
    folder, identity = home.account.home, home.account.identity()
    name = identity.name if wanted.name is None else any_username(normal_form(wanted.name))
    with _working_folder(home.store, folder) as scratch:
        _fetch_all(home, wanted, tell)
        with _scratch_home(scratch, wanted.address, tell) as new:
            published_only = home.store.settings.get(PUBLISHED_ONLY)
            if published_only is not None:
                new.store.settings.put(PUBLISHED_ONLY, published_only)
            registered = _register(home, new, name, identity)
            address = _address_of(new)
            server = new.store.server.known()
            settings = {one: new.store.settings.get(one) for one in _OF_SERVER}
        # Mail that arrived in the meantime.
        _fetch_all(home, wanted, tell)
        files = identity_files.renamed(folder, registered.name, registered.client_id)
        files[SERVER_INFO] = f"{address}\n"
        relocation = Relocation(registered.name, registered.client_id, server, settings, files)
        left = LeftAccount(
            _address_of(home), identity.name, identity.client_id, home.store.server.known(), address.place
        )
        _switch(home, relocation, left, wanted)
    return Moved(registered, address)


def delete_left_account(home: OpenHome, tell: Tell) -> LeftAccount | None:
    """Delete the account that the last move left; return which one, or None if the home never
    moved.

    Raises what `Leaving.delete` raises.
    """
    left = left_account(home.store)
    if left is None or left.deleted:
        return left
    with (
        _working_folder(home.store, home.account.home) as scratch,
        _scratch_home(scratch, left.address, tell) as old,
    ):
        if left.server is not None:
            old.store.server.remember(left.server.server_id, left.server.generation, 0)
        # A server that does not know the account has deleted it already; perhaps its answer was
        # lost.
        old.store.settings.put(leaving.ASKED, "1")
        old.account.registered(Identity(left.name, left.client_id, home.account.identity().private_key))
        old.leaving.delete()
    note_deletion(home.store, left)
    return left


def settle_move(folder: Path) -> None:
    """Write the files that a move left to be written, and remove what it left behind; while a move
    is running, change nothing.

    An unusable store is reported by whoever opens it next.
    """
    with contextlib.suppress(ClientError, FileUnwritten):
        store = open_store(folder)
        try:
            with _working_folder(store, folder):
                # That process removes the folder itself.
                pass
        finally:
            store.close()


# --- the steps
# --------------------------------------------------------------------------------------------------


def _refuse_unsent(store: Store, wanted: Wanted) -> None:
    if wanted.leave_waiting:
        return
    waiting, lost = store.outbox.waiting_count(), store.acknowledged.lost_count()
    if waiting:
        raise SettingRejected(
            f"Not sent yet: {_messages(waiting)}. Nothing was moved. `messageu recv` sends what waits; with "
            "--leave-waiting it is set aside, and the history keeps it."
        )
    if lost:
        raise SettingRejected(
            f"Possibly lost: {_messages(lost)}. Nothing was moved. `messageu resend` sends them again, `messageu "
            "resend --forget` forgets them."
        )


def _messages(count: int) -> str:
    return f"{count} message{'s' if count > 1 else ''}"


def _fetch_all(home: OpenHome, wanted: Wanted, tell: Tell) -> None:
    """Fetch pending mail from the old server into the store, with the names of its senders."""
    place = home.link.address.place
    try:
        if wanted.delete_old:
            home.link.connect()
            if not home.greeting.offers(Feature.ACCOUNTS):
                raise SettingRejected(
                    f"{place} can't delete an account by itself, or this one has not signed in to it; nothing was "
                    "moved. Leave --delete-old out."
                )
        home.receiving.fetch()
        # It is sealed for the id that the account has at this server.
        home.suite_receiving.open_waiting()
        if any(home.contacts.name_of(sender) is None for sender, _, _ in home.store.inbox.by_sender()):
            home.directory.look_up_names()
    except _SERVER_FAILED as error:
        if not wanted.leave_waiting or wanted.delete_old:
            left = "" if wanted.delete_old else " With --leave-waiting it is left there."
            error.advice = f"{error.advice} What waits at {place} is fetched first; nothing was moved.{left}"
            raise
        tell(f"What waits at {place} is left there: {error}")


def _register(home: OpenHome, new: OpenHome, name: Username, identity: Identity) -> Identity:
    """Register at the new server and sign in, unless it is the old one."""
    try:
        new.link.connect()
        session, known = new.greeting.session, home.store.server.known()
        if session is not None and known is not None and session.server_id == known.server_id:
            raise SettingRejected(f"{new.link.address.place} is another address of the server that this account is at.")
        return new.registration.register_key(name, identity.private_key)
    except ServerAnsweredError as error:
        error.advice = f"{error.advice} Nothing was moved. --name NEW takes another name there."
        raise
    except ServerUnreachable as error:
        error.advice = "Check its address. Nothing was moved."
        raise
    except (OutcomeUnknown, InvalidServerResponse, WrongServer) as error:
        # It may have registered the name, which the same command then finds.
        error.advice = f"{error.advice} Nothing was moved; the same command tries again."
        raise


def _switch(home: OpenHome, new: Relocation, left: LeftAccount, wanted: Wanted) -> None:
    folder, store = home.account.home, home.store
    home.link.close()
    # No other process may receive, send or read in between.
    with store.receiver(), store.alone():
        _refuse_unsent(store, wanted)
        identity_files.drop_half_written(folder)
        because = f"the account moved to {left.moved_to} before it was sent" if wanted.leave_waiting else None
        relocate(store, new, left, because)
        try:
            store.sealing.settle(lambda name, content: write_settled(folder, name, content))
        except FileUnwritten as error:
            problem = f"{error.problem}; it is decided all the same, and the next command writes this file"
            raise FileUnwritten(error.path, problem, error.advice) from error


def _address_of(home: OpenHome) -> ServerAddress:
    """Return the address that a home uses, with every pin that it knows."""
    pins = home.server_pins.known[:MOST_PINS] or home.link.address.pins
    return home.link.address._replace(pins=pins, invitation=None)


# --- the folder
# -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _working_folder(store: Store, home: Path) -> Iterator[Path]:
    """Hold the folder, empty. Afterwards it is removed, unless files are left to be written: then
    it tells readers of server.info that the file may be outdated.

    Raises `HomeInUse` if another process has it, and `FileUnwritten`.
    """
    folder = home / MOVING
    with writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeInUse("Another process moves this account just now.", "Wait until it is done.") from error
        with writing(folder):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        try:
            yield folder
        finally:
            if not store.sealing.is_unsettled:
                with writing(folder):
                    shutil.rmtree(folder)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _scratch_home(folder: Path, address: ServerAddress, tell: Tell) -> Iterator[OpenHome]:
    """Open a temporary home without a key, to talk to a server that is not this home's."""
    with OpenHome.open(folder / "home", address, folder / "files", tell=tell) as opened:
        yield opened
