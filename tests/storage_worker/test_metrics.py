"""What the storage worker counts, and that docs/operations.md names every series."""

from pathlib import Path

from storage_worker import metrics
from storage_worker.server.measures import Measures

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_the_page_names_every_series() -> None:
    page = PAGE.read_text(encoding="utf-8")
    series = metrics.series_of(Measures(lambda: 0, lambda: None, lambda: 0.0), lambda: 0)
    for one in series:
        total = "_total" if one.kind == "counter" else ""
        label = "" if one.label is None else f", by `{one.label}`"
        assert f"| `{one.name}{total}` | {one.kind}{label}. {one.text} |" in page
    assert {one.label for one in series} == {None, "operation", "reason"}


def test_operations_and_reasons_have_names_of_the_protocol() -> None:
    measures = Measures(lambda: 0, lambda: None, lambda: 0.0)
    read = {one.name: one.read() for one in metrics.series_of(measures, lambda: 7)}
    operations = read["messageu_worker_operations"]
    assert isinstance(operations, dict)
    assert {"register", "store_messages", "get_public_key"} < set(operations)
    assert read["messageu_worker_journal_bytes"] == 7
