"""The channels on this machine: the terminal, and a file of one JSON object a line, for people and log shippers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

import orjson

from slo.clock import iso
from slo.files import private_folder
from slo.watch.alerting.words import second
from slo.watch.delivery.sinks.outcome import Delivered, Diagnosis, Limit, Outcome, Retry
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


_FULL = Diagnosis(
    "无法写入告警文件：检查磁盘空间与权限", "the alert file cannot be written: check disk space and rights"
)


class FileSink:
    """Appends, whole lines only, and keeps one older file once `max_bytes` are reached."""

    limit: Limit | None = None
    repeat_every_s: float | None = None
    digest_bytes = 20_000

    def __init__(self, path: Path, *, max_bytes: int = 16 * 2**20) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"file {self.path}"

    def send(self, notification: Notification, now: float) -> Outcome:
        line = orjson.dumps(as_json(notification) | {"written_at": iso(now)}, option=orjson.OPT_APPEND_NEWLINE)
        try:
            private_folder(self.path.parent)
            if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return Retry(reason=f"{self.path}: {error.strerror}", diagnosis=_FULL)
        return Delivered()


def as_json(notification: Notification) -> dict[str, object]:
    """The notification as plain data, with readable times beside the numbers."""
    return {
        "event_id": notification.event_id,
        "status": notification.status,
        "severity": notification.severity,
        "title_zh": notification.title_zh,
        "title_en": notification.title_en,
        "text_zh": notification.text_zh,
        "text_en": notification.text_en,
        "labels": dict(notification.labels),
        "annotations": dict(notification.annotations),
        "starts_at": iso(notification.starts_at_s),
        "starts_at_s": notification.starts_at_s,
        "ends_at": None if notification.ends_at_s is None else iso(notification.ends_at_s),
        "ends_at_s": notification.ends_at_s,
        "group_key": notification.group_key,
        "runbook_url": notification.runbook_url,
        "generator_url": notification.generator_url,
    }
