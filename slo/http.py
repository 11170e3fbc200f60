"""
HTTP with `requests`, for all of our callers: one session with a key, and one table from outside errors to ours.

`failure_of` says what went wrong on the way, `refusal` what a server's answer means that is none of 2xx. Nothing is
asked twice here: who measures wants to see the failure, and who does not can ask again.

What a server says when it gives no embedding (`complaint_of`): an error code, and its words without the texts that were
sent. Records and reports keep one example of each kind of failure, and a record holds no text. A server's message may
quote it, whole, in part or escaped: whatever message and text have in common is left out.
"""

from __future__ import annotations

import http.client
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from requests.utils import get_environ_proxies, select_proxy

from slo.addresses import is_this_machine
from slo.bounded import BoundedSession, TooMuch
from slo.errors import (
    BadAnswer,
    BadRequest,
    ConfigError,
    Refused,
    RequestError,
    RequestTimeout,
    ServerFault,
    Unauthorized,
    Unreachable,
)

if TYPE_CHECKING:
    from typing_extensions import Self


FROM_PROXIES = frozenset({403, 407, 502, 503, 504})  # what a proxy may answer in the server's place
BANNED = "(this address is locked out, since too many wrong keys came from it; right ones are refused, too)"
BAN_HINT = (
    "find who sends wrong keys in the server's audit.log; the ban ends after an hour, or with a restart of the server; "
    "behind a proxy set serve.trusted_proxies, so that it does not meet everybody"
)
LONGEST = 300  # characters of a message
LEAST = 4  # characters in a row that a message and a text have in common by more than chance
LEAST_ASCII = 10  # the same for letters, of which ordinary words are made
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_IDS = re.compile(r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]")


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


