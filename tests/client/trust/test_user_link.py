"""Links that name a user and a fingerprint."""

from __future__ import annotations

import pytest

from client.trust.user_link import UserLink, is_link, parse
from common.errors import ValueRejected


@pytest.mark.parametrize("name", ["alice", "al ice#?/%", "Jürgen"])
def test_a_link_gives_what_it_was_made_of(name: str) -> None:
    link = UserLink(name, bytes(range(32)))
    assert is_link(f" {link}\n")
    assert parse(f" {link}\n") == link
    assert " " not in str(link)


@pytest.mark.parametrize(
    "text",
    [
        "alice", "messageu-user:", "messageu-user:alice", "messageu-user:#" + "A" * 43, "messageu-user:alice#short",
        "messageu-user:alice#" + "A" * 44, "messageu-user:%ff#" + "A" * 43, "messageu-user:alice#" + "!" * 43,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueRejected):
        parse(text)
