"""Which environment variables hold secrets of alert channels. Light: the server's keeper imports it, too."""

from __future__ import annotations

NAMED_PREFIX = "SLO_CHANNEL_"  # of channels of alerts.more, followed by their name
PARTS = {
    "webhook": ("URL", "SECRET"), "dingtalk": ("URL", "SECRET"), "feishu": ("URL", "SECRET"), "wecom": ("URL",),
    "slack": ("URL",), "smtp": ("PASSWORD",),
}  # fmt: skip


def secret_variable(name: str, part: str, *, named: bool) -> str:
    """The environment variable for the `part` (URL, SECRET, PASSWORD) of a channel's secrets."""
    return f"{NAMED_PREFIX if named else 'SLO_'}{name.upper()}_{part}"


CHANNEL_SECRETS = frozenset(secret_variable(kind, part, named=False) for kind, parts in PARTS.items() for part in parts)


def is_channel_secret(variable: str) -> bool:
    """Does this environment variable hold the secret of a channel? The server and its keeper need none of them."""
    return variable in CHANNEL_SECRETS or variable.startswith(NAMED_PREFIX)
