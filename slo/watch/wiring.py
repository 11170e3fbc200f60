"""What the configuration means for the watch: goals, rules, settings, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from slo.config import Config
from slo.watch.alerting.address import watched
from slo.watch.alerting.grouping import Policy
from slo.watch.alerting.round import Settings
from slo.watch.alerting.rules import Rulebook, make_rulebook
from slo.watch.budget.budget import parse_period
from slo.watch.budget.burn import Finding, load_tables
from slo.watch.history.compaction import Retention
from slo.watch.model.objectives import Goal, parse_goals
from slo.watch.remediation import Remedy, RemedyLimits

HISTORY_FILE = "history.db"


def history_path(config: Config) -> Path:
    """Where the history lies."""
    return config.state_dir / HISTORY_FILE


def goals_of(config: Config) -> tuple[Goal, ...]:
    """Every promise, the latency objective first. Raises `ConfigError` for one that cannot be read."""
    objectives = config.watch.objectives
    texts = {
        "latency": config.objective,
        "availability": objectives.availability,
        "correctness": objectives.correctness,
    }
    return parse_goals({name: text for name, text in texts.items() if text.strip()})


def rulebook_of(config: Config) -> Rulebook:
    """The alert rules. Raises `ConfigError` for an unreadable table or an unknown preset."""
    watch = config.watch
    return make_rulebook(
        goals_of(config),
        load_tables(watch.burn.file),
        period=parse_period(watch.budget.period, zone=watch.budget.timezone),
        presets={
            "latency": watch.burn.latency,
            "availability": watch.burn.availability,
            "correctness": watch.burn.correctness,
        },
        interval_s=interval_of(config),
        window_s=watch.window,
        no_data_after_s=watch.no_data.alert_after,
    )


def interval_of(config: Config) -> int:
    """Seconds per row of history: whole, and at least one, whatever the interval between checks."""
    return max(1, round(config.watch.interval))


def settings_of(config: Config) -> Settings:
    """All that the engine is set to."""
    watch, rulebook = config.watch, rulebook_of(config)
    period = parse_period(watch.budget.period, zone=watch.budget.timezone)
    return Settings(
        goals=goals_of(config),
        rulebook=rulebook,
        period=period,
        labels=watched(config),
        interval_s=interval_of(config),
        window_s=max(interval_of(config), round(watch.window)),
        bad_after_s=watch.no_data.bad_after,
        policy=Policy(group_interval_s=watch.notify.group_interval, repeat_s=watch.notify.repeat),
        retention=Retention(
            # Alerts must find minutes as far back as their windows reach; a calendar month may have 31 days.
            minutes_s=max(watch.store.minutes, rulebook.longest_s + 3600),
            fives_s=watch.store.five_minutes,
            hours_s=watch.store.hours,
            period_s=1.05 * period.length_s,
        ),
    )


def enabled_remedies(config: Config) -> dict[Remedy, bool]:
    """Which remedies may be carried out without a person."""
    allowed = config.watch.remediation
    return {
        "relaunch_model": allowed.relaunch_model,
        "restart_server": allowed.restart_server,
        "add_replica": allowed.add_replica,
        "shed": allowed.shed,
        "clear_cache": allowed.clear_cache,
    }


def limits_of(config: Config) -> RemedyLimits:
    """Bounds on automatic remedies."""
    allowed = config.watch.remediation
    return RemedyLimits(cool_down_s=allowed.cool_down, per_hour=allowed.per_hour, settle_s=allowed.settle)


def lint(config: Config) -> list[Finding]:
    """What is wrong with the watch: alerts that can never fire or fire late, windows that cannot be seen.

    Raises `ConfigError` for what cannot even be read.
    """
    findings = list(rulebook_of(config).findings)
    if config.watch.window < config.watch.interval:
        findings.append(Finding("error", "watch.window is shorter than watch.interval: most checks would see nothing"))
    if config.watch.source.kind == "prometheus" and not config.watch.source.prometheus_url:
        findings.append(Finding("error", "watch.source.kind is prometheus, but prometheus_url is not set"))
    return findings
