"""client/suite1/payloads.py: what goes into CBOR comes out, and nothing else does."""

from __future__ import annotations

import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.suite1 import payloads
from client.suite1.payloads import (
    About,
    CouldNotOpen,
    File,
    KeysWanted,
    NewKeys,
    PayloadMalformed,
    PayloadTooLong,
    Text,
    Unknown,
)

ID = b"an id of 16 byte"
ABOUT = About(ID, 1_800_000_000_000)
ids = st.binary(min_size=16, max_size=16)
abouts = st.builds(About, ids, st.integers(0, 2**63 - 1), st.none() | ids)
texts = st.text(st.characters(codec="utf-8"))
names = st.text(st.characters(codec="utf-8"), max_size=60)
digests = st.binary(min_size=32, max_size=32)


@given(
    st.builds(Text, abouts, texts)
    | st.builds(File, abouts, names, names, st.integers(0, 2**63 - 1), digests, digests, texts)
    | st.builds(
        CouldNotOpen,
        abouts,
        st.lists(st.binary(min_size=16, max_size=16), max_size=256).map(tuple),
    )
)
def test_a_payload_comes_back(payload: Text | File | CouldNotOpen) -> None:
    assert payloads.decoded(payloads.encoded(payload)) == payload


def test_the_bytes_of_a_text() -> None:
    raw = payloads.encoded(Text(ABOUT, "hello"))
    assert raw.hex() == f"a40001011b{ABOUT.sent_at:016x}0250{ID.hex()}0365{b'hello'.hex()}"


def of(**fields: object) -> bytes:
    base: dict[object, object] = {0: 1, 1: 5, 2: ID, 3: "hello"}
    changes = {int(name[1:].replace("minus", "-")): value for name, value in fields.items()}
    found = {key: value for key, value in (base | changes).items() if value is not ...}
    return cbor2.dumps(found, canonical=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        cbor2.dumps([1, 2]),
        of() + b"\0",
        of()[:-1],
        of(_0=...),
        of(_1=...),
        of(_2=...),
        of(_3=...),
        of(_0=-1),
        of(_0=True),
        of(_0="1"),
        of(_1=2**63),
        of(_1=-1),
        of(_2=ID[:15]),
        of(_3=b"hello"),
        of(_10=b"short"),
        of(_99=1.5),
        of(_99=cbor2.CBORTag(1, 5)),
        of(_99=cbor2.CBORTag(99_999, 5)),
        of(_99=cbor2.CBORSimpleValue(99)),
        of(_99=cbor2.undefined),
        of(_99=[[[[[[[[[]]]]]]]]]),
        of(_0=3, _9=...),
        of(_0=3, _9=[ID, b"short"]),
        of(_0=3, _9=[ID] * 257),
        of(_0=2),
        # 1 as two bytes; keys in another order; a key twice; a length that is not stated.
        bytes.fromhex("a4001801010502") + b"\x50" + ID + bytes.fromhex("036568656c6c6f"),
        bytes.fromhex("a4010500010250") + ID + bytes.fromhex("036568656c6c6f"),
        bytes.fromhex("a500010001010502") + b"\x50" + ID + bytes.fromhex("036568656c6c6f"),
        bytes.fromhex("bf000101050250") + ID + bytes.fromhex("036568656c6c6fff"),
    ],
)
def test_what_breaks_a_rule_is_malformed(raw: bytes) -> None:
    with pytest.raises(PayloadMalformed):
        payloads.decoded(raw)


def test_the_cases_above_break_one_rule_each() -> None:
    assert payloads.decoded(of()) == Text(About(ID, 5), "hello")
    assert payloads.decoded(of(_99=[[[[[[[]]]]]]])) == Text(About(ID, 5), "hello")


@pytest.mark.parametrize("kind", [0, 4, 16, 2**62])
def test_an_unknown_kind_is_kept_with_its_text(kind: int) -> None:
    raw = of(_0=kind)
    assert payloads.decoded(raw) == Unknown(About(ID, 5), kind, "hello", raw)
    raw = of(_0=kind, _3=...)
    assert payloads.decoded(raw) == Unknown(About(ID, 5), kind, "", raw)


