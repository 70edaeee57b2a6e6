"""Unusable options are refused with a sentence; the others pass unchanged."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from common.client_protocol.responses import LARGEST_CONTENT
from common.errors import SettingRejected
from common.server_address import ServerAddress
from gateway import __main__ as program
from gateway.addresses import Place, addresses_of, all_places, public_address
from gateway.options import (
    OWN_FILES,
    checked,
    connections_that_fit,
    has_default_place,
    parse,
    rate,
    settings_of,
    shown_rate,
)
from gateway.settings import Limited, Rate, Settings
from tests.refusals_at_start import Refusals, assert_no_value, last_line_with_60_files

REFUSED = [
    ("--largest-message", "-1", "--largest-message is 1 to "),
    ("--largest-message", "0", "--largest-message is 1 to "),
    ("--largest-message", "99999999999", "--largest-message is 1 to 4294967241, not 99999999999"),
    ("--connections", "-4", "--connections is 1 to "),
    ("--connections", "0", "--connections is 1 to 1000000, not 0"),
    ("--connections", "9" * 30, "--connections is 1 to "),
    ("--limit-connections", "0", "--limit-connections is 1 to 1000000, not 0"),
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
        ("--limits", "maybe"),
        ("--limit-connections", "many"),
        ("--limit-messages", "60"),
        ("--limit-messages", "0+1/s"),
        ("--limit-messages", "60+0/s"),
        ("--limit-messages", "60+1/0s"),
        ("--limit-bytes", "128MB+2MB/s"),
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


def test_listeners_of_each_kind() -> None:
    words = ["--tls-listen", "[::]:1358", "--proxy-protocol-from", "10.0.0.0/8", "--tls-listen", "chat.example.org:443"]
    options = parse([*words, "--proxy-protocol-from", "192.0.2.1", "--proxy-protocol-from", "fd00::/8"])
    checked(options)
    assert has_default_place(options)
    assert all_places(options, 1357) == [
        Place(False, "127.0.0.1", 1357),
        Place(True, "::", 1358, (ip_network("10.0.0.0/8"),)),
        Place(True, "chat.example.org", 443, (ip_network("192.0.2.1"), ip_network("fd00::/8"))),
    ]
    assert [str(place) for place in all_places(options, None)] == ["[::]:1358", "chat.example.org:443"]


def test_a_plain_listener_takes_the_place_of_the_default_one() -> None:
    options = parse(["--listen", "127.0.0.1:1", "--listen", "[::1]:2"])
    checked(options)
    assert not has_default_place(options)
    assert parse(["--listen", "127.0.0.1:1"]).places == [Place(False, "127.0.0.1", 1)]
    assert parse([]).places is None


def test_proxies_of_the_default_listener() -> None:
    options = parse(["--proxy-protocol-from", "10.0.0.1", "--tls-listen", "0.0.0.0:2"])
    assert [place.proxies for place in all_places(options, 1)] == [(ip_network("10.0.0.1/32"),), ()]


@pytest.mark.parametrize(
    "words",
    [
        ["--no-plain"],
        ["--no-plain", "--listen", "127.0.0.1:1", "--tls-listen", "127.0.0.1:2"],
        ["--listen", "127.0.0.1:1", "--port", "3"],
        ["--listen", "127.0.0.1:1", "--host", "127.0.0.2"],
        ["--no-plain", "--tls-listen", "127.0.0.1:2", "--port", "3"],
        ["--proxy-protocol-from", "10.0.0.1", "--listen", "127.0.0.1:1"],
    ],
)
def test_listeners_that_do_not_go_together(words: list[str]) -> None:
    with pytest.raises(SettingRejected, match="--no-plain"):
        checked(parse(words))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--tls-listen", "1358"),
        ("--tls-listen", ":1358"),
        ("--tls-listen", "::1:1358"),
        ("--tls-listen", "host:0"),
        ("--listen", "host"),
        ("--listen", f"messageu://{'A' * 43}@host:1"),
        ("--proxy-protocol-from", "10.0.0.1/8"),
        ("--proxy-protocol-from", "proxy"),
        ("--public-address", "a b"),
    ],
)
def test_what_is_no_listener(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_no_value(program, option, value, capsys)


def test_addresses_for_clients() -> None:
    places = [Place(False, "0.0.0.0", 1), Place(True, "::", 2), Place(True, "0.0.0.0", 2), Place(True, "192.0.2.1", 3)]
    assert addresses_of(places, None, "box") == [ServerAddress("box", 2), ServerAddress("192.0.2.1", 3)]
    assert addresses_of(places, public_address("chat.example.org"), "box") == [
        ServerAddress("chat.example.org", 2),
        ServerAddress("chat.example.org", 3),
    ]
    assert addresses_of(places, public_address("[2001:db8::1]:443"), "box") == [ServerAddress("2001:db8::1", 443)]


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


def test_limits_are_the_settings_unless_something_else_is_chosen() -> None:
    assert settings_of(parse([]), 9) == Settings(connections=9)
    chosen = ["--limits=on", "--limit-connections=3", "--limit-handshakes=4+5/6s", "--limit-registrations=1+1/s"]
    options = parse([*chosen, "--limit-messages=7+8/60s", "--limit-bytes=1M+2k/s"])
    checked(options)
    assert settings_of(options, 9) == Settings(
        connections=9,
        limited=Limited.EVERYBODY,
        limit_connections=3,
        limit_handshakes=Rate(4, 5, 6),
        limit_registrations=Rate(1, 1, 1),
        limit_messages=Rate(7, 8, 60),
        limit_bytes=Rate(1 << 20, 2048, 1),
    )


@pytest.mark.parametrize("text", ["60+1/s", "6+1/30s", "134217728+2097152/s"])
def test_a_limit_is_shown_as_it_is_written(text: str) -> None:
    assert shown_rate(rate(text)) == text
