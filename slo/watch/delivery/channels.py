"""
The channels and the outbox as the configuration wants them: what `slo watch`, `slo check` and `slo alert` send through.

Each channel has its secrets from the environment or from a file. One that is enabled but lacks something is an error
at once, not at the first alert.
"""

# ruff: noqa: PLC0415 - a watch loads those kinds of channels that it has
from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.errors import ConfigError
from slo.settings_alerts import (
    PARTS,
    AlertsSection,
    RobotSection,
    SlackSection,
    SmtpSection,
    WebhookSection,
    WeComSection,
    secret_variable,
)
from slo.watch.alerting.address import runbook_of, watched
from slo.watch.alerting.diagnosis import Language, entry_url
from slo.watch.alerting.rules import DELIVERY_ALERT
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes, RetryPolicy
from slo.watch.delivery.sinks.local import ConsoleSink, FileSink
from slo.watch.delivery.sinks.outcome import Sink
from slo.watch.delivery.sinks.secret import Secret, find_secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.model.notification import Notification


def channel_names(alerts: AlertsSection) -> tuple[str, ...]:
    """Every channel that is set up, the local ones first."""
    local = [name for name, on in (("console", alerts.console.enabled), ("file", alerts.file.enabled)) if on]
    peers = ["alertmanager"] if alerts.alertmanager.peers else []
    return (*local, *peers, *(channel.name for channel in _remote(alerts)))


def build_sinks(
    alerts: AlertsSection, *, state_dir: Path, environ: Mapping[str, str], console: TextIO
) -> dict[str, Sink]:
    """Channels by name, the local ones first. Raises `ConfigError` naming what is missing.

    Two channels that speak to one robot are an error: each would keep the provider's limit, and both together not.
    """
    wire = Wire(timeout_s=alerts.timeout, ca_file=alerts.ca_file)
    sinks: dict[str, Sink] = {}
    if alerts.console.enabled:
        sinks["console"] = ConsoleSink(console, language=alerts.language)
    if alerts.file.enabled:
        sinks["file"] = FileSink(state_dir / alerts.file.path)
    if alerts.alertmanager.peers:
        peers = [Secret(peer, "alerts.alertmanager.peers") for peer in alerts.alertmanager.peers]
        repeat_s = alerts.alertmanager.repeat
        from slo.watch.delivery.sinks.alertmanager_push import AlertmanagerSink

        sinks["alertmanager"] = AlertmanagerSink(peers, wire=wire, repeat_every_s=repeat_s, language=alerts.language)
    taken: dict[str, str] = {}
    for channel in _remote(alerts):
        sinks[channel.name] = _sink(channel, alerts, environ, wire, taken)
    return sinks


def lacking(alerts: AlertsSection, environ: Mapping[str, str]) -> list[str]:
    """A sentence for every channel that could not be made here and now, for want of a secret for example."""
    wire, taken, found = Wire(timeout_s=alerts.timeout, ca_file=alerts.ca_file), dict[str, str](), []
    for channel in _remote(alerts):
        try:
            _sink(channel, alerts, environ, wire, taken)
        except ConfigError as error:
            found.append(str(error))
    return found


@dataclass(frozen=True, slots=True)
class _Channel:
    """One that sends over the network: its name, what it is, its settings, and where they stand."""

    name: str
    kind: str
    section: WebhookSection | RobotSection | WeComSection | SlackSection | SmtpSection
    where: str

    def variable(self, part: str) -> str:
        """The environment variable for a part of its secrets."""
        return secret_variable(self.name, part, named=self.where.startswith("alerts.more."))


def _remote(alerts: AlertsSection) -> list[_Channel]:
    plain = [_Channel(kind, kind, getattr(alerts, kind), f"alerts.{kind}") for kind in PARTS]
    named = [_Channel(name, more.kind, more, f"alerts.more.{name}") for name, more in alerts.more.items()]
    return [channel for channel in (*plain, *named) if channel.section.enabled]


