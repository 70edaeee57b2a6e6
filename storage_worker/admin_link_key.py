"""The commands for the keys of the link between machines: `link-key worker`, `gateway`, `allow`,
`forbid` and `list`.

Owns: these commands of `scripts/admin`. Promises: they work while the programs run, and while they
do not; no secret is shown, and no pair is replaced.
Exposure: whoever may write the data folder.

Source: docs/operations.md, "Gateways and workers on several machines".
"""

import argparse
from pathlib import Path
from typing import Any

from common import link_keys
from common.errors import SettingRejected, ValueRejected
from common.link_address import key_text, parse_key
from storage_worker.admin_output import Say, refuse, show
from storage_worker.server.tcp_link import new_pair


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    command = commands.add_parser("link-key", help="keys for a worker and gateways on several machines")
    command.add_argument(
        "step",
        choices=("worker", "gateway", "allow", "forbid", "list"),
        help="worker, gateway: show the public key of that program, and make its key pair where there is none. "
        "allow, forbid: on the worker's machine, a gateway's public key. list: those that are allowed",
    )
    command.add_argument("key", nargs="?", metavar="KEY", type=_key, help="of allow and forbid: 43 characters")
    command.add_argument("name", nargs="?", metavar="NAME", default="", help="of allow: what people call the gateway")


def _key(text: str) -> bytes:
    try:
        return parse_key(text)
    except ValueRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(settings: argparse.Namespace, folder: Path, say: Say) -> int:
    """Do one step; the exit code. Raises `SettingRejected`."""
    step: str = settings.step
    key: bytes | None = settings.key
    if (key is None) == (step in {"allow", "forbid"}):
        raise SettingRejected(f"link-key {step} {'needs a KEY' if key is None else 'takes no KEY'}")
    if settings.name and step != "allow":
        raise SettingRejected(f"link-key {step} takes no NAME")
    if key is None:
        return _list(folder, say, as_json=settings.json) if step == "list" else _pair(step, folder, say, settings)
    allowed = link_keys.allowed(folder)
    text = key_text(key)
    if step == "allow":
        allowed[key] = link_keys.name_for_people(settings.name)
        sentence = f"The worker takes the gateway with the key {text} from now on."
    elif allowed.pop(key, None) is None:
        return refuse(say, f"The key {text} is not among those that are allowed.", as_json=settings.json)
    else:
        sentence = (
            f"The worker takes no new connection with the key {text}. One that is open stays so until the worker is "
            "started again."
        )
    link_keys.write_allowed(folder, allowed)
    show(say, {"type": f"link-key-{step}", "key": text, "name": settings.name}, sentence, as_json=settings.json)
    return 0


def _pair(program: str, folder: Path, say: Say, settings: argparse.Namespace) -> int:
    pair = link_keys.load(folder, program)
    is_new = pair is None
    if pair is None:
        pair = new_pair()
        link_keys.keep(folder, program, pair)
    text = key_text(pair.public)
    advice = (
        f"Gateways name it: --worker tcp://{text}@HOST:PORT"
        if program == link_keys.WORKER
        else f"On the worker's machine: messageu-admin link-key allow {text}"
    )
    line = {"type": "link-key", "program": program, "key": text, "made": is_new}
    show(say, line, f"The {program}'s public key is {text}.", advice, as_json=settings.json)
    return 0


def _list(folder: Path, say: Say, *, as_json: bool) -> int:
    for key, name in link_keys.allowed(folder).items():
        text = key_text(key)
        show(say, {"type": "link-key-allowed", "key": text, "name": name}, f"{text} {name}".rstrip(), as_json=as_json)
    return 0
