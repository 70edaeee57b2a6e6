"""Received and sent messages: recv, history.

Owns: how a message looks on one line of a terminal or as a JSON object, and the waiting for mail.
Promises: a text of several lines is indented, so that it can't pretend to be several messages; a
received key request is answered only if the user's setting, or the user, allows it.
Exposure: shows texts and names that strangers chose, made visible.

Source: docs/client.md.
"""

import time
from typing import Final

from client.cli import exit_codes
from client.cli.output import Output, Value, json_line
from client.mail.message_iterator import POLL
from client.mail.searching import folded
from client.messages import (
    KeyReceived,
    KeyRequested,
    Received,
    Renewed,
    SavedFile,
    SentMessage,
    Text,
    UnknownKind,
    Unreadable,
)
from client.open_home import OpenHome
from client.terminal import local_time
from client.terminal.sanitize import marked, visible_line, visible_name, visible_text
from common.errors import MessageUError
from common.names import normal_form

NEXT_STEP: Final = (
    "It is kept, and shown as soon as a key that fits is here; ask the sender for a new symmetric key, or to send it "
    "again."
)
_ASK_SENDER: Final = "It is kept. If it can be sent again, that happens by itself; otherwise ask the sender."
LOST_MARK: Final = "possibly lost"
"""Advice for what was acknowledged before a backup was restored."""
SUITE_1: Final = "suite 1"
LOST: Final = "No key will help: what was kept of it is damaged. Ask the sender to send it again."


# --- in
# --------------------------------------------------------------------------------------------------


def receive(home: OpenHome, output: Output, wait: float, most: int | None, answer: str) -> int:
    """Fetch and show pending messages; with `wait`, until something arrives or the time is over."""
    end = time.monotonic() + wait
    shown = unreadable = lost = 0
    requests: dict[str, Received] = {}
    while True:
        with output.transfer("Receiving") as progress, output.transfer("Decrypting") as saving:
            for message in home.receiving.receive(max(0.0, end - time.monotonic()), progress, most, saving=saving):
                show_received(output, message)
                shown += 1
                if isinstance(message.content, Unreadable):
                    unreadable += not message.content.lost
                    lost += message.content.lost
                if isinstance(message.content, KeyRequested) and message.sender_name is not None:
                    requests[message.sender_name] = message
        left = end - time.monotonic()
        if shown or left <= 0:
            break
        time.sleep(min(POLL, left))
    for request in requests.values():
        answer_request(home, output, request, answer)
    if not shown and wait:
        output.say(f"Nothing arrived within {wait:g} s.")
        return exit_codes.WAIT_OVER
    if not shown:
        output.say("No messages wait.")
    if unreadable:
        output.say(f"{unreadable} could not be decrypted. {NEXT_STEP}")
    if lost:
        output.say(f"{lost} could not be read. {LOST}")
    return exit_codes.UNREADABLE if unreadable or lost else exit_codes.DONE


def answer_request(home: OpenHome, output: Output, request: Received, answer: str) -> None:
    """Make and send a key if the setting, or the user, allows it."""
    name = request.sender_name
    assert name is not None
    shown = marked(name, ", ".join(_standing(request)) or None)
    wanted = answer == "always" or (
        answer == "ask" and output.confirm(f"{shown} asks for a symmetric key. Make one and send it?")
    )
    if not wanted:
        output.say(f"{shown} asked for a symmetric key and got none; a text that you send makes and sends one.")
        return
    try:
        home.directory.fetch_public_key(name)
        home.key_exchange.send_key(name)
    except MessageUError as error:
        output.say(f"The key for {shown} was not sent: {error}")
    else:
        output.say(f"A new symmetric key is made and sent to {shown}.")


def show_received(output: Output, message: Received, *, suite: bool = False) -> None:
    """Show one received message; with `suite`, also that it came under cipher suite 1."""
    name, rest = received_parts(message, suite=suite)
    output.data(
        "message", f"{local_time.shown(message.accepted_at or message.received_at)} {name}{rest}", **_fields(message)
    )


def as_json(message: Received) -> str:
    """Return a received message as the line that `--json` prints."""
    return json_line("message", _fields(message))


def received_parts(message: Received, *, suite: bool = False) -> tuple[str, str]:
    """Return the sender's name, and what follows it on the line: marks, and the content. `suite` as
    in `show_received`.
    """
    sender = message.sender_name
    name = visible_name(sender) if sender is not None else f"unknown user {message.sender.hex()}"
    marks = _standing(message)
    told = (
        ("late", message.late),
        ("possibly repeated", message.repeated),
        (f"{message.missing} missing before it", message.missing),
        ("sent before the last one", message.overtaken),
        # Other contents say so themselves.
        ("new session", message.new_session and isinstance(message.content, Text | SavedFile)),
        (SUITE_1, suite and message.suite),
    )
    marks += [word for word, holds in told if holds]
    mark = f" [{', '.join(marks)}]" if marks else ""
    return name, f"{mark}{_content(message)[1]}"


def _standing(message: Received) -> list[str]:
    """The marks of the sender."""
    standing = (("verified", message.sender_verified), ("unproven", not message.sender_proven))
    return [word for word, holds in standing if holds]


def _fields(message: Received) -> dict[str, Value]:
    kind, _, fields = _content(message)
    given: dict[str, Value] = {
        "direction": "in",
        "number": message.number,
        "name": message.sender_name,
        "id": message.sender.hex(),
        "kind": kind,
        "accepted_at": message.accepted_at,
        "received_at": message.received_at,
        "sender_proven": message.sender_proven,
        "sender_verified": message.sender_verified,
        "suite": message.suite,
        "late": message.late,
        "repeated": message.repeated,
    }
    if message.suite:
        given |= {"missing": message.missing, "overtaken": message.overtaken, "new_session": message.new_session}
    return given | fields


