import json
from dataclasses import replace
from pathlib import Path

from bench.measure import DRAIN, FLOOR, IDLE, STANDARD, Figures
from bench.results import Facts, file_system_of, gather_facts, keep, table

FACTS = Facts("2026-01-31", {"ours": "abc1234", "old": ""}, 2, "6.1", "3.11.7", "ext4", ("said aloud",))
CPU = {"worker": 5.0, "gateway": 6.25, "generator": 0.5}
FIGURES = [
    Figures("50x32", FLOOR, 0, rate=1_000_000, p50_ms=0.5, p99_ms=1, max_ms=2),
    Figures("50x32", "ours", 0, rate=90_123.4, p50_ms=17, p99_ms=30, max_ms=40, cpu_us=CPU, to_floor=0.0901),
    Figures("50x32", "old", 0, rate=45_000, cpu_us=CPU, to_floor=0.045, to_first=0.5, errors=2, remark="2 wrong"),
    Figures(DRAIN, "ours", 0, rate=200_000, cpu_us=CPU),
    Figures(IDLE, "ours", 0, memory_bytes={"gateway": 900.4, "gateway fresh": 800, "worker": 0, "worker fresh": 0}),
]


def test_the_table_has_a_paragraph_for_each_kind() -> None:
    assert table(FIGURES, STANDARD, FACTS) == (
        "2026-01-31  ours abc1234, old\n"
        "2 cores, Linux 6.1, Python 3.11.7, ext4; median of 3, 3 s each\n"
        "said aloud\n"
        "\n"
        "256-byte messages to 1,000 offline recipients; connections x in flight\n"
        "load   server    acked/s  p50 ms  p99 ms  max ms  gateway us  worker us  generator us  disk B/msg  to floor"
        "  to first       errors\n"
        "50x32  floor   1,000,000    0.50    1.00     2.0\n"
        "50x32  ours       90,123   17.00   30.00    40.0        6.25       5.00          0.50           0     0.090"
        "                      0\n"
        "50x32  old        45,000    0.00    0.00     0.0        6.25       5.00          0.50           0     0.045"
        "      0.50  2 (2 wrong)\n"
        "\n"
        "Drain of 100,000 messages out of 1,000 mailboxes over 50 connections, connections kept; "
        "latency of a whole 2104\n"
        "load   server  messages/s  p50 ms  p99 ms  max ms  gateway us  worker us  generator us  disk B/msg  to floor"
        "  errors\n"
        "drain  ours       200,000    0.00    0.00     0.0        6.25       5.00          0.50           0"
        "                 0\n"
        "\n"
        "10,000 idle connections: resident bytes for each, only opened | after one 604\n"
        "server    gateway  worker  errors\n"
        "ours    800 | 900   0 | 0       0\n"
    )


def test_kinds_that_were_not_measured_are_left_out() -> None:
    text = table(FIGURES[:2], STANDARD, FACTS)
    assert "Drain" not in text
    assert "idle" not in text
    assert "to first" not in text


def test_a_kept_file_is_never_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    paths = [keep(folder, FACTS, STANDARD, FIGURES, FIGURES, text) for text in ("one", "two", "three")]
    assert [path.name for path in paths] == ["2026-01-31.json", "2026-01-31-2.json", "2026-01-31-3.json"]
    assert [path.with_suffix(".txt").read_text() for path in paths] == ["one", "two", "three"]
    kept = json.loads(paths[0].read_text())
    assert kept["facts"]["versions"] == {"ours": "abc1234", "old": ""}
    assert kept["extent"]["shapes"] == ["1x1", "50x1", "50x32"]
    assert kept["medians"][1]["rate"] == 90123
    assert len(kept["rounds"]) == 5


def test_kept_files_name_no_folder_and_no_host(tmp_path: Path) -> None:
    facts = gather_facts("2026-01-31", {"ours": ""}, tmp_path, ["", "a remark"])
    path = keep(tmp_path, facts, replace(STANDARD, idle=0), FIGURES, FIGURES, table(FIGURES, STANDARD, facts))
    text = path.read_text() + path.with_suffix(".txt").read_text()
    assert str(tmp_path) not in text
    assert str(Path(__file__).parent.parent.parent) not in text
    assert facts.remarks == ("a remark",)
    assert facts.cores >= 1


def test_the_file_system_of_a_folder_is_known() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path(__file__)) != ""
