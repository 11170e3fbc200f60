"""
Log records that nobody can forge: one line is one record, and what continues it begins with `  | `.

Clients choose names and texts that end up in messages. Every record of a process that has called
`escape_log_records` is treated, whoever makes it: control characters are shown as escapes, further lines are marked,
length is bounded.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

MOST = 4000  # characters of one message, and of one traceback from its end
CONTINUED = "\n  | "
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Asking for a model that is not there is an everyday thing: the sentence will do.
EVERYDAY = re.compile(r"(\[address=[^\]]*\] )?Model (not found in the model list|\S+ not found)")


def escape(text: str) -> str:
    """`text` as part of one record."""
    if len(text) > MOST:
        text = f"{text[:MOST]}… ({len(text)} characters)"
    text = text.replace("\r\n", "\n")
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text).replace(
        "\n", CONTINUED
    )


def escape_log_records() -> None:
    """Treat every record that this process, or one forked from it, makes from now on."""
    make = logging.getLogRecordFactory()
    if getattr(make, "tames", False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        _escape_message(record)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            if isinstance(error, ValueError) and EVERYDAY.match(str(error)):
                record.exc_info = None
            else:
                lines = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
                record.exc_text = CONTINUED[1:] + escape(lines[-MOST:])
        return record

    factory.tames = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)


def _escape_message(record: logging.LogRecord) -> None:
    if isinstance(record.args, tuple):  # kept apart: some formatters want them, such as uvicorn's for requests
        record.args = tuple(escape(value) if isinstance(value, str) else value for value in record.args)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return  # the handler says what is wrong with it
    safe = escape(message) if "\n  | " not in message else message
    if safe != message:
        record.msg, record.args = safe, None
