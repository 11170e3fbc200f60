"""What a server says of itself, as far as it explains a latency: engine, precision, stand-in weights."""

from __future__ import annotations

from typing import Any

import orjson
import requests

from slo.bounded import BoundedSession
from slo.client import NO_EXTRAS, ApiKey, Extras, server_address

TIMEOUT_S = 2.0
_MODEL_KEYS = (
    "model_name", "model_engine", "model_revision", "quantization", "dimensions", "max_tokens", "replica", "owned_by",
)  # fmt: skip


def server_facts(
    endpoint: str, model: str, *, api_key: ApiKey | None = None, extras: Extras = NO_EXTRAS
) -> dict[str, Any]:
    """`{"source": …, "stand_in": …, …}` from our extension, else from `/v1/models`; `{}` from a server without either.

    Facts only decorate a record, so a server that does not give them, or not in two seconds, is no error.
    """
    address = server_address(endpoint)
    with BoundedSession() as session:
        if api_key:
            session.headers["Authorization"] = f"Bearer {api_key.value}"
        session.headers.update(dict(extras.headers))
        status = _get(session, f"{address}/slo/api/status")
        if isinstance(status, dict) and status:
            return {"source": "/slo/api/status", **status, "stand_in": _is_stand_in(status)}
        listed = _get(session, f"{address}/v1/models")
    rows = listed.get("data") if isinstance(listed, dict) else None
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and model in (row.get("id"), row.get("model_name")):
            known = {key: row[key] for key in _MODEL_KEYS if row.get(key) is not None}
            return {"source": "/v1/models", **known, "stand_in": _is_stand_in(row)}
    return {}


def _get(session: requests.Session, url: str) -> Any:
    """The JSON at `url`; None where there is none."""
    try:
        response = session.get(url, timeout=TIMEOUT_S, allow_redirects=False)
        return orjson.loads(response.content) if response.status_code == 200 else None
    except (requests.RequestException, ValueError):
        return None


def _is_stand_in(facts: dict[str, Any]) -> bool:
    """By the flag of our extension, else by the revision that our registration gives to a stand-in."""
    if "stand_in" in facts:
        return bool(facts["stand_in"])
    return str(facts.get("model_revision")).startswith("stand-in")
