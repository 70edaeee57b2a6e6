import sys
from pathlib import Path

import pytest

from bench.generator import find_generator


def test_one_version_of_the_source_is_compiled_once(tmp_path: Path) -> None:
    first = find_generator(build_folder=tmp_path)
    if "no C compiler" in first.remark:
        pytest.skip(first.remark)
    (program,) = tmp_path.iterdir()
    assert (first.command, first.remark) == ((str(program),), "")
    made = program.stat().st_mtime_ns
    assert find_generator(build_folder=tmp_path) == first
    assert program.stat().st_mtime_ns == made


def test_without_a_compiler_the_generator_is_in_python_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    found = find_generator(build_folder=tmp_path)
    assert found.command == (sys.executable, "-P", "-m", "bench.slow_generator")
    assert found.remark == "no C compiler: generator in Python, which may be the bottleneck"
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_is_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho 'stdio.h: not here' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    found = find_generator(build_folder=tmp_path / "build")
    assert "bench.slow_generator" in found.command
    assert "(stdio.h: not here)" in found.remark
    assert list((tmp_path / "build").iterdir()) == []
