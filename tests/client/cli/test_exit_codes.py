"""Every failure has an exit code that the documentation names."""

from __future__ import annotations

from client import errors
from client.cli import exit_codes
from client.cli.exit_codes import of_failure
from client.errors import ServerAnsweredError
from common.values import RefusalReason


def test_every_failure_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ClientError)]
    # Its code depends on its reason, as below.
    kinds.remove(ServerAnsweredError)
    for kind in kinds:
        # Whatever else one of them is made with.
        error = kind.__new__(kind)
        errors.ClientError.__init__(error, "It failed.")
        assert of_failure(error)[0] in exit_codes.MEANINGS
    assert of_failure(ServerAnsweredError("full", reason=RefusalReason.MAILBOX_FULL))[0] == exit_codes.OVER_LIMIT
    assert of_failure(ServerAnsweredError("who?", reason=RefusalReason.RECIPIENT_UNKNOWN))[0] == exit_codes.NO_SUCH_USER
    assert of_failure(ServerAnsweredError("9000"))[0] == exit_codes.SERVER_REFUSED
    assert of_failure(ServerAnsweredError("new", reason=999))[0] == exit_codes.SERVER_REFUSED
