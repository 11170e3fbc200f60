"""
One connection to one embeddings endpoint, ours or anybody's who speaks OpenAI's `POST …/v1/embeddings`.

`_failure` and `bounded.failure_of` are the places where outside errors become ours. A request never retries here: who
measures wants to see the failure, and who does not can ask again.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import orjson
import requests

from slo.bounded import BoundedSession, failure_of, proxy_of
from slo.complaints import complaint_of
from slo.errors import BadAnswer, BadRequest, ConfigError, Refused, RequestError, ServerFault, Unauthorized

SOURCE_HEADER = "X-SLO-Source"  # our own traffic says what it is, so that the server does not count it as users'
OwnTraffic = Literal["probe", "bench"]

# What an answer may hold: 8192 values of at most 25 characters for each text, and something around them.
MAX_BYTES_PER_TEXT = 256 * 1024
MAX_BYTES_AROUND = 2**20
FROM_PROXIES = frozenset({403, 407, 502, 503, 504})  # what a proxy may answer in the server's place

SECRET_QUERIES = frozenset({"key", "api_key", "api-key", "apikey", "token", "access_token", "code", "sig"})

BANNED = "(this address is locked out, since too many wrong keys came from it; right ones are refused, too)"
BAN_HINT = (
    "find who sends wrong keys in the server's audit.log; the ban ends after an hour, or with a restart of the server; "
    "behind a proxy set serve.trusted_proxies, so that it does not meet everybody"
)


@dataclass(frozen=True)
class ApiKey:
    """A secret with the place it came from; prints as the place, never as the secret."""

    value: str = field(repr=False)
    origin: str

    def __str__(self) -> str:
        return f"API key from {self.origin}"


def find_api_key(file: Path | None = None, *, environ: dict[str, str] | None = None) -> ApiKey | None:
    """The key from `SLO_API_KEY`, else from `file`; None where there is none.

    A file that others can read is refused: it would be a secret no longer.
    """
    value = (dict(os.environ) if environ is None else environ).get("SLO_API_KEY", "").strip()
    if value:
        return ApiKey(value, "environment variable SLO_API_KEY")
    if file is None or not file.exists():
        return None
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError("readable by others", where=str(file), hint=f"chmod 600 {file}")
    value = file.read_text(encoding="utf-8").strip()
    return ApiKey(value, str(file)) if value else None


@dataclass(frozen=True)
class Extras:
    """What goes out with every request beside what OpenAI documents: headers and fields of the body.

    Headers may be secret: neither record nor message shows a value.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: dict[str, Any] = field(default_factory=dict)


NO_EXTRAS = Extras()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one request brought: vectors in the order of the inputs, tokens counted by the server."""

    vectors: list[list[float]]
    tokens: int | None
    headers: dict[str, str]

    @property
    def cached(self) -> bool:
        """Did a cache answer (RFC 9211 `Cache-Status: …; hit`)?"""
        return "; hit" in self.headers.get("cache-status", "")


def embeddings_url(endpoint: str) -> str:
    """`http://h:9997` → `http://h:9997/v1/embeddings`; a path that already names the API is kept, and so is a query.

    Azure's `https://h/openai/deployments/x?api-version=…` becomes `…/deployments/x/embeddings?api-version=…`.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{endpoint!r} is not an HTTP address", hint="write it like http://127.0.0.1:9997")
    if "@" in parts.netloc:  # it would be printed in every message and record
        raise ConfigError("the address contains a password", hint="leave it out, and set SLO_API_KEY")
    if parts.fragment:
        raise ConfigError(f"{endpoint!r} has a fragment", hint="leave out what begins with #")
    if secret := SECRET_QUERIES & {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}:
        raise ConfigError(f"the address contains a secret ({', '.join(secret)})", hint="send it with --header instead")
    path = parts.path.rstrip("/")
    if not path.endswith("/embeddings"):
        names_api = path.endswith("/v1") or path.rpartition("/")[0].endswith("/deployments")
        path += "/embeddings" if names_api else "/v1/embeddings"
    return parts._replace(path=path).geturl()


def server_address(endpoint: str) -> str:
    """The address of the server behind `endpoint`, up to where the API begins: `http://h:9997`."""
    url = urlsplit(embeddings_url(endpoint))._replace(query="").geturl()
    return url.removesuffix("/embeddings").removesuffix("/v1")


def is_ban(status: int, text: str) -> bool:
    """Has Xinference locked the caller out? That is no overload, although its status is the same."""
    return status == 429 and "Too many failed attempts" in text


def longest_answer(texts: int) -> int:
    """Most bytes that an answer with the vectors of so many texts can have."""
    return MAX_BYTES_AROUND + texts * MAX_BYTES_PER_TEXT


