"""The server's certificates on disk."""

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import SettingRejected
from gateway import certificate
from gateway.certificate import Pins, current, following, make_next, server_context, switch

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tls").iterdir())


def test_one_is_made_once_and_is_what_it_should_be(tmp_path: Path) -> None:
    made = current(tmp_path, NOW)
    assert current(tmp_path, NOW) == made
    found = x509.load_pem_x509_certificate(made.path.read_bytes())
    assert found.fingerprint(hashes.SHA256()) == made.digest
    assert isinstance(found.public_key(), Ed25519PublicKey)
    assert found.not_valid_after_utc.year == 9999
    assert found.not_valid_before_utc < NOW
    found.verify_directly_issued_by(found)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    assert files(tmp_path) == ["current.pem"]


def test_a_context_of_it_speaks_tls_1_3_alone_and_gives_no_tickets(tmp_path: Path) -> None:
    context = server_context(current(tmp_path, NOW))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    current(tmp_path, NOW).path.chmod(0o640)
    with pytest.raises(SettingRejected, match=r"others can read the key in .*, mode 0640: `chmod 600 "):
        current(tmp_path, NOW)


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
)
def test_a_file_that_is_none_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = current(tmp_path, NOW).path
    path.write_bytes(content)
    with pytest.raises(SettingRejected, match=r"current\.pem can't be used"):
        current(tmp_path, NOW)
    assert path.read_bytes() == content


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    made = current(tmp_path, NOW)
    text = made.path.read_text()
    made.path.write_text(text[text.index(ssl.PEM_HEADER) :])
    with pytest.raises(SettingRejected, match="can't be used"):
        server_context(current(tmp_path, NOW))


@pytest.mark.parametrize("left", ["next.pem", "previous.pem", "address"])
def test_no_new_one_takes_the_place_of_one_that_is_gone(tmp_path: Path, left: str) -> None:
    made = current(tmp_path, NOW)
    made.path.rename(made.path.with_name(left))
    with pytest.raises(SettingRejected, match="is gone, and clients know its pin"):
        current(tmp_path, NOW)
    assert files(tmp_path) == [left]


def test_the_next_one_takes_its_place_when_told(tmp_path: Path) -> None:
    with pytest.raises(SettingRejected, match="there is no certificate yet"):
        make_next(tmp_path, NOW)
    first = current(tmp_path, NOW)
    assert following(tmp_path) is None
    with pytest.raises(SettingRejected, match="no next certificate"):
        switch(tmp_path)
    second = make_next(tmp_path, NOW)
    assert second.digest != first.digest
    assert following(tmp_path) == second
    with pytest.raises(SettingRejected, match="already"):
        make_next(tmp_path, NOW)
    assert current(tmp_path, NOW) == first
    assert switch(tmp_path).digest == second.digest
    assert current(tmp_path, NOW).digest == second.digest
    assert files(tmp_path) == ["current.pem", "previous.pem"]
    make_next(tmp_path, NOW)
    switch(tmp_path)
    assert files(tmp_path) == ["current.pem", "previous.pem"]


def test_a_death_while_it_is_switched_leaves_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = current(tmp_path, NOW)
    second = make_next(tmp_path, NOW)

    def die(_self: Path, _target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(SettingRejected):
        switch(tmp_path)
    monkeypatch.undo()
    assert current(tmp_path, NOW).digest == first.digest
    assert following(tmp_path) == second
    assert switch(tmp_path).digest == second.digest


def test_a_second_gateway_takes_the_one_that_the_first_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link
    (tmp_path / "other").mkdir()
    other = current(tmp_path / "other", NOW)

    def late(source: Path, target: Path) -> None:
        target.write_bytes(other.path.read_bytes())
        target.chmod(0o600)
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    assert current(tmp_path, NOW).digest == other.digest
    assert files(tmp_path) == ["current.pem"]


def test_pins_follow_what_the_operator_does(tmp_path: Path) -> None:
    first = current(tmp_path, NOW)
    pins = Pins(tmp_path, first)
    assert pins() == (first.digest,)
    second = make_next(tmp_path, NOW)
    assert pins() == (first.digest, second.digest)
    switch(tmp_path)
    assert pins() == (first.digest, second.digest), "the gateway goes on with the first"
    third = make_next(tmp_path, NOW)
    assert pins() == (first.digest, second.digest), "the second comes first"
    third.path.write_text("rubbish")
    (tmp_path / "tls" / "current.pem").unlink()
    assert pins() == (first.digest,)


def test_addresses_are_kept(tmp_path: Path) -> None:
    assert certificate.kept_addresses(tmp_path) == []
    current(tmp_path, NOW)
    certificate.keep_addresses(tmp_path, ["a:1", "[::1]:2"])
    certificate.keep_addresses(tmp_path, ["a:1", "[::1]:3"])
    assert certificate.kept_addresses(tmp_path) == ["a:1", "[::1]:3"]
    assert files(tmp_path) == ["address", "current.pem"]


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("")
    with pytest.raises(SettingRejected, match="tls can't be used: "):
        current(tmp_path, NOW)
