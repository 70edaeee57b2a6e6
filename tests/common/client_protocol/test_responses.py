"""Encoding many responses at once gives the same bytes as encoding them one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol.fields import message_id
from common.client_protocol.responses import (
    encode_pulled,
    encode_pulled_entry_head,
    encode_pulled_head,
    encode_stored,
    encode_stored_run,
)
from common.errors import FrameUndecodable
from common.storage_protocol.message_format import ENTRY_HEAD, Entry, pack_entry

ids = st.binary(min_size=16, max_size=16)
near_the_turn = st.integers(2**32 - 400, 2**32 + 400)
sequences = st.one_of(st.integers(1, 2**62), near_the_turn, near_the_turn.map(lambda number: 2 * number - 1))
entries = st.builds(
    lambda sender, token, sequence, accepted_at, flags, kind, content: Entry(
        sender, token, sequence, accepted_at, flags, kind, len(content), content
    ),
    ids, ids, sequences, st.integers(0, 2**63), st.integers(0, 1), st.integers(1, 4), st.binary(max_size=40),
)  # fmt: skip


@given(st.integers(1, 600), ids, sequences)
def test_a_run_of_answers(count: int, recipient: bytes, first: int) -> None:
    recipients = [recipient[:-1] + bytes([number % 256]) for number in range(count)]
    one_by_one = b"".join([encode_stored(recipient, first + number) for number, recipient in enumerate(recipients)])
    assert encode_stored_run(recipients, first) == one_by_one


@given(st.lists(entries, max_size=5))
def test_entries_as_2104_has_them(messages: list[Entry]) -> None:
    one_by_one = b"".join([encode_pulled_head(m.sender, m.sequence, m.kind, m.size) + m.content for m in messages])
    assert b"".join(encode_pulled(b"".join(map(pack_entry, messages)))) == one_by_one
    for message in messages:
        head = pack_entry(message)[: ENTRY_HEAD.size]
        assert encode_pulled_entry_head(head) == encode_pulled_head(
            message.sender, message.sequence, message.kind, message.size
        )


def test_an_id_is_never_0() -> None:
    assert [message_id(2**32 + number) for number in (-2, -1, 0)] == [2**32 - 2, 2**32 - 1, 1]


@pytest.mark.parametrize("missing", [1, 5, 6, 40])
def test_entries_that_are_cut_off(missing: int) -> None:
    whole = pack_entry(Entry(b"s" * 16, b"t" * 16, 7, 5, 0, 3, 5, b"hello"))
    with pytest.raises(FrameUndecodable):
        encode_pulled((whole + whole)[:-missing])
