"""client/suite1/values.py agrees with docs/suite-1.md: constants, and the tables of failures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from client.suite1 import values
from client.suite1.values import BundleFailure, BundleRefused, OpenFailure

PAGE = (Path(__file__).parents[3] / "docs" / "suite-1.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", str(values.MESSAGE_TYPE)),
        ("version", str(values.VERSION)),
        ("rotate after", f"{values.ROTATE_AFTER // values.DAY} days"),
        ("valid for", f"{values.VALID_FOR // values.DAY} days"),
        ("kept after", f"{values.KEPT_AFTER // values.DAY} days"),
        ("farthest", f"{values.FARTHEST // values.DAY} days"),
        ("renew at most", f"{values.RENEW_AT_MOST // values.HOUR} hour"),
        ("ask at most", f"{values.ASK_AT_MOST // values.HOUR} hour"),
        ("replace at most", f"{values.REPLACE_AT_MOST // values.DAY} day"),
        ("one-time batch", str(values.ONE_TIME_BATCH)),
        ("one-time low", str(values.ONE_TIME_LOW)),
        ("sessions", str(values.MAX_SESSIONS)),
        ("session ids", str(values.MAX_SESSION_IDS)),
        ("digests", str(values.MAX_DIGESTS)),
        ("payload", f"{values.MAX_PAYLOAD // 2**20} MiB"),
        ("sealed", f"{values.MAX_SEALED // 2**20} MiB"),
    ],
)
def test_a_constant_is_the_one_of_the_page(name: str, value: str) -> None:
    assert {row[0]: row[1] for row in rows(section("Constants"))}[name] == value


def test_every_constant_of_the_page_is_looked_at() -> None:
    assert len(rows(section("Constants"))) == 1 + 16


def test_the_failures_are_those_of_the_page() -> None:
    table = {row[0].strip("`"): row[2:] for row in rows(section("Failures"))[1:]}
    assert set(table) == {*OpenFailure}
    assert {name for name, (renew, _) in table.items() if renew == "yes"} == {*values.RENEWING}
    assert {name for name, (_, replace) in table.items() if replace == "yes"} == {*values.REPLACING}
    checks = {name for row in rows(section("Opening"))[1:] for name in re.findall(r"`([a-z-]+)`", row[2])}
    assert checks & {*OpenFailure} == {*OpenFailure}


def test_the_failures_of_claims_are_those_of_the_page_and_have_a_sentence() -> None:
    named = {name for row in rows(section("Bundles")) for name in re.findall(r"`([a-z-]+)`", row[-1])}
    assert named & {*BundleFailure} == {*BundleFailure}
    assert len({str(BundleRefused(failure)) for failure in BundleFailure}) == len(BundleFailure)
