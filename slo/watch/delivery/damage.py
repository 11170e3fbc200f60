"""The message about an outbox that was damaged: what waited in it may never have been told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slo.watch.alerting.notification import Notification
from slo.watch.alerting.rules import DELIVERY_ALERT
from slo.watch.alerting.runbook import Language, entry_url

TOLD_S = 3600.0  # nothing ever resolves it, so it ends by itself where alerts are kept alive


def damaged(labels: Mapping[str, str], runbook: str, aside: Path, now: float) -> Notification:
    """`aside` is where the damaged file lies now, `labels` are those of the watch."""
    model, instance, folder = labels["model"], labels["instance"], aside.parent
    link_zh, link_en = _link(runbook, "zh", "处置手册"), _link(runbook, "en", "Runbook")
    return Notification(
        event_id=f"outbox-damaged-{aside.name}",
        status="firing",
        severity="page",
        title_zh=f"[告警] {model} 告警发件箱损坏，未送出的告警可能丢失 · {instance}",
        title_en=f"[page] {model} alert outbox damaged, unsent alerts may be lost · {instance}",
        text_zh=f"- **现象** 发件箱文件损坏，已移至 `{aside}`；新文件已启用，监视继续\n"
        "- **影响** 其中未送出的消息可能没有人收到\n\n"
        f"**下一步** 查看当前状态：`slo check`；检查磁盘：`df -h {folder}`{link_zh}",
        text_en=f"- **Users feel** nothing; the outbox file was damaged and moved to `{aside}`, a new one is in use\n"
        "- **Impact** messages that waited in it may have reached nobody\n\n"
        f"**Next** see how things stand: `slo check`; look at the disk: `df -h {folder}`{link_en}",
        labels={"alertname": DELIVERY_ALERT, "severity": "page", **labels},
        starts_at_s=now,
        ends_at_s=now + TOLD_S,
        group_key=f"{'/'.join(labels.values())}/{aside.name}",
        runbook_url=entry_url(runbook, DELIVERY_ALERT),
    )


def _link(runbook: str, language: Language, word: str) -> str:
    entry = entry_url(runbook, DELIVERY_ALERT, language)
    return f"\n\n[{word}]({entry})" if entry.startswith("http") else ""
