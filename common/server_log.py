"""Where the server's programs write their log, and in which form.

Owns: the root logger of gateway and storage worker; the JSON form of a line and its fields; the
audit log's logger.
Promises: one line per record, on stderr, with time, level and the part of the program. Under
systemd's journal, which has a time for every line, the text form has none of its own. In the JSON
form every line is one object, tracebacks and all; it has the same content as the text, and some of
it again in fields. A line of the audit log names a user by id; no line has a key, a signature, a
token or a content.
Exposure: strangers choose values that stand in fields. JSON escapes them; in the text form the
caller does.

Source: docs/operations.md, "The log".
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

JOURNAL_VARIABLE: Final = "JOURNAL_STREAM"
FORMS: Final = ("text", "json")
"""For `--log-format`."""
AUDIT: Final = logging.getLogger("messageu.audit")
_TEXT: Final = "%(levelname)s %(name)s: %(message)s"
_FIELDS: Final = "fields"
_OWN_FIELDS: Final = frozenset({"time", "level", "logger", "message", "exception"})

log = logging.getLogger("server")


def begin_log(level: str, environment: Mapping[str, str], form: str = "text") -> None:
    """Write to stderr what is of this level or above, in one of `FORMS`."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonForm())
        sys.excepthook = _log_the_end
        threading.excepthook = _log_the_end_of_a_thread
    else:
        handler.setFormatter(
            logging.Formatter(_TEXT if is_journal(sys.stderr, environment) else f"%(asctime)s {_TEXT}")
        )
    logging.basicConfig(level=level.upper(), handlers=[handler])


def fields(**values: str | int) -> dict[str, object]:
    """A line's values as fields: the `extra` of a call of `logging`."""
    if not _OWN_FIELDS.isdisjoint(values):
        raise ValueError(f"every line has fields of these names: {', '.join(sorted(_OWN_FIELDS))}")
    return {_FIELDS: values}


class JsonForm(logging.Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"))


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the program ends with an unexpected error", exc_info=(kind, error, trace))


def _log_the_end_of_a_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        log.critical(
            "a thread ends with an unexpected error",
            exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
        )


def audit_registration(user: bytes) -> None:
    """A user was registered, and that is on disk."""
    AUDIT.info("registered user %s", user.hex(), extra=fields(event="registered", user=user.hex()))


def audit_inactivity(user: bytes) -> None:
    """A user is deleted, for they were not seen for as long as the operator has set."""
    AUDIT.info("inactive user %s", user.hex(), extra=fields(event="inactive", user=user.hex()))


def audit_deletion(user: bytes) -> None:
    """A user was deleted: nothing is left of them in the store except what others have received."""
    AUDIT.info("deleted user %s", user.hex(), extra=fields(event="deleted", user=user.hex()))


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a stream goes to the journal, whose device and inode systemd names in the
    environment, in decimal.

    The variable alone says nothing: it is inherited, and the stream may have gone elsewhere since.
    `INVOCATION_ID` says less: every terminal of a session that systemd began has it.

    Source: systemd.exec(5), "$JOURNAL_STREAM".
    """
    named = environment.get(JOURNAL_VARIABLE)
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        # It is closed, or no stream of the system.
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
