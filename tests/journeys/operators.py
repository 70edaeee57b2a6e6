"""What the journeys of operators have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from storage_worker import admin

if TYPE_CHECKING:
    import pytest

    from torture.programs import Server

UNSET: Final = "unset MESSAGEU_SERVER;"
"""In front of a command: only the home says where the server is."""


def said_by_admin(server: Server, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run a command of `scripts/admin`, which has to end with `code`; what it printed."""
    assert admin.main(["--data-folder", str(server.data), *words]) == code
    return capsys.readouterr().out.strip()
