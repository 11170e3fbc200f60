"""The audit log of the short way: one line per request, several at a time, and none that a client can forge."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

from slo.serve.door.audit import Audit
from slo.serve.door.callers import Caller

KEY = SimpleNamespace(name="key", key_prefix="xf-abcd")


class Kept(logging.Handler):
    """What is written, record by record."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


class Host:
    """What Xinference's API object is told of errors."""

    _uid_to_model_name = {"m": "model"}  # noqa: RUF012 - as there

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _record_audit(self, request: Any, model: str, kind: str, status: str, latency_s: float) -> None:
        self.told.append((model, kind, status, request.state.audit_status_code, latency_s))

    def _record_admin_audit(self, request: Any, status: str, latency_s: float, **more: Any) -> None:
        self.told.append((status, more, request.client.host))


def audit_of(host: Host, now: list[float]) -> tuple[Audit, Kept]:
    kept, logger = Kept(), logging.Logger("audit-of-a-test")
    logger.addHandler(kept)
    return Audit(host, lambda: logger, "node", lambda: "here:1", lambda: now[0], requests=None, seconds=None), kept


def caller(model: str, user: str = "u") -> Caller:
    return Caller(KEY, user, "192.0.2.1", 10.0, model)


async def test_requests_of_one_turn_are_lines_of_one_record() -> None:
    audit, kept = audit_of(Host(), [10.0125])
    for number in range(3):
        audit.note(caller("m"), 200, f"id{number}")
    assert kept.written == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [record] = kept.written
    events = [json.loads(line) for line in record.split("\n")]
    assert [event["request_id"] for event in events] == ["id0", "id1", "id2"]
    assert events[0]["latency_ms"] == 12.5
    assert (events[0]["model_name"], events[0]["node"], events[0]["address"]) == ("model", "node", "here:1")
    audit.note(caller("m"), 200, "later")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(kept.written) == 2


async def test_no_name_and_no_identity_makes_a_line_of_its_own() -> None:
    audit, kept = audit_of(Host(), [10.0])
    audit.note(caller("m", user='a"\n{}\u2028\x7f与'), 200, 'x"\r\n{"@timestamp": 1}')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [record] = kept.written
    assert len(record.splitlines()) == 1
    assert "\u2028" not in record and "\x7f" not in record


async def test_errors_are_the_hosts_to_note() -> None:
    host = Host()
    audit, kept = audit_of(host, [10.5])
    audit.note(caller("nobody"), 404, "a")
    audit.note(caller("m"), 429, "b")
    audit.note(caller(""), 400, "c")
    await asyncio.sleep(0)
    assert kept.written == []
    assert host.told == [
        ("nobody", "embedding", "model_not_found", 404, 0.5),
        ("m", "embedding", "error", 429, 0.5),
        ("error", {"status_code": 400, "category": "inference"}, "192.0.2.1"),
    ]
