"""A thousand alerts in a minute, through real channels, to robots that block whoever sends more than 20 a minute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slo.clock import ManualClock
from slo.watch.delivery.sinks.outcome import Sink
from slo.watch.model.notification import Severity
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note
from tests.watch.delivery.sinks.test_dingtalk import DingTalk
from tests.watch.delivery.sinks.test_dingtalk import sink_for as dingtalk_sink
from tests.watch.delivery.sinks.test_feishu import Feishu
from tests.watch.delivery.sinks.test_feishu import sink_for as feishu_sink
from tests.watch.delivery.sinks.test_wecom import WeCom
from tests.watch.delivery.sinks.test_wecom import sink_for as wecom_sink
from tests.watch.fake_sink import outbox_in, pump_for

Provider = DingTalk | Feishu | WeCom


@pytest.mark.parametrize(
    ("provider", "sink_for"),
    [
        pytest.param(DingTalk(), dingtalk_sink, id="dingtalk"),
        pytest.param(Feishu(), feishu_sink, id="feishu"),
        pytest.param(WeCom(), wecom_sink, id="wecom"),
        pytest.param(WeCom(), lambda receiver: wecom_sink(receiver, mention_all=True), id="wecom calling everybody"),
    ],
)
def test_no_robot_is_ever_blocked_and_critical_alerts_come_first(
    provider: Provider, sink_for: Callable[[Receiver], Sink], tmp_path: Path
) -> None:
    clock = ManualClock()
    provider.throttle.per_minute = 20

    def rules(request: Request) -> Answer:
        provider.now = clock.wall()
        return provider(request)

    with Receiver(rules) as receiver:
        outbox = outbox_in(tmp_path, {"robot": sink_for(receiver)}, clock)
        for number in range(1000):
            severity: Severity = "critical" if number in (400, 999) else "ticket"
            outbox.put(note(f"{number}", severity=severity, group_key=f"{number}", title=f"[{number}]"))
        pump_for(outbox, clock, 300)
        assert provider.throttle.blocked_until_s == 0
        assert provider.throttle.most_in_a_minute() <= 20
        assert outbox.next_in_s() is None
        assert outbox.undelivered() == []
        assert outbox.totals()[("robot", "delivered")] <= 20
        # The first two that came, whatever calls to everybody stand between.
        told = [r.body.decode() for r in receiver.requests if '"text":{"content"' not in r.body.decode()]
        assert "[400]" in told[0]
        assert "[999]" in told[1]
