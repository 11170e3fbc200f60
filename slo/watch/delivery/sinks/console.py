"""The console: a channel that needs no network, and the last resort when all others fail."""

from __future__ import annotations

from typing import TextIO

from slo.watch.alerting.words import second
from slo.watch.delivery.sinks.limiter import Limit
from slo.watch.delivery.sinks.outcome import Delivered, Outcome, Retry
from slo.watch.delivery.sinks.wording import Language, plain, text_of, title_of
from slo.watch.model.notification import Notification


class ConsoleSink:
    """Writes each notification to `stream`, stderr by custom: stdout belongs to a command's product."""

    limit: Limit | None = None
    repeat_every_s: float | None = None
    digest_bytes = 20_000

    def __init__(self, stream: TextIO, *, language: Language = "zh") -> None:
        self._stream = stream
        self._language = language

    def __repr__(self) -> str:
        return "console"

    def send(self, notification: Notification, now: float) -> Outcome:
        head = title_of(notification, self._language)
        text = plain(text_of(notification, self._language)).strip()
        body = "".join(f"    {line}\n" for line in text.splitlines())
        try:
            self._stream.write(f"{second(now, None)} {head}\n{body}")
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            return Retry(reason=f"console: {error}")
        return Delivered()
