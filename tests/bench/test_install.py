import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.install import install, install_wheels


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return []


def answering(calls: list[Sequence[str]], code: int) -> Callable[[Sequence[str]], int]:
    def call(command: Sequence[str]) -> int:
        calls.append(command)
        return code

    return call


def test_packages_are_installed_after_the_lists_are_fetched(calls: list[Sequence[str]]) -> None:
    assert install(["one", "two"], answering(calls, 0)) == ""
    assert [command[2] for command in calls] == ["update", "install"]
    assert calls[1][-2:] == ["one", "two"]


def test_wheels_are_installed_into_a_folder_of_their_own(calls: list[Sequence[str]], tmp_path: Path) -> None:
    assert install_wheels(["one==1"], tmp_path, answering(calls, 0)) == ""
    assert calls[0][1:4] == ["-m", "pip", "install"]
    assert calls[0][-3:] == ["--target", str(tmp_path), "one==1"]
    assert install_wheels(["one==1"], tmp_path, answering(calls, 1)).startswith("pip install failed")


def test_a_failure_is_told_and_ends_it(calls: list[Sequence[str]]) -> None:
    said = install(["one"], answering(calls, 100))
    assert said == "apt-get update failed; what it said stands above"
    assert len(calls) == 1


def test_without_root_or_apt_one_sentence_says_so(calls: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install(["one"]).startswith("only root can install packages")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert install(["one"]) == "this system has no apt-get; install the rivals by its own means: one"
    assert calls == []
