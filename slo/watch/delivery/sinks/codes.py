"""
From a provider's answer to an outcome: by the code in its body, or by the HTTP status where that is all there is.

A code that is in no table is not delivery either: it is retried with a bound, since a provider may add codes, and
its number stands in the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slo.watch.delivery.sinks.outcome import Delivered, Diagnosis, Failed, Outcome, Retry

Action = Literal["retry", "throttled", "config"]


@dataclass(frozen=True, slots=True)
class Code:
    """One answer: `config` needs a person, `retry` needs time, `throttled` needs silence for `after_s`.

    `contains` tells apart answers that share a code.
    """

    code: int
    action: Action
    zh: str
    en: str
    contains: str = ""
    after_s: float | None = None

    def outcome(self, reason: str) -> Outcome:
        diagnosis = Diagnosis(self.zh, self.en)
        if self.action == "config":
            return Failed(reason=reason, diagnosis=diagnosis)
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
RETRYABLE_STATUS = frozenset({408, 425, 429})


def by_code(table: tuple[Code, ...], code: int, message: str) -> Outcome:
    """The outcome for a provider's `code`; 0 is delivery, and nothing else is."""
    if code == 0:
        return Delivered()
    reason = f"code {code}: {message}"
    for row in table:
        if row.code == code and row.contains in message:
            return row.outcome(reason)
    return Retry(reason=reason, diagnosis=UNKNOWN_BODY)


def by_status(status: int, text: str, retry_after_s: float | None) -> Outcome:
    """The outcome that the HTTP status alone calls for: 2xx is delivery only for receivers that say nothing more."""
    if 200 <= status < 300:
        return Delivered()
    reason = f"HTTP {status}: {' '.join(text.split())[:200]}"
    if status in RETRYABLE_STATUS or status >= 500:
        return Retry(
            reason=reason,
            after_s=retry_after_s,
            throttled=status == 429,
            diagnosis=HTTP.get(status, _OTHER_STATUS),
        )
    if 300 <= status < 400:
        return Failed(reason=reason, diagnosis=_MOVED)
    return Failed(reason=reason, diagnosis=HTTP.get(status, _OTHER_STATUS))