def test_unknown_keys_are_passed_over_and_negative_ones_are_not() -> None:
    assert payloads.decoded(of(_99="new")) == Text(About(ID, 5), "hello")
    raw = of(_minus1="a group")
    assert payloads.decoded(raw) == Unknown(About(ID, 5), 1, "hello", raw)


@pytest.mark.parametrize("field", [4, 5, 6, 7, 8])
def test_a_file_needs_all_of_its_fields(field: int) -> None:
    file = File(ABOUT, "a.txt", "text/plain", 3, bytes(32), bytes(32), "")
    fields = cbor2.loads(payloads.encoded(file))
    del fields[field]
    with pytest.raises(PayloadMalformed):
        payloads.decoded(cbor2.dumps(fields, canonical=True))


@pytest.mark.parametrize("name", ["x" * 256, "\u00e9" * 128])
def test_a_name_has_255_bytes_at_most(name: str) -> None:
    fields = cbor2.loads(payloads.encoded(File(ABOUT, "a.txt", "", 3, bytes(32), bytes(32), "")))
    fields[4] = name
    with pytest.raises(PayloadMalformed):
        payloads.decoded(cbor2.dumps(fields, canonical=True))
    fields[4] = name[:-1]
    assert isinstance(payloads.decoded(cbor2.dumps(fields, canonical=True)), File)


def test_a_payload_has_65536_values_at_most() -> None:
    # The map, five keys and four values, the array, and what is in it.
    assert isinstance(payloads.decoded(of(_99=[0] * 65_525)), Text)
    too_many: tuple[list[object], ...] = (
        [0] * 65_526,
        [{}] * 65_526,
        ["x" * 30] * 65_526,
        [[0] * 40_000, [0] * 40_000],
    )
    for each in too_many:
        with pytest.raises(PayloadMalformed):
            payloads.decoded(of(_99=each))


@pytest.mark.parametrize("value", [0, 23, 24, 2**8, 2**16, 2**32, -1, -(2**40), b"x" * 30, b"x" * 70_000, "x" * 300])
def test_heads_of_every_length_are_counted_once(value: object) -> None:
    assert isinstance(payloads.decoded(of(_99=[value])), Text)


def test_many_values_are_refused_before_anything_is_made_of_them() -> None:
    bomb = of(_99=[])[:-1] + b"\x9a" + (2**20).to_bytes(4, "big") + b"\xa0" * 2**20
    tracemalloc.start()
    with pytest.raises(PayloadMalformed):
        payloads.decoded(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_payload_has_16_mib_at_most() -> None:
    longest = 2**24 - len(payloads.encoded(Text(ABOUT, "x" * 70_000))) + 70_000
    assert len(payloads.encoded(Text(ABOUT, "x" * longest))) == 2**24
    with pytest.raises(PayloadTooLong):
        payloads.encoded(Text(ABOUT, "x" * (longest + 1)))
    with pytest.raises(PayloadMalformed):
        payloads.decoded(cbor2.dumps({0: 1, 1: 5, 2: ID, 3: "x" * (longest + 100)}, canonical=True))


@given(st.binary())
def test_any_bytes_end_in_a_payload_or_are_malformed(raw: bytes) -> None:
    try:
        payloads.decoded(raw)
    except PayloadMalformed:
        pass


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.binary() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(-3, 12) | texts, inner),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.dictionaries(st.integers(-3, 12), values, max_size=6))
def test_any_map_ends_in_a_payload_or_is_malformed(fields: dict[int, object]) -> None:
    raw = cbor2.dumps(fields, canonical=True)
    try:
        found = payloads.decoded(raw)
    except PayloadMalformed:
        return
    assert isinstance(found, Text | File | CouldNotOpen | KeysWanted | NewKeys | Unknown)


@pytest.mark.parametrize("payload", [KeysWanted(About(ID, 5)), NewKeys(About(ID, 5, bytes(16)))])
def test_what_is_said_about_keys(payload: KeysWanted | NewKeys) -> None:
    assert payloads.decoded(payloads.encoded(payload)) == payload
