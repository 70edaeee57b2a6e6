"""myport.info and server.info: what is read, and what is reported if nothing can be."""

from pathlib import Path

import pytest

from common.errors import InfoFileError
from common.info_files import ServerAddress, parse_address, read_port, read_server_address


@pytest.mark.parametrize(
    ("text", "port"), [("1357", 1357), (" 80 \n", 80), ("65535\r\nmore", 65535), ("\ufeff99\n", 99)]
)
def test_a_port(tmp_path: Path, text: str, port: int) -> None:
    path = tmp_path / "myport.info"
    path.write_text(text, encoding="utf-8")
    assert read_port(path) == port


@pytest.mark.parametrize("text", ["", "\n1357", "0", "65536", "-1", "12a", "1357 8", "0x10", "١٢", "9" * 5000])
def test_no_port_names_file_and_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "myport.info"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InfoFileError, match=r"myport\.info, line 1") as caught:
        read_port(path)
    assert caught.value.line == 1


def test_missing_folder_and_binary_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(InfoFileError, match="No such file"):
        read_port(tmp_path / "myport.info")
    with pytest.raises(InfoFileError, match="can't be read"):
        read_port(tmp_path)
    (tmp_path / "server.info").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InfoFileError, match="is not text"):
        read_server_address(tmp_path / "server.info")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1357", ServerAddress("127.0.0.1", 1357)),
        ("localhost:80\nrest", ServerAddress("localhost", 80)),
        ("[::1]:99", ServerAddress("::1", 99)),
    ],
)
def test_an_address(tmp_path: Path, text: str, address: ServerAddress) -> None:
    path = tmp_path / "server.info"
    path.write_text(text)
    assert read_server_address(path) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "localhost", ":80", "a b:80", "h:0", "h:99999", "::1:80", "h:80:90", "\x1b[1m:80"]
)
def test_no_address_names_file_and_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.info"
    path.write_text(text)
    with pytest.raises(InfoFileError, match=r"server\.info, line 1"):
        read_server_address(path)
