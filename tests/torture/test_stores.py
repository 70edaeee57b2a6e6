"""Where drills keep their mail: a store for each data folder, and drills that PostgreSQL is none
of.
"""

from pathlib import Path

import pytest

from cluster.postgres import programs
from torture.__main__ import DRILLS, OF_THE_EMBEDDED_STORE, parse
from torture.stores import EMBEDDED, PostgresStores, chosen


def test_nothing_has_to_be_said_of_the_embedded_store(tmp_path: Path) -> None:
    assert chosen().arguments(tmp_path) == ()


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="the wheel of PostgreSQL is not installed: scripts/test does that")
def test_a_data_folder_has_one_store(tmp_path: Path) -> None:
    with PostgresStores() as stores:
        one, other = (stores.arguments(tmp_path / name) for name in ("one", "other"))
        assert one[0] == "--store"
        assert one[1].startswith("postgresql://")
        assert one != other
        assert stores.arguments(tmp_path / "one") == one


def test_which_drills_there_are_with_postgresql(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(DRILLS) > OF_THE_EMBEDDED_STORE
    assert parse([]).store == EMBEDDED
    assert set(parse(["--store", "postgresql"]).only) == set(DRILLS) - OF_THE_EMBEDDED_STORE
    assert parse(["--store", "postgresql", "--only", "failover", "--rounds", "7"]).only == ["failover"]
    with pytest.raises(SystemExit):
        parse(["--store", "postgresql", "--only", "power-cuts"])
    assert "of the embedded store alone: power-cuts" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--rounds", "0"])
