"""A short run of every target, the same each time; `scripts/fuzz` makes longer ones."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import live
from tests.fuzz.__main__ import main
from tests.fuzz.mutation import CORPUS, corpus, mutated
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = 400


@pytest.mark.parametrize("target", TARGETS)
def test_a_target(target: str) -> None:
    seeds = corpus(target)
    for data in [b"", *seeds, *islice(mutated(seeds, Random(1)), INPUTS)]:
        TARGETS[target](data)


def test_the_corpus_has_something_for_every_target_and_for_no_other() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(corpus(target) for target in TARGETS)


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, second = (list(islice(mutated([b"one", b"two"], Random(7)), 50)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 25


@pytest.mark.slow
def test_a_running_server(tmp_path: Path) -> None:
    with live.served(tmp_path / "server") as (server, tls_port):
        for inside_tls in (False, True):
            inputs = mutated(corpus("requests"), Random(2))
            assert live.run(server, tls_port, inputs, 2, inside_tls=inside_tls) == 2 * live.ROUND


def test_a_fault_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "names", broken)
    monkeypatch.setattr("tests.fuzz.__main__.find_spec", lambda _name: None)
    assert main(["--only", "names", "--minutes", "0.01", "--keep", str(tmp_path)]) == 1
    assert "FAULT in names: ZeroDivisionError at input 1" in capsys.readouterr().out
    assert (tmp_path / "names-fault").exists()
