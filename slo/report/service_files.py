"""Units for systemd and lines for cron that keep the watch going without anybody logged in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where things lie on the machine that will run them: absolute paths."""

    folder: Path
    slo: Path
    config: Path
    user: str
    watch_interval_s: float = 60.0

    def __post_init__(self) -> None:
        for path in (self.folder, self.slo, self.config):
            if not path.is_absolute() or any(c in str(path) for c in " \t\n'\"%\\$"):
                raise ConfigError(f"{str(path)!r} cannot stand in a unit: absolute, without blanks, quotes, % or $")


def systemd_units(at: Installation) -> dict[str, str]:
    """File names and contents: the server, the watcher, and a timer that checks that the watcher lives."""
    common = f"""User={at.user}
WorkingDirectory={at.folder}
# Secrets of channels: lines of NAME=value, mode 0600.
EnvironmentFile=-{at.folder}/.slo/secrets.env
"""
    # --foreground says when the model answers; a first start converts it, which may take minutes. From then on it is a
    # small process that starts the server again when it dies, and that systemd watches. The kernel may end a model
    # process for want of memory: it comes back in two seconds, unless systemd stops the rest for it (OOMPolicy).
    server = f"""[Unit]
Description=Xinference with the embedding model of xinference-slo
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
{common}ExecStart={at.slo} launch --foreground --config {at.config}
TimeoutStartSec=15min
# Stopped while it starts.
SuccessExitStatus=143
TimeoutStopSec=60
WatchdogSec=90
Restart=on-failure
RestartSec=5
KillMode=mixed
OOMPolicy=continue
# Each client's connection is an open file.
LimitNOFILE=65536
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
    # No Requires=: a watcher that stops with the server could not say that the server stopped. KillMode=process: what a
    # remedy has started outlives a restart of the watcher. No round for so long: the watcher hangs and is replaced.
    silence_s = max(300, round(3 * at.watch_interval_s) + 120)
    watch = f"""[Unit]
Description=xinference-slo: check P95 every minute and alert
After=network-online.target slo-server.service
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
{common}ExecStart={at.slo} watch --config {at.config}
WatchdogSec={silence_s}
SuccessExitStatus=143
Restart=always
RestartSec=5
TimeoutStopSec=30
KillMode=process
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
    """A crontab. A slow check keeps the next one from starting; cron mails what is printed: changes of the verdict."""
    log = f"{at.folder}/.slo/check.log"
    check = f"{at.slo} check --config {at.config} >> {log} 2>&1; now=$?"
    state = "mkdir -p -m 700 .slo"  # as a launch makes it: it will hold keys
    compare = 'was=$(cat .slo/check.code 2>/dev/null); echo $now > .slo/check.code; test "$now" = "${was:-0}"'
    return f"""# xinference-slo: one check a minute. Install with `crontab -`; exit codes: 0 met, 1 missed, 3 unproven.
# A mail comes when the verdict changes, not every minute of an outage.
SHELL=/bin/sh
* * * * * cd {at.folder} && {state} && flock -n -E 0 .slo/check.lock sh -c '{check}; {compare} || tail -n 1 {log}'
# Bounded: the last 10000 lines are kept.
7 4 * * * tail -n 10000 {log} > {log}.kept && mv {log}.kept {log}
"""
