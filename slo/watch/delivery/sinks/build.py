"""
The channels that the configuration sets up, each with its secrets from the environment or from a file.

A channel that is enabled but lacks something is an error at once, not at the first alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from slo.config import AlertsSection
from slo.errors import ConfigError
from slo.watch.delivery.routing import Routes
from slo.watch.delivery.sinks.alertmanager import AlertmanagerSink
from slo.watch.delivery.sinks.console import ConsoleSink
from slo.watch.delivery.sinks.dingtalk import DingTalkSink
from slo.watch.delivery.sinks.feishu import FeishuSink
from slo.watch.delivery.sinks.file import FileSink
from slo.watch.delivery.sinks.outcome import Sink
from slo.watch.delivery.sinks.secret import Secret, find_secret
from slo.watch.delivery.sinks.slack import SlackSink
from slo.watch.delivery.sinks.smtp import MailServer, SmtpSink
from slo.watch.delivery.sinks.webhook import WebhookSink
from slo.watch.delivery.sinks.wecom import WeComSink
from slo.watch.delivery.sinks.wire import Wire


def build_sinks(
    alerts: AlertsSection, *, state_dir: Path, environ: Mapping[str, str], console: TextIO
) -> dict[str, Sink]:
    """Channels by name, the local ones first. Raises `ConfigError` naming what is missing."""
    wire = Wire(timeout_s=alerts.timeout, ca_file=alerts.ca_file)
    language = alerts.language
    sinks: dict[str, Sink] = {}

    def address(name: str, file: Path | None) -> Secret:
        return _required(f"SLO_{name.upper()}_URL", file, environ, f"alerts.{name}", "url_file")

    if alerts.console.enabled:
        sinks["console"] = ConsoleSink(console, language=language)
    if alerts.file.enabled:
        sinks["file"] = FileSink(state_dir / alerts.file.path)
    if alerts.webhook.enabled:
        sinks["webhook"] = WebhookSink(
            address("webhook", alerts.webhook.url_file),
            wire=wire,
            secret=find_secret("SLO_WEBHOOK_SECRET", alerts.webhook.secret_file, environ),
            language=language,
            external_url=alerts.external_url,
        )
    if alerts.alertmanager.peers:
        peers = [Secret(peer, "alerts.alertmanager.peers") for peer in alerts.alertmanager.peers]
        repeat_s = alerts.alertmanager.repeat
        sinks["alertmanager"] = AlertmanagerSink(peers, wire=wire, repeat_every_s=repeat_s, language=language)
    if alerts.dingtalk.enabled:
        robot = alerts.dingtalk
        sinks["dingtalk"] = DingTalkSink(
            address("dingtalk", robot.url_file),
            wire=wire,
            secret=find_secret("SLO_DINGTALK_SECRET", robot.secret_file, environ),
            keyword=robot.keyword,
            mobiles=robot.mention,
            mention_all=robot.mention_all,
            language=language,
        )
    if alerts.feishu.enabled:
        robot = alerts.feishu
        sinks["feishu"] = FeishuSink(
            address("feishu", robot.url_file),
            wire=wire,
            secret=find_secret("SLO_FEISHU_SECRET", robot.secret_file, environ),
            keyword=robot.keyword,
            user_ids=robot.mention,
            mention_all=robot.mention_all,
            language=language,
        )
    if alerts.wecom.enabled:
        sinks["wecom"] = WeComSink(
            address("wecom", alerts.wecom.url_file),
            wire=wire,
            user_ids=alerts.wecom.mention,
            mention_all=alerts.wecom.mention_all,
            language=language,
        )
    if alerts.slack.enabled:
        sinks["slack"] = SlackSink(address("slack", alerts.slack.url_file), wire=wire, language=language)
    if alerts.smtp.enabled:
        sinks["smtp"] = _smtp(alerts, environ, wire)
    return sinks


def build_routes(alerts: AlertsSection, sinks: Mapping[str, Sink]) -> Routes:
    """The routes, checked: every channel that they name must be set up, but for a fallback, which may be missing."""
    routes = alerts.routes
    by_severity = {"critical": routes.critical, "page": routes.page, "ticket": routes.ticket, "info": routes.info}
    for severity, names in by_severity.items():
        for name in names:
            if name not in sinks:
                raise ConfigError(
                    f"channel {name!r} is not set up",
                    where=f"alerts.routes.{severity}",
                    hint=f"there are: {', '.join(sinks) or 'none'}",
                )
    return Routes(
        channels=tuple(sinks),
        by_severity={
            "critical": routes.critical,
            "page": routes.page,
            "ticket": routes.ticket,
            "info": routes.info,
        },
        fallback=tuple(name for name in routes.fallback if name in sinks),
    )


def _smtp(alerts: AlertsSection, environ: Mapping[str, str], wire: Wire) -> SmtpSink:
    mail = alerts.smtp
    for key, value in (("host", mail.host), ("sender", mail.sender), ("recipients", mail.recipients)):
        if not value:
            raise ConfigError("is empty", where=f"alerts.smtp.{key}", hint="mail needs host, sender and recipients")
    password = None
    if mail.user:
        password = _required("SLO_SMTP_PASSWORD", mail.password_file, environ, "alerts.smtp", "password_file")
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


def _required(variable: str, file: Path | None, environ: Mapping[str, str], where: str, key: str) -> Secret:
    secret = find_secret(variable, file, environ)
    if secret is None:
        raise ConfigError(
            f"enabled, but neither {variable} nor {key} gives its secret", where=where, hint="or set enabled: false"
        )
    return secret
