"""Units for systemd and lines for cron that keep the watch going without anybody logged in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where things lie on the machine that will run them: absolute paths."""

    folder: Path
    python: Path
    slo: Path
    config: Path
    user: str

    def __post_init__(self) -> None:
        for path in (self.folder, self.python, self.slo, self.config):
            if not path.is_absolute() or any(c in str(path) for c in " \t\n'\"%\\$"):
                raise ConfigError(f"{str(path)!r} cannot stand in a unit: absolute, without blanks, quotes, % or $")


def systemd_units(at: Installation) -> dict[str, str]:
    """File names and contents: the server, the watcher, and a timer that checks that the watcher lives."""
    common = f"""User={at.user}
WorkingDirectory={at.folder}
# Secrets of channels: lines of NAME=value, mode 0600.
EnvironmentFile=-{at.folder}/.slo/secrets.env
"""
    # Type=simple: --foreground runs until stopped. A first start loads the model for up to two minutes.
    server = f"""[Unit]
Description=Xinference with the embedding model of xinference-slo
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=simple
{common}ExecStart={at.python} launch_model_server.py --foreground --config {at.config}
Restart=on-failure
RestartSec=5
TimeoutStopSec=60
KillMode=mixed
# Each client's connection is an open file.
LimitNOFILE=65536
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
    # No Requires=: a watcher that stops with the server could not say that the server stopped.
    watch = f"""[Unit]
Description=xinference-slo: check P95 every minute and alert
After=network-online.target slo-server.service
Wants=network-online.target

[Service]
Type=simple
{common}ExecStart={at.slo} watch --config {at.config}
Restart=always
RestartSec=5
TimeoutStopSec=30
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
    check = f"""[Unit]
Description=xinference-slo: one check, independent of the watcher

[Service]
Type=oneshot
{common}ExecStart={at.slo} check --config {at.config}
# 1 is a missed objective, 3 too few samples: results, not failures of the unit.
SuccessExitStatus=1 3
"""
    timer = """[Unit]
Description=xinference-slo: a check every five minutes

[Timer]
OnBootSec=3min
OnUnitActiveSec=5min
RandomizedDelaySec=20s

[Install]
WantedBy=timers.target
"""
    return {
        "slo-server.service": server,
        "slo-watch.service": watch,
        "slo-check.service": check,
        "slo-check.timer": timer,
    }


def cron_lines(at: Installation) -> str:
    """A crontab. `flock -n` keeps slow checks from piling up; cron mails what is printed, so only trouble prints."""
    log = f"{at.folder}/.slo/check.log"
    check = f"flock -n .slo/check.lock {at.slo} check --config {at.config}"
    return f"""# xinference-slo: one check a minute. Install with `crontab -`; exit codes: 0 met, 1 missed, 3 unproven.
SHELL=/bin/sh
* * * * * cd {at.folder} && mkdir -p .slo && {check} >> {log} 2>&1 || tail -n 1 {log}
# Bounded: the last 10000 lines are kept.
7 4 * * * tail -n 10000 {log} > {log}.kept && mv {log}.kept {log}
"""
