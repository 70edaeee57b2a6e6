"""The load generators that are available on this machine."""

from pathlib import Path

import pytest

from bench.generator import Generator, find_generator


@pytest.fixture(scope="session")
def c_generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    # A folder of its own, for the tests run in several processes and from fresh clones.
    build_folder: Path = tmp_path_factory.mktemp("build")
    generator = find_generator(build_folder=build_folder)
    if "no C compiler" in generator.remark:
        pytest.skip(generator.remark)
    assert generator.remark == ""
    return generator


@pytest.fixture(params=["c", "python"])
def generator(request: pytest.FixtureRequest) -> Generator:
    if request.param == "python":
        return find_generator(allow_compiler=False)
    found: Generator = request.getfixturevalue("c_generator")
    return found
