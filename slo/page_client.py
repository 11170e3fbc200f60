"""
What a server says about itself: our extension's pages, and the facts that explain a latency from any server.

`PageClient` reads `/slo/api/board`, `/slo/api/history`, and `/slo/api/arrivals` as text. `server_facts` gives engine,
precision and whether the weights are stand-ins.
"""

from __future__ import annotations

from typing import Any

import orjson

from slo.client import NO_EXTRAS, Extras, server_address
from slo.errors import BadAnswer, BadRequest, RequestError
from slo.http import ApiKey, HttpClient

TIMEOUT_S = 2.0
_MODEL_KEYS = (
    "model_name", "model_engine", "model_revision", "quantization", "dimensions", "max_tokens", "replica", "owned_by",
)  # fmt: skip


class PageClient(HttpClient):
    """A kept-alive connection to the server at `address`. Close it, or use `with`."""

    def __init__(self, address: str, *, api_key: ApiKey | None = None, timeout_s: float = 10.0) -> None:
        super().__init__(api_key=api_key, timeout_s=timeout_s)
        self.address = address

    def board(self) -> dict[str, Any]:
        """The last five minutes, and the state of everything now."""
        return self._get("/slo/api/board")

    def history(self, seconds: int = 3600) -> dict[str, Any]:
        """How it got here."""
        return self._get(f"/slo/api/history?seconds={seconds}")

    def arrivals(self, seconds: float) -> str:
        """When requests came in the last `seconds` and how long their texts were, as a trace for a replay."""
        return self._read(f"/slo/api/arrivals?seconds={seconds:g}").decode("utf-8", errors="replace")

    def _get(self, path: str) -> dict[str, Any]:
        """The JSON object there. Raises what `_read` raises, and `BadAnswer` for anything else."""
        url = self.address + path
        try:
            data = orjson.loads(self._read(path))
        except ValueError as error:
            raise BadAnswer(f"{url}: the body is not JSON", url=url, status=200) from error
        if not isinstance(data, dict):
            raise BadAnswer(f"{url}: the body is not an object", url=url, status=200)
        return data

    def _read(self, path: str) -> bytes:
        """Raises a `RequestError`; a server without the extension is a `BadRequest` that says so."""
        try:
            return self.get(self.address + path)
        except BadRequest as error:
            raise BadRequest(
                f"{self.address} has no xinference-slo extension (HTTP {error.status} at {path})",
                url=self.address + path, status=error.status,
                hint="start the server with `make launch`; `slo check` and `slo baseline` work without",
            ) from error  # fmt: skip


def server_facts(
    endpoint: str, model: str, *, api_key: ApiKey | None = None, extras: Extras = NO_EXTRAS
) -> dict[str, Any]:
    """`{"source": …, "stand_in": …, …}` from our extension, else from `/v1/models`; `{}` from a server without either.

    Facts only decorate a record, so a server that does not give them, or not in two seconds, is no error.
    """
    address = server_address(endpoint)
    with HttpClient(api_key=api_key, timeout_s=TIMEOUT_S, headers=dict(extras.headers)) as client:
        status = _json_at(client, f"{address}/slo/api/status")
        if isinstance(status, dict) and status:
            return {"source": "/slo/api/status", **status, "stand_in": _is_stand_in(status)}
        listed = _json_at(client, f"{address}/v1/models")
    rows = listed.get("data") if isinstance(listed, dict) else None
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and model in (row.get("id"), row.get("model_name")):
            known = {key: row[key] for key in _MODEL_KEYS if row.get(key) is not None}
            return {"source": "/v1/models", **known, "stand_in": _is_stand_in(row)}
    return {}


def _json_at(client: HttpClient, url: str) -> Any:
    """The JSON at `url`; None where there is none."""
    try:
        return orjson.loads(client.get(url))
    except (RequestError, ValueError):
        return None


def _is_stand_in(facts: dict[str, Any]) -> bool:
    """By the flag of our extension, else by the revision that our registration gives to a stand-in."""
    if "stand_in" in facts:
        return bool(facts["stand_in"])
    return str(facts.get("model_revision")).startswith("stand-in")
