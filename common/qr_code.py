"""A text as a QR code for a terminal.

Owns: how one is drawn: two rows of modules per line, dark on light whatever the terminal's colours
are. Promises: pure, except that it imports a package.
Exposure: none.

Source: ISO/IEC 18004.
"""

from typing import Final

_BLOCKS: Final = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
_QUIET_ZONE: Final = 4
"""Modules around the code, as its standard wants them."""
_DARK_ON_LIGHT: Final = "\x1b[38;5;16;48;5;231m"
_AS_BEFORE: Final = "\x1b[0m"
"""Black and white of the colour cube: those of the first sixteen are whatever the terminal's theme
makes of them.
"""


def qr_lines(text: str) -> list[str]:
    """Give the lines of the code."""
    import segno  # noqa: PLC0415 - only for those who want a picture

    rows = [list(row) for row in segno.make_qr(text, error="m").matrix_iter(border=_QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    return [
        "".join(_BLOCKS[bool(up), bool(down)] for up, down in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def painted(lines: list[str]) -> list[str]:
    """Colour the lines, for a terminal that takes colours."""
    return [f"{_DARK_ON_LIGHT}{line}{_AS_BEFORE}" for line in lines]


def takes_colours(environment: dict[str, str]) -> bool:
    """Whether the reader wants colours."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
