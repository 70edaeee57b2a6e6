from __future__ import annotations

import base64
import os
import stat
from typing import TYPE_CHECKING

import pytest

from client.cli.export_import import export_home as export_command
from client.cli.export_import import import_home
from client.cli.output import Output
from client.errors import AlreadyRegistered, PassphraseNeeded, PassphraseWrong
from client.identity import identity_files, passphrase_source
from client.identity.archive import export_home
from client.identity.import_identity import import_identity, is_identity_file
from client.messenger import Messenger
from common.errors import InfoFileError
from common.server_address import ServerAddress
from tests.stories.runner import check_json

if TYPE_CHECKING:
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey

ID = "0123456789ABCDEF" * 2


def text(key: PrivateKey, end: str = "\n", width: int = 76, name: str = "olga") -> bytes:
    raw = base64.b64encode(key.der()).decode()
    lines = [raw[at : at + width] for at in range(0, len(raw), width)]
    return end.join([name, ID, *lines, ""]).encode()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other-client"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["my.info", "me.info", "backup.txt"])
@pytest.mark.parametrize(("end", "width"), [("\n", 76), ("\r\n", 64), ("\n", 10_000)])
def test_as_other_clients_write_it(
    tmp_path: Path, other: Path, private_key: PrivateKey, name: str, end: str, width: int
) -> None:
    source = other / name
    source.write_bytes(text(private_key, end, width))
    assert is_identity_file(source)
    arrived = import_identity(tmp_path / "home", source, identity_files.nobody_asked)
    assert arrived.server is None
    loaded = identity_files.load(tmp_path / "home")
    assert (loaded.name, loaded.client_id.hex()) == ("olga", ID.lower())
    assert loaded.private_key.der() == private_key.der()
    assert stat.S_IMODE((tmp_path / "home" / "my.info").stat().st_mode) == 0o600
    assert source.read_bytes() == text(private_key, end, width)


def test_the_server_beside_it_comes_along_where_there_is_none(
    tmp_path: Path, other: Path, private_key: PrivateKey
) -> None:
    (other / "my.info").write_bytes(text(private_key))
    (other / "server.info").write_text("example.org:1357\n")
    arrived = import_identity(tmp_path / "one", other / "my.info", identity_files.nobody_asked)
    assert arrived.server == ServerAddress("example.org", 1357)
    assert (tmp_path / "one" / "server.info").read_text() == "example.org:1357\n"
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "server.info").write_text("localhost:1\n")
    assert import_identity(tmp_path / "two", other / "my.info", identity_files.nobody_asked).server is None
    assert (tmp_path / "two" / "server.info").read_text() == "localhost:1\n"


def test_nothing_is_replaced(tmp_path: Path, other: Path, alice: Messenger, private_key: PrivateKey) -> None:
    (other / "my.info").write_bytes(text(private_key))
    before = (tmp_path / "alice" / "my.info").read_bytes()
    with pytest.raises(AlreadyRegistered, match="nothing was imported"):
        import_identity(tmp_path / "alice", other / "my.info", identity_files.nobody_asked)
    assert (tmp_path / "alice" / "my.info").read_bytes() == before
    assert alice.is_registered()


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "expected a user name, found nothing"),
        (b"olga\n", 2, "expected the id as 32 hex digits, found nothing"),
        (b"olga\nxyz\n", 2, "expected the id as 32 hex digits, found 'xyz'"),
        (f"olga\n{ID}\n".encode(), 3, "another file of that client has it"),
        (f"olga\n{ID}\nno base64!\n".encode(), 3, "found other characters"),
        (f"olga\n{ID}\nAAAA\n".encode(), 3, "the private key can't be used"),
        (b"\xff\xfe\n", 1, "is not plain text"),
    ],
)
def test_a_bad_file_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, other: Path, content: bytes, line: int, problem: str
) -> None:
    (other / "my.info").write_bytes(content)
    with pytest.raises(InfoFileError) as caught:
        import_identity(tmp_path / "home", other / "my.info", identity_files.nobody_asked)
    assert caught.value.line == line
    assert problem in caught.value.problem
    assert not (tmp_path / "home").exists()


def test_an_encrypted_key_stays_encrypted(tmp_path: Path, other: Path, private_key: PrivateKey) -> None:
    encrypted = base64.encodebytes(private_key.encrypted_der(b"secret", os.urandom)).decode()
    (other / "my.info").write_text(f"olga\n{ID}\n{encrypted}")
    for ask, failure in ((identity_files.nobody_asked, PassphraseNeeded), (lambda: "wrong", PassphraseWrong)):
        with pytest.raises(failure):
            import_identity(tmp_path / "home", other / "my.info", ask)
        assert not (tmp_path / "home").exists()
    import_identity(tmp_path / "home", other / "my.info", lambda: "secret")
    assert identity_files.with_encrypted_keys(tmp_path / "home") == ["my.info"]
    assert identity_files.load(tmp_path / "home", lambda: "secret").private_key.der() == private_key.der()


def test_the_command_says_what_came(
    tmp_path: Path, other: Path, private_key: PrivateKey, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    (other / "my.info").write_bytes(text(private_key))
    assert import_home(Output(as_json=True, quiet=True), tmp_path / "one", other / "my.info", None) == 0
    record = json.loads(capsys.readouterr().out)
    check_json(record)
    assert (record["type"], record["name"], record["id"], record["proven"]) == ("identity", "olga", ID.lower(), False)
    assert import_home(Output(as_json=False, quiet=False), tmp_path / "two", other / "my.info", None) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"olga\nid: {ID.lower()}\n")
    assert "is imported into" in err


def test_what_can_be_seen_before_is_said_before_a_passphrase_is_asked_for(
    tmp_path: Path, alice: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: object) -> str:
        raise AssertionError("a passphrase was asked for")

    alice.close()
    monkeypatch.setattr(passphrase_source, "can_ask", never)
    monkeypatch.setattr(passphrase_source, "ask", never)
    monkeypatch.setattr(passphrase_source, "chosen", never)
    output = Output(as_json=False, quiet=False)
    (tmp_path / "export").write_bytes(b"")
    with pytest.raises(InfoFileError, match="No such file"):
        import_home(output, tmp_path / "new", tmp_path / "missing", None)
    with pytest.raises(InfoFileError, match="is a folder"):
        import_home(output, tmp_path / "new", tmp_path, None)
    with pytest.raises(AlreadyRegistered):
        import_home(output, tmp_path / "alice", tmp_path / "export", None)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InfoFileError, match="exists, and it is not overwritten"):
        export_command(output, tmp_path / "alice", tmp_path / "export", None)
    with pytest.raises(InfoFileError, match="there is no such folder"):
        export_command(output, tmp_path / "alice", tmp_path / "missing" / "file", None)


def test_an_export_is_none(tmp_path: Path, alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.crypto.sealed_storage.SCRYPT_COST", 16)
    alice.close()
    export_home(tmp_path / "alice", tmp_path / "file", "secret")
    assert not is_identity_file(tmp_path / "file")
    assert not is_identity_file(tmp_path / "missing")
    (tmp_path / "letter.txt").write_text("secret\nwords\n")
    assert not is_identity_file(tmp_path / "letter.txt")
