from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.home_store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_outlive_the_program(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert store.settings.get("colour") is None
    store.settings.put("colour", "blue")
    store.settings.put("colour", "green")
    store.close()
    again = Store.open(tmp_path)
    assert again.settings.get("colour") == "green"
    again.close()
