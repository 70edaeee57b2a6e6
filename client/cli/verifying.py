"""Comparing keys: verify.

Owns: how a safety number, and its QR code, are shown.
Promises: a wrong number changes nothing.

Source: docs/client.md, "Trust".
"""

import itertools
import os
import sys

from client.cli.command import VERIFIED, VERIFIED_OF_PUBLISHED
from client.cli.output import Output, Value
from client.open_home import OpenHome
from client.terminal.sanitize import marked, visible_name
from client.terminal.text_wrap import columns_of, width
from client.trust.trust import Verification, block, day, grouped, number_differs
from client.trust.user_link import is_link, parse
from common.qr_code import painted, qr_lines, takes_colours

_GAP = "   "


def verify(home: OpenHome, output: Output, name: str, number: str | None, *, qr: bool, accept_new: bool) -> int:
    """Show the safety number with a user, compare it, or accept a changed key."""
    if is_link(name):
        return _compare_link(home, output, name, qr=qr)
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
        _say_verified(output, known)
    return 0


def _compare_link(home: OpenHome, output: Output, link: str, *, qr: bool) -> int:
    """Compare a user's keys with their link."""
    known = home.directory.compare_link(parse(link))
    _show(output, known, qr=qr)
    _say_verified(output, known)
    return 0


def _say_verified(output: Output, known: Verification) -> None:
    output.say(f"{visible_name(known.name)} is verified. {VERIFIED if known.suite else VERIFIED_OF_PUBLISHED}")


def _show(output: Output, known: Verification, *, qr: bool) -> None:
    if known.new_number is not None:
        state = "changed"
    else:
        state = "known" if known.verified_at is None else "verified"
    lines = [
        _shown(known),
        f"id: {known.client_id.hex()}",
        block("safety number 2" if known.suite else "safety number", grouped(known.number)),
        f"known since: {day(known.since)}",
        f"verified: {'no' if known.verified_at is None else day(known.verified_at)}",
    ]
    if known.new_number is not None and known.changed_at is not None:
        lines += [f"changed since: {day(known.changed_at)}", block("new safety number", grouped(known.new_number))]
    if qr and not output.as_json:
        lines = _beside(qr_lines(known.new_number or known.number), lines)
    fields: dict[str, Value] = {
        "name": known.name,
        "id": known.client_id.hex(),
        "state": state,
        "safety_number": known.number,
        "since": known.since,
        "verified_at": known.verified_at,
        "new_safety_number": known.new_number,
        "changed_at": known.changed_at,
        "suite": known.suite,
    }
    output.data("verification", "\n".join(lines), **fields)


def _shown(known: Verification) -> str:
    """The name, with the mark if it was compared."""
    mark = "verified" if known.new_number is None else "was verified"
    return marked(known.name, None if known.verified_at is None else mark)


def _beside(code: list[str], lines: list[str]) -> list[str]:
    """Put the code beside what is known, so that both fit a small terminal; below it if the
    terminal is too narrow.

    Dark on light whatever the terminal's colours are; without colours if they are not wanted.
    """
    coloured = sys.stdout.isatty() and takes_colours(dict(os.environ))
    drawn = painted(code) if coloured else code
    told = "\n".join(lines).split("\n")
    columns = columns_of(sys.stdout)
    if columns is None or columns < len(code[0]) + len(_GAP) + max(map(width, told)):
        return [*lines, "", *drawn]
    # Beside the code itself, below the first rows of its quiet zone.
    beside = ["", "", *told]
    return [f"{row}{_GAP}{line}" if line else row for row, line in itertools.zip_longest(drawn, beside, fillvalue="")]
