"""Settings that the worker can't serve with are refused with a sentence; the others pass as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import SettingRejected
from common.wire.fields import LARGEST_CONTENT as LARGEST_ON_THE_WIRE
from storage_worker import __main__ as program
from storage_worker.post_office import Limits
from storage_worker.settings import LARGEST_CONTENT, OWN_FILES, checked, parse, uploads_that_fit
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]

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
    ("--mailbox-bytes", "-1", "--mailbox-bytes is 1 to "),
    ("--mailbox-bytes", "0", "--mailbox-bytes is 1 to "),
    ("--mailbox-bytes", "9" * 30, "--mailbox-bytes is 1 to "),
    ("--mailbox-bytes", "1000000", "--largest-message (1073741824) is more than --mailbox-bytes (1000000)"),
    ("--uploads", "-1", "--uploads is 1 to "),
    ("--uploads", "0", "--uploads is 1 to "),
    ("--uploads", "9" * 30, "--uploads is 1 to "),
    ("--uploads-of-user", "-1", "--uploads-of-user is 1 to "),
    ("--uploads-of-user", "0", "--uploads-of-user is 1 to "),
    ("--uploads-of-user", "9" * 30, "--uploads-of-user is 1 to "),
    ("--size-limit", "-1", "--size-limit is 0 to "),
]


@pytest.mark.parametrize(("option", "value", "sentence"), REFUSED)
def test_what_can_not_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, option: str, value: str, sentence: str
) -> None:
    folder = tmp_path / "data"
    assert program.main([f"{option}={value}", "--data-folder", str(folder)]) == 78
    last = caplog.records[-1].getMessage()
    assert last.startswith(f"can't start: {sentence}")
    assert not folder.exists()


@pytest.mark.parametrize(("option", "value"), [("--largest-message", "x"), ("--journal", ""), ("--log-level", "loud")])
def test_what_is_no_value_at_all(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err


def test_the_edges_pass() -> None:
    assert LARGEST_CONTENT == LARGEST_ON_THE_WIRE
    assert checked(parse([])) == Limits()
    words = ["--largest-message", "7", "--mailbox-bytes", "7", "--mailbox-messages", "1", "--uploads", "1"]
    least = checked(parse(words))
    assert least[:4] == (7, 1, 7, 1)
    assert checked(parse(["--uploads-of-user", "1"])).uploads_of_user == 1
    checked(parse(["--free-space-mark", str(2**62)]))
    checked(parse(["--free-space-mark", "0", "--journal", "65536", "--largest-message", str(LARGEST_CONTENT)]))


def test_uploads_fit_under_the_limit_of_open_files() -> None:
    assert uploads_that_fit(256, 1024) == 256
    assert uploads_that_fit(256, OWN_FILES + 256) == 256
    assert uploads_that_fit(256, OWN_FILES + 255) == 255
    assert uploads_that_fit(256, OWN_FILES + 1) == 1
    with pytest.raises(SettingRejected, match="allows 64 open files, and the worker needs at least 65"):
        uploads_that_fit(256, OWN_FILES)


def test_too_few_open_files_end_it(tmp_path: Path) -> None:
    worker = [sys.executable, "-m", "storage_worker", "--data-folder", str(tmp_path)]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *worker],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "can't start: the system allows 60 open files, and the worker needs at least 65: raise the limit (ulimit -n)"
    )
