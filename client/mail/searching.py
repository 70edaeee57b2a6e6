"""Searching texts for words as a person would: not by comparing bytes.

Owns: which texts count as the same in a search.
Promises: upper and lower case, the composed and the decomposed form of a letter, and the forms of
compatibility (full width, ligatures) are the same, on both sides, as in Unicode's NFKC_Casefold;
invisible characters (a soft hyphen) do not count. A Turkish dotted capital I is found by i. Accents
count: `cafe` does not find `café`.
Exposure: folds texts that strangers chose.

Source: Unicode 15, section 3.13, "Default Caseless Matching", D147.
"""

import unicodedata
from typing import Final

from client.terminal.look_alikes import IGNORABLE

_DOTTED_I: Final = "i\u0307"
"""What U+0130 becomes in lower case, so that its dot is not lost."""


def folded(text: str) -> str:
    """Return a text in the form in which it is compared with others."""
    if text.isascii():
        return text.casefold()
    plain = IGNORABLE.sub("", text)
    twice = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", plain).casefold()).casefold()
    return unicodedata.normalize("NFKC", twice.replace(_DOTTED_I, "i"))
