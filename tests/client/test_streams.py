"""Input without a known size is sent completely: pipes, standard input, files of /proc."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client.__main__ import main
from client.cli import exit_codes
from client.crypto import ciphers
from client.errors import FileUnreadable, ServerUnreachable, StoreUnusable
from client.mail.outgoing_file import (
    SPOOL_FROM,
    STANDARD_INPUT,
    can_be_sent,
    check_file,
    file_to_send,
    inherited,
    meant,
)
from client.messenger import Messenger, SavedFile, SentMessage
from client.store.spool import SpoolFile
from common.client_protocol.requests import LargeSendRequest
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway, Mailroom
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
VERSION = Path("/proc/version")
SIZES = [0, 1, SPOOL_FROM - 1, SPOOL_FROM, 300_000]


@pytest.fixture(params=[Mailroom, ExtendedMailroom])
def mailroom(request: pytest.FixtureRequest) -> Mailroom:
    made: Mailroom = request.param()
    return made


@pytest.fixture
def pair(alice: Messenger, bob: Messenger) -> tuple[Messenger, Messenger]:
    alice.agree_on_key("bob")
    list(bob.receive())
    return alice, bob


def came(bob: Messenger) -> list[bytes]:
    contents = [message.content for message in bob.receive()]
    return [content.path.read_bytes() for content in contents if isinstance(content, SavedFile)]


def spooled(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("*/store.spool/*"))


def in_the_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("size", SIZES)
def test_a_named_pipe(pair: tuple[Messenger, Messenger], tmp_path: Path, size: int) -> None:
    alice, bob = pair
    content, pipe = os.urandom(size), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = in_the_background(lambda: pipe.write_bytes(content))
    alice.home.sending.send_file("bob", pipe)
    writer.join(HANG_SECONDS)
    assert came(bob) == [content]
    assert spooled(tmp_path) == []
    (noted,) = [message for message in alice.history() if isinstance(message, SentMessage)]
    assert (noted.path, noted.stored_at is not None) == (pipe, True)


@pytest.mark.parametrize("size", SIZES)
def test_what_a_shell_gives_for_the_output_of_a_command(
    pair: tuple[Messenger, Messenger], tmp_path: Path, size: int
) -> None:
    alice, bob = pair
    content = os.urandom(size)
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:  # noqa: PTH123
            file.write(content)

    writer = in_the_background(write)
    path = Path(f"/dev/fd/{reading}")
    check_file(path)
    alice.home.sending.send_file("bob", path, called="made by a command")
    writer.join(HANG_SECONDS)
    assert came(bob) == [content]
    with pytest.raises(FileUnreadable, match="was sent already, and can't be read twice"):
        alice.home.sending.send_file("bob", path)
    assert came(bob) == []
    os.close(reading)
    (noted,) = [message for message in alice.history() if isinstance(message, SentMessage) and message.stored_at]
    assert noted.path == Path("made by a command")


def test_a_file_of_proc(pair: tuple[Messenger, Messenger], tmp_path: Path) -> None:
    alice, bob = pair
    assert VERSION.stat().st_size == 0
    alice.home.sending.send_file("bob", VERSION)
    assert came(bob) == [VERSION.read_bytes()]
    # One that says a page, and holds less.
    system = Path("/sys/kernel/fscaps")
    if system.exists():
        alice.home.sending.send_file("bob", system)
        assert came(bob) == [system.read_bytes()]


def test_in_chat_too(pair: tuple[Messenger, Messenger]) -> None:
    alice, bob = pair
    if not alice.home.greeting.has_signed_in:
        pytest.skip("the outbox is for those who prove themselves")
    alice.keep_file("bob", VERSION)
    alice.send_waiting()
    assert came(bob) == [VERSION.read_bytes()]


def test_what_never_ends_is_bounded(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.mail.sending.LARGEST_CONTENT", 1_000_000)
    with pytest.raises(FileUnreadable, match="too large for this server; nothing was sent"):
        pair[0].home.sending.send_file("bob", Path("/dev/zero"))
    assert spooled(tmp_path) == []
    assert came(pair[1]) == []


def test_a_home_without_room_for_it(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = SpoolFile.write, [200_000]

    def write(spool: SpoolFile, data: bytes) -> None:
        left[0] -= len(data)
        if left[0] < 0:
            raise StoreUnusable(f"There is no room to write {tmp_path} (No space left on device).", "Free some space.")
        real(spool, data)

    monkeypatch.setattr(SpoolFile, "write", write)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    broken: list[BaseException] = []

    def pour() -> None:
        try:
            pipe.write_bytes(bytes(10_000_000))
        except BrokenPipeError as error:
            broken.append(error)

    writer = in_the_background(pour)
    with pytest.raises(StoreUnusable, match="no room to write"):
        pair[0].home.sending.send_file("bob", pipe)
    writer.join(HANG_SECONDS)
    # The writer has heard of it.
    assert broken
    assert spooled(tmp_path) == []
    assert came(pair[1]) == []


def test_it_starts_over_though_it_can_not_be_read_twice(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    link, content, pipe = alice.home.link, os.urandom(1_500_000), tmp_path / "pipe"
    real, tries = link.ask, []

    def ask(request: Any, body: Any = ()) -> Any:
        if isinstance(request, LargeSendRequest):
            tries.append(request)
            if len(tries) == 1:
                next(body)
                next(body)
                raise ServerUnreachable("It broke.", "Try again.")
        return real(request, body)

    monkeypatch.setattr(link, "ask", ask)
    os.mkfifo(pipe)
    writer = in_the_background(lambda: pipe.write_bytes(content))
    alice.home.sending.send_file("bob", pipe)
    writer.join(HANG_SECONDS)
    assert len(tries) == 2
    assert came(bob) == [content]
    assert spooled(tmp_path) == []


@pytest.fixture
def from_input(
    tmp_path: Path, pair: tuple[Messenger, Messenger], gateway: FakeGateway
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `messageu send` as alice with a standard input."""
    pair[0].close()
    server = f"{gateway.address.host}:{gateway.address.port}"

    def run(*words: str, stdin: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client", "--home", str(tmp_path / "alice"), "--server", server, *words]
        environment = os.environ | {"MESSAGEU_CONFIG": "none"}
        return subprocess.run(
            command, cwd=ROOT, stdin=stdin, capture_output=True, text=True, check=False, env=environment
        )

    return run


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_standard_input(
    tmp_path: Path, pair: tuple[Messenger, Messenger], from_input: Callable[..., Any], name: str
) -> None:
    content = os.urandom(200_000)
    (tmp_path / "input").write_bytes(b"a line\n" + content)
    with (tmp_path / "input").open("rb", buffering=0) as file:
        # Somebody has read the beginning.
        file.seek(len("a line\n"))
        done = from_input("send", "bob", "--file", name, stdin=file)
    assert (done.returncode, done.stderr) == (
        exit_codes.DONE,
        f"{Path('/dev/stdin') if name == '-' else name} is sent to bob.\n",
    )
    pipe = subprocess.Popen(["cat", str(tmp_path / "input")], stdout=subprocess.PIPE)
    done = from_input("send", "bob", "--name", "report.pdf", "--file", name, stdin=pipe.stdout)
    assert pipe.wait(HANG_SECONDS) == 0
    assert pipe.stdout is not None
    pipe.stdout.close()
    assert (done.returncode, done.stderr) == (exit_codes.DONE, "report.pdf is sent to bob.\n")
    assert came(pair[1]) == [content, b"a line\n" + content]


def test_a_file_of_that_very_name(
    tmp_path: Path, pair: tuple[Messenger, Messenger], capsys: pytest.CaptureFixture[str], gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pair[0].close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSAGEU_CONFIG", "none")
    (tmp_path / "-").write_bytes(b"a file with an odd name")
    server = f"{gateway.address.host}:{gateway.address.port}"
    assert main(["send", "bob", "--file", "./-", "--home", "alice", "--server", server]) == exit_codes.DONE
    assert capsys.readouterr().err == "- is sent to bob.\n"
    assert came(pair[1]) == [b"a file with an odd name"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-", "--file", "-"], "Standard input is the text or the file, not both; nothing was sent."),
        (["text", "--name", "x"], "--name is for one file"),
        (["--name", "x", "--file", "a", "b"], "--name is for one file"),
        (["--file", "-", "/dev/stdin"], "can be read, and sent, once; nothing was sent."),
        (["--to", "carol", "--file", "-"], "can be read, and sent, once; nothing was sent."),
    ],
)
def test_what_can_not_be_meant(from_input: Callable[..., Any], words: list[str], sentence: str) -> None:
    to = ["--to", "bob"] if "--to" in words else ["bob"]
    done = from_input("send", *to, *words, stdin=subprocess.DEVNULL)
    assert done.returncode == exit_codes.USAGE
    assert sentence in " ".join(done.stderr.split())


def test_what_has_no_end_can_not_be_sent(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="no regular file"):
        check_file(tmp_path)
    with pytest.raises(FileUnreadable, match="There is no file"):
        check_file(tmp_path / "none")
    assert not can_be_sent(tmp_path / "a\0b")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert stat.S_ISDIR(os.fstat(descriptor).st_mode)
    with pytest.raises(FileUnreadable), file_to_send(Path(f"/dev/fd/{descriptor}")):
        raise AssertionError
    os.close(descriptor)
    with pytest.raises(FileUnreadable), file_to_send(Path("/dev/fd/99999")):
        raise AssertionError


def test_a_sparse_file_says_its_size(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with file_to_send(tmp_path / "sparse") as file:
        assert file.size == 1 << 40
    (tmp_path / "small").write_bytes(b"x")
    with file_to_send(tmp_path / "small") as file:
        assert file.size in {1, None}
    with file_to_send(VERSION) as file:
        assert file.size is None


def test_where_paths_are_typed_standard_input_is_taken() -> None:
    for typed in ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        assert inherited(Path(typed)) == 0
        with pytest.raises(FileUnreadable) as caught:
            meant(typed)
        assert "it is where this was typed" in caught.value.advice
    assert inherited(STANDARD_INPUT) == 0
    assert inherited(Path("/dev/fd/63")) == 63
    assert inherited(Path("/dev/fd/x")) is None
    assert meant("-") == Path("-")


def test_encrypted_as_a_file_of_a_known_size_would_be(tmp_path: Path) -> None:
    from client.mail.outgoing_file import encrypted_file, encrypted_stream

    content = os.urandom(1_000_003)
    (tmp_path / "file").write_bytes(content)
    key = ciphers.symmetric_key(bytes(16))
    with (tmp_path / "file").open("rb") as file:
        known = b"".join(encrypted_file(file.fileno(), Path("x"), len(content), key, None))
        file.seek(0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        assert b"".join(encrypted_stream(file.fileno(), key)) == known == ciphers.encrypt(key, content)