def _content(message: Received) -> tuple[str, str, dict[str, Value]]:
    """Its kind, how it is shown after the name, and its fields."""
    match message.content:
        case KeyRequested():
            return "key-request", " asks for a symmetric key", {}
        case KeyReceived(unasked, only_decrypts):
            what = " sent a symmetric key"
            if unasked:
                what += " that was not asked for; "
                what += "it only decrypts" if only_decrypts else "it takes the place of the one in use"
            return "key", what, {"unasked": unasked}
        case Text(text):
            return "text", f": {indented(text)}", {"text": text}
        case SavedFile(path, caption):
            shown = f" sent a file: {visible_line(str(path))}"
            if caption:
                return "file", f"{shown}: {indented(caption)}", {"path": str(path), "caption": caption}
            return "file", shown, {"path": str(path)}
        case Renewed(unopened, again, lost):
            counts: dict[str, Value] = {"unopened": unopened, "again": again, "not_again": lost}
            return "renewed", f" {_renewed(unopened, again, lost)}", counts
        case Unreadable(problem, is_lost, advice):
            advice = advice or (_ASK_SENDER if message.suite else LOST if is_lost else NEXT_STEP)
            fields: dict[str, Value] = {"problem": problem, "advice": advice}
            return "unreadable", f" sent something that can't be decrypted: {problem}", fields
        case UnknownKind(number, instead):
            what = f" sent a message of an unknown type ({number})"
            if instead:
                return "unknown", f"{what}: {indented(instead)}", {"kind_number": number, "text": instead}
            return "unknown", what, {"kind_number": number}


def _renewed(unopened: int, again: int, lost: int) -> str:
    """What a sender's new sessions mean, behind the name."""
    what = "has begun new sessions, because a home was copied or restored from a copy"
    if not unopened:
        return f"{what}; what you sent there just now may not have been opened"
    many = "1 message of yours" if unopened == 1 else f"{unopened} messages of yours"
    sent = f"; {again} {'is' if again == 1 else 'are'} sent again" if again else ""
    left = f"; {lost} can't be: send {'it' if lost == 1 else 'them'} as a new message" if lost else ""
    return f"{what}, and could not open {many}{sent}{left}"


def shown_name(home: OpenHome, name: str) -> str:
    """Return a name as it is shown, with the mark if its key was compared."""
    return marked(name, "verified" if home.directory.is_verified_name(name) else None)


# --- looking back
# -----------------------------------------------------------------------------------------------


def history(home: OpenHome, output: Output, name: str | None, search: str | None) -> int:
    """List what was received and sent, oldest first."""
    words = folded(search or "").split()
    shown = 0
    for message in home.history.all():
        other = message.recipient.name if isinstance(message, SentMessage) else message.sender_name
        if name is not None and other not in {name, normal_form(name)}:
            continue
        haystack = folded(_searchable(message))
        if not all(word in haystack for word in words):
            continue
        shown += 1
        if isinstance(message, SentMessage):
            _show_sent(output, message, verified=home.directory.is_verified(message.recipient))
        else:
            show_received(output, message, suite=True)
    if not shown:
        meant = ""
        if name is not None and home.contacts.listed(name) is None:
            meant = f" {home.contacts.unknown(name).advice}"
        output.say(f"Nothing like that in the history.{meant}")
    return exit_codes.DONE


def _searchable(message: Received | SentMessage) -> str:
    if isinstance(message, SentMessage):
        return message.text or str(message.path or "")
    match message.content:
        case Text(text):
            return text
        case SavedFile(path):
            return str(path)
        case _:
            return ""


def state_of(message: SentMessage) -> str:
    """Return one word for the state of a sent message."""
    if message.waiting:
        # Also for one that the server had, and that is sent again.
        return "waiting"
    if message.stored_at is not None:
        return "stored"
    return "failed" if message.problem is not None else "unknown"


def sent_content(message: SentMessage) -> str:
    """Return the text of a sent message, or the name of its file, as it is shown."""
    if message.damaged:
        return "(its row in store.db was altered or is damaged)"
    if message.text is not None:
        return indented(message.text)
    return "the contents of a file" if message.path is None else f"the file {visible_line(str(message.path))}"


def _show_sent(output: Output, message: SentMessage, *, verified: bool) -> None:
    state = state_of(message)
    told = (("verified", verified), (state, state != "stored"), (LOST_MARK, message.lost), (SUITE_1, message.suite))
    marks = [word for word, holds in told if holds]
    mark = f" [{', '.join(marks)}]" if marks else ""
    fields: dict[str, Value] = {} if message.text is None else {"text": message.text}
    if message.path is not None:
        fields["path"] = str(message.path)
    when = local_time.shown(message.stored_at or message.queued_at)
    line = f"{when} to {visible_name(message.recipient.name)}{mark}: {sent_content(message)}"
    output.data(
        "message", line, direction="out", number=message.number, name=message.recipient.name,
        id=message.recipient.client_id.hex(), kind="text" if message.text is not None else "file", state=state,
        queued_at=message.queued_at, stored_at=message.stored_at, message_id=message.message_id,
        problem=message.problem, possibly_lost=message.lost, recipient_verified=verified, suite=message.suite, **fields,
    )  # fmt: skip


def indented(text: str) -> str:
    """Return a received or sent text, its further lines indented, so that they can't pretend to be
    messages.
    """
    return visible_text(text).replace("\n", "\n    ")
