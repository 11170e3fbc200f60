"""
Feishu 飞书 (and Lark) custom bot: a signed interactive card whose colour is the severity.

The key of the signature is the text, and the message is empty: that is how Feishu defines it. Code 19021 means
a wrong secret or a clock that is off by more than an hour; this machine cannot tell which, so the diagnosis says both.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from slo.watch.delivery.sinks.codes import FEISHU
from slo.watch.delivery.sinks.outcome import Limit, Outcome
from slo.watch.delivery.sinks.robot import fitted, post_to_robot, sent_short_if_too_long
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language, lark_md, text_of, title_of
from slo.watch.model.notification import Notification

LARGEST_BODY = 20 * 1024
COLOURS = {"critical": "red", "page": "orange", "ticket": "blue", "info": "grey"}


class FeishuSink:
    """One bot. `keyword` is put into every card when the bot demands one; firing pages mention people."""

    repeat_every_s: float | None = None
    digest_bytes = 12_000
    limit: Limit | None = Limit(per_minute=20, burst=5, block_s=60)  # it takes more; people do not

    def __init__(
        self, address: Secret, *, wire: Wire, secret: Secret | None = None, keyword: str = "",
        user_ids: Sequence[str] = (), mention_all: bool = False, language: Language = "zh",
    ) -> None:  # fmt: skip
        self._address = checked_address(address, "feishu")
        self._secret = secret
        self._wire = wire
        self._keyword = keyword
        self._mentions = [*user_ids, *(["all"] if mention_all else [])]
        self._language = language

    def __repr__(self) -> str:
        return f"feishu at the {self._address}"

    def send(self, notification: Notification, now: float) -> Outcome:
        secrets = (self._address, *((self._secret,) if self._secret else ()))

        def post(longest: int) -> Outcome:
            document = self.document(notification, now, longest)
            return post_to_robot(self._wire, self._address.reveal(), document, FEISHU, ("code", "msg"), *secrets)

        return sent_short_if_too_long(post, LARGEST_BODY)

    def document(self, notification: Notification, now: float, longest: int = LARGEST_BODY) -> dict[str, Any]:
        """The body within `longest` bytes, signature included."""
        resolved = notification.status == "resolved"
        loud = notification.status == "firing" and notification.severity in ("critical", "page")
        tail = "".join(f"<at id={person}></at>" for person in self._mentions) if loud else ""
        text = {"tag": "lark_md", "content": tail}
        note = f"{notification.event_id} {self._keyword}".strip()
        document: dict[str, Any] = {
            "msg_type": "interactive",
            "card": {
                "config": {"wide_screen_mode": True},
                "header": {
                    "template": "green" if resolved else COLOURS[notification.severity],
                    "title": {"tag": "plain_text", "content": title_of(notification, self._language)[:200]},
                },
                "elements": [
                    {"tag": "div", "text": text},
                    {"tag": "hr"},
                    {"tag": "note", "elements": [{"tag": "plain_text", "content": note}]},
                ],
            },
        }
        if self._secret:
            stamp = str(int(now))
            document |= {"timestamp": stamp, "sign": sign(self._secret, stamp)}
        text["content"] = fitted(document, lark_md(text_of(notification, self._language)), longest) + tail
        return document


def sign(secret: Secret, timestamp_s: str) -> str:
    """Base64 HMAC-SHA256 of nothing, keyed with timestamp, newline, secret."""
    digest = hmac.new(f"{timestamp_s}\n{secret.reveal()}".encode(), b"", hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
