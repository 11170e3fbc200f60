"""Our routes in the server's OpenAPI document: what each takes and may answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from slo.serve.door.admission import POLICIES
from slo.serve.telemetry.arrivals import LONGEST_S as ARRIVALS_S
from slo.serve.telemetry.window import SECONDS as WINDOW_S
from slo.serve.web.board import LONGEST_S as HISTORY_S
from slo.serve.web.control import MAX_DELAY_MS, MAX_DELAY_S, NAME

_PROBLEM = {"application/json": {"schema": {
    "type": "object", "required": ["error", "detail"],
    "properties": {"error": {"type": "object"}, "detail": {"type": "string"}},
}}}  # fmt: skip
_JSON = {"application/json": {"schema": {"type": "object"}}}
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}
_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _query(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _order(action: str, **fields: dict[str, Any]) -> dict[str, Any]:
    properties = {"action": {"const": action}, **fields}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _route(summary: str, content: Any = _JSON, *parameters: Any, also: dict[int, str] | None = None) -> dict[str, Any]:
    refusals = {400: "a parameter is wrong"} if parameters else {}
    problems = {code: {"description": text, "content": _PROBLEM} for code, text in {**refusals, **(also or {})}.items()}
    return {
        "summary": summary,
        "tags": ["slo"],
        "response_class": Response,
        "responses": {200: {"description": "success", "content": content}, **problems},
        "openapi_extra": {"parameters": list(parameters)} if parameters else {},
    }


def described(path: str, edges_s: Sequence[float] = ()) -> dict[str, Any]:
    """Arguments for `add_api_route` that describe the route at `path`; those of an unknown one are empty.

    `edges_s` are the thresholds that `/slo/api/window` can count by.
    """
    if path == "/slo/api/window":
        edges = _query("threshold_ms", type="number", enum=[round(edge * 1000, 6) for edge in edges_s])
        seconds = _query("seconds", type="integer", minimum=1, maximum=WINDOW_S)
        return _route("Counts and percentiles of the last seconds", _JSON, seconds, edges)
    return _ROUTES.get(path, {})


_ORDER = {"oneOf": [
    _order("admission", policy={"enum": list(POLICIES)}),
    _order("clear_cache"),
    _order(
        "delay", delay_ms={"type": "number", "minimum": 0, "maximum": MAX_DELAY_MS},
        for_s={"type": "number", "minimum": 0, "maximum": MAX_DELAY_S},
    ),
    _order("expect", model={"type": "string", "pattern": f"^{NAME}$"}, expected={"type": "boolean"}),
]}  # fmt: skip
_ROUTES: dict[str, dict[str, Any]] = {
    "/slo/livez": _route("The event loop turns"),
    "/slo/readyz": {
        **_route("A real embedding came back"),
        "responses": {code: {"description": said, "content": _JSON} for code, said in ((200, "ready"), (503, "not"))},
    },
    "/slo/metrics": _route("Metrics for Prometheus", _TEXT),
    "/slo/api/status": _route("Settings, models, replicas, processes"),
    "/slo/api/arrivals": _route(
        "When requests came, as a trace", _LINES,
        _query("seconds", type="number", exclusiveMinimum=0, maximum=ARRIVALS_S),
    ),
    "/slo/api/board": _route("What the live page shows"),
    "/slo/api/history": _route(
        "How it got here", _JSON, _query("seconds", type="integer", minimum=60, maximum=HISTORY_S)
    ),
    "/slo/api/control": {
        **_route(
            "Orders of the watch's remedies and of drills",
            also={400: "an order that cannot be", 403: "not for this caller", 413: "too long", 415: "packed"},
        ),
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": _ORDER}}}},
    },
}  # fmt: skip
