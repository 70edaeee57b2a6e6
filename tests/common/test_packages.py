from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.packages import end_without
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["client"], 2),
        (["client", "users"], 2),
        (["client", "chat", "bob"], 2),
        (["gateway"], 78),
        (["storage_worker"], 78),
        (["storage_worker.admin", "stats"], 78),
    ],
)
def test_a_program_without_its_packages_says_how_to_get_them(arguments: list[str], code: int, tmp_path: Path) -> None:
    # -S: no packages but Python's own.
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("The package ")
    assert "scripts/client install all of them" in sentence


def test_a_module_of_our_own_that_is_missing_is_the_error_it_is() -> None:
    error = ModuleNotFoundError("No module named 'client.lost'", name="client.lost")
    with pytest.raises(ModuleNotFoundError) as raised:
        end_without(error, 2)
    assert raised.value is error
