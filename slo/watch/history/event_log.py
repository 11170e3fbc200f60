"""
What happened and what was agreed, in the history file: changes of alerts, messages, actions, notes; silences and
maintenance.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slo.errors import StoreError
from slo.watch.history.store import Store
from slo.watch.model.silences import Maintenance, Silence, parse_matcher

# alert: a change of state; message: something was told; action: remediation; change: something about the service was
# changed (deploy, configuration, restart); note: anything a person wants to remember.
Kind = Literal["alert", "message", "action", "change", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """One line of history. `at_s` is wall-clock seconds."""

    at_s: float
    kind: Kind
    subject: str
    text: str = ""
    author: str = "slo watch"
    data: Mapping[str, Any] = field(default_factory=dict)


def write(store: Store, event: HistoryEvent) -> None:
    """Append the event."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO events (at_s, kind, subject, text, author, data) VALUES (?, ?, ?, ?, ?, ?)",
            (event.at_s, event.kind, event.subject, event.text, event.author, json.dumps(dict(event.data))),
        )


def read(store: Store, kind: Kind, since_s: float, until_s: float = float("inf")) -> list[HistoryEvent]:
    """Events of one kind in `[since_s, until_s)`, oldest first."""
    rows = store.query(
        "SELECT at_s, kind, subject, text, author, data FROM events "
        "WHERE kind = ? AND at_s >= ? AND at_s < ? ORDER BY at_s, id",
        (kind, since_s, until_s),
    )
    return [
        HistoryEvent(at_s=at_s, kind=found, subject=subject, text=text, author=author, data=json.loads(data))
        for at_s, found, subject, text, author, data in rows
    ]


def new_id() -> str:
    """A short name for a silence or a maintenance window."""
    return secrets.token_hex(4)


def add_silence(store: Store, silence: Silence) -> None:
    """Keep the silence; one with the same id is replaced."""
    matchers = json.dumps([str(matcher) for matcher in silence.matchers])
    _put_span(
        store, "silence", silence.id, (silence.starts_s, silence.ends_s), silence.author, silence.comment, matchers
    )


def silences(store: Store, since_s: float = 0.0) -> list[Silence]:
    """Silences that end after `since_s`, in order of their start."""
    return [
        Silence(
            id=row[0], starts_s=row[1], ends_s=row[2], author=row[3], comment=row[4],
            matchers=tuple(parse_matcher(text) for text in json.loads(row[5])),
        )
        for row in _spans(store, "silence", since_s)
    ]  # fmt: skip


def add_maintenance(store: Store, window: Maintenance) -> None:
    """Keep the window, and mark the minutes within it that were recorded before it was declared.

    Minutes that have been merged into longer rows are marked only where the whole row lies within.
    """
    with store.transaction():
        _put_span(store, "maintenance", window.id, (window.starts_s, window.ends_s), window.author, window.reason, "[]")
        store.mark_maintenance(window.starts_s, window.ends_s)


def maintenance(store: Store, since_s: float = 0.0) -> list[Maintenance]:
    """Windows that end after `since_s`, in order of their start."""
    return [
        Maintenance(id=row[0], starts_s=row[1], ends_s=row[2], author=row[3], reason=row[4])
        for row in _spans(store, "maintenance", since_s)
    ]


def end_span(store: Store, span_id: str, now_s: float) -> None:
    """End a silence or maintenance now. Raises `StoreError` if none of that id is in force or to come.

    One that has not begun is removed; one that has stays in the history with its real end.
    """
    with store.transaction() as connection:
        removed = connection.execute("DELETE FROM spans WHERE id = ? AND starts_s >= ?", (span_id, now_s)).rowcount
        ended = connection.execute(
            "UPDATE spans SET ends_s = ? WHERE id = ? AND ends_s > ?", (now_s, span_id, now_s)
        ).rowcount
        if not removed + ended:
            raise StoreError(f"no silence or maintenance {span_id!r} is in force", hint="list them with --list")


def _put_span(
    store: Store, kind: str, span_id: str, span: tuple[float, float], author: str, reason: str, matchers: str
) -> None:
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO spans (id, kind, starts_s, ends_s, author, reason, matchers) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (span_id, kind, *span, author, reason, matchers),
        )


def _spans(store: Store, kind: str, since_s: float) -> list[Any]:
    return store.query(
        "SELECT id, starts_s, ends_s, author, reason, matchers FROM spans "
        "WHERE kind = ? AND ends_s > ? ORDER BY starts_s, id",
        (kind, since_s),
    )
