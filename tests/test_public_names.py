"""`from messageu import ...` in a checkout: the names are those that the library's
modules make public.
"""

from __future__ import annotations

import ast

import pytest

import messageu
from client import async_messenger, messenger
from client import errors as client_errors
from common import errors
from messageu import public
from scripts import library_reference
from setup import ImportUnknown, rewritten

MODULES = (messenger, async_messenger)


def test_every_public_name_is_there_and_is_the_one_of_its_module() -> None:
    expected = {name: getattr(module, name) for module in MODULES for name in module.__all__}
    expected |= {failure.__name__: failure for failure in library_reference.failures()}
    assert {name: getattr(messageu, name) for name in messageu.__all__} == expected
    assert public.__all__ == messageu.__all__ == sorted(messageu.__all__) == dir(messageu)
    assert messageu.Messenger is messenger.Messenger
    assert messageu.ClientError is client_errors.ClientError
    assert messageu.MessageUError is errors.MessageUError


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Outbox'"):
        messageu.Outbox  # noqa: B018


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from client import messenger\n", "from messageu.client import messenger\n"),
        ("if 1:\n from common.a import A, B as C\n", "if 1:\n from messageu.common.a import A, B as C\n"),
        ("import common.values as v; x = 1\n", "import messageu.common.values as v; x = 1\n"),
        ("from messageu.public import *\n", "from messageu.public import *\n"),
        ("from clients import a\nimport commons\n", "from clients import a\nimport commons\n"),
        ("a = 'from client import b'\n", "a = 'from client import b'\n"),
        ("import é as é; from client import a\n", "import é as é; from messageu.client import a\n"),
    ],
)  # fmt: skip
def test_imports_are_written_anew_for_the_wheel(before: str, after: str) -> None:
    assert rewritten(before) == after
    ast.parse(after)


@pytest.mark.parametrize("source", ["import client\n", "import os, client.messages as m\n", "from  client import a\n"])
def test_an_import_that_cannot_be_written_anew_ends_the_build(source: str) -> None:
    with pytest.raises(ImportUnknown, match="line 1"):
        rewritten(source)
