"""docs/storage-protocol.md says what the code does, as far as tables can be compared."""

import re
from pathlib import Path

from common.storage_protocol import administration
from common.storage_protocol import operations as ops
from common.storage_protocol.batch_sender import DEADLINE, RESEND_AFTER
from common.storage_protocol.frames import HEADER_SIZE, VERSION, FrameType
from common.storage_protocol.message_format import ENTRY_HEAD
from common.storage_protocol.work_estimate import MOST
from common.values import RefusalReason
from storage_worker.server.administration import ACCOUNTS_AT_ONCE
from storage_worker.server.zmq_server import ADMIN_WAITING

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "storage-protocol.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The rows of the table under this header row."""
    _, _, rest = TEXT.partition(heading + "\n")
    table, _, _ = rest.partition("\n\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def words(fields: str) -> list[str]:
    """The names of fields, without what is in brackets, types and defaults."""
    plain = re.sub(r"\(.*?\)", "", fields)
    names = [re.sub(r" (u8|u16|u32|u63|bin)\b| = .*| \[.*", "", field).strip() for field in plain.split(",")]
    return [name.removeprefix("array of ").replace(" ", "_") for name in names if name.strip()]


def test_frame_types() -> None:
    found = {int(number): name for number, name, *_ in rows("| type | name | direction | epoch | number | body |")}
    assert found == {kind.value: "".join(part.title() for part in kind.name.split("_")) for kind in FrameType}


def test_operations() -> None:
    found = {(int(tag), name): words(fields) for tag, name, fields in rows("| tag | operation | fields |")}
    assert found == {
        (kind.__struct_config__.tag, kind.__name__): list(kind.__struct_fields__) for kind in ops.Operation.__args__
    }


def test_outcomes() -> None:
    found = {(int(tag), name): words(fields) for tag, name, fields in rows("| tag | outcome | fields |")}
    found[2, "UsersPage"][-1] = "users"
    assert found == {
        (kind.__struct_config__.tag, kind.__name__): list(kind.__struct_fields__) for kind in ops.Outcome.__args__
    }


def test_administration() -> None:
    for heading, union in (("request", administration.AdminRequest), ("answer", administration.AdminAnswer)):
        found = {(int(tag), name): words(fields) for tag, name, fields in rows(f"| tag | {heading} | fields |")}
        assert found == {
            (kind.__struct_config__.tag, kind.__name__): list(kind.__struct_fields__) for kind in union.__args__
        }
    [fields] = re.findall(r"^An account is an array: (.*?)\.$", TEXT, re.MULTILINE | re.DOTALL)
    assert words(fields.replace("\n", " ")) == list(administration.Account.__struct_fields__)
    assert f"the next {ACCOUNTS_AT_ONCE} users at most" in TEXT.replace("\n", " ")
    assert f"At most {ADMIN_WAITING} wait" in TEXT.replace("\n", " ")


def test_a_page_and_a_part() -> None:
    for name, kind in {"page": ops.Mail, "part": ops.Part}.items():
        [fields] = re.findall(rf"^A {name}: (.*)\.$", TEXT, re.MULTILINE)
        assert words(fields) == list(kind.__struct_fields__)
    assert f"the {ENTRY_HEAD.size} bytes of the message's entry" in TEXT


def test_reasons() -> None:
    found = {int(number): name for number, name, _ in rows("| reason | | when |")}
    assert found == {reason.value: reason.name.lower().replace("_", " ") for reason in RefusalReason}


def test_what_is_computed_again() -> None:
    [names] = re.findall(r"only read \(([^)]*)\)", TEXT.replace("\n", " "))
    assert [name.strip() for name in names.split(",")] == [kind.__name__ for kind in ops.READ_AGAIN]


def test_numbers() -> None:
    plain = TEXT.replace("\n", " ")
    assert f"Version {VERSION}." in plain
    assert f"a header of {HEADER_SIZE} bytes" in plain
    assert f"A greeting goes again every {RESEND_AFTER:.0f} s" in plain
    assert f"a bounded amount of work: {MOST:,} units" in plain
    assert f"After {DEADLINE:.0f} s the batch is given up" in plain
