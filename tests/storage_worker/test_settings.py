"""Unusable settings are refused with a sentence; the others pass unchanged."""

import os
from pathlib import Path

import pytest

from common.client_protocol.responses import LARGEST_CONTENT as LARGEST_ON_THE_WIRE
from common.errors import SettingRejected
from storage_worker import __main__ as program
from storage_worker.rules.admission import Limits
from storage_worker.settings import (
    LARGEST_CONTENT,
    OWN_FILES,
    account_settings,
    check_min_free_bytes,
    checked,
    parse,
    place_of,
    uploads_that_fit,
)
from tests.refusals_at_start import Refusals, assert_no_value, last_line_with_60_files

REFUSED = [
    ("--free-space-mark", "-1", "--free-space-mark is 0 to "),
    ("--free-space-mark", "9" * 30, "--free-space-mark is 0 to "),
    ("--journal", "-1", "--journal is 65536 to "),
    ("--journal", "0", "--journal is 65536 to "),
    ("--journal", "99999999999", "--journal is 65536 to 1073741824, not 99999999999"),
    ("--largest-message", "-1", "--largest-message is 1 to "),
    ("--largest-message", "0", "--largest-message is 1 to "),
    ("--largest-message", "99999999999", "--largest-message is 1 to 4294967241, not 99999999999"),
    ("--mailbox-messages", "-5", "--mailbox-messages is 1 to "),
    ("--mailbox-messages", "0", "--mailbox-messages is 1 to 1000000000, not 0"),
    ("--mailbox-messages", "9" * 30, "--mailbox-messages is 1 to "),
    ("--sender-share", "0", "--sender-share is 1 to 100, not 0"),
    ("--sender-share", "-5", "--sender-share is 1 to 100, not -5"),
    ("--sender-share", "101", "--sender-share is 1 to 100, not 101"),
    ("--mailbox-bytes", "-1", "--mailbox-bytes is 1 to "),
    ("--mailbox-bytes", "0", "--mailbox-bytes is 1 to "),
    ("--mailbox-bytes", "9" * 30, "--mailbox-bytes is 1 to "),
    ("--uploads", "-1", "--uploads is 1 to "),
    ("--uploads", "0", "--uploads is 1 to "),
    ("--uploads", "9" * 30, "--uploads is 1 to "),
    ("--uploads-of-user", "-1", "--uploads-of-user is 1 to "),
    ("--uploads-of-user", "0", "--uploads-of-user is 1 to "),
    ("--uploads-of-user", "9" * 30, "--uploads-of-user is 1 to "),
    ("--size-limit", "-1", "--size-limit is 0 to "),
    ("--store", "mail.db", "--store begins with postgresql://"),
    ("--store", "mysql://u:secret@a/b", "--store begins with postgresql://, as PostgreSQL's connection strings do"),
    ("--shard", "0/1", "--shard is for --store"),
    ("--about", "Ask\x1b[2Jme", "--about has the control character U+001B; it takes text, in lines"),
    ("--about", "Ask me\x9b2J", "--about has the control character U+009B; it takes text, in lines"),
    ("--about", "Ask me\r", "--about has the control character U+000D; it takes text, in lines"),
    ("--about", "x" * 4097, "--about has at most 4096 bytes, not 4097"),
]


@pytest.fixture
def refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Refusals:
    return Refusals(program, tmp_path / "data", monkeypatch, caplog)


@pytest.mark.parametrize(("option", "value", "sentence"), REFUSED)
def test_what_can_not_serve(refusals: Refusals, option: str, value: str, sentence: str) -> None:
    assert refusals.of(f"{option}={value}").startswith(f"can't start: {sentence}")


