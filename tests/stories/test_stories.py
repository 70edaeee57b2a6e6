"""Every story file beside this one, on real server processes; their JSON against docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest

from tests.stories.runner import run_story
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

STORIES = sorted(Path(__file__).parent.glob("*.story"))
SCHEMAS = ROOT / "docs" / "schemas"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


def check_json(found: dict[str, Any]) -> None:
    schema = SCHEMAS / f"{found['type']}.json"
    fastjsonschema.compile(json.loads(schema.read_text()))(found)


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path, tmp_path: Path, server: Server) -> None:
    run_story(story, tmp_path, server, check_json)
