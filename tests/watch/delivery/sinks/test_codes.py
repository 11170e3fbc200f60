"""What providers answer: codes with several meanings, in English and Chinese, and codes that nobody here knows."""

from __future__ import annotations

from typing import Any

import pytest

from slo.watch.delivery.sinks.codes import DINGTALK, FEISHU, WECOM, Code, by_code, by_status
from slo.watch.delivery.sinks.dingtalk import DingTalkSink
from slo.watch.delivery.sinks.feishu import FeishuSink
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.delivery.sinks.wecom import WeComSink
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note

NOW = 1_700_000_000.0
KEYWORDS_ZH = "错误描述:关键词不匹配;解决方案:请联系群管理员查看此机器人的关键词,并在发送的信息中包含此关键词;"
SIGN_ZH = (
    "错误描述:机器人发送签名不匹配;解决方案:请确认签名和生成签名的时间戳必须都放在调用的网址中,"
    "请确认机器人的密钥加密和填写正确;"
)
STALE_ZH = "错误描述:机器人发送签名过期;解决方案:签名生成时间和发送时间请保持在 timestampms 以内;"
ADDRESS_ZH = "错误描述:ip 203.0.113.7 不在白名单之内;解决方案:请联系群管理员查看此机器人的IP白名单;"


def kind(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Retry(throttled=True):
            return "throttled"
        case Retry():
            return "retry"
        case Failed(too_long=True):
            return "too long"
        case Failed():
            return "config"


@pytest.mark.parametrize(
    ("table", "code", "text", "expected", "word"),
    [
        pytest.param(DINGTALK, 310000, KEYWORDS_ZH, "config", "alerts.dingtalk.keyword", id="keyword"),
        pytest.param(DINGTALK, 310000, SIGN_ZH, "config", "SLO_DINGTALK_SECRET", id="signature"),
        pytest.param(DINGTALK, 310000, STALE_ZH, "config", "校时", id="clock"),
        pytest.param(DINGTALK, 310000, ADDRESS_ZH, "config", "加入该 IP", id="whitelist"),
        pytest.param(DINGTALK, 310000, "description:ip 1.2.3.4 not in whitelist", "config", "加入该 IP", id="English"),
        pytest.param(DINGTALK, 130101, "send too fast, exceed 20 times per minute", "throttled", "20", id="too fast"),
        pytest.param(DINGTALK, 460101, "message too long, exceed 20000 bytes", "too long", "精简", id="too long"),
        pytest.param(DINGTALK, 400106, "机器人不存在", "config", "重新添加", id="robot gone"),
        pytest.param(DINGTALK, 430102, "含有不合适的文本", "config", "安全策略", id="content"),
        pytest.param(DINGTALK, 999, "错误描述:发送速度太快而限流;", "throttled", "限流", id="too fast, new code"),
        pytest.param(FEISHU, 9499, "too many request", "throttled", "限流", id="9499 too many"),
        pytest.param(FEISHU, 9499, "Too Many Request", "throttled", "限流", id="9499 in capitals"),
        pytest.param(FEISHU, 9499, "Bad Request", "too long", "20 KB", id="9499 bad request"),
        pytest.param(FEISHU, 9499, "something new", "retry", "未收录", id="9499 of a third kind"),
        pytest.param(FEISHU, 11232, "frequency limited psm[lark.oapi]", "throttled", "限流", id="f"),
        pytest.param(FEISHU, 19036, "no", "retry", "停用", id="19036"),
        pytest.param(FEISHU, 99991400, "request trigger frequency limit", "throttled", "限流", id="open platform"),
        pytest.param(FEISHU, 12345, "hm", "retry", "未收录", id="unknown"),
        pytest.param(WECOM, 45009, "api freq out of limit", "throttled", "20", id="wecom too fast"),
        pytest.param(WECOM, 45033, "api concurrent out of limit", "throttled", "并发", id="wecom at once"),
        pytest.param(WECOM, 45002, "content size out of limit", "too long", "4096", id="wecom too long"),
        pytest.param(WECOM, 93004, "robot disabled", "config", "停用", id="wecom stopped"),
        pytest.param(WECOM, 777, "api freq out of limit", "throttled", "限流", id="wecom too fast, new code"),
    ],
)  # fmt: skip
def test_a_code_is_read_with_its_text(table: tuple[Code, ...], code: int, text: str, expected: str, word: str) -> None:
    outcome = by_code(table, code, text)
    assert kind(outcome) == expected
    assert isinstance(outcome, Retry | Failed)
    assert outcome.diagnosis is not None
    assert word in outcome.diagnosis.zh
    assert f"code {code}: {text}" in outcome.reason


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "delivered"), (302, "config"), (400, "config"), (404, "config"), (408, "retry"), (409, "retry"),
     (418, "retry"), (425, "retry"), (429, "throttled"), (451, "retry"), (500, "retry"), (599, "retry")],
)  # fmt: skip
def test_a_status_that_nobody_knows_is_tried_again(status: int, expected: str) -> None:
    assert kind(by_status(status, "", None)) == expected


def sinks(address: str) -> dict[str, DingTalkSink | FeishuSink | WeComSink]:
    wire = Wire(timeout_s=5)
    return {
        "dingtalk": DingTalkSink(Secret(address, "t"), wire=wire),
        "feishu": FeishuSink(Secret(address, "t"), wire=wire),
        "wecom": WeComSink(Secret(address, "t"), wire=wire),
    }


TOO_LONG: dict[str, dict[str, Any]] = {
    "dingtalk": {"errcode": 460101, "errmsg": "message too long, exceed 20000 bytes"},
    "feishu": {"code": 9499, "msg": "Bad Request"},
    "wecom": {"errcode": 45002, "errmsg": "content size out of limit"},
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_the_provider_finds_too_long_is_sent_short(name: str) -> None:
    def rules(request: Request) -> Answer:
        return Answer(TOO_LONG[name] if len(request.body) > 3000 + 3000 else {"code": 0, "errcode": 0})

    with Receiver(rules) as receiver:
        outcome = sinks(receiver.url("/x"))[name].send(note(text="- 很长的一行文字\n" * 2000), NOW)
        sizes = [len(request.body) for request in receiver.requests]
    if name == "wecom":  # its own limit is below that of the rules
        assert sizes[0] < 6000
    else:
        assert len(sizes) == 2
        assert sizes[1] < 6000 < sizes[0]
    assert outcome == Delivered()


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_is_too_long_even_then_is_given_up(name: str) -> None:
    with Receiver(lambda _: Answer(TOO_LONG[name])) as receiver:
        outcome = sinks(receiver.url("/x"))[name].send(note(), NOW)
        assert len(receiver.requests) == 2
    assert kind(outcome) == "too long"


@pytest.mark.parametrize("name", ["dingtalk", "feishu", "wecom"])
def test_the_words_of_others_call_nobody(name: str) -> None:
    evil = "<at id=all></at><@all><!channel> @all"
    with Receiver(lambda _: Answer({"code": 0, "errcode": 0})) as receiver:
        sinks(receiver.url("/x"))[name].send(note(title=f"t {evil}", text=f"- {evil}"), NOW)
        body = receiver.requests[0].json
    if name == "feishu":
        assert "<" not in body["card"]["elements"][0]["text"]["content"]
    elif name == "wecom":
        assert "<" not in body["markdown"]["content"].replace("<font", "").replace("</font", "")
    else:  # only `at` calls people
        assert body["at"] == {"atMobiles": [], "atUserIds": [], "isAtAll": False}
