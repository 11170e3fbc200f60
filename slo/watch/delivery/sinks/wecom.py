"""
WeCom 企业微信 group robot: Markdown of at most 4096 bytes of UTF-8, so cut by bytes and between characters.

Markdown can mention users by id but not everybody: for that a second, plain message follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slo.watch.delivery.sinks.codes import WECOM
from slo.watch.delivery.sinks.outcome import Delivered, Limit, Outcome
from slo.watch.delivery.sinks.robot import post_to_robot, sent_short_if_too_long
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language, cut, text_of, title_of
from slo.watch.model.notification import Notification

LARGEST_TEXT = 4096


class WeComSink:
    """One robot. Mentioning everybody costs a second message, which the limit accounts for."""

    repeat_every_s: float | None = None
    digest_bytes = 3000

    def __init__(
        self, address: Secret, *, wire: Wire, user_ids: Sequence[str] = (), mention_all: bool = False,
        language: Language = "zh",
    ) -> None:  # fmt: skip
        self._address = checked_address(address, "wecom")
        self._wire = wire
        self._user_ids = list(user_ids)
        self._mention_all = mention_all
        self._language = language
        self.limit: Limit | None = Limit(per_minute=20, burst=5, cost=2 if mention_all else 1)

    def __repr__(self) -> str:
        return f"wecom at the {self._address}"

    def send(self, notification: Notification, now: float) -> Outcome:  # noqa: ARG002 - nothing is signed
        def post(longest: int) -> Outcome:
            return self._post({"msgtype": "markdown", "markdown": {"content": self.content(notification, longest)}})

        outcome = sent_short_if_too_long(post, LARGEST_TEXT)
        if not isinstance(outcome, Delivered) or not (self._mention_all and _loud(notification)):
            return outcome
        call = {"content": title_of(notification, self._language)[:400], "mentioned_list": ["@all"]}
        mention = self._post({"msgtype": "text", "text": call})
        # The message itself is there: repeating it because of the mention would be worse than no mention.
        return mention if isinstance(mention, Delivered) else Delivered(detail=f"@all failed: {mention.reason}")

    def content(self, notification: Notification, longest: int = LARGEST_TEXT) -> str:
        """The Markdown: coloured title, text, mentions; never above `longest` bytes.

        Others' words stand in it, so nothing but our own marks may begin with `<`: `<@…>` would call people.
        """
        colour = "info" if notification.status == "resolved" else "warning" if _loud(notification) else "comment"
        head = f'### <font color="{colour}">{_harmless(title_of(notification, self._language)[:200])}</font>\n\n'
        people = "".join(f"<@{person}>" for person in self._user_ids) if _loud(notification) else ""
        tail = f"\n\n{people}" if people else ""
        room = longest - len((head + tail).encode())
        return head + cut(_harmless(text_of(notification, self._language)), room) + tail

    def _post(self, document: dict[str, Any]) -> Outcome:
        url = self._address.reveal()
        return post_to_robot(self._wire, url, document, WECOM, ("errcode", "errmsg"), self._address)


def _harmless(text: str) -> str:
    return text.replace("<", "＜")


def _loud(notification: Notification) -> bool:
    return notification.status == "firing" and notification.severity in ("critical", "page")
