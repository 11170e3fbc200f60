"""
What the three Chinese group robots share: a JSON body, HTTP 200 for nearly everything, and a code that decides.

Delivered is `code` (or `errcode`) equal to the integer 0 and nothing else; a body without one is not delivery.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from slo.watch.delivery.sinks.codes import UNKNOWN_BODY, Code, by_code, by_status
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.delivery.sinks.wording import cut, json_cost

HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def post_to_robot(
    wire: Wire, url: str, document: dict[str, Any], table: tuple[Code, ...], fields: tuple[str, str], *secrets: Secret
) -> Outcome:
    """Post `document` and judge the answer by `table`; `fields` name its code and its message."""
    reply = wire.post(url, orjson.dumps(document), HEADERS, *secrets)
    if isinstance(reply, Retry):
        return reply
    text = mask(reply.text, *secrets)
    answer = _object(reply.text)
    code = answer.get(fields[0])
    if isinstance(code, int) and not isinstance(code, bool):
        outcome = by_code(table, code, mask(" ".join(str(answer.get(fields[1], "")).split())[:200], *secrets))
        # Code 0 under an error status contradicts itself: believe the status.
        if not isinstance(outcome, Delivered) or reply.status == 200:
            return outcome
    if answer.get("punish") == "deny":  # DingTalk's gate before the robot, without a code
        wait = answer.get("wait")
        after_s = float(wait) if isinstance(wait, int | float) and wait >= 0 else None
        return Retry(reason="throttled at the provider's gate", after_s=after_s, throttled=True)
    if reply.status != 200:
        return by_status(reply.status, text, reply.retry_after_s)
    return Retry(reason=f"answer without a code: {' '.join(text.split())[:120]}", diagnosis=UNKNOWN_BODY)


def sent_short_if_too_long(send: Callable[[int], Outcome], longest: int) -> Outcome:
    """What `send` made of the message within `longest` bytes, or of a quarter if the provider finds it too long."""
    outcome = send(longest)
    return send(longest // 4) if isinstance(outcome, Failed) and outcome.too_long else outcome


def _object(text: str) -> dict[str, Any]:
    """The JSON object in `text`; empty when there is none."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def fitted(document: dict[str, Any], text: str, limit: int) -> str:
    """`text` cut so that `document`, built around an empty text, stays within `limit` bytes with it."""
    return cut(text, limit - len(orjson.dumps(document)), json_cost)
