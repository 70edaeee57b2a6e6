"""docs/compatibility.md shows the versions that the programs have, and the changelog names the
package's one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from client.cli.output import FORMAT
from client.store import schema
from common import version
from common.client_protocol.versions import EXTENSION_VERSION, SERVER_VERSION
from common.storage_protocol import frames
from storage_worker.engine.sqlite import schema as server_schema

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
CHANGELOG: Final = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_versions_are_those_of_the_programs() -> None:
    rows = PAGE.partition("|---|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    shown = {cells[1].strip(): cells[3].strip() for cells in (row.split("|") for row in rows)}
    assert shown == {
        "package": version.VERSION,
        "client protocol": str(SERVER_VERSION),
        "extension": str(EXTENSION_VERSION),
        "storage protocol": str(frames.VERSION),
        "server store": str(server_schema.VERSION),
        "home store": str(schema.VERSION),
        "JSON output": str(FORMAT),
    }


def test_the_newest_closed_version_is_the_packages() -> None:
    first, *closed = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert first == "Unreleased"
    assert re.fullmatch(rf"{re.escape(version.VERSION)} - \d{{4}}-\d\d-\d\d", closed[0])


def test_changes_are_sorted_under_known_headings() -> None:
    kinds = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    loose = re.findall(r"^## ([\d.]+) .*\n\n- ", CHANGELOG, re.MULTILINE)
    assert loose == [], "each change of a closed version is under Added, Changed or Fixed"
