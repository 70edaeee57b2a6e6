"""After a backup was restored: resend. Owns: what is printed about messages that are sent again.
Promises: what can't be sent again is reported one by one, with the next step, and makes the exit
code 1.

Source: docs/client.md; docs/guarantees.md, "After a backup was put back".
"""

from collections.abc import Iterator
from typing import Final

from client.cli import exit_codes
from client.cli.output import Output, Value
from client.messages import Resent
from client.open_home import OpenHome

NOTHING: Final = "Nothing is possibly lost."


def resend(home: OpenHome, output: Output, name: str | None, *, forget: bool) -> int:
    """Send possibly lost messages again, or remove their marks."""
    if forget:
        count = home.resending.forget(name)
        output.say(f"{_many(count)} not marked as possibly lost any more." if count else NOTHING)
        return exit_codes.DONE
    with output.transfer("Sending") as progress:
        resent = home.resending.resend(name, progress)
    for message in resent.messages:
        fields: dict[str, Value] = {"to": message.recipient.name, "id": message.recipient.client_id.hex()}
        fields["kind"] = "file" if message.text is None else "text"
        if message.path is not None:
            fields["path"] = str(message.path)
        verified = home.directory.is_verified(message.recipient)
        if output.as_json:
            fields |= {"message_id": message.message_id, "recipient_verified": verified, "suite": message.suite}
            output.data("sent", "", **fields)
    for sentence in summary(resent):
        output.say(sentence)
    return exit_codes.UNEXPECTED if resent.problems else exit_codes.DONE


def summary(resent: Resent) -> Iterator[str]:
    """Print what became of the possibly lost messages."""
    yield from resent.problems
    if resent.sent:
        yield f"{_many(resent.sent)} sent again."
    if resent.waiting:
        yield f"{_many(resent.waiting)} kept, and sent again as soon as the server takes {_them(resent.waiting)}."
    if resent.left:
        yield (
            f"{_many(resent.left)} still marked as possibly lost; `messageu resend --forget` takes the "
            f"mark{'' if resent.left == 1 else 's'} away."
        )
    if not (resent.sent or resent.waiting or resent.left):
        yield NOTHING


def _many(count: int) -> str:
    return "One message is" if count == 1 else f"{count} messages are"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