class EmbeddingsClient:
    """A kept-alive connection. Not for use by several threads at once; close it, or use `with`."""

    def __init__(
        self, endpoint: str, model: str, *, api_key: ApiKey | None = None, timeout_s: float = 10.0,
        source: OwnTraffic | None = None, extras: Extras = NO_EXTRAS,
    ) -> None:  # fmt: skip
        """`source` marks the requests as this toolkit's own traffic; `extras` go out with each."""
        self.url = embeddings_url(endpoint)
        self.model = model
        self.timeout_s = timeout_s
        self.api_key = api_key
        self._session = BoundedSession()
        self._session.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
        if source:
            self._session.headers[SOURCE_HEADER] = source
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key.value}"
        self._session.headers.update(dict(extras.headers))
        self._more = extras.body

    def __enter__(self) -> EmbeddingsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def embed(self, texts: str | Sequence[str], *, dimension: int | None = None, fresh: bool = False) -> Answer:
        """Vectors of `texts`, one each; `fresh` ones are computed, whatever a cache knows.

        Raises a `RequestError` for anything but a whole, finite answer.
        """
        wanted = {"model": self.model, "input": texts if isinstance(texts, str) else list(texts)}
        body = orjson.dumps({**self._more, **wanted})
        expected = 1 if isinstance(texts, str) else len(texts)
        self._session.max_bytes = longest_answer(expected)
        try:
            response = self._session.post(
                self.url, data=body, timeout=self.timeout_s, allow_redirects=False,
                headers={"Cache-Control": "no-cache"} if fresh else None,
            )  # fmt: skip
        except requests.RequestException as error:
            raise failure_of(
                error, url=self.url, timeout_s=self.timeout_s, hint="is the server up? `make status`"
            ) from error
        if not 200 <= response.status_code < 300:
            raise self._failure(response)
        vectors, tokens = self._parsed(response, expected, dimension)
        return Answer(vectors=vectors, tokens=tokens, headers={k.lower(): v for k, v in response.headers.items()})

    def _parsed(
        self, response: requests.Response, expected: int, dimension: int | None
    ) -> tuple[list[list[float]], int | None]:
        try:
            data: Any = orjson.loads(response.content)
            rows = sorted(data["data"], key=lambda row: row["index"])
            vectors = [row["embedding"] for row in rows]
            tokens = (data.get("usage") or {}).get("total_tokens")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._bad(response, "the body is not an embeddings answer") from error
        if len(vectors) != expected:
            raise self._bad(response, f"{len(vectors)} vectors for {expected} texts")
        for vector in vectors:
            if not isinstance(vector, list) or not vector:
                raise self._bad(response, "a vector is empty or not a list of numbers")
            if dimension is not None and len(vector) != dimension:
                raise self._bad(response, f"a vector has {len(vector)} dimensions instead of {dimension}")
            try:
                # A NaN or an infinity anywhere makes the sum one: a single pass in C.
                finite = math.isfinite(sum(vector))
            except TypeError as error:
                raise self._bad(response, "a vector holds something that is not a number") from error
            if not finite:
                raise self._bad(response, "a vector holds NaN or infinity")
        return vectors, tokens

    def _bad(self, response: requests.Response, message: str) -> BadAnswer:
        return BadAnswer(f"{self.url}: {message}", url=self.url, status=response.status_code)

    def _failure(self, response: requests.Response) -> RequestError:
        failure = self._said(response)
        failure.code = complaint_of(response.content)[0]
        return failure

    def _said(self, response: requests.Response) -> RequestError:
        status, text = response.status_code, detail_of(response)
        message = f"{self.url}: HTTP {status}: {text}"
        if status in FROM_PROXIES and (proxy := proxy_of(self.url)):
            message += f" (asked through the proxy {proxy}; name the host in no_proxy if it needs none)"
        if status in (401, 403):
            tried = str(self.api_key) if self.api_key else "no API key was given"
            return Unauthorized(
                f"{message} ({tried})", url=self.url, status=status, hint="set SLO_API_KEY, or --api-key-file"
            )
        if is_ban(status, text):
            return Unauthorized(f"{message} {BANNED}", url=self.url, status=status, hint=BAN_HINT)
        if status == 429:
            return Refused(message, url=self.url, status=status, retry_after_s=_seconds(response))
        if status >= 500:
            return ServerFault(message, url=self.url, status=status, retry_after_s=_seconds(response))
        if status == 404:
            return BadRequest(
                message, url=self.url, status=status, hint=f"is {self.model!r} the name of a running model?"
            )
        return BadRequest(message, url=self.url, status=status)


def detail_of(response: requests.Response) -> str:
    """The server's own words, from either error shape, at most 300 characters."""
    try:
        data = orjson.loads(response.content)
        text = data["error"]["message"] if isinstance(data.get("error"), dict) else data["detail"]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = response.text
    return " ".join(str(text).split())[:300] or "(no message)"


def _seconds(response: requests.Response) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine similarity of two vectors of one length; 0 if either is all zeros."""
    if len(a) != len(b):
        raise ValueError(f"vectors of {len(a)} and {len(b)} dimensions")
    norm = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0
