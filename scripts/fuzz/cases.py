"""Requests as bytes: nearly right ones, wrong ones, and what is no HTTP at all. Drawn by hypothesis, from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from scripts.faults.rig import MODEL

GETS = (
    "/slo/livez", "/slo/readyz", "/slo/metrics", "/slo/api/window", "/slo/api/status", "/slo/api/arrivals",
    "/slo/api/board", "/slo/api/history", "/slo/", "/slo/runbook", "/v1/models", "/status",
)  # fmt: skip
POSTS = ("/v1/embeddings", "/v1/embeddings", "/v1/embeddings", "/slo/api/control")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "G\u00e9T")
FIELDS = (
    "model", "input", "encoding_format", "dimensions", "user", "truncate_prompt_tokens", "normalize_embeddings",
    "prompt_name", "instruction", "return_sparse", "action", "expected", "replica", "policy", "extra_body",
)  # fmt: skip
QUERIES = ("seconds", "lang", "model", "since", "limit", "bucket", "to", "from", "points")


@dataclass(frozen=True)
class Case:
    """One request; `head_only` has no body in its answer, `broken` is no proper HTTP and may be cut off."""

    route: str
    data: bytes
    head_only: bool = False
    broken: bool = False


TEXT = st.text(max_size=60) | st.sampled_from(
    ["", "\x00", "\ud800", "a" * 5000, "长" * 3000, "\u202e\u200b", "'\"\\", "🙂" * 500]
)
LEAF = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT
    | st.sampled_from([1e308, -0.0, "1e999", 10**400, float("nan")])
)  # fmt: skip
TREE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
TEXTS = st.lists(TEXT, max_size=40) | TEXT | st.lists(st.integers(-5, 30000), max_size=20) | TREE


def _dumped(value: Any) -> bytes:
    """JSON, lone surrogates and infinities as they come."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b"{}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Mostly an embeddings request with something odd about it."""
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.binary(max_size=400))
    if kind == 1:
        deep = draw(st.integers(10, 5000))
        return b"[" * deep + b"]" * draw(st.integers(0, deep))
    if kind == 2:
        return _dumped(draw(TREE))
    asked: dict[str, Any] = {"model": MODEL, "input": draw(TEXTS)}
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        asked[field] = draw(TREE)
    if kind == 3:
        asked.pop(draw(st.sampled_from(["model", "input"])), None)
    body = _dumped(asked)
    if kind == 4 and body:
        cut = draw(st.integers(0, len(body)))
        body = body[:cut] + draw(st.binary(max_size=3)) + body[cut:]
    return body[: draw(st.integers(0, len(body)))] if kind == 5 else body


HEADERS = st.lists(
    st.sampled_from([
        "Content-Type: application/json", "Content-Type: text/plain", "Content-Type: application/json; charset=gbk",
        "Content-Encoding: gzip", "Expect: 100-continue", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings",
        "Accept: text/event-stream", "Accept-Encoding: gzip;q=9", "Authorization: Bearer \xff",
        "Authorization: Basic x",
        "X-SLO-Deadline-Ms: -1", "X-SLO-Deadline-Ms: 1e9", "X-SLO-Deadline-Ms: x", "X-SLO-Class: batch",
        "X-SLO-Source: y",
        "X-Forwarded-For: 1.2.3.4, ::1, x", "Range: bytes=0-1", "If-None-Match: \"", "Cookie: " + "a" * 3000,
        "X-Request-Id: " + "\t" * 20, "Accept-Language: " + "zh," * 200, "Content-Length: 5",
        "Transfer-Encoding: identity",
    ]),
    max_size=4,
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A request to one of our routes."""
    posts = draw(st.integers(0, 9)) < 7
    route = draw(st.sampled_from(POSTS if posts else GETS))
    method = "POST" if posts else "GET"
    if draw(st.integers(0, 19)) == 0:
        method = draw(st.sampled_from(METHODS))
    target = route
    if draw(st.integers(0, 3)) == 0:
        name, value = (
            draw(st.sampled_from(QUERIES)),
            draw(st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)),
        )
        target += f"?{name}=" + "".join(f"%{byte:02X}" for byte in value.encode("utf-8", "surrogatepass"))
    if draw(st.integers(0, 39)) == 0:
        target += draw(st.sampled_from(["/", "//", "/..", "%00", "%ff", ";a", "/../../etc/passwd", "\u00e9"]))
    headers = draw(HEADERS)
    body = draw(bodies()) if method not in ("GET", "HEAD") or draw(st.integers(0, 9)) == 0 else b""
    framing = draw(st.integers(0, 19))
    broken = (
        any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers) or not method.isascii()
    )
    broken = broken or not target.isascii()
    if framing == 0 and body:
        pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
        payload = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        length = "Transfer-Encoding: chunked"
    elif framing == 1:
        payload, length, broken = (
            body,
            draw(st.sampled_from(["Content-Length: -1", "Content-Length: x", "A\x00: b"])),
            True,
        )
    else:
        payload, length = body, f"Content-Length: {len(body)}"
    version = draw(st.sampled_from(["1.1"] * 20 + ["1.0", "2.0", "9"]))
    broken = broken or version not in ("1.1", "1.0")
    lines = [f"{method} {target} HTTP/{version}", "Host: fuzz", *headers, length, "Connection: close"]
    return Case(route, "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + payload, method == "HEAD", broken)
