"""Every command of the client that README and docs show is one that it takes, and every subcommand is shown."""

import re
import shlex
from pathlib import Path

import pytest

from client.arguments import parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORD = r"(?:[^\s`|)'\"]|'[^']*'|\"[^\"]*\")+"
COMMAND = re.compile(rf"(?:scripts/client|(?<![\w-])messageu)((?: +{WORD})*)")


def is_form(span: str) -> bool:
    """Whether it shows the form of a command, with what may be left out."""
    return re.search(r"[\[\]…]|\w\|\w", span) is not None


def shown() -> list[tuple[str, list[str]]]:
    """Where a command stands, and its words."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        spans = [span for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S) for span in block.splitlines()]
        spans += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        spans += [line.strip() for line in text.splitlines() if line.startswith("    ")]
        commands = [(span, command) for span in spans if not is_form(span) for command in COMMAND.findall(span)]
        found += [(f"{page.name}: {span}", shlex.split(command)) for span, command in commands]
    return found


@pytest.mark.parametrize(("where", "words"), shown(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_client_takes_it(where: str, words: list[str]) -> None:
    if len(words) == 1:
        # It is only spoken of.
        words = [*words, "--help"]
    try:
        parser().parse_args(["bash" if word == "SHELL" else word for word in words])
    except SystemExit as refusal:
        assert refusal.code == 0, f"{where} is refused"


def test_enough_is_found() -> None:
    assert len(shown()) > 20
    commands = {word for _, words in shown() for word in words}
    assert {"register", "send", "recv", "chat", "watch", "verify", "doctor", "passphrase", "completion"} <= commands
