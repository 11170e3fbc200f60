"""
What DingTalk, Feishu, WeCom and Slack answer, as data: code, what it calls for, a diagnosis in Chinese and English.

Of rows that share a code the first whose `contains` fits decides; a code without a row that fits is retried. Some of
DingTalk's codes (4001xx, 410100, 4301xx, 460101), Feishu's 19036 and WeCom's 45002, 45033 and 93004 come from public
client code and error tables, not from a live call. DingTalk speaks English or Chinese, by the age of the robot.
"""

from __future__ import annotations

from slo.watch.delivery.sinks.codes import Code
from slo.watch.delivery.sinks.outcome import Diagnosis

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
