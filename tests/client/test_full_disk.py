"""A disk that is really full, page by page: a clear sentence each time, nothing lost, and nothing
left behind.

Each piece of work is tried with no page free, then with one, and so on until it comes through;
after each failure there is room again. A small tmpfs is mounted for it, which takes root; what a
limit on file sizes can imitate is in tests/stories/full.story.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from client.errors import FileUnsaved, StoreUnusable
from client.identity import archive, identity_files
from client.identity.identity_files import with_encrypted_keys, with_plain_keys
from client.identity.passphrase import has_passphrase, remove_passphrase, set_passphrase
from client.messenger import Messenger, SavedFile, SentMessage, Text
from client.open_home import OpenHome
from client.store.home_store import Store
from common.errors import FileUnwritten, MessageUError
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey

pytestmark = [pytest.mark.mailroom(kind=ExtendedMailroom), pytest.mark.usefixtures("cheap")]


DISK = 4 << 20
MOST_PAGES = 100


class SmallDisk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, pages: int) -> None:
        """Fill it, but for so many pages."""
        free = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            file.write(bytes((free.f_bavail - pages) * free.f_frsize))
        assert os.statvfs(self.folder).f_bavail == pages

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("takes a file system of its own, which may not be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def opened(
    disk: SmallDisk, gateway: FakeGateway, private_keys: list[PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Messenger]:
    monkeypatch.setattr("client.connection.server_link.CLOSING_GRACE", 0.001)
    keys = itertools.cycle(private_keys)

    def open_home(name: str) -> Messenger:
        home = disk.folder / name
        home.mkdir(exist_ok=True)
        return Messenger(
            OpenHome(
                home,
                gateway.address,
                Store.open(home),
                save_dir=disk.folder / "saved",
                clock=lambda: 1_700_000_000.0,
                new_private_key=lambda _: next(keys),
                pauses=(0.0, 0.0),
            )
        )

    return open_home


def tried(disk: SmallDisk, work: Callable[[], None], *also: type[MessageUError]) -> list[MessageUError]:
    """Do the work until there are pages enough for it; the failures before that."""
    expected: tuple[type[MessageUError], ...] = (StoreUnusable, *also)
    failures: list[MessageUError] = []
    for pages in range(MOST_PAGES):
        disk.leave(pages)
        try:
            work()
        except expected as failure:
            assert "no room to write" in str(failure) or "can't be saved" in str(failure)
            assert "(No space left on device)" in str(failure)
            assert failure.advice.startswith(("Free some space", "Make room"))
            failures.append(failure)
        else:
            assert failures
            return failures
        finally:
            disk.make_room()
    raise AssertionError(failures[-1])


def register(opened: Callable[[str], Messenger], *names: str) -> None:
    for name in names:
        with opened(name) as messenger:
            messenger.register(name)


def spooled(disk: SmallDisk) -> list[Path]:
    return list(disk.folder.glob("*/store.spool/*"))


def test_registering(disk: SmallDisk, opened: Callable[[str], Messenger], gateway: FakeGateway) -> None:
    tried(disk, lambda: register(opened, "alice"), FileUnwritten)
    with opened("alice") as alice:
        assert alice.identity().client_id == gateway.mailroom.id_of("alice")


def test_sending_and_receiving(disk: SmallDisk, opened: Callable[[str], Messenger], tmp_path: Path) -> None:
    register(opened, "alice", "bob")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(80_000))
    tries = itertools.count()

    def send_text() -> None:
        with opened("alice") as alice:
            alice.agree_on_key("bob")
            alice.home.sending.send_text("bob", f"text {next(tries)}")

    def send_file() -> None:
        with opened("alice") as alice:
            alice.home.sending.send_file("bob", large)

    failures = [*tried(disk, send_text), *tried(disk, send_file)]
    with opened("alice") as alice:
        alice.send_waiting()
        noted = [message for message in alice.history() if isinstance(message, SentMessage)]
    # Those that came through, and those that were said to be kept: nobody sends a text twice
    # because it failed.
    assert all(message.stored_at for message in noted)
    assert len(noted) == 2 + sum("The message is kept" in failure.advice for failure in failures)
    assert spooled(disk) == []

    received: list[tuple[object, bool]] = []

    def receive() -> None:
        with opened("bob") as bob:
            for message in bob.receive():
                received.append((message.content, message.repeated))  # noqa: PERF401 - those before a failure count

    tried(disk, receive, FileUnsaved)
    # Everything came once; what may have been shown before says so.
    first = [content for content, repeated in received if not repeated]
    assert [content.text for content in first if isinstance(content, Text)] == [m.text for m in noted if m.text]
    files = [content.path for content in first if isinstance(content, SavedFile)]
    assert len(files) == len([message for message in noted if message.path])
    assert {path.read_bytes() for path in files} == {large.read_bytes()}
    assert sorted((disk.folder / "saved").iterdir()) == sorted(files)
    assert spooled(disk) == []


def test_carrying_a_home_and_locking_it(disk: SmallDisk, opened: Callable[[str], Messenger]) -> None:
    register(opened, "alice", "bob")
    with opened("alice") as alice:
        alice.agree_on_key("bob")
        alice.home.sending.send_text("bob", "hello")
    home, backup, laptop = disk.folder / "alice", disk.folder / "backup", disk.folder / "laptop"

    def export() -> None:
        assert not backup.exists()
        archive.export_home(home, backup, "correct horse")

    def bring() -> None:
        assert not laptop.exists()
        archive.import_home(laptop, backup, "correct horse")

    tried(disk, export, FileUnwritten)
    tried(disk, bring, FileUnwritten)
    with opened("laptop") as alice:
        assert [message.text for message in alice.history() if isinstance(message, SentMessage)] == ["hello"]


def test_setting_a_passphrase(
    disk: SmallDisk, opened: Callable[[str], Messenger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's commit decides; a file that has no room yet is written by whoever opens
    the home next.
    """
    register(opened, "alice")
    home = disk.folder / "alice"

    def lock() -> None:
        if not has_passphrase(home):
            set_passphrase(home, "battery staple")

    tried(disk, lock, FileUnwritten)
    assert (with_encrypted_keys(home), with_plain_keys(home)) == (["my.info"], [])

    def no_room(path: Path, text: str) -> None:
        raise FileUnwritten(path, f"There is no room to write {path}", "Free some space and try again.")

    with monkeypatch.context() as full:
        full.setattr(identity_files, "write_whole", no_room)
        with pytest.raises(FileUnwritten, match="it is decided all the same, and the next command writes this file"):
            remove_passphrase(home, lambda: "battery staple")
    assert with_encrypted_keys(home) == ["my.info"]
    assert not has_passphrase(home)
    assert (with_encrypted_keys(home), with_plain_keys(home)) == ([], ["my.info"])
