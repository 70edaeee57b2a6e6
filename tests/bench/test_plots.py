"""The picture of results: what is in it, and where."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.__main__ import main
from bench.figures import FLOOR, Figures
from bench.loads import QUICK
from bench.plots import plot
from bench.results import Facts, Results

SVG = "{http://www.w3.org/2000/svg}"


def figures(subject: str, **loads: tuple[float, float]) -> list[Figures]:
    return [
        Figures(load.lstrip("_").replace("_", "@"), subject, 0, rate=rate, p99_ms=p99)
        for load, (rate, p99) in loads.items()
    ]


OURS = figures("ours", _1x1=(2e3, 0.5), _50x1=(5e4, 2.0), _50x32=(4e5, 33.0))
REDIS = figures("Redis <AOF>", _1x1=(6e3, 0.3), _50x1=(8.6e4, 1.0))


def test_a_line_for_each_server_and_window_and_a_dot_for_each_load() -> None:
    tree = ElementTree.fromstring(plot([*OURS, *REDIS]))  # our own
    assert len(tree.findall(f"{SVG}polyline")) == 2 * 2, "rate and p99, of those with two loads of one window"
    assert len(tree.findall(f"{SVG}circle")) == 2 * 5 + 2, "and one for each server in the legend"
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert {"ours", "Redis <AOF>", "1k", "100k", "50"} <= set(texts)
    assert "p99 in ms, 32 in flight on each" in texts


def test_higher_is_more_and_everything_lies_inside() -> None:
    tree = ElementTree.fromstring(plot(OURS))  # our own
    width, height = (float(tree.attrib[name]) for name in ("width", "height"))
    for dot in tree.iter(f"{SVG}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height
    rates = tree.findall(f"{SVG}polyline")[0].attrib["points"].split()
    (left, low), (right, high) = (map(float, place.split(",")) for place in rates)
    assert left < right
    assert high < low, "SVG counts downwards"


def test_what_is_no_send_of_the_usual_size_or_failed_is_not_drawn() -> None:
    others = figures("ours", drain=(1e6, 5.0), _50x32_4K=(1e4, 5.0)) + figures("failed", _1x1=(0.0, 0.0))
    floor = figures(FLOOR, _1x1=(1e6, 1.0))
    assert plot([*OURS, *others, *floor]) == plot(OURS)
    with pytest.raises(ValueError, match="no sends"):
        plot(others)


def test_the_command_draws_kept_results(tmp_path: Path) -> None:
    facts = Facts("2026-01-31", {"ours": "1"}, 2, "6.1", "3.11.7", "ext4")
    kept = tmp_path / "kept.json"
    kept.write_text(Results(facts, QUICK, OURS).as_json())
    assert main(["--table", str(kept), "--plot", str(tmp_path / "plot.svg")]) == 0
    assert (tmp_path / "plot.svg").read_text() == plot(OURS)
    kept.write_text(Results(facts, QUICK, figures("ours", drain=(1e6, 5.0))).as_json())
    with pytest.raises(SystemExit) as ended:
        main(["--table", str(kept), "--plot", str(tmp_path / "plot.svg")])
    assert ended.value.code == 2
