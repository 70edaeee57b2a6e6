import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.figures import FLOOR, REDIS, Figures
from bench.loads import WHOLE, load_named
from bench.results import Facts, Results, file_system_of, fresh_path, gather_facts, keep

FACTS = Facts("2026-01-31", {"ours": "abc1234", "old": "", REDIS: "7.0.15"}, 2, "6.1", "3.11.7", "ext4", ("aloud",))
CPU = {"worker": 5.0, "gateway": 6.25, "generator": 0.5}
WAITING = {
    "few sends/s": 50_000.0,
    "many sends/s": 45_000.0,
    "sends/s ratio": 0.9,
    "few restart s": 0.5,
    "many restart s": 0.625,
    "restart ratio": 0.8,
    "few worker MB": 30.0,
    "many worker MB": 60.0,
}
FIGURES = [
    Figures("50x32", FLOOR, 0, rate=1_000_000, p50_ms=0.5, p99_ms=1, max_ms=2, cpu_us={"server": 0.25}),
    Figures(
        "50x32", "ours", 0, rate=90_123.4, p50_ms=17, p99_ms=30, max_ms=40, cpu_us=CPU, to_floor=0.0901, to_redis=0.36
    ),
    Figures("50x32", "old", 0, rate=900, cpu_us=CPU, to_floor=0.045, to_first=0.5, errors=2, remark="2 wrong"),
    Figures("50x32", REDIS, 0, rate=250_000, cpu_us={"server": 20, "generator": 0.5}, to_floor=0.25),
    Figures("drain", "ours", 0, rate=2_000_000, cpu_us=CPU, to_redis=1.5),
    Figures("waiting", "ours", 0, values=WAITING),
    Figures("large", "ours", 0, values={"upload MB/s": 250, "beside upload p99 ms": 20.5, "worker peak MB": 40.25}),
    Figures("idle", "ours", 0, values={"gateway fresh": 800, "gateway": 900.4, "worker fresh": 0, "worker": 0}),
    Figures("idle", REDIS, 0, values={"server fresh": 1800, "server": 1900}),
]
RESULTS = Results(FACTS, WHOLE, FIGURES)


def test_the_table_has_an_overview_and_a_paragraph_for_each_kind() -> None:
    assert RESULTS.table() == Path(__file__).with_name("expected_table.txt").read_text()


def test_kinds_that_were_not_measured_are_left_out() -> None:
    text = Results(FACTS, WHOLE, FIGURES[:2]).table()
    assert "Drain" not in text
    assert "idle" not in text
    assert "to first" not in text
    assert "Messages a second, processor time" not in text


def test_a_kept_file_is_never_written_over_by_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    paths = []
    for facts in (FACTS, replace(FACTS, cores=3), replace(FACTS, cores=4)):
        paths.append(fresh_path(folder, "2026-01-31"))
        keep(paths[-1], Results(facts, WHOLE, FIGURES[:1]))
        # The same run goes on and writes its own file again.
        keep(paths[-1], Results(facts, WHOLE, FIGURES))
    assert [path.name for path in paths] == ["2026-01-31.json", "2026-01-31-2.json", "2026-01-31-3.json"]
    assert [json.loads(path.read_text())["facts"]["cores"] for path in paths] == [2, 3, 4]
    assert len(list(folder.iterdir())) == 6
    kept = json.loads(paths[0].read_text())
    assert kept["facts"]["versions"] == FACTS.versions
    assert kept["extent"]["loads"][-4:] == ["drain", "waiting", "large", "idle"]
    assert kept["medians"][1]["rate"] == 90123.4
    assert len(kept["rounds"]) == 9


def test_the_table_can_be_made_again_from_what_was_kept(tmp_path: Path) -> None:
    path = fresh_path(tmp_path, "2026-01-31")
    keep(path, RESULTS)
    again = Results.from_json(path.read_text())
    assert again.table() == RESULTS.table() == path.with_suffix(".txt").read_text()
    assert again.extent == WHOLE


@pytest.mark.parametrize(
    ("cpu_us", "shown"),
    [
        # Their sum, 9.999999999999998, is less than 10; that of what is kept is 10.
        ({"gateway": 4.999999999999999, "worker": 4.999999999999999}, "10"),
        ({"worker": 9.999999999999998}, "10"),
        ({"worker": 9.95}, "10"),
        # Kept as 9.95.
        ({"worker": 9.94999999999}, "10"),
        ({"worker": 9.949}, "9.9"),
    ],
)
def test_the_table_shows_the_figures_that_are_kept(cpu_us: dict[str, float], shown: str) -> None:
    sends = Figures("50x32", "ours", 0, rate=3.4999999999, p50_ms=0.37499999999, cpu_us=cpu_us)
    results = Results(FACTS, WHOLE, [sends, replace(sends, load="drain")])
    table = results.table()
    assert table == Results.from_json(results.as_json()).table()
    # Kept as 3.5 and as 0.375.
    assert re.search(rf"^ours +4 \({re.escape(shown)} us\) +4 \({re.escape(shown)} us\)$", table, re.MULTILINE)
    assert re.search(r"^50x32 +ours +4 +0\.38 ", table, re.MULTILINE)


def test_the_medians_of_an_even_number_of_rounds_are_those_that_are_kept() -> None:
    rounds = [Figures("50x32", "ours", number, rate=rate) for number, rate in enumerate((3.0, 3.9999999999))]
    results = Results(FACTS, WHOLE, rounds)
    assert json.loads(results.as_json())["medians"][0]["rate"] == 3.5
    assert re.search(r"^50x32 +ours +4 ", results.table(), re.MULTILINE)
    assert results.table() == Results.from_json(results.as_json()).table()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"facts": {"remarks": []}}'])
def test_another_file_is_no_results_file(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Results.from_json(text)


def test_kept_files_name_no_folder_and_no_host(tmp_path: Path) -> None:
    facts = gather_facts("2026-01-31", {"ours": ""}, tmp_path, ["", "a remark"])
    path = fresh_path(tmp_path, facts.date)
    keep(path, Results(facts, replace(WHOLE, loads=(load_named("50x32"),)), FIGURES))
    text = path.read_text() + path.with_suffix(".txt").read_text()
    assert str(tmp_path) not in text
    assert str(Path(__file__).parent.parent.parent) not in text
    assert facts.remarks == ("a remark",)
    assert facts.cores >= 1


def test_the_file_system_of_a_folder_is_known() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path(__file__)) != ""
