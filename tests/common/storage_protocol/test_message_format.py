"""Entries and frames: making and walking are a pair, and they are the client protocol's layouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import SEND_HEAD, SendRequest, encode
from common.client_protocol.responses import FETCHED_HEAD
from common.errors import FrameUndecodable
from common.storage_protocol.message_format import (
    ENTRY_HEAD,
    SEND_FRAME,
    Entry,
    Frame,
    heads,
    pack_entry,
    pack_frame,
    walk,
    walk_frames,
)
from common.values import ClientId

ids = st.binary(min_size=16, max_size=16)
entries = st.builds(
    lambda sender, token, sequence, accepted_at, flags, kind, content: Entry(
        sender, token, sequence, accepted_at, flags, kind, len(content), content
    ),
    ids, ids, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 255),
    st.binary(max_size=300),
)  # fmt: skip


def test_an_entry_is_laid_out_as_2143_has_it() -> None:
    assert ENTRY_HEAD.format == FETCHED_HEAD.format


def test_a_frame_is_a_603_as_it_came() -> None:
    request = encode(SendRequest(ClientId(b"s" * 16), ClientId(b"r" * 16), 3, b"content"))
    assert SEND_FRAME.size == REQUEST_HEADER.size + SEND_HEAD.size
    assert list(walk_frames(request)) == [Frame(b"s" * 16, b"r" * 16, 3, b"content")]


@given(st.lists(entries, max_size=5))
def test_entries(given: list[Entry]) -> None:
    together = b"".join(map(pack_entry, given))
    assert list(walk(together)) == given
    places = heads(together)
    assert [(place.sequence, place.size) for place in places] == [(entry.sequence, entry.size) for entry in given]
    assert [together[place.start : place.end] for place in places] == list(map(pack_entry, given))


@given(st.lists(entries, min_size=1, max_size=3), st.data())
def test_entries_that_are_cut_off(given: list[Entry], data: st.DataObject) -> None:
    last = pack_entry(given[-1])
    cut = data.draw(st.integers(1, len(last) - 1))
    with pytest.raises(FrameUndecodable, match="cut off"):
        list(walk(b"".join(map(pack_entry, given[:-1])) + last[:cut]))


@given(st.lists(st.builds(Frame, ids, ids, st.integers(0, 255), st.binary(max_size=300)), max_size=5))
def test_frames(given: list[Frame]) -> None:
    assert list(walk_frames(b"".join([pack_frame(*frame) for frame in given]))) == given


@pytest.mark.parametrize("cut", [1, 43, 44, 47])
def test_frames_that_are_cut_off(cut: int) -> None:
    frame = pack_frame(b"s" * 16, b"r" * 16, 3, b"abcd")
    with pytest.raises(FrameUndecodable, match="cut off"):
        list(walk_frames(frame + frame[:cut]))
