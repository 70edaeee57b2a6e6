"""Sizes and bounds of the command lines of gateway and storage worker, and how many files fit."""

import argparse
from pathlib import Path

import pytest

from common.errors import SettingRejected
from common.options import Bound, check_bounds, fitting, folder_path, number, size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("512", 512),
        ("512K", 512 * 1024),
        ("1M", 1024**2),
        ("1m", 1024**2),
        ("10G", 10 * 1024**3),
        ("2T", 2 * 1024**4),
        ("-1", -1),
        ("-1K", -1024),
        ("+5", 5),
        ("9" * 40, 10**40 - 1),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    "text", ["", "K", "1.5G", "1KB", "1KiB", "1 K", " 1", "1_000", "0x10", "1e6", "x", "٣", "1K\n", "9" * 41]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size: bytes, or a number with K, M, G or T"):
        size(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("27031", 27031), ("-1", -1), ("+5", 5), ("007", 7)])
def test_numbers(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", " 27150", "27150 ", "1_000", "٣٣٣٣", "0x10", "1K", "1.0", "9" * 41])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no number"):
        number(text)


def test_an_empty_folder_is_none() -> None:
    assert folder_path(" a ") == Path(" a ")
    assert folder_path(".") == Path()
    with pytest.raises(argparse.ArgumentTypeError, match=r"^the path is empty: name a folder$"):
        folder_path("")


def test_the_first_value_out_of_its_bounds_is_named() -> None:
    check_bounds([Bound("--a", 1, 1, 3), Bound("--b", 3, 1, 3)])
    for value in (0, 4):
        with pytest.raises(SettingRejected, match=f"^--b is 1 to 3, not {value}$"):
            check_bounds([Bound("--a", 2, 1, 3), Bound("--b", value, 1, 3), Bound("--c", 9, 1, 3)])


def test_what_fits_under_the_limit_of_open_files(caplog: pytest.LogCaptureFixture) -> None:
    assert fitting(100, "things", 164, 64, "program") == 100
    assert not caplog.records
    assert fitting(100, "things", 163, 64, "program") == 99
    assert caplog.messages == ["the system allows 163 open files: at most 99 things"]
    assert fitting(100, "things", 65, 64, "program") == 1
    with pytest.raises(SettingRejected, match="allows 64 open files, and the program needs at least 65"):
        fitting(100, "things", 64, 64, "program")