class HttpClient:
    """Kept-alive connections with our headers. Not for use by several threads at once; close it, or use `with`."""

    def __init__(
        self, *, api_key: ApiKey | None = None, timeout_s: float = 10.0, headers: Mapping[str, str] | None = None,
        hint: str | None = "is the server up? `make status`",
    ) -> None:  # fmt: skip
        """`hint` is for when nobody answers."""
        self.api_key = api_key
        self.timeout_s = timeout_s
        self.session = BoundedSession()
        self._hint = hint
        if api_key:
            self.session.headers["Authorization"] = f"Bearer {api_key.value}"
        self.session.headers.update(headers or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def send(
        self, method: str, url: str, *, body: bytes | None = None, json: object = None, timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:  # fmt: skip
        """Any answer, whole. Raises a `RequestError` where there is none; what it names is without the query."""
        timeout_s = timeout_s or self.timeout_s
        try:
            return self.session.request(
                method, url, data=body, json=json, headers=headers, timeout=timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise failure_of(error, url=url.partition("?")[0], timeout_s=timeout_s, hint=self._hint) from error

    def get(self, url: str) -> bytes:
        """The body of a 2xx answer. Raises a `RequestError` for anything else."""
        response = self.send("GET", url)
        if not 200 <= response.status_code < 300:
            raise refusal(response, url=url.partition("?")[0], tried=self.api_key)
        return response.content


def refusal(
    response: requests.Response, *, url: str, tried: object = None, not_found: str | None = None,
    key_hint: str = "set SLO_API_KEY, or --api-key-file", words: str | None = None,
) -> RequestError:  # fmt: skip
    """What an answer that is none of 2xx means. `tried` is what we said who we are, `not_found` the advice on 404.

    `words` are the server's own where the caller knows better than `detail_of` how to read them.
    """
    failure = _refusal(response, url, tried, not_found, key_hint, detail_of(response) if words is None else words)
    failure.code = complaint_of(response.content)[0]
    return failure


def _refusal(
    response: requests.Response, url: str, tried: object, not_found: str | None, key_hint: str, words: str
) -> RequestError:
    status = response.status_code
    message = f"{url}: HTTP {status}: {words}"
    if status in FROM_PROXIES and (proxy := proxy_of(url)):
        message += f" (asked through the proxy {proxy}; name the host in no_proxy if it needs none)"
    if status in (401, 403):
        who = str(tried) if tried else "no API key was given"
        return Unauthorized(f"{message} ({who})", url=url, status=status, hint=key_hint)
    if is_ban(status, words):
        return Unauthorized(f"{message} {BANNED}", url=url, status=status, hint=BAN_HINT)
    if status == 429:
        return Refused(message, url=url, status=status, retry_after_s=_seconds(response))
    if status >= 500:
        return ServerFault(message, url=url, status=status, retry_after_s=_seconds(response))
    return BadRequest(message, url=url, status=status, hint=not_found if status == 404 else None)


def is_ban(status: int, text: str) -> bool:
    """Has Xinference locked the caller out? That is no overload, although its status is the same."""
    return status == 429 and "Too many failed attempts" in text


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


def proxy_of(url: str) -> str | None:
    """`host:port` of the proxy from the environment through which `url` is asked, without its password; None: none."""
    if is_this_machine(urlsplit(url).hostname or ""):
        return None
    proxy = select_proxy(url, get_environ_proxies(url))
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc.rpartition("@")[2] if proxy else None


def failure_of(
    error: requests.RequestException, *, url: str, timeout_s: float, hint: str | None = None
) -> RequestError:
    """What went wrong between here and `url`, as one of ours; `hint` is for when nobody answers."""
    # requests reports a body that stalls as a `ConnectionError` around urllib3's timeout.
    stalled = any(isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args)
    if isinstance(error, requests.Timeout) or stalled:
        silent = isinstance(error, requests.Timeout)
        said = "no answer within" if silent else "the answer broke off, incomplete after"
        return RequestTimeout(f"{url}: {said} {timeout_s:g} s", url=url)
    if isinstance(error, requests.exceptions.SSLError):
        return Unreachable(f"{url}: the TLS certificate is not trusted: {error}", url=url)
    if _no_http(error):
        return BadAnswer(f"{url}: what answers there does not speak HTTP as it should", url=url)
    if isinstance(error, requests.ConnectionError):
        proxy = proxy_of(url)
        said = f"through the proxy {proxy}" if proxy else "there"
        hint = "name the host in no_proxy if it needs no proxy" if proxy else hint
        return Unreachable(f"{url}: nobody answers {said}", url=url, hint=hint)
    if isinstance(error, TooMuch):
        return BadAnswer(f"{url}: the answer is too long: {error}", url=url)
    return BadAnswer(f"{url}: {type(error).__name__} while reading the answer", url=url)


def _no_http(error: requests.RequestException) -> bool:
    """Did bytes come that are no head of an answer, or no end of one?"""
    inner = [part for argument in error.args for part in getattr(argument, "args", ()) if isinstance(part, Exception)]
    other = (OSError, http.client.IncompleteRead)  # closed or cut short by what does speak it
    return any(isinstance(part, http.client.HTTPException) and not isinstance(part, other) for part in inner)


def complaint_of(content: bytes) -> tuple[str, str]:
    """Error code and message of the body of a failure, in OpenAI's shape, FastAPI's or any other; "" where none."""
    try:
        data: Any = orjson.loads(content)
    except ValueError:
        return "", _one_line(content.decode("utf-8", "replace"))
    if not isinstance(data, dict):
        return "", _one_line(str(data))
    inner = data.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else data
    detail = error.get("message", error.get("detail", error.get("error", "")))
    code = error.get("code") or error.get("type") or ""
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):  # FastAPI's validation
        code, detail = code or detail[0].get("type", ""), f"{detail[0].get('loc', '')} {detail[0].get('msg', '')}"
    return str(code)[:60], _one_line(str(detail))


def without_texts(message: str, texts: Iterable[Any], secrets: Sequence[str] = ()) -> str:
    """`message` with … for what it has in common with a text, for lists of token ids, and for `secrets`."""
    shown = _IDS.sub("[…]", _ESCAPED.sub(lambda found: chr(int(found[1], 16)), message))
    for secret in secrets:
        shown = shown.replace(secret, "…") if secret else shown
    for text in texts:
        if isinstance(text, str):
            shown = _without(shown, text)
    return re.sub(r"…[…\s]*…", "…", shown)[:LONGEST]


def texts_of(body: bytes) -> list[Any]:
    """The texts of a request's body, or their token ids."""
    given = orjson.loads(body).get("input", []) if body else []
    return given if isinstance(given, list) and not all(isinstance(part, int) for part in given) else [given]


def _without(message: str, text: str) -> str:
    if text.strip() and len(text) < LEAST:
        return re.sub(rf"\b{re.escape(text)}\b", "…", message) if text.isascii() else message.replace(text, "…")
    found, place = [], 0
    while place < len(message):
        length = 0
        while place + length < len(message) and message[place : place + length + 1] in text:
            length += 1
        part = message[place : place + length]
        if length >= (LEAST_ASCII if part.isascii() and length < len(text) else LEAST):
            found.append("…")
            place += length
        else:
            found.append(message[place])
            place += 1
    return "".join(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
