"""
One connection to one embeddings endpoint, ours or anybody's who speaks OpenAI's `POST …/v1/embeddings`.

Outside errors become ours in `slo/http.py`. A request never retries here: who measures wants to see the failure, and
who does not can ask again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import orjson
import requests

from slo.errors import BadAnswer, ConfigError
from slo.http import ApiKey, HttpClient, refusal

SOURCE_HEADER = "X-SLO-Source"  # our own traffic says what it is, so that the server does not count it as users'
OwnTraffic = Literal["probe", "bench"]

# What an answer may hold: 8192 values of at most 25 characters for each text, and something around them.
MAX_BYTES_PER_TEXT = 256 * 1024
MAX_BYTES_AROUND = 2**20

SECRET_QUERIES = frozenset({"key", "api_key", "api-key", "apikey", "token", "access_token", "code", "sig"})


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


def longest_answer(texts: int) -> int:
    """Most bytes that an answer with the vectors of so many texts can have."""
    return MAX_BYTES_AROUND + texts * MAX_BYTES_PER_TEXT


class EmbeddingsClient(HttpClient):
    """A kept-alive connection. Not for use by several threads at once; close it, or use `with`."""

    def __init__(
        self, endpoint: str, model: str, *, api_key: ApiKey | None = None, timeout_s: float = 10.0,
        source: OwnTraffic | None = None, extras: Extras = NO_EXTRAS,
    ) -> None:  # fmt: skip
        """`source` marks the requests as this toolkit's own traffic; `extras` go out with each."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if source:
            headers[SOURCE_HEADER] = source
        super().__init__(api_key=api_key, timeout_s=timeout_s, headers={**headers, **dict(extras.headers)})
        self.url = embeddings_url(endpoint)
        self.model = model
        self._more = extras.body

    def embed(self, texts: str | Sequence[str], *, dimension: int | None = None, fresh: bool = False) -> Answer:
        """Vectors of `texts`, one each; `fresh` ones are computed, whatever a cache knows.

        Raises a `RequestError` for anything but a whole, finite answer.
        """
        wanted = {"model": self.model, "input": texts if isinstance(texts, str) else list(texts)}
        body = orjson.dumps({**self._more, **wanted})
        expected = 1 if isinstance(texts, str) else len(texts)
        self.session.max_bytes = longest_answer(expected)
        response = self.send("POST", self.url, body=body, headers={"Cache-Control": "no-cache"} if fresh else None)
        if not 200 <= response.status_code < 300:
            not_found = f"is {self.model!r} the name of a running model?"
            raise refusal(response, url=self.url, tried=self.api_key, not_found=not_found)
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


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine similarity of two vectors of one length; 0 if either is all zeros."""
    if len(a) != len(b):
        raise ValueError(f"vectors of {len(a)} and {len(b)} dimensions")
    norm = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0
