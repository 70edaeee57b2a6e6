"""A server's address: what is written is read back, and what is malformed is refused with the
sentence that says why.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ValueRejected
from common.server_address import (
    MOST_PLACES,
    ServerAddress,
    parse_address,
    parse_addresses,
    parse_pin,
    pin,
    pin_of,
    pin_text,
    shown,
)

PIN = pin(bytes(range(32)))
NEXT = pin(bytes(range(100, 132)))
TEXT = pin_text(PIN)
NEXT_TEXT = pin_text(NEXT)
INVITED = bytes(range(16))
INVITATION = base64.urlsafe_b64encode(INVITED).decode().rstrip("=")

NOTHING = st.just(())
names = st.text(st.characters(categories=["L", "N"], include_characters="-._"), min_size=1, max_size=40)
sixes = st.ip_addresses(v=6).map(str)
fours = st.ip_addresses(v=4).map(str)
pins = st.binary(min_size=32, max_size=32).map(pin)
plain = st.builds(ServerAddress, st.one_of(names, sixes, fours), st.integers(1, 65535), NOTHING, st.none(), NOTHING)
links = st.builds(
    ServerAddress,
    st.one_of(names, sixes, fours),
    st.integers(1, 65535),
    st.lists(pins, min_size=1, max_size=2, unique=True).map(tuple),
    st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
    NOTHING,
)


@given(st.one_of(plain, links))
def test_what_is_written_is_read_back(address: ServerAddress) -> None:
    assert parse_address(address.link) == address
    assert parse_address(f" {address.link}\n") == address
    assert parse_address(str(address)) == address._replace(invitation=None)
    assert parse_address(address.place) == ServerAddress(address.host, address.port)


places = st.tuples(st.one_of(names, sixes, fours), st.integers(1, 65535))


@given(st.one_of(plain, links), st.lists(places, max_size=MOST_PLACES - 1))
def test_a_list_of_places_is_read_back(address: ServerAddress, others: list[tuple[str, int]]) -> None:
    listed = [place for place in dict.fromkeys(others) if place != (address.host, address.port)]
    address = address._replace(others=tuple(listed))
    assert parse_addresses(address.link) == address
    assert parse_addresses(address.place).places == address.places
    if listed:
        with pytest.raises(ValueRejected):
            parse_address(address.link)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:1,", "HOST:PORT is missing"),
        (",a:1", "HOST:PORT is missing"),
        ("a:1,b", "the port is missing"),
        ("a:1,a:1", "the same HOST:PORT is there twice"),
        ("a:1, b:2", "a host has no ' ' in it"),
        (",".join(f"a:{port}" for port in range(1, MOST_PLACES + 2)), "at most 16 HOST:PORT"),
        (f"messageu://{TEXT}@a:1,messageu://{TEXT}@b:2", "use one colon|a host has no"),
    ],
)
def test_a_malformed_list_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueRejected, match=problem):
        parse_addresses(text)


@given(st.text(max_size=120))
def test_any_text_is_taken_in_its_one_way_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueRejected as error:
        assert str(error)
        assert str(error).isprintable()
    else:
        assert parse_address(address.link) == address


@given(links, st.data())
def test_a_link_with_one_character_more_less_or_other_names_nothing_else_unseen(
    address: ServerAddress, data: st.DataObject
) -> None:
    """Whoever mistypes a pin or an invitation gets a refusal or another pin, never the same one
    from another text.
    """
    text = address.link
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from([*"AQgwaz019-_+/=,@:#?%[] \n", ""]))
    changed = text[:place] + letter + text[place + 1 :]
    try:
        found = parse_address(changed)
    except ValueRejected:
        return
    assert found.link == changed.strip() or found._replace(host="", port=1) == address._replace(host="", port=1)


@given(st.binary(min_size=1, max_size=500))
def test_a_pin_is_the_digest_of_the_certificate_and_has_one_text(certificate: bytes) -> None:
    found = pin_of(certificate)
    assert found == hashlib.sha256(certificate).digest()
    text = pin_text(found)
    assert len(text) == 43
    assert base64.urlsafe_b64decode(text + "=") == found
    assert parse_pin(text) == found


def test_the_shape_of_a_link() -> None:
    address = ServerAddress("::1", 1357, (PIN, NEXT), INVITED)
    assert address.link == f"messageu://{TEXT},{NEXT_TEXT}@[::1]:1357#{INVITATION}"
    # An invitation is a secret, and a sentence names the place alone.
    assert str(address) == f"messageu://{TEXT},{NEXT_TEXT}@[::1]:1357"
    assert f"{address}" == str(address)
    assert address.place == "[::1]:1357"
    assert parse_address(f"MessageU://{TEXT}@h:1").pins == (PIN,)
    assert ipaddress.ip_address(parse_address(f"messageu://{TEXT}@[fe80::1%eth0]:1").host).version == 6


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "HOST:PORT is missing"),
        ("localhost", "the port is missing: HOST:PORT"),
        ("[::1]", "the port is missing: HOST:PORT"),
        (":80", "the host is missing: HOST:PORT"),
        ("a b:80", "a host has no ' ' in it"),
        ("a\u200bb:80", r"a host has no '\u200b' in it"),
        ("\x1b[1m:80", r"a host has no '\x1b' in it"),
        ("a/b:80", "a host has no '/' in it"),
        ("a,b:80", "a host has no ',' in it"),
        ("h:0", "a port is a number from 1 to 65535, not '0'"),
        ("h:99999", "a port is a number from 1 to 65535, not '99999'"),
        ("h:80/", "a port is a number from 1 to 65535, not '80/'"),
        ("h:١٢", r"a port is a number from 1 to 65535, not '\u0661\u0662'"),
        ("::1:80", "use one colon, before the port, and write an IPv6 address in brackets: [::1]:1357"),
        ("h:80:90", "use one colon, before the port, and write an IPv6 address in brackets: [::1]:1357"),
        ("[localhost]:80", "the brackets must hold an IPv6 address, not 'localhost'"),
        ("[]:80", "the brackets must hold an IPv6 address, not ''"),
        ("[::1%a@b]:80", "a link begins with messageu://: messageu://PIN@HOST:PORT"),
        ("[::1%a,b]:80", "the brackets must hold an IPv6 address, not '::1%a,b'"),
        ("x" * 256 + ":80", "a host has at most 255 characters, not 256"),
        (f"{TEXT}@h:80", "a link begins with messageu://: messageu://PIN@HOST:PORT"),
        ("h:80#x", "a link begins with messageu://: messageu://PIN@HOST:PORT"),
        (f"https://{TEXT}@h:80", "a link begins with messageu://, not 'https://'"),
        (f"messageu:{TEXT}@h:80", "a link begins with messageu://: messageu://PIN@HOST:PORT"),
        ("messageu://h:80", "the pin is missing: messageu://PIN@HOST:PORT"),
        (f"messageu://h:80#{INVITATION}", "the pin is missing: messageu://PIN@HOST:PORT"),
        ("messageu://@h:80", "a pin has 43 characters (base64url without padding), not 0"),
        (f"messageu://{TEXT}", "the pin is missing: messageu://PIN@HOST:PORT"),
        (f"messageu://{TEXT}@", "HOST:PORT is missing"),
        (f"messageu://{TEXT}@h", "the port is missing: HOST:PORT"),
        (f"messageu://{TEXT}@h:80/", "a port is a number from 1 to 65535, not '80/'"),
        (f"messageu://{TEXT}@h@i:80", "a host has no '@' in it"),
        (f"messageu://{TEXT}=@h:80", "a pin has 43 characters (base64url without padding), not 44"),
        (f"messageu://{TEXT[:-1]}@h:80", "a pin has 43 characters (base64url without padding), not 42"),
        (f"messageu://{TEXT},@h:80", "a pin has 43 characters (base64url without padding), not 0"),
        (f"messageu://{TEXT},{TEXT}@h:80", "the two pins are the same one"),
        (f"messageu://{TEXT},{NEXT_TEXT},{'A' * 43}@h:80", "a link has at most 2 pins"),
        (f"messageu://{TEXT[:20]}\n{TEXT[20:]}@h:80", "a link must not contain a space or a line break"),
        (f"messageu://{TEXT}@h: 80", "a link must not contain a space or a line break"),
        (f"messageu://{TEXT}@h:80#", "an invitation has 22 characters (base64url without padding), not 0"),
        (
            f"messageu://{TEXT}@h:80#{INVITATION}#",
            "an invitation has 22 characters (base64url without padding), not 23",
        ),
    ],
)
def test_a_malformed_address_is_refused_with_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueRejected) as caught:
        parse_address(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize("last", ["B", "9", "+", "/", "=", "é"])
def test_a_pin_of_another_alphabet_or_with_bits_too_many_is_refused(last: str) -> None:
    text = "A" * 42 + last
    with pytest.raises(ValueRejected) as caught:
        parse_pin(text)
    assert str(caught.value) == f"a pin is base64url without padding, not {text[:40]!a}…"


def test_a_wrong_invitation_is_never_quoted() -> None:
    text = f"messageu://{TEXT}@h:80#" + "B" * 22
    with pytest.raises(ValueRejected) as caught:
        parse_address(text)
    assert str(caught.value) == "an invitation is base64url without padding"
    assert shown(text) == f"'messageu://{TEXT}@h:80#'"
    assert shown("x" * 500) == f"'{'x' * 120}'…"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_pin_is_32_bytes(size: int) -> None:
    with pytest.raises(ValueRejected, match=f"a pin is 32 bytes, not {size}"):
        pin(bytes(size))
