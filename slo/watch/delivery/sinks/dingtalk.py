"""
DingTalk 钉钉 group robot: Markdown, signed (加签), 20 messages a minute or else ten minutes of silence.

The signature goes into the query and is made anew for every attempt from the stored address, which never grows:
one made once would expire after an hour, one appended twice would not match.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from slo.watch.delivery.sinks.codes import DINGTALK
from slo.watch.delivery.sinks.outcome import Limit, Outcome
from slo.watch.delivery.sinks.robot import fitted, post_to_robot, sent_short_if_too_long
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language, text_of, title_of
from slo.watch.model.notification import Notification

LARGEST_BODY = 20_000


class DingTalkSink:
    """One robot. `keyword` is put into every message when the robot demands one; firing pages mention people."""

    repeat_every_s: float | None = None
    digest_bytes = 12_000
    limit: Limit | None = Limit(per_minute=20, burst=5, block_s=600)

    def __init__(
        self, address: Secret, *, wire: Wire, secret: Secret | None = None, keyword: str = "",
        mobiles: Sequence[str] = (), mention_all: bool = False, language: Language = "zh",
    ) -> None:  # fmt: skip
        self._address = checked_address(address, "dingtalk")
        self._secret = secret
        self._wire = wire
        self._keyword = keyword
        self._mobiles = list(mobiles)
        self._mention_all = mention_all
        self._language = language

    def __repr__(self) -> str:
        return f"dingtalk at the {self._address}"

    def send(self, notification: Notification, now: float) -> Outcome:
        secrets = (self._address, *((self._secret,) if self._secret else ()))

        def post(longest: int) -> Outcome:
            document = self.document(notification, longest)
            return post_to_robot(self._wire, self._signed(now), document, DINGTALK, ("errcode", "errmsg"), *secrets)

        return sent_short_if_too_long(post, LARGEST_BODY)

    def document(self, notification: Notification, longest: int = LARGEST_BODY) -> dict[str, Any]:
        """The body, within `longest` bytes. A mention counts only if its `@number` stands in the text as well."""
        title = title_of(notification, self._language)[:200]
        loud = notification.status == "firing" and notification.severity in ("critical", "page")
        mobiles = self._mobiles if loud else []
        head = f"### {title}\n\n"
        tail = "".join(f" @{number}" for number in mobiles)
        if self._keyword and self._keyword not in title:
            tail += f"\n\n{self._keyword}"
        document: dict[str, Any] = {
            "msgtype": "markdown",
            "markdown": {"title": title, "text": head + tail},
            "at": {"atMobiles": mobiles, "atUserIds": [], "isAtAll": loud and self._mention_all},
        }
        room = longest - 2 * tail.count("\n")
        document["markdown"]["text"] = head + fitted(document, text_of(notification, self._language), room) + tail
        return document

    def _signed(self, now: float) -> str:
        url = self._address.reveal()
        if self._secret is None:
            return url
        stamp = str(round(now * 1000))
        return f"{url}{'&' if '?' in url else '?'}timestamp={stamp}&sign={quote(sign(self._secret, stamp), safe='')}"


def sign(secret: Secret, timestamp_ms: str) -> str:
    """Base64 HMAC-SHA256, keyed with the secret, over timestamp, newline, secret; not yet URL-encoded."""
    key = secret.reveal()
    digest = hmac.new(key.encode(), f"{timestamp_ms}\n{key}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
