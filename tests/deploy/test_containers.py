"""The container files: what the images start, and how they are asked whether they are well."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import gateway.options
import storage_worker.settings
from common.data_folder import DATA_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
FILE = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
PARSERS = {"gateway": gateway.options.parse, "storage-worker": storage_worker.settings.parse}


def words_of(image: str, instruction: str) -> list[str]:
    """What an image's stage has in its JSON form; nothing where it has not got it."""
    stage = FILE.partition(f"FROM server AS {image}\n")[2].partition("\nFROM ")[0]
    found = re.findall(rf"^{instruction}\b.*?(\[.*\])$", stage, re.MULTILINE)
    return [str(word) for word in json.loads(found[0])] if found else []


@pytest.mark.parametrize("image", PARSERS)
def test_what_an_image_starts_is_taken(image: str) -> None:
    parse = PARSERS[image]
    program, *words = words_of(image, "ENTRYPOINT")
    assert (ROOT / "scripts" / "bin" / program).is_file()
    started = parse([*words, *words_of(image, "CMD")])
    asked_program, *asked = words_of(image, "HEALTHCHECK")
    assert asked_program == program
    health = parse(asked)
    assert health.health
    assert health.metrics == started.metrics


def test_what_compose_adds_is_taken() -> None:
    command = COMPOSE.partition("    command:\n")[2].partition("    #")[0]
    words = re.sub(r"\$\{\w+:\?[^}]*\}", "chat.example.org", command.replace("      - ", ""))
    _program, *fixed = words_of("gateway", "ENTRYPOINT")
    options = PARSERS["gateway"]([*fixed, *shlex.split(words)])
    gateway.options.checked(options)
    # The port that is published is the one that is listened on, and named by the image.
    [place] = options.places
    assert f'ports: ["{place.port}:{place.port}"]' in COMPOSE
    assert f"\nEXPOSE {place.port}\n" in FILE


def test_both_files_speak_of_the_same_images_and_the_same_folder() -> None:
    assert re.findall(r"target: (\S+)", COMPOSE) == ["storage-worker", "gateway"]
    assert {f"\nFROM server AS {target}\n" in FILE for target in PARSERS} == {True}
    assert f"{DATA_VARIABLE}=/var/lib/messageu/data" in FILE
    assert COMPOSE.count("data:/var/lib/messageu") == 2
    assert "\nVOLUME /var/lib/messageu\n" in FILE


def test_the_gateway_is_not_on_the_network_that_leads_nowhere() -> None:
    # Of a service that names none podman-compose takes the only network that there is.
    assert re.findall(r"networks: \[(\w+)\]", COMPOSE) == ["inside", "outside"]
    assert COMPOSE.partition("\nnetworks:\n")[2].partition("\n\n")[0] == "  inside:\n    internal: true\n  outside:"


def test_what_is_shown_keeps_the_health_checks() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.search(r"^export BUILDAH_FORMAT=docker MESSAGEU_ADDRESS=\S+\npodman-compose ", page, re.MULTILINE)
    assert "BUILDAH_FORMAT=docker" in COMPOSE.partition("podman-compose")[0]
    builds = re.findall(r"podman build (.*)", FILE)
    assert len(builds) == 2
    assert all(words.startswith("--format docker ") for words in builds)


def test_what_is_copied_is_what_the_package_has() -> None:
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", FILE, re.MULTILINE) for word in line.split()}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert {"client", "common", "gateway", "messageu", "storage_worker"} <= copied