def _sink(
    channel: _Channel, alerts: AlertsSection, environ: Mapping[str, str], wire: Wire, taken: dict[str, str]
) -> Sink:
    """The channel with its secrets; `taken` names the channel of every address so far."""
    language, section = alerts.language, channel.section
    if isinstance(section, SmtpSection):
        return _smtp(channel, section, alerts, environ, wire)
    address = _required(channel, "URL", section.url_file, "url_file", environ)
    other = taken.setdefault(address.reveal(), channel.name)
    if other != channel.name:
        raise ConfigError(f"the same address as {other!r}", where=channel.where,
                          hint="name that channel in alerts.routes instead")  # fmt: skip
    if isinstance(section, SlackSection):
        from slo.watch.delivery.sinks.slack import SlackSink

        return SlackSink(address, wire=wire, language=language)
    if isinstance(section, WeComSection):
        from slo.watch.delivery.sinks.wecom import WeComSink

        return WeComSink(
            address, wire=wire, user_ids=section.mention, mention_all=section.mention_all, language=language
        )
    secret = find_secret(channel.variable("SECRET"), section.secret_file, environ)
    if isinstance(section, WebhookSection):
        from slo.watch.delivery.sinks.webhook import WebhookSink

        return WebhookSink(address, wire=wire, secret=secret, language=language, external_url=alerts.external_url)
    if channel.kind == "feishu":
        from slo.watch.delivery.sinks.feishu import FeishuSink

        return FeishuSink(
            address, wire=wire, secret=secret, keyword=section.keyword, user_ids=section.mention,
            mention_all=section.mention_all, language=language,
        )  # fmt: skip
    from slo.watch.delivery.sinks.dingtalk import DingTalkSink

    return DingTalkSink(
        address, wire=wire, secret=secret, keyword=section.keyword, mobiles=section.mention,
        mention_all=section.mention_all, language=language,
    )  # fmt: skip


def build_routes(alerts: AlertsSection) -> ChannelRoutes:
    """The routes, checked: every channel that they name must be set up, but for a fallback, which may be missing."""
    routes, names = alerts.routes, channel_names(alerts)
    by_severity = {"critical": routes.critical, "page": routes.page, "ticket": routes.ticket, "info": routes.info}
    for severity, wanted in by_severity.items():
        for name in wanted:
            if name not in names:
                raise ConfigError(
                    f"channel {name!r} is not set up",
                    where=f"alerts.routes.{severity}",
                    hint=f"there are: {', '.join(names) or 'none'}",
                )
    return ChannelRoutes(
        channels=names,
        by_severity={
            "critical": routes.critical,
            "page": routes.page,
            "ticket": routes.ticket,
            "info": routes.info,
        },
        fallback=tuple(name for name in routes.fallback if name in names),
    )


def _smtp(channel: _Channel, mail: SmtpSection, alerts: AlertsSection, environ: Mapping[str, str], wire: Wire) -> Sink:
    from slo.watch.delivery.sinks.smtp import MailServer, SmtpSink

    for key, value in (("host", mail.host), ("sender", mail.sender), ("recipients", mail.recipients)):
        if not value:
            raise ConfigError("is empty", where=f"{channel.where}.{key}", hint="mail needs host, sender and recipients")
    password = _required(channel, "PASSWORD", mail.password_file, "password_file", environ) if mail.user else None
    server = MailServer(
        host=mail.host,
        port=mail.port,
        security=mail.security,
        tls=wire.tls,
        user=mail.user,
        password=password,
        timeout_s=alerts.timeout,
    )
    return SmtpSink(server, sender=mail.sender, recipients=mail.recipients, language=alerts.language)


def _required(channel: _Channel, part: str, file: Path | None, key: str, environ: Mapping[str, str]) -> Secret:
    variable = channel.variable(part)
    secret = find_secret(variable, file, environ)
    if secret is None:
        raise ConfigError(
            f"enabled, but neither {variable} nor {key} gives its secret",
            where=channel.where,
            hint="or set enabled: false",
        )
    return secret


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


OUTBOX_FILE = "outbox.db"


def longest_send_s(config: Config) -> float:
    """When a channel is taken to hang: beyond what its own bound allows, three time-outs for a mail."""
    return 4 * config.alerts.timeout


@contextmanager
def open_outbox(
    config: Config, *, environ: Mapping[str, str] | None = None, console: TextIO | None = None,
    clock: Clock | None = None,
) -> Iterator[Outbox]:  # fmt: skip
    """The outbox of `config.state_dir`. Raises `ConfigError` for a channel that lacks something."""
    sinks = build_sinks(
        config.alerts,
        state_dir=config.state_dir,
        environ=os.environ if environ is None else environ,
        console=console or sys.stderr,
    )
    routes = build_routes(config.alerts)
    retry = config.alerts.retry
    policy = RetryPolicy(
        first_s=retry.first, cap_s=retry.cap, fallback_after=retry.fallback_after, give_up_s=retry.give_up
    )
    store = OutboxStore(config.state_dir / OUTBOX_FILE)
    try:
        yield Outbox(
            store,
            sinks,
            routes,
            clock=clock or SystemClock(),
            policy=policy,
            longest_send_s=longest_send_s(config),
            damage=partial(damaged, watched(config), runbook_of(config)),
        )
    finally:
        store.close()
