"""client/suite1/padding.py: Padmé."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.suite1.padding import padme


@pytest.mark.parametrize(
    ("length", "padded"),
    [(0, 256), (256, 256), (257, 272), (397, 400), (1000, 1024), (10_000, 10_240), (1_000_000, 1_015_808)],
)
def test_the_examples_of_the_specification(length: int, padded: int) -> None:
    assert padme(length) == padded


@given(st.integers(257, 2**50))
def test_the_definition(length: int) -> None:
    exponent = length.bit_length() - 1
    step = 2 ** (exponent - (math.floor(math.log2(exponent)) + 1))
    padded = padme(length)
    assert padded % step == 0
    assert length <= padded < length + step
    assert padded < length + length / 16
    assert padme(padded) == padded
    assert padded % 16 == 0


def test_few_lengths_are_seen() -> None:
    seen, length = 0, 0
    while length < 2**40:
        length = padme(length + 1)
        seen += 1
    assert seen == 1153
