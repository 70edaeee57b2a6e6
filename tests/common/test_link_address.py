"""The address of a link: what is read, what is refused, and who could stand in for it."""

import pytest

from common.errors import ValueRejected
from common.link_address import LinkAddress, key_text, parse_key, parse_link

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("text", "found", "endpoint"),
    [
        ("tcp://10.0.0.5:1360", LinkAddress("10.0.0.5", 1360), "tcp://10.0.0.5:1360"),
        (f"tcp://{key_text(KEY)}@[fd00::5]:1", LinkAddress("fd00::5", 1, KEY), "tcp://[fd00::5]:1"),
        (f"tcp://{key_text(KEY)}@mail.example.org:65535", LinkAddress("mail.example.org", 65535, KEY), None),
    ],
)
def test_addresses(text: str, found: LinkAddress, endpoint: str | None) -> None:
    assert parse_link(text) == found
    assert found.endpoint == (endpoint or "tcp://mail.example.org:65535")


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.5:1360",
        "ipc:///tmp/x",
        "TCP://10.0.0.5:1360",
        "tcp://",
        "tcp://10.0.0.5",
        "tcp://10.0.0.5:0",
        "tcp://10.0.0.5:1360/",
        "tcp://@10.0.0.5:1360",
        "tcp://key@10.0.0.5:1360",
        f"tcp://{key_text(KEY)}@{key_text(KEY)}@10.0.0.5:1360",
        f"tcp://{key_text(KEY)}@10.0.0.5:1360@",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueRejected):
        parse_link(text)


def test_a_wrong_key_is_not_repeated() -> None:
    secret = "s3cret" * 8
    with pytest.raises(ValueRejected, match="43 characters") as refused:
        parse_key(secret)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "is_of_this_machine"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.5", False),
     ("localhost", False), ("mail.example.org", False)],
)  # fmt: skip
def test_who_could_stand_in_for_it(host: str, is_of_this_machine: bool) -> None:
    assert LinkAddress(host, 1).is_of_this_machine == is_of_this_machine
