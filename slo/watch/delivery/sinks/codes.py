"""
From a provider's answer to an outcome: by the code in its body, or by the HTTP status where that is all there is.

A code that is in no table, or whose text fits no row, is not delivery either: it is retried with growing pauses, since
a provider may add codes, and its number and text stand in the reason, which `slo alert status` shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slo.watch.delivery.sinks.outcome import Delivered, Diagnosis, Failed, Outcome, Retry

Action = Literal["retry", "throttled", "config", "too long"]


@dataclass(frozen=True, slots=True)
class Code:
    """One answer: `config` needs a person, `retry` time, `throttled` silence for `after_s`, `too long` fewer words.

    `contains` tells apart answers that share a code: one of these pieces must be in the text, in whatever case.
    """

    code: int
    action: Action
    zh: str
    en: str
    contains: tuple[str, ...] = ()
    after_s: float | None = None

    def fits(self, code: int, message: str) -> bool:
        """Is this the row for `code` and the provider's text?"""
        return self.code == code and (not self.contains or _has(message, self.contains))

    def outcome(self, reason: str) -> Outcome:
        diagnosis = Diagnosis(self.zh, self.en)
        if self.action in ("config", "too long"):
            return Failed(reason=reason, diagnosis=diagnosis, too_long=self.action == "too long")
        return Retry(reason=reason, after_s=self.after_s, throttled=self.action == "throttled", diagnosis=diagnosis)


HTTP: dict[int, Diagnosis] = {
    400: Diagnosis("对方拒绝了消息格式", "the receiver refuses the format of the message"),
    401: Diagnosis("未授权：检查密钥或地址", "not authorised: check the secret or the address"),
    403: Diagnosis(
        "被禁止：检查密钥、签名与时钟、白名单", "forbidden: check the secret, the signature and clock, any whitelist"
    ),
    404: Diagnosis("地址不存在：检查 Webhook 路径", "no such address: check the path"),
    405: Diagnosis("该地址不接受 POST", "that address takes no POST"),
    410: Diagnosis("地址已废弃", "the address is gone for good"),
    413: Diagnosis("消息过大", "the message is too large"),
    415: Diagnosis("该地址不接受 JSON", "that address takes no JSON"),
    422: Diagnosis("对方拒绝了消息内容", "the receiver refuses the content of the message"),
}
_OTHER_STATUS = Diagnosis(
    "HTTP 状态异常：检查地址是否正确、是否经过了登录页或代理",
    "unexpected HTTP status: is it the right address, or a login page or proxy?",
)
_MOVED = Diagnosis(
    "地址发生跳转：配置最终地址（不会跟随跳转，以免泄露密钥）",
    "the address redirects: configure the final one (a redirect is not followed, lest the secret leak)",
)
UNKNOWN_BODY = Diagnosis(
    "返回内容无法识别，视为未送达：检查地址是否为机器人 Webhook",
    "the answer is not understood, so it counts as not delivered: is it a robot's address?",
)
UNKNOWN_CODE = Diagnosis(
    "未收录的返回码，视为未送达：按递增间隔重试，原文见 slo alert status",
    "a code that is not known here, so it counts as not delivered: tried again at growing intervals, see"
    " `slo alert status`",
)
# What providers say of a robot that speaks too fast, under whatever code.
_TOO_FAST = ("too many request", "too fast", "frequency", "freq ", "rate limit", "限流", "频率", "频繁", "太快", "过快")
_SLOW_DOWN = Diagnosis("发送过快，已被对方限流", "too fast: the provider throttles this robot")


def by_code(table: tuple[Code, ...], code: int, message: str) -> Outcome:
    """The outcome for a provider's `code`; 0 is delivery, and nothing else is."""
    if code == 0:
        return Delivered()
    reason = f"code {code}: {message}"
    for row in table:
        if row.fits(code, message):
            return row.outcome(reason)
    if _has(message, _TOO_FAST):
        return Retry(reason=reason, throttled=True, diagnosis=_SLOW_DOWN)
    return Retry(reason=reason, diagnosis=UNKNOWN_CODE)


def _has(message: str, pieces: Sequence[str]) -> bool:
    return any(piece in message.lower() for piece in pieces)


def by_status(status: int, text: str, retry_after_s: float | None) -> Outcome:
    """The outcome that the HTTP status alone calls for: 2xx is delivery only for receivers that say nothing more."""
    if 200 <= status < 300:
        return Delivered()
    reason = f"HTTP {status}: {' '.join(text.split())[:200]}"
    if 300 <= status < 400:
        return Failed(reason=reason, diagnosis=_MOVED)
    if status in HTTP:
        return Failed(reason=reason, diagnosis=HTTP[status])
    # 408, 425, 429, 5xx, and whatever nobody here knows.
    return Retry(reason=reason, after_s=retry_after_s, throttled=status == 429, diagnosis=_OTHER_STATUS)
