"""Padmé: the lengths to which messages and files are padded.

Owns: the rule. Promises: a length from 256 on grows by less than a sixteenth, and of all lengths up
to 2^40 bytes 1,153 can be seen. Exposure: none; sizes come from this client's own plain texts.

Source: docs/suite-1.md, "Padding"; Padmé is from "Reducing Metadata Leakage from Encrypted Files
and Communication with PURBs" (2019), section 4.
"""

from typing import Final

SMALLEST: Final = 256


def padme(length: int) -> int:
    """Return the padded length of `length` bytes: at least 256."""
    if length <= SMALLEST:
        return SMALLEST
    exponent = length.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (length + mask) & ~mask
