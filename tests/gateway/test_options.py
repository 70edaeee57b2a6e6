"""Options that the gateway can't serve with are refused with a sentence; the others pass
as they are.
"""

from pathlib import Path

import pytest

from common.client_protocol.fields import LARGEST_CONTENT
from common.errors import SettingRejected
from gateway import __main__ as program
from gateway.listener import is_reached_by_others, open_listener
from gateway.options import OWN_FILES, checked, connections_that_fit, parse
from tests.refusals_at_start import Refusals, assert_no_value, last_line_with_60_files

REFUSED = [
    ("--largest-message", "-1", "--largest-message is 1 to "),
    ("--largest-message", "0", "--largest-message is 1 to "),
    ("--largest-message", "99999999999", "--largest-message is 1 to 4294967241, not 99999999999"),
    ("--connections", "-4", "--connections is 1 to "),
    ("--connections", "0", "--connections is 1 to 1000000, not 0"),
    ("--connections", "9" * 30, "--connections is 1 to "),
    ("--slot", "-1", "--slot is 0 to 65535, not -1"),
    ("--slot", "65536", "--slot is 0 to 65535, not 65536"),
    ("--port", "0", "--port is 1 to 65535, not 0"),
    ("--port", "65536", "--port is 1 to 65535, not 65536"),
    ("--host", "", "--host '' is neither"),
    ("--host", "a b", "--host 'a b' is neither"),
    ("--host", "a\nb", "--host 'a\\nb' is neither"),
    ("--host", "a..b", "--host 'a..b' is neither"),
    ("--host", "a" * 64, "--host 'aaaa"),
    ("--host", "ab." * 85, "--host 'ab.ab."),
]


@pytest.fixture
def refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Refusals:
    return Refusals(program, tmp_path / "data", monkeypatch, caplog)


@pytest.mark.parametrize(("option", "value", "sentence"), REFUSED)
def test_what_can_not_serve(refusals: Refusals, option: str, value: str, sentence: str) -> None:
    assert refusals.of(f"{option}={value}").startswith(f"the gateway ends: {sentence}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--largest-message", "x"),
        ("--largest-message", "1KB"),
        ("--slot", ""),
        ("--data-folder", ""),
        ("--log-level", "loud"),
    ],
)
def test_what_is_no_value_at_all(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_no_value(program, option, value, capsys)


def test_the_port_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--port", "1", "--port-file", "p"], ["--port-file=p", "--port=1"], ["--port", "x"], ["--port"]):
        with pytest.raises(SystemExit) as ended:
            program.main([*words, "--data-folder", str(tmp_path / "data")])
        assert ended.value.code == 2
        assert "--port" in capsys.readouterr().err


def test_a_given_port_is_listened_on_and_no_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(host: str, port: int) -> None:
        asked.append((host, port))
        raise SettingRejected("taken")

    monkeypatch.setattr(program, "open_listener", refuse)
    monkeypatch.chdir(tmp_path)
    Path("myport.info").write_text("4321")
    for words, port in ((["--port", "27031"], 27031), ([], 4321), (["--port-file", "none"], 1357)):
        assert program.main([*words, "--data-folder", str(tmp_path / "data")]) == 78
        assert asked.pop() == ("127.0.0.1", port)
        assert ("using port 1357" in caplog.text) is (port == 1357)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "chat.example.org"])
def test_hosts_that_may_be(host: str) -> None:
    checked(parse(["--host", host]))


def test_the_edges_pass() -> None:
    checked(parse([]))
    checked(parse(["--connections", "1", "--largest-message", "1", "--slot", "65535"]))
    checked(parse(["--connections", "1000000", "--largest-message", str(LARGEST_CONTENT)]))


def test_sizes_have_units() -> None:
    assert parse(["--largest-message", "10M"]).largest_message == 10 * 1024**2


def test_connections_fit_under_the_limit_of_open_files(caplog: pytest.LogCaptureFixture) -> None:
    assert connections_that_fit(100, OWN_FILES + 99) == 99
    assert caplog.messages == [f"the system allows {OWN_FILES + 99} open files: at most 99 connections"]
    with pytest.raises(SettingRejected, match="the gateway needs at least 65"):
        connections_that_fit(100, OWN_FILES)


def test_too_few_open_files_end_it(tmp_path: Path) -> None:
    assert last_line_with_60_files("gateway", tmp_path).endswith(
        "the gateway ends: the system allows 60 open files, and the gateway needs at least 65: "
        "raise the limit (ulimit -n)"
    )


class Listening:
    """As much of a listening socket as says where it listens."""

    def __init__(self, address: str) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address, 1357


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("127.0.0.1", False),
        ("127.8.9.10", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("::ffff:10.0.0.1", True),
        ("fe80::1%eth0", True),
        ("192.168.1.5", True),
    ],
)
def test_whether_others_reach_it_is_known_by_the_address(address: str, *, is_open: bool) -> None:
    assert is_reached_by_others(Listening(address)) is is_open  # type: ignore[arg-type]


def test_whoever_lets_others_reach_it_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        program._say_where("127.0.0.1", 1357, is_open=False)
        program._say_where("::1", 1359, is_open=False)
        program._say_where("0.0.0.0", 1358, is_open=True)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "INFO", "WARNING"]
    assert caplog.messages[:3] == [
        "listening on 127.0.0.1:1357",
        "listening on [::1]:1359",
        "listening on 0.0.0.0:1358",
    ]
    assert caplog.messages[3].startswith("other machines reach 0.0.0.0, and there is no TLS: ")


def test_a_real_listener_on_this_machine_is_not_open() -> None:
    with open_listener("localhost", 0) as listener:
        assert not is_reached_by_others(listener)
