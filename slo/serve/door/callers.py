"""
Who calls, on the short way through a server with authentication, and Xinference's record of it.

`Callers`: here nobody is refused. A request with an API key that Xinference would let in without any ado is let in, by
the same questions to the same objects; whatever else comes (no key, a wrong or expired one, a banned address, a model
that the key may not use, a token of a user) goes the long way, where Xinference itself refuses, counts and locks out.

`RememberedKeys`: Xinference's look-up of API keys, with a memory. The host asks SQLite twice per request, on the event
loop that serves everybody: two connections, 1 to 2 ms each. Here an answer holds for a second, and only as long as
nobody has committed anything to the database file since: SQLite tells (`PRAGMA data_version`) in 10 µs. So whoever
revokes a key is obeyed by the next request, whichever process, route or command did it. Expiry, bans, scopes and model
permissions are judged by the host on every request as before.

`Audit`: `audit.log` and the counters by key and model under `/metrics`, for requests that Xinference's own middleware
does not see. An answer without error is written as Xinference would, several lines at a time: all requests that one
turn of the event loop answered. Its own way through `logging` costs 0.1 ms a line. An error is left to Xinference's
functions.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slo.logrecords import MOST, escape

REMEMBER_S = 1.0
MAX_KEYS = 10_000


class RememberedKeys:
    """Stands before the host's `ApiKeyCache` and is used like it."""

    def __init__(self, inner: Any, now_s: Callable[[], float], version: Callable[[], object | None]) -> None:
        """`version` is another value once anything may have changed; None: not known, so nothing is remembered."""
        self._inner = inner
        self._now_s = now_s
        self._version = version
        self._answers: dict[str, tuple[float, object, tuple[Any, Any]]] = {}

    def get_with_user(self, key_hash: str) -> tuple[Any, Any]:
        """The key's entry and its user; (None, None) for an unknown key, which is asked for anew each time."""
        version = self._version()  # before the question: what changes after it shows next time
        until_s, as_of, known = self._answers.get(key_hash, (0.0, None, (None, None)))
        if version is not None and as_of == version and self._now_s() < until_s:
            return known
        answer: tuple[Any, Any] = self._inner.get_with_user(key_hash)
        if version is not None and None not in answer:
            if len(self._answers) >= MAX_KEYS:
                self._answers.clear()
            self._answers[key_hash] = (self._now_s() + REMEMBER_S, version, answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        # Everything else of the host's cache may change keys.
        self._answers.clear()
        return getattr(self._inner, name)


class DatabaseVersion:
    """What changes with every commit of anybody else to a SQLite file, also when the file itself is replaced."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def __call__(self) -> object | None:
        """The version; None when the file cannot be read."""
        try:
            facts = self._path.stat()
            file = (facts.st_dev, facts.st_ino)
            if self._connection is None or file != self._file:
                self._close()
                self._connection, self._file = self._opened(), file
            row: tuple[int] = self._connection.execute("PRAGMA data_version").fetchone()
            return (*file, *row)
        except (OSError, sqlite3.Error):
            self._close()
            return None

    def _opened(self) -> sqlite3.Connection:
        # Nothing is written by it: it looks for the commits of others. The host may ask from any thread.
        return sqlite3.connect(self._path, timeout=0.05, isolation_level=None, check_same_thread=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


# As Xinference makes them. What looks different in any way, a second space, say, is for Xinference to read.
BEARER = re.compile(rb"Bearer ((?:xf|sk)-[0-9A-Za-z]{16,128})")


class LongWay(Exception):
    """Xinference itself is to answer this request."""


@dataclass(slots=True)
class Caller:
    """Somebody with a valid key, for one request."""

    key: Any  # Xinference's `ApiKeyCacheEntry`
    user: str
    address: str
    began_s: float
    model: str = ""  # once it is known

    def permit(self, model: str) -> None:
        """Raises `LongWay` if the key may not use this model."""
        if not self.key.has_model_access(model, "embedding"):
            raise LongWay
        self.model = model


class Callers:
    """Xinference's `AdvancedAuthService`, asked whether it has anything against a request. Changes nothing but what
    the service itself changes for a good key: its count of failures ends.
    """

    def __init__(self, service: Any, now_s: Callable[[], float]) -> None:
        self._service = service
        self._now_s = now_s

    def of(self, scope: MutableMapping[str, Any]) -> Caller | None:
        """Who sent this request; None: it takes the long way."""
        began_s = self._now_s()
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        found = BEARER.fullmatch(given[0]) if len(given) == 1 else None
        client = scope.get("client")
        limiter = self._service._rate_limiter
        if found is None or not client or limiter is None or limiter.is_ip_banned(client[0]):
            return None
        key, user = self._service._cache.get_with_user(hashlib.sha256(found[1]).hexdigest())
        if key is None or not key.is_valid() or not user or user.get("must_change_password"):
            return None
        if limiter.is_key_banned(client[0], key.key_id):
            return None
        limiter.reset_key(client[0], key.key_id)
        return Caller(key, user["username"], client[0], began_s)


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
        safe = [line if line.isascii() and "\x7f" not in line and len(line) <= MOST else escape(line) for line in lines]
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
