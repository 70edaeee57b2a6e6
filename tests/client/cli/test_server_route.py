"""How the server is reached, as address, whoami, config and doctor show it; and exit code 10."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from client.__main__ import main
from common.server_address import pin_text
from tests.client.certificates import new_certificate
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway
from tests.stories.runner import check_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST, SECOND = new_certificate(), new_certificate()
PIN = pin_text(FIRST.pin)
Run = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway(ExtendedMailroom(), certificate=FIRST) as fake:
        yield fake


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    for name in ("MESSAGEU_SERVER", "MESSAGEU_HOME", "MESSAGEU_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr("client.connection.server_link.CLOSING_GRACE", 0.001)

    def do(*words: str) -> tuple[int, str, str]:
        code = main(["--home", str(tmp_path / "home"), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


def objects(out: str) -> list[dict[str, Any]]:
    for line in out.splitlines():
        check_json(json.loads(line))
    return [json.loads(line) for line in out.splitlines()]


def test_one_link_is_all_that_it_takes(
    run: Callable[..., tuple[int, str, str]], gateway: FakeGateway, tmp_path: Path
) -> None:
    link = str(gateway.address)
    assert run("--server", link, "register", "alice")[0] == 0
    assert (tmp_path / "home" / "server.info").read_text() == f"{link}\n"
    assert run("users")[0] == 0
    assert run("address")[:2] == (0, f"{link}\n")
    code, out, _ = run("address", "--qr")
    assert code == 0
    assert out.startswith(f"{link}\n\n")
    assert "█" in out
    (shown,) = objects(run("address", "--json")[1])
    assert shown["address"] == link
    (me,) = objects(run("whoami", "--json")[1])
    assert (me["server"], me["transport"], me["pins"]) == (gateway.address.place, "tls", [PIN])
    assert f"transport = TLS, pin {PIN}" in run("config", "show")[1]
    assert f"server address: {gateway.address.place}, TLS, pin {PIN}" in run("doctor")[1].replace("\n      ", " ")


def test_a_file_that_lost_its_pin_leads_nowhere_and_says_the_way(
    run: Callable[..., tuple[int, str, str]], gateway: FakeGateway, tmp_path: Path
) -> None:
    link = str(gateway.address)
    assert run("--server", link, "register", "alice")[0] == 0
    (tmp_path / "home" / "server.info").write_text(f"{gateway.address.place}\n")
    before = len(gateway.requests)
    code, out, err = run("users")
    assert (code, out) == (10, "")
    assert f"Use the server's link: {link}." in err
    assert run("doctor")[0] == 10
    assert run("send", "bob", "hello")[0] == 10
    assert len(gateway.requests) == before
    assert gateway.endings.count("handshake") == 0
    # What is shown to others is the link all the same.
    assert run("address")[1] == f"{link}\n"
    assert run("--server", link, "users")[0] == 0


def test_another_certificate_has_an_exit_code_of_its_own(
    run: Callable[..., tuple[int, str, str]], gateway: FakeGateway
) -> None:
    assert run("--server", str(gateway.address), "register", "alice")[0] == 0
    with FakeGateway(ExtendedMailroom(), certificate=SECOND) as middleman:
        address = str(middleman.address._replace(pins=(FIRST.pin,)))
        code, out, err = run("--server", address, "users", "--json")
        assert (code, out) == (10, "")
        (failure,) = objects(err)
        assert failure["error"] == "wrong-certificate"
        assert PIN in failure["text"]
        assert pin_text(SECOND.pin) in failure["text"]
        assert "--server" in failure["advice"]
        assert middleman.requests == []


def test_plain_is_named_plain(run: Callable[..., tuple[int, str, str]]) -> None:
    with FakeGateway(ExtendedMailroom()) as gateway:
        assert run("--server", str(gateway.address), "register", "alice")[0] == 0
        assert run("address") == (0, f"{gateway.address}\n", "")
        (me,) = objects(run("whoami", "--json")[1])
        assert (me["transport"], me["pins"]) == ("plain", [])
        assert "plain TCP, not encrypted" in run("config", "show")[1]
        assert "not encrypted" in run("--server", "example.org:1357", "address")[2]
