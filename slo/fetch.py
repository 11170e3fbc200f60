"""Small GET requests beside the embeddings API: the server's own pages, Prometheus, a heartbeat."""

from __future__ import annotations

import requests

from slo.bounded import BoundedSession, failure_of
from slo.client import BAN_HINT, BANNED, ApiKey, detail_of, is_ban
from slo.errors import BadRequest, ServerFault, Unauthorized


class Fetcher:
    """Kept-alive connections to a few addresses. The key, if there is one, goes to every one of them."""

    def __init__(self, api_key: ApiKey | None, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session = BoundedSession()
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key.value}"

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def get(self, url: str) -> bytes:
        """The body of a 2xx answer. Raises a `RequestError` for anything else, never with the query's secrets."""
        shown = url.partition("?")[0]
        try:
            response = self._session.get(url, timeout=self._timeout_s, allow_redirects=False)
        except requests.RequestException as error:
            raise failure_of(error, url=shown, timeout_s=self._timeout_s) from error
        status = response.status_code
        if status in (401, 403):
            raise Unauthorized(f"{shown}: HTTP {status}", url=shown, status=status, hint="set SLO_API_KEY")
        if is_ban(status, detail_of(response)):
            raise Unauthorized(f"{shown}: HTTP 429 {BANNED}", url=shown, status=status, hint=BAN_HINT)
        if status >= 500:
            raise ServerFault(f"{shown}: HTTP {status}", url=shown, status=status)
        if not 200 <= status < 300:
            raise BadRequest(f"{shown}: HTTP {status}", url=shown, status=status)
        return response.content
