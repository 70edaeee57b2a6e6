"""What a server says about itself, in words, whatever its values."""

import pytest

from client.connection import about
from common.client_protocol.responses import AboutResponse

PLAIN = AboutResponse(0, 1024**3, 1_000_000, 4 * 1024**3, 0, "")


def test_sentences() -> None:
    assert about.sentence(PLAIN) == (
        "everybody may register; mail is kept until it is fetched; up to 1 GiB a message, and 1000000 messages and "
        "4 GiB waiting for you"
    )
    invited = PLAIN._replace(expire_days=21, registration=1)
    assert about.sentence(invited).startswith("one registers with an invitation; mail is deleted after 21 days; ")
    assert about.sentence(PLAIN._replace(registration=2)).startswith("nobody can register; ")
    assert about.sentence(PLAIN._replace(registration=77)).startswith("registration is as its operator says; ")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2, "1 MiB"),
        (2**63, "8589934592 GiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert about.size(number) == text


def test_the_operators_text_is_harmless() -> None:
    text = about.operators_text(PLAIN._replace(text="  Hello\x1b[2J\n\u202eworld  "))
    assert text.isprintable()
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(about.operators_text(PLAIN._replace(text="x" * 4000))) == 501
