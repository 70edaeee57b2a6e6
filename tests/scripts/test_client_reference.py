"""docs/client.md says what the program itself knows: commands, options, exit codes, JSON,
settings.
"""

from __future__ import annotations

import json

import pytest

from client.settings import KNOWN
from scripts import client_reference
from scripts._documents import PartsDiffer

DOCUMENT = client_reference.PAGE.read_text(encoding="utf-8")


def test_the_document_is_what_the_program_says() -> None:
    assert client_reference.rewritten(DOCUMENT) == DOCUMENT, "scripts/client_reference.py --write brings it up to date"


def test_a_part_holds_what_was_made_for_it_and_nothing_else_changes() -> None:
    altered = DOCUMENT.replace("| `--qr` |", "| `--bar-code` |").replace("### `check`", "### `cheque`")
    assert altered != DOCUMENT
    assert client_reference.rewritten(altered) == DOCUMENT
    remark = "\nA remark of a person.\n"
    assert client_reference.rewritten(DOCUMENT + remark) == DOCUMENT + remark


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            DOCUMENT.replace("made: command send", "made: command post"),
            "command send is not there; nothing makes command post",
        ),
        (DOCUMENT.replace("<!-- made: json -->", ""), "json is not there"),
        (DOCUMENT + "<!-- made: options -->\n<!-- end -->", "options is there more than once"),
    ],
)
def test_a_part_that_is_missing_unknown_or_doubled_is_named(document: str, said: str) -> None:
    with pytest.raises(PartsDiffer, match=rf"^docs/client\.md, lines `<!-- made: NAME -->`.*: {said}$"):
        client_reference.rewritten(document)


def test_what_the_parts_say() -> None:
    made = client_reference.parts()
    assert made["command send"].startswith(
        "### `messageu send [NAME] [TEXT …] [--to NAME …] [--file PATH …] [--name NAME]`\n\nSend a text or files"
    )
    assert "| `--wait S` | wait up to S seconds for mail; exit code 124 if none" in made["command recv"]
    assert made["command passphrase"].startswith(
        "### `messageu passphrase set|change|remove [--new-passphrase-file PATH]"
    )
    assert "| `set\\|change\\|remove` |" in made["command passphrase"]
    assert "| `--published-only`, `--no-published-only` |" in made["options"]
    assert "| 7 | no such user | `no-such-user`, `refused` |" in made["exit codes"]
    assert '| `direction` | `"in"`, `"out"` |' in made["json"]
    assert "| `nearest` | array of strings |" in made["json"]
    assert '| `transport` | `"tls"`, `"plain"`, `null`, optional |' in made["json"]


def test_every_setting_stands_in_the_table_of_settings() -> None:
    table = DOCUMENT.split("## Settings")[1].split("\n## ")[0]
    for name in KNOWN:
        assert f"`{name}`" in table
        assert f"`MESSAGEU_{name.upper()}`" in table


def test_the_schemas_allow_what_is_added_later() -> None:
    """As docs/client.md promises: who checks by them goes on."""
    for path in client_reference.SCHEMAS.glob("*.json"):
        assert json.loads(path.read_text()).get("additionalProperties", True) is not False, path
