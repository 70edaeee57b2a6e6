"""The tables and pictures of docs/scaling.md."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.shards import pages
from bench.shards.__main__ import PAGE, RESULTS, main
from bench.shards.measure import Cost, Death
from bench.shards.model import Point
from bench.shards.plot import chart

RESULT = pages.Results(
    "a machine",
    [
        Cost(1, 400, 1, 1000, 0.1, 1.0, 2.0, 3.0, 10.0, 20.0),
        Cost(2, 400, 1, 2000, 0.1, 1.0, 2.0, 2.0, 10.0, 20.0),
        Cost(4, 400, 1, 4000, 0.1, 1.5, 2.0, 2.0, 10.0, 20.0),
    ],
    29.0,
    200.0,
    0.002,
    1000,
    [
        Point(1, 1, 1000.0, 1000.0, 1.0, 1.0, 0.01, 0.02, 0.0, 0.0),
        Point(2, 1, 2000.0, 1990.0, 0.98, 1.02, 0.01, 0.03, 0.5, 0.028),
    ],
    Death(4, 1.0, 0.75, 0.25, 100.0, 101.0),
)


def test_tables_have_what_was_measured() -> None:
    made = pages.tables(RESULT)
    assert "| 4 | 4,000 | 1.5 | 2.0 | 2.0 | 5.5 | 1.10 |" in made
    assert "| 2 | 1 | 2,000 | 0.995 | 1.020 | 10 ms | 30 ms | 0.98 | 0.5000 | 28 ms |" in made
    assert "0.750 of all messages were accepted" in " ".join(made.split())
    for name in pages.pictures(RESULT):
        assert f"]({name})" in made


def test_pictures_are_svg_with_all_points() -> None:
    for picture in pages.pictures(RESULT).values():
        root = ElementTree.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        lines = [one for one in root if one.tag.endswith("polyline")]
        circles = [one for one in root if one.tag.endswith("circle")]
        assert len(circles) == sum(len(line.attrib["points"].split()) for line in lines)
    assert chart("one", "ms", [1], {"a <b>": [0.3]}).count("a &lt;b&gt;") == 1


def test_only_what_is_between_the_marks_changes() -> None:
    page = f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n"
    once = pages.put_into(page, "new")
    assert once == f"before\n{pages.BEGIN}\n\nnew\n\n{pages.END}\nafter\n"
    assert pages.put_into(once, "new") == once
    with pytest.raises(ValueError, match="has no place"):
        pages.put_into("nothing", "new")


@pytest.mark.slow
def test_the_page_has_the_results_that_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--again"]) == 0
    made = capsys.readouterr().out.strip()
    assert "10,000,000 users" in " ".join(made.split())
    assert made in PAGE.read_text(encoding="utf-8")
    for name in (pages.COST_PICTURE, pages.LATENCY_PICTURE):
        assert (PAGE.parent / name).read_text().startswith("<svg ")


def test_results_can_be_read() -> None:
    kept = json.loads(Path(RESULTS).read_text())
    costs = [Cost(*one) for one in kept["costs"]]
    [reference] = [one.all for one in costs if one.shards == 2]
    assert [one.shards for one in costs] == [1, 2, 4, 8, 16]
    assert max(abs(one.all / reference - 1) for one in costs if one.shards >= 2) < 0.15