@pytest.mark.parametrize(
    ("shard", "sentence"),
    [
        ("1", "--shard is K/N, such as 0/1, not 1"),
        ("0/-1", "--shard is K/N, such as 0/1, not 0/-1"),
        ("0/3", "--shard 0/3: the number of shards is a power of two up to 256"),
        ("0/512", "--shard 0/512: the number of shards is a power of two up to 256"),
        ("1/1", "--shard 1/1: the last of 1 is 0/1"),
        ("4/4", "--shard 4/4: the last of 4 is 3/4"),
    ],
)
def test_a_shard_that_there_is_not(refusals: Refusals, shard: str, sentence: str) -> None:
    assert refusals.of("--store=postgresql:///mail", f"--shard={shard}").startswith(f"can't start: {sentence}")


def test_what_is_told_of_the_server_may_have_lines() -> None:
    assert account_settings(parse(["--about", "Ünser Server\n\tAsk me"])).about == "Ünser Server\n\tAsk me".encode()


def test_a_store_in_postgresql() -> None:
    assert place_of(None, None) == place_of("postgresql:///mail", None) == place_of("postgres://a/b", "0/1") == (0, 1)


def test_a_message_that_would_fit_into_no_mailbox(refusals: Refusals) -> None:
    assert refusals.of("--mailbox-bytes=1M", "--largest-message=2M").startswith(
        "can't start: --largest-message (2097152) is more than --mailbox-bytes (1048576), so no mailbox could hold it"
    )


def test_the_largest_message_follows_a_small_mailbox() -> None:
    limits = checked(parse(["--mailbox-bytes", "1M"]))
    assert (limits.largest_message, limits.mailbox_bytes) == (1024**2, 1024**2)
    assert checked(parse(["--mailbox-bytes", "10G"])).largest_message == Limits().largest_message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--largest-message", "x"),
        ("--mailbox-bytes", "1.5G"),
        ("--journal", ""),
        ("--data-folder", ""),
        ("--log-level", "loud"),
    ],
)
def test_what_is_no_value_at_all(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_no_value(program, option, value, capsys)


def test_sizes_have_units() -> None:
    words = ["--free-space-mark", "1G", "--journal", "64K", "--mailbox-bytes", "2T", "--largest-message", "512K"]
    options = parse([*words, "--size-limit", "5M"])
    assert (options.min_free_bytes, options.journal, options.size_limit) == (1024**3, 64 * 1024, 5 * 1024**2)
    assert checked(options)[:3] == (512 * 1024, Limits().mailbox_messages, 2 * 1024**4)


def test_a_minimum_above_the_disks_size(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    most = (status.f_blocks - status.f_bfree + status.f_bavail) * status.f_frsize
    check_min_free_bytes(most, tmp_path)
    with pytest.raises(
        SettingRejected, match=rf"--free-space-mark \({most + 1}\) is more than the disk of .* has in all"
    ):
        check_min_free_bytes(most + 1, tmp_path)


def test_the_edges_pass() -> None:
    assert LARGEST_CONTENT == LARGEST_ON_THE_WIRE
    assert checked(parse([])) == Limits()
    words = ["--largest-message", "7", "--mailbox-bytes", "7", "--mailbox-messages", "1", "--uploads", "1"]
    least = checked(parse(words))
    assert least[:4] == (7, 1, 7, 1)
    assert checked(parse(["--uploads-of-user", "1"])).uploads_of_user == 1
    assert [checked(parse(["--sender-share", share])).sender_share for share in ("1", "100")] == [1, 100]
    checked(parse(["--free-space-mark", str(2**62)]))
    checked(parse(["--free-space-mark", "0", "--journal", "65536", "--largest-message", str(LARGEST_CONTENT)]))


def test_uploads_fit_under_the_limit_of_open_files(caplog: pytest.LogCaptureFixture) -> None:
    assert uploads_that_fit(256, OWN_FILES + 255) == 255
    assert caplog.messages == [f"the system allows {OWN_FILES + 255} open files: at most 255 unfinished uploads"]
    with pytest.raises(SettingRejected, match="the worker needs at least 65"):
        uploads_that_fit(256, OWN_FILES)


def test_too_few_open_files_end_it(tmp_path: Path) -> None:
    assert last_line_with_60_files("storage_worker", tmp_path).endswith(
        "can't start: the system allows 60 open files, and the worker needs at least 65: raise the limit (ulimit -n)"
    )
