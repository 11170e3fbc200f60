"""What the extension says about itself: `/slo/api/board`, `/slo/api/history`, and `/slo/api/arrivals` as text."""

from __future__ import annotations

from typing import Any

import orjson
import requests

from slo.bounded import BoundedSession, failure_of
from slo.client import BAN_HINT, BANNED, ApiKey, detail_of, is_ban
from slo.errors import BadAnswer, BadRequest, ServerFault, Unauthorized


class PageClient:
    """A kept-alive connection to the server at `address`. Close it, or use `with`."""

    def __init__(self, address: str, *, api_key: ApiKey | None = None, timeout_s: float = 10.0) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.api_key = api_key
        self._session = BoundedSession()
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key.value}"

    def __enter__(self) -> PageClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

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
        url = self.address + path
        try:
            response = self._session.get(url, timeout=self.timeout_s, allow_redirects=False)
        except requests.RequestException as error:
            raise failure_of(
                error, url=url, timeout_s=self.timeout_s, hint="is the server up? `make status`"
            ) from error
        status = response.status_code
        if status in (401, 403):
            tried = str(self.api_key) if self.api_key else "no API key was given"
            raise Unauthorized(f"{url}: HTTP {status} ({tried})", url=url, status=status, hint="set SLO_API_KEY")
        if is_ban(status, detail_of(response)):
            raise Unauthorized(f"{url}: HTTP 429 {BANNED}", url=url, status=status, hint=BAN_HINT)
        if status >= 500:
            raise ServerFault(f"{url}: HTTP {status}", url=url, status=status)
        if status != 200:
            raise BadRequest(
                f"{self.address} has no xinference-slo extension (HTTP {status} at {path})", url=url, status=status,
                hint="start the server with `make launch`; `slo check` and `slo baseline` work without",
            )  # fmt: skip
        return response.content
