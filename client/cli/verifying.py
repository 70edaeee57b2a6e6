"""Comparing keys: verify.

Owns: how a safety number, and its QR code, are shown.
Promises: a number that was given and is not the right one changes nothing.

Source: docs/client.md, "Trust".
"""

import itertools
import os
import sys

from client.cli.command import VERIFIED
from client.cli.output import Output, Value
from client.open_home import OpenHome
from client.terminal.sanitize import marked, visible_name
from client.terminal.text_wrap import columns_of, width
from client.trust.trust import Verification, block, day, grouped, number_differs

_BLOCKS = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
_DARK_ON_LIGHT, _AS_BEFORE = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
"""Black and white of the colour cube: those of the first sixteen are whatever the
terminal's theme makes of them.
"""
_QUIET_ZONE = 4
"""Modules around the code, as its standard (ISO/IEC 18004) wants them."""
_GAP = "   "


def verify(home: OpenHome, output: Output, name: str, number: str | None, *, qr: bool, accept_new: bool) -> int:
    """Show the safety number with a user, compare it, accept a changed key."""
    known = home.directory.verification(name)
    shown = visible_name(name)
    if known.new_number is not None and not accept_new:
        _show(output, known, qr=qr)
        home.directory.contact(name)
    current = known.new_number or known.number
    if number is not None and "".join(filter(str.isdigit, number)) != current:
        raise number_differs(name)
    if known.new_number is not None:
        known = home.directory.accept_new_key(name, current)
        output.say(f"The new key of {shown} is accepted. It is not verified yet.")
    elif accept_new:
        output.say(f"There is nothing to accept: the key of {_shown(known)} has not changed.")
    if number is not None:
        known = home.directory.mark_verified(name, current)
    _show(output, known, qr=qr)
    if known.verified_at is None and output.terminal:
        output.say(f"Compare it with {shown} by voice, or face to face; not over MessageU.")
    if known.verified_at is None and output.confirm(f"Does {shown} see the same number?"):
        known = home.directory.mark_verified(name, current)
    if known.verified_at is not None:
        output.say(f"{shown} is verified. {VERIFIED}")
    return 0


def _show(output: Output, known: Verification, *, qr: bool) -> None:
    if known.new_number is not None:
        state = "changed"
    else:
        state = "known" if known.verified_at is None else "verified"
    lines = [
        _shown(known),
        f"id: {known.client_id.hex()}",
        block("safety number", grouped(known.number)),
        f"known since: {day(known.since)}",
        f"verified: {'no' if known.verified_at is None else day(known.verified_at)}",
    ]
    if known.new_number is not None and known.changed_at is not None:
        lines += [f"changed since: {day(known.changed_at)}", block("new safety number", grouped(known.new_number))]
    if qr and not output.as_json:
        lines = _beside(_qr(known.new_number or known.number), lines)
    fields: dict[str, Value] = {
        "name": known.name,
        "id": known.client_id.hex(),
        "state": state,
        "safety_number": known.number,
        "since": known.since,
        "verified_at": known.verified_at,
        "new_safety_number": known.new_number,
        "changed_at": known.changed_at,
    }
    output.data("verification", "\n".join(lines), **fields)


def _shown(known: Verification) -> str:
    """The name, with the mark where it was compared."""
    mark = "verified" if known.new_number is None else "was verified"
    return marked(known.name, None if known.verified_at is None else mark)


def _qr(number: str) -> list[str]:
    """Give the lines of a QR code with the digits, two rows of modules in each."""
    import segno  # noqa: PLC0415 - only for those who ask for a picture

    rows = [list(row) for row in segno.make_qr(number, error="m").matrix_iter(border=_QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    return [
        "".join(_BLOCKS[bool(up), bool(down)] for up, down in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def _beside(code: list[str], lines: list[str]) -> list[str]:
    """Put the code beside what is known, so that both fit a small terminal; below it where that is
    too narrow.

    Dark on light whatever the terminal's colours are; without colours where they are not wanted.
    """
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    before, after = (_DARK_ON_LIGHT, _AS_BEFORE) if coloured else ("", "")
    painted = [f"{before}{row}{after}" for row in code]
    told = "\n".join(lines).split("\n")
    columns = columns_of(sys.stdout)
    if columns is None or columns < len(code[0]) + len(_GAP) + max(map(width, told)):
        return [*lines, "", *painted]
    # Below the quiet zone's first rows, where the code itself begins.
    beside = ["", "", *told]
    return [f"{row}{_GAP}{line}" if line else row for row, line in itertools.zip_longest(painted, beside, fillvalue="")]
