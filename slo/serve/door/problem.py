"""
What a client is told when it gets no embedding: one exception, rendered in OpenAI's error shape.

    {"error": {"message": …, "type": …, "param": …, "code": …}, "detail": …}

`detail` repeats the message for clients that know Xinference's own shape, such as xinference-client. Messages never
quote the text that was to be embedded.
"""

from __future__ import annotations

import math

import orjson


class Problem(Exception):
    """A refusal with its HTTP status. `reason` is the short name under which it is counted."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.param = param
        self.headers = headers or {}

    def again(self) -> Problem:
        """The same to be raised anew: without the stack that led to this one, which holds on to the request."""
        return Problem(self.status, self.message, reason=self.reason, param=self.param, headers=self.headers)

    @property
    def type(self) -> str:
        """OpenAI's coarse kind of error, from the status."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> bytes:
        """The JSON body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.reason}
        return orjson.dumps({"error": error, "detail": self.message})


def invalid(message: str, *, param: str | None = None, reason: str = "invalid_request") -> Problem:
    """400: the request can never succeed."""
    return Problem(400, message, reason=reason, param=param)


def forbidden(message: str) -> Problem:
    """403: not for this caller, or not with this configuration."""
    return Problem(403, message, reason="forbidden")


def too_large(limit_bytes: int) -> Problem:
    """413: the body exceeds the limit."""
    return Problem(413, f"the request body exceeds {limit_bytes} bytes", reason="body_too_large")


def require_plain(content_encoding: str) -> None:
    """Raises `Problem` 415, with what is accepted, for a body that is packed."""
    if content_encoding.strip().lower() not in ("", "identity"):
        raise Problem(
            415, f"bodies in content coding {content_encoding[:40]!r} are not read; send them as they are",
            reason="unsupported_encoding", headers={"accept-encoding": "identity"},
        )  # fmt: skip


def unknown_model(model: str) -> Problem:
    """404, with OpenAI's own code for it."""
    return Problem(404, f"The model '{model[:100]}' does not exist", reason="model_not_found", param="model")


def not_ready(detail: str, *, retry_after_s: int = 5) -> Problem:
    """503: the model is loading, recovering or gone; asking again later may help."""
    return Problem(503, detail, reason="model_not_ready", headers={"retry-after": str(retry_after_s)})


class Unanswered(Problem):
    """503: whoever knows where the model is did not say. What was known before may well hold still."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, detail, reason="model_not_ready", headers={"retry-after": "5"})


def engine_fault(detail: str) -> Problem:
    """500: the engine raised on this text, or gave something that is not a vector."""
    return Problem(500, f"the engine failed: {detail[:300]}", reason="engine_fault")


def blamed() -> Problem:
    """500: processes died while they computed this text, so that it is not computed any more. Not to be retried."""
    return Problem(
        500, "a text of this request has ended model processes and is not computed", reason="engine_fault",
        headers={"x-should-retry": "false"},
    )  # fmt: skip


def timed_out(seconds: float) -> Problem:
    """503: no result within the time that the server allows itself."""
    return Problem(
        503, f"no result within {seconds:g} s", reason="timeout", headers={"retry-after": "1", "x-should-retry": "true"}
    )


def refused(reason: str, message: str, predicted_s: float, retry_s: float) -> Problem:
    """429 with the advice when to come back, in whole seconds as HTTP wants it and in ms for clients that read that."""
    headers = {
        "retry-after": str(max(1, math.ceil(retry_s))),
        "retry-after-ms": str(max(1, math.ceil(retry_s * 1000))),
        "x-slo-predicted-wait-ms": f"{predicted_s * 1000:.0f}",
    }
    return Problem(429, message, reason=reason, headers=headers)
