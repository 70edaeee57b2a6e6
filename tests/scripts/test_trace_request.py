"""The tracer of requests, and what it is for: few calls between the link and the batches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.trace_request import BATCHES, LINK, Tracer, Visit, report, traced


@pytest.mark.parametrize("number", [603, 604])
def test_a_request_passes_between_link_and_batches_four_times_at_most(number: int, tmp_path: Path) -> None:
    tracer = traced(number, tmp_path)
    crossings = tracer.crossings()
    assert 1 <= len(crossings) <= 4, report(tracer)
    assert {visit.module for visit in crossings} <= {LINK, *BATCHES}
    modules = {visit.module for visit in tracer.visits}
    assert {"gateway.connection.session", "common.client_protocol.server_connection", LINK} <= modules
    assert ("gateway.handlers.mail" in modules) == (number == 604)


def _module(name: str, source: str) -> Callable[..., None]:
    space: dict[str, Callable[..., None]] = {"__name__": name}  # type: ignore[dict-item]
    exec(source, space)
    return space["go"]


def test_a_visit_is_a_call_from_another_module() -> None:
    inner = _module("common.inner", "def go():\n    own()\ndef own():\n    pass\n")
    foreign = _module("json", "def go(inner):\n    inner()\n")
    outer = _module("gateway.outer", "def go(foreign, inner):\n    inner()\n    foreign(inner)\n")
    with Tracer() as tracer:
        outer(foreign, inner)
    assert tracer.visits == [
        Visit("", "gateway.outer", "go", 0),
        Visit("gateway.outer", "common.inner", "go", 1),
        Visit("gateway.outer", "common.inner", "go", 1),
    ]
    assert tracer.crossings() == []
    assert report(tracer).endswith(
        "3 visits of 2 modules, 1 of them re-entries; 0 crossings between the link and what makes batches"
    )
