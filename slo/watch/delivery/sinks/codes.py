"""
From a provider's answer to an outcome: by the code in its body, or by the HTTP status where that is all there is.

The tables at the end are what DingTalk, Feishu, WeCom and Slack answer, as data: code, what it calls for, a diagnosis
in Chinese and English. Of rows that share a code the first whose `contains` fits decides. A code that is in no table,
or whose text fits no row, is not delivery either: it is retried with growing pauses, since a provider may add codes,
and its number and text stand in the reason, which `slo alert status` shows.

Some of DingTalk's codes (4001xx, 410100, 4301xx, 460101), Feishu's 19036 and WeCom's 45002, 45033 and 93004 come from
public client code and error tables, not from a live call. DingTalk speaks English or Chinese, by the age of the robot.
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


_WRONG_TOKEN = "机器人地址里的 access_token 错误或已失效：重新复制 Webhook 地址"  # noqa: S105 - a message
_WRONG_TOKEN_EN = "the access_token in the robot's address is wrong or revoked: copy the address again"  # noqa: S105

DINGTALK: tuple[Code, ...] = (
    Code(
        130101,
        "throttled",
        "发送过快：每个机器人每分钟 20 条，已被限流 10 分钟",
        "too fast: 20 a minute per robot; blocked for 10 minutes",
        after_s=600,
    ),
    Code(410100, "throttled", "发送过快，已被钉钉限流 10 分钟", "throttled by DingTalk for 10 minutes", after_s=600),
    Code(-1, "retry", "钉钉系统繁忙，稍后重试", "DingTalk is busy; trying again later"),
    Code(
        310000,
        "config",
        "关键词不匹配：把机器人“自定义关键词”写入 alerts.dingtalk.keyword（alerts.more 的通道则写入它自己的 keyword）",
        "keyword missing: put the robot's keyword into alerts.dingtalk.keyword, or that of its entry in alerts.more",
        ("keywords not in content", "关键词"),
    ),
    Code(
        310000,
        "config",
        "加签不匹配：检查密钥 SLO_DINGTALK_SECRET（以 SEC 开头），不要对地址再次编码",
        "signature refused: check SLO_DINGTALK_SECRET (starts with SEC)",
        ("sign not match", "签名不匹配"),
    ),
    Code(
        310000,
        "config",
        "时间戳无效：本机时钟与标准时间相差超过 1 小时，请校时",
        "timestamp refused: this machine's clock is off by more than an hour",
        ("timestamp", "签名过期", "时间戳"),
    ),
    Code(
        310000,
        "config",
        "本机出口 IP 不在机器人白名单：在机器人安全设置中加入该 IP",
        "this machine's address is not on the robot's whitelist: add it there",
        ("whitelist", "白名单"),
    ),
    Code(
        310000,
        "config",
        "机器人安全设置校验失败：核对关键词、加签与 IP 白名单",
        "the robot's security settings refuse it: check keyword, signature and whitelist",
    ),
    Code(300005, "config", _WRONG_TOKEN, _WRONG_TOKEN_EN),
    Code(300001, "config", _WRONG_TOKEN, _WRONG_TOKEN_EN),
    Code(400101, "config", _WRONG_TOKEN, _WRONG_TOKEN_EN),
    Code(
        400102, "config", "机器人已停用：在群设置中重新启用", "the robot is stopped: enable it in the group's settings"
    ),
    Code(400013, "config", "群已解散：换一个群的机器人", "the group is gone: use another group's robot"),
    Code(400105, "config", "不支持的消息类型：请反馈给本项目", "message type not supported: report it to this project"),
    Code(400106, "config", "机器人不存在：重新添加机器人", "there is no such robot: add it to the group again"),
    *(
        Code(
            code,
            "config",
            "内容被钉钉安全策略拒绝：检查消息中的链接与文字",
            "DingTalk refuses the content: see its links and words",
        )
        for code in (430101, 430102, 430103, 430104)
    ),
    Code(
        460101,
        "too long",
        "消息超过 20000 字节：改发精简版",
        "the message is above 20000 bytes: a short one is sent instead",
    ),
)

FEISHU: tuple[Code, ...] = (
    Code(
        11232,
        "throttled",
        "飞书限流（每分钟 100 条、每秒 5 条；整点与半点更严）",
        "throttled (100 a minute, 5 a second; stricter at :00 and :30)",
        after_s=60,
    ),
    Code(
        19021,
        "config",
        "签名校验失败：先看本机时钟（与标准时间相差须在 1 小时内），再看密钥 SLO_FEISHU_SECRET",
        "signature refused: first this machine's clock (within an hour), then SLO_FEISHU_SECRET",
    ),
    Code(19022, "config", "本机出口 IP 不在机器人白名单", "this machine's address is not on the bot's whitelist"),
    Code(
        19024,
        "config",
        "关键词不匹配：把机器人“自定义关键词”写入 alerts.feishu.keyword（alerts.more 的通道则写入它自己的 keyword）",
        "keyword missing: put the bot's keyword into alerts.feishu.keyword, or that of its entry in alerts.more",
    ),
    Code(
        19001,
        "config",
        "Webhook 地址错误或机器人已移除：重新复制地址",
        "the address is wrong or the bot was removed: copy it again",
    ),
    Code(
        19036,
        "retry",
        "飞书拒绝了这个机器人或这条内容：请看它的原文，并确认机器人未被停用",
        "Feishu refuses this bot or this content: see its own words, and that the bot is not disabled",
        after_s=60,
    ),
    Code(99991400, "throttled", "飞书接口限流", "throttled by Feishu", after_s=60),
    # 9499 is said of two things.
    Code(
        9499,
        "throttled",
        "飞书限流（每分钟 100 条、每秒 5 条；整点与半点更严）",
        "throttled (100 a minute, 5 a second; stricter at :00 and :30)",
        ("too many request", "frequency", "频率", "限流"),
        after_s=60,
    ),
    Code(
        9499,
        "too long",
        "请求体不合法或超过 20 KB：改发精简版；若仍失败请反馈给本项目",
        "the body is malformed or above 20 KB: a short one is sent instead; if that fails, report it to this project",
        ("bad request", "body", "json", "param", "invalid", "size"),
    ),
)

WECOM: tuple[Code, ...] = (
    Code(45009, "throttled", "发送过快：每个机器人每分钟 20 条", "too fast: 20 a minute per robot", after_s=60),
    Code(-1, "retry", "企业微信系统繁忙，稍后重试", "WeCom is busy; trying again later"),
    Code(
        93000,
        "config",
        "Webhook 地址里的 key 错误或机器人已移除：重新复制地址",
        "the key in the address is wrong or the robot was removed: copy it again",
    ),
    Code(93004, "config", "机器人已停用：在群里重新启用", "the robot is stopped: enable it in the group"),
    Code(45033, "throttled", "接口并发超限", "too many calls at once", after_s=60),
    *(
        Code(
            code,
            "too long",
            "参数不合法或内容超长（4096 字节）：改发精简版；若仍失败请反馈给本项目",
            "bad parameter or too long (4096 bytes): a short one is sent instead; if that fails, report it",
        )
        for code in (40058, 45002)
    ),
)

SLACK: dict[str, Diagnosis] = {
    "invalid_token": Diagnosis("Slack 地址已失效：重新生成 Webhook", "the address is revoked: create a new webhook"),
    "no_service": Diagnosis("Slack Webhook 已停用或删除", "the webhook was disabled or deleted"),
    "no_team": Diagnosis("Slack 工作区不存在", "the workspace is gone"),
    "channel_not_found": Diagnosis("频道不存在：换一个频道的 Webhook", "the channel is gone: use another's webhook"),
    "channel_is_archived": Diagnosis(
        "频道已归档：取消归档或换频道", "the channel is archived: unarchive or choose another"
    ),
    "action_prohibited": Diagnosis("管理员禁止此操作", "an administrator forbids it"),
    "invalid_payload": Diagnosis("消息体不合法：请反馈给本项目", "the body is malformed: report it to this project"),
    "user_not_found": Diagnosis("目标用户不存在", "the addressed user is gone"),
}
