"""docs/client-protocol.md says what the codec does: one section for each request, its layouts, its
codes, and the reasons of a refusal.
"""

import re
from pathlib import Path
from struct import Struct
from typing import Final

import pytest

from common.client_protocol import requests, responses
from common.client_protocol.fields import REQUEST_HEADER, RESPONSE_HEADER
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ResponseCode
from common.client_protocol.versions import SERVER_FEATURES, TLS_FEATURES, Feature
from common.values import ONE_TIME_KEY_SIZE, RefusalReason

TEXT: Final = (Path(__file__).resolve().parents[3] / "docs" / "client-protocol.md").read_text(encoding="utf-8")
ROWS: Final = ["purpose", "payload", "who may send it", "effect", "answer", "errors"]
NUMBERS: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
REQUESTS: Final = {
    RequestCode.REGISTER: requests.REGISTER,
    RequestCode.LIST_USERS: Struct("<"),
    RequestCode.PUBLIC_KEY: Struct("<16s"),
    RequestCode.SEND: requests.SEND_HEAD,
    RequestCode.PULL: Struct("<"),
    RequestCode.HELLO: requests.HELLO,
    RequestCode.PROVE: Struct(f"<{requests.SIGNATURE_SIZE}s"),
    RequestCode.SEND_ONCE: requests.SEND_ONCE_HEAD,
    RequestCode.FETCH: requests.FETCH,
    RequestCode.PUBLISH_KEYS: Struct(
        requests.PUBLISH_KEYS_HEAD.format + requests.KEY_COUNT.format[1:] + f"{ONE_TIME_KEY_SIZE}s"
    ),
    RequestCode.CLAIM_KEY: Struct("<16s"),
    RequestCode.REGISTER_INVITED: requests.REGISTER_INVITED,
    RequestCode.DELETE_ACCOUNT: Struct("<16s"),
    RequestCode.ABOUT: Struct("<"),
    RequestCode.CERTIFICATES: Struct("<"),
    RequestCode.BLOCK: requests.BLOCK,
}
RESPONSES: Final = {
    ResponseCode.REGISTERED: Struct("<16s"),
    ResponseCode.USERS: responses.USER,
    ResponseCode.PUBLIC_KEY: responses.KEY_REPLY,
    ResponseCode.STORED: responses.STORED,
    ResponseCode.WAITING: responses.WAITING_HEAD,
    ResponseCode.HELLO: responses.HELLO_REPLY,
    ResponseCode.AUTHENTICATED: Struct("<"),
    ResponseCode.FETCHED: responses.FETCHED_HEAD,
    ResponseCode.KEYS_KEPT: responses.KEYS_KEPT,
    ResponseCode.KEY_CLAIMED: Struct(responses.PART_SIZE.format + responses.PART_SIZE.format[1:]),
    ResponseCode.DELETED: Struct("<"),
    ResponseCode.ABOUT: responses.ABOUT_HEAD,
    ResponseCode.BLOCK_SET: Struct("<"),
    ResponseCode.CERTIFICATES: Struct(f"<B{responses.DIGEST_SIZE}s"),
}


def layout(text: str) -> str:
    """The struct format of a layout as the document writes it, without a content at its end."""
    found = re.findall(r"\[(\d+)\]|\b(u8|u16|u32|u64)\b", re.sub(r"\([^()]*:[^()]*\)", "", text))
    return "<" + "".join(f"{size}s" if size else NUMBERS[number] for size, number in found)


def section(code: RequestCode) -> dict[str, str]:
    """The rows of the table that begins a request's section."""
    body = re.split(rf"^#+ {code.value}, .*$", TEXT, flags=re.MULTILINE)[1]
    table = body.partition("| | |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines()]
    return {name.strip(): text.strip() for name, text in cells}


def test_each_request_has_a_section() -> None:
    headings = re.findall(r"^#+ (6\d\d), (.+)$", TEXT, re.MULTILINE)
    assert {int(code): name for code, name in headings} == {
        code.value: code.name.lower().replace("_", " ") for code in RequestCode
    }
    assert list(map(int, (code for code, _ in headings))) == sorted(RequestCode)
    for code in RequestCode:
        assert list(section(code)) == ROWS
        assert all(section(code).values())


@pytest.mark.parametrize("code", RequestCode)
def test_the_layout_of_a_request(code: RequestCode) -> None:
    payload, _, size = section(code)["payload"].rpartition(": ")
    assert layout(payload) == REQUESTS[code].format
    # Of a list of keys none may be there.
    keys = ONE_TIME_KEY_SIZE if code == RequestCode.PUBLISH_KEYS else 0
    assert int(re.match(r"\d+", size)[0]) == REQUESTS[code].size - keys  # type: ignore[index]


def test_the_layouts_of_responses() -> None:
    found = {}
    for code in RequestCode:
        number, text = re.match(r"(\d{4})(.*)", section(code)["answer"]).groups()  # type: ignore[union-attr]
        if code != RequestCode.SEND_ONCE:
            found[int(number)] = layout(text)
    assert found == {code.value: struct.format for code, struct in RESPONSES.items()}


def test_the_headers() -> None:
    for name, header in (("request", REQUEST_HEADER), ("response", RESPONSE_HEADER)):
        [(text, size)] = re.findall(rf"^\| {name} header \| (.*) \| (\d+) \|$", TEXT, re.MULTILINE)
        assert (layout(text), int(size)) == (header.format, header.size)
    [reason] = re.findall(r"Its payload is (.*)\(0: not known\)", TEXT)
    assert layout(reason) == responses.REASON.format


def test_the_reasons() -> None:
    rows = TEXT.partition("| reason | meaning | a sender |\n|---|---|---|\n")[2].partition("\n\n")[0]
    found = {int(row.split("|")[1]): row.split("|")[2].strip() for row in rows.splitlines()}
    assert set(found) == set(RefusalReason)
    for reason in RefusalReason:
        if reason != RefusalReason.TOKEN_REUSED:
            assert found[reason].startswith(reason.name.lower().replace("_", " "))
    for code in RequestCode:
        assert {int(number) for number in re.findall(r"\((\d+)\)", section(code)["errors"])} <= set(RefusalReason)


def test_the_features() -> None:
    rows = re.findall(r"^\| (\d) \| (\d+) \| (\w+)", TEXT, re.MULTILINE)
    assert {int(value) for _, value, _ in rows} == {feature.value for feature in Feature}
    assert all(1 << int(bit) == int(value) for bit, value, _ in rows)
    assert f"(value {SERVER_FEATURES.value})" in TEXT
    assert f"(value {TLS_FEATURES.value})" in TEXT


def test_a_layout_that_is_not_the_codecs_is_seen() -> None:
    assert (
        layout("N times (sender [16], flags u8, idle seconds u32 (0: never), server id [16]), nothing") == "<16sBI16s"
    )
    assert layout("ack u64, wait seconds u16") == "<QH" != requests.FETCH.format
