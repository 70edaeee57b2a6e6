"""Options that the gateway can't serve with are refused with a sentence; the others pass
as they are.
"""

from pathlib import Path

import pytest

from common.client_protocol.responses import LARGEST_CONTENT
from common.errors import SettingRejected
from gateway import __main__ as program
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
