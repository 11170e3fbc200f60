"""
The section `alerts` of the configuration: who is told, by which channels.

Also which environment variables hold secrets of channels (`channel_secrets`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from slo.settings import Address, Duration, Section

NAMED_PREFIX = "SLO_CHANNEL_"  # of channels of alerts.more, followed by their name
PARTS = {
    "webhook": ("URL", "SECRET"), "dingtalk": ("URL", "SECRET"), "feishu": ("URL", "SECRET"), "wecom": ("URL",),
    "slack": ("URL",), "smtp": ("PASSWORD",),
}  # fmt: skip
# Secrets of alert channels: read where the channel is made, never part of the configuration.


def secret_variable(name: str, part: str, *, named: bool) -> str:
    """The environment variable for the `part` (URL, SECRET, PASSWORD) of a channel's secrets."""
    return f"{NAMED_PREFIX if named else 'SLO_'}{name.upper()}_{part}"


CHANNEL_SECRETS = frozenset(secret_variable(kind, part, named=False) for kind, parts in PARTS.items() for part in parts)


def is_channel_secret(variable: str) -> bool:
    """Does this environment variable hold the secret of a channel? The server and its keeper need none of them."""
    return variable in CHANNEL_SECRETS or variable.startswith(NAMED_PREFIX)


class RoutesSection(Section):
    """Channels by severity; an empty list means all that are set up."""

    critical: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    ticket: tuple[str, ...] = ()
    info: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ("file",)


class RetrySection(Section):
    """How an undelivered notification is tried again."""

    first: Duration = Field(5.0, gt=0)
    cap: Duration = Field(300.0, gt=0, le=3600)
    fallback_after: int = Field(3, ge=1)
    give_up: Duration = Field(6 * 3600.0, gt=0)


class AlertFileSection(Section):
    """Notifications as JSON lines; `path` is below the state directory unless absolute."""

    enabled: bool = True
    path: Path = Path("alerts.jsonl")


class ConsoleSection(Section):
    """Notifications on stderr."""

    enabled: bool = True


class WebhookSection(Section):
    """A generic webhook. Address: `SLO_WEBHOOK_URL` or `url_file`; key: `SLO_WEBHOOK_SECRET` or `secret_file`."""

    enabled: bool = False
    url_file: Path | None = None
    secret_file: Path | None = None


class AlertmanagerSection(Section):
    """Push to every one of `peers`."""

    peers: tuple[Address, ...] = ()
    repeat: Duration = Field(60.0, ge=1, le=100)  # Alertmanager forgets after five minutes


class RobotSection(Section):
    """A group robot. Address and key as for the webhook, e.g. `SLO_DINGTALK_URL` and `SLO_DINGTALK_SECRET`."""

    enabled: bool = False
    url_file: Path | None = None
    secret_file: Path | None = None
    keyword: str = ""
    mention: tuple[str, ...] = ()
    mention_all: bool = False


class SlackSection(Section):
    """Slack. Address: `SLO_SLACK_URL` or `url_file`."""

    enabled: bool = False
    url_file: Path | None = None


class WeComSection(Section):
    """WeCom. Address, key included: `SLO_WECOM_URL` or `url_file`."""

    enabled: bool = False
    url_file: Path | None = None
    mention: tuple[str, ...] = ()
    mention_all: bool = False


class SmtpSection(Section):
    """Mail. Password: `SLO_SMTP_PASSWORD` or `password_file`; without a user there is no login."""

    enabled: bool = False
    host: str = ""
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls"] = "starttls"
    user: str = ""
    password_file: Path | None = None
    sender: str = ""
    recipients: tuple[str, ...] = ()


class NamedWebhook(WebhookSection):
    """A further webhook."""

    kind: Literal["webhook"]
    enabled: bool = True


class NamedRobot(RobotSection):
    """A further robot of DingTalk or Feishu."""

    kind: Literal["dingtalk", "feishu"]
    enabled: bool = True


class NamedWeCom(WeComSection):
    """A further robot of WeCom."""

    kind: Literal["wecom"]
    enabled: bool = True


class NamedSlack(SlackSection):
    """A further channel of Slack."""

    kind: Literal["slack"]
    enabled: bool = True


class NamedSmtp(SmtpSection):
    """Mail to others, or by another server."""

    kind: Literal["smtp"]
    enabled: bool = True


ChannelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
NamedSection = Annotated[NamedWebhook | NamedRobot | NamedWeCom | NamedSlack | NamedSmtp, Field(discriminator="kind")]


class AlertsSection(Section):
    """Who is told, by which channels, in which language."""

    language: Literal["zh", "en", "both"] = "zh"
    timeout: Duration = Field(10.0, gt=0, le=60)
    ca_file: Path | None = None
    external_url: Address = ""
    routes: RoutesSection = RoutesSection()
    retry: RetrySection = RetrySection()
    console: ConsoleSection = ConsoleSection()
    file: AlertFileSection = AlertFileSection()
    webhook: WebhookSection = WebhookSection()
    alertmanager: AlertmanagerSection = AlertmanagerSection()
    dingtalk: RobotSection = RobotSection()
    feishu: RobotSection = RobotSection()
    wecom: WeComSection = WeComSection()
    slack: SlackSection = SlackSection()
    smtp: SmtpSection = SmtpSection()
    more: dict[ChannelName, NamedSection] = Field(default_factory=dict)

    @field_validator("more")
    @classmethod
    def _names_are_free(cls, more: dict[str, Any]) -> dict[str, Any]:
        for name in more:
            if name in cls.model_fields:
                raise ValueError(f"{name!r} is taken: give the channel a name of its own")
        return more


def named_secrets(alerts: AlertsSection) -> frozenset[str]:
    """The environment variables that the channels of `alerts.more` may take their secrets from."""
    return frozenset(
        secret_variable(name, part, named=True) for name, section in alerts.more.items() for part in PARTS[section.kind]
    )
