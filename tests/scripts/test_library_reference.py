"""docs/library.md has every public name of the library, as the source has it."""

from __future__ import annotations

import re

import pytest

from scripts import library_reference
from scripts._documents import PartsDiffer

DOCUMENT = library_reference.PAGE.read_text(encoding="utf-8")


def test_the_document_is_what_the_source_says() -> None:
    made = library_reference.rewritten(DOCUMENT)
    assert made == DOCUMENT, "scripts/library_reference.py --write brings it up to date"


def test_every_public_name_is_there() -> None:
    sections = set(re.findall(r"^##+ `?(?:await )?([\w.]+)", DOCUMENT, re.MULTILINE))
    public = library_reference.public()
    assert {"Messenger", "AsyncMessenger", "Text", "Received"} <= public.keys()
    assert public.keys() <= sections
    expected = {
        f"{name}.{method}"
        for name in library_reference.WITH_METHODS
        for method in vars(public[name])
        if not method.startswith("_")
    }
    assert expected == {name for name in sections if "." in name}


def test_methods_and_values_have_their_types() -> None:
    made = library_reference.parts()
    assert "Takes `name: str`, `content: str | PathLike[str] | bytes`," in made["messenger"]
    assert "### `Messenger.users()`\n\nReturns `list[Contact]`.\n\nAsk" in made["messenger"]
    assert "### `Messenger.close()`\n\nClose" in made["messenger"]
    assert "Fields: `number: int`, `sender: ClientId`," in made["values"]


def test_nobody_is_sent_on_to_what_is_not_public() -> None:
    """Where the source names a method of an inner class, the page has what is written there."""
    named = re.findall(r"`([A-Z]\w+)\.\w+", "".join(library_reference.parts().values()))
    assert set(named) - library_reference.public().keys() == set()


@pytest.mark.parametrize(
    "document", [DOCUMENT.replace("made: values", "made: prices"), DOCUMENT + "<!-- made: values -->\n<!-- end -->"]
)
def test_a_part_that_is_missing_or_stands_for_nothing(document: str) -> None:
    with pytest.raises(PartsDiffer):
        library_reference.rewritten(document)
