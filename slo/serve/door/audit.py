"""
Xinference's record of who asked for what, for requests that its own middleware does not see: `audit.log`, and the
counters by key and model under `/metrics`.

An answer without error is written here as Xinference would, several lines at a time: all requests that one turn of the
event loop answered. Its own way through `logging` costs 0.1 ms a line. An error is left to Xinference's functions.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from slo.logrecords import MOST, tame
from slo.serve.door.callers import Caller

PATH = "/v1/embeddings"


class Audit:
    """Notes each request of a `Caller` once its answer is known."""

    def __init__(
        self, host: Any, logger: Callable[[], logging.Logger], node: str, address: Callable[[], str],
        now_s: Callable[[], float], *, requests: Any, seconds: Any,
    ) -> None:  # fmt: skip
        """`host` is Xinference's API object; `logger`, `node` and `address` (of the service) are those of its audit,
        `requests` and `seconds` its counter and its histogram, None without metrics.
        """
        self._host = host
        self._logger = logger
        self._node = node
        self._address = address
        self._now_s = now_s
        self._requests = requests
        self._seconds = seconds
        self._lines: list[str] = []

    def note(self, caller: Caller, status: int, request_id: str) -> None:
        """The request is answered with this status."""
        latency_s = self._now_s() - caller.began_s
        if status >= 400 or not caller.model:
            self._host_notes(caller, status, request_id, latency_s)
            return
        key, model = caller.key, caller.model
        name = self._host._uid_to_model_name.get(model, "") or ""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(
            f'{{"@timestamp": "{datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6]}Z", '
            f'"event_type": "api_call", "category": "inference", "auth_type": "api_key", '
            f'"request_id": {_json(request_id)}, "method": "POST", "status_code": {status}, '
            f"{_who(caller.user, key.name or '', key.key_prefix, model, name)}, "
            f'"latency_ms": {round(latency_s * 1000, 1)}, {_where(caller.address, self._node, self._address())}}}'
        )
        about = {"model_id": model, "model_name": name, "model_type": "embedding"}
        if self._requests is not None:
            whose = {"user": caller.user, "api_key_name": key.name or "", **about, "status": "success"}
            self._requests.inc(whose)
        if self._seconds is not None:
            self._seconds.observe(about, latency_s)

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        safe = [line if line.isascii() and "\x7f" not in line and len(line) <= MOST else tame(line) for line in lines]
        logger = self._logger()
        # Not by way of the record factory, which would mark all lines but the first as a message that goes on.
        logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, "\n".join(safe), None, None))

    def _host_notes(self, caller: Caller, status: int, request_id: str, latency_s: float) -> None:
        identity = {
            "user": caller.user,
            "api_key_name": caller.key.name or "",
            "api_key_prefix": caller.key.key_prefix,
            "auth_type": "api_key",
        }
        state = SimpleNamespace(audit_identity=identity, model_request_id=request_id, audit_status_code=status)
        request = SimpleNamespace(
            state=state, url=SimpleNamespace(path=PATH), client=SimpleNamespace(host=caller.address), method="POST"
        )
        if not caller.model:
            word = "success" if status < 400 else "error"
            self._host._record_admin_audit(request, word, latency_s, status_code=status, category="inference")
            return
        word = "model_not_found" if status == 404 else "error"
        self._host._record_audit(request, caller.model, "embedding", word, latency_s)


_json = json.JSONEncoder(ensure_ascii=False).encode


@lru_cache(1024)
def _who(user: str, key: str, prefix: str, model: str, name: str) -> str:
    about = {"user": user, "api_key_name": key, "api_key_prefix": prefix, "model_id": model, "model_name": name,
             "model_type": "embedding", "endpoint": PATH, "status": "success"}  # fmt: skip
    return _json(about)[1:-1]


@lru_cache(1024)
def _where(client: str, node: str, address: str) -> str:
    return _json({"client_ip": client, "node": node, "address": address})[1:-1]
