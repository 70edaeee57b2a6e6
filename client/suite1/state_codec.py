"""How states go to bytes and back: CBOR, a list that begins with the version of its form.

Owns: the form. Promises: what `packed` wrote, `unpacked` reads; anything else is `StoreUnusable`.
Exposure: reads the home's own store, which whoever can write to the home may have altered.
"""

from __future__ import annotations

from typing import Final

from client.errors import StoreUnusable

FORM: Final = 1


def packed(name: str, fields: tuple[object, ...]) -> bytes:
    """Return the bytes of a state."""
    import cbor2  # noqa: PLC0415

    return cbor2.dumps([FORM, name, *fields])


def unpacked(name: str, state: bytes) -> list[object]:
    """Return the fields of a state of that name. Raises `StoreUnusable`."""
    import cbor2  # noqa: PLC0415

    try:
        found = cbor2.loads(state, max_depth=6)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise unusable(name) from error
    if not isinstance(found, list) or found[:2] != [FORM, name]:
        raise unusable(name)
    return found[2:]


def sized(name: str, value: bytes, size: int) -> bytes:
    """Return a field that has to have that size. Raises `StoreUnusable`."""
    if len(value) != size:
        raise unusable(name)
    return value


def unusable(name: str) -> StoreUnusable:
    """Make the error that a state is damaged."""
    return StoreUnusable(
        f"The state {name} of the cipher suite in this home is damaged, or of a later version.",
        "Restore the home from an export.",
    )
