"""
Recording and burn-rate rules for Prometheus, under Sloth's names, so that its dashboards (14348, 14643) work unchanged.

Three groups for each promise (SLI, metadata, alerts) and one for the watch itself. Numbers are written as literals: a
computed `1 - 0.95` would print 0.050000000000000044. The 30-day ratio adds rates of good and of all requests, so busy
hours count for more than quiet ones, unlike Sloth's own average of ratios.

Beside the rules: what Prometheus scrapes, and a configuration for Alertmanager that suits them: who is woken, who reads
it later, what hides what. A critical burn hides the page and the ticket of the same objective: they would say the same
later. Everything of one model comes in one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from slo.report.promise import METRIC, BurnWindow, Promise, Severity, literal, promql_window

SLOTH_VERSION = "v0.16.0"  # whose names these are
_SLOTH_SEVERITY = {"critical": "page", "page": "page", "ticket": "ticket", "info": "ticket"}
_INTERVAL = "30s"
JOB = "xinference-slo"  # of the scrape configuration
ALIVE = "slo_watcher_last_success_timestamp_seconds"
FAILED = "slo_alert_last_failure_timestamp_seconds"

Rule = dict[str, Any]
_SAME = ["model", "slo", "instance"]
METRICS_PATH = "/slo/metrics"
SCRAPED_EVERY = "15s"  # the dashboard's data source says so as well
WITHOUT_KEY = (
    "# With authentication on, set client.api_key_file and export again: the key is then read from that file.\n"
)


def rules_file(promises: Sequence[Promise], *, runbook: str, header: str = "") -> str:
    """The YAML of a rule file. `runbook` is the address that alert names are appended to, as `#latencybudgetburn`."""
    groups: list[Rule] = []
    for promise in promises:
        groups += [_sli(promise), _meta(promise), _alerts(promise, runbook)]
    groups.append(_watch(promises, runbook))
    return header + to_yaml({"groups": groups})


def sloth_labels(promise: Promise) -> dict[str, str]:
    """What ties the rules of one promise together."""
    return {"sloth_id": promise.id, "sloth_service": promise.model, "sloth_slo": promise.name}


def recorded_windows(promise: Promise) -> list[int]:
    """All window lengths in use, in seconds, and 5 minutes in any case: the current burn is shown over those."""
    used = {300} | {s for window in promise.windows for s in (window.long_s, window.short_s)}
    return sorted(used)


def to_yaml(data: Any) -> str:
    """Block style, in the order given, long expressions on lines of their own."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def summary_of(promise: Promise, severity: Severity) -> dict[str, str]:
    """One line in Chinese and English."""
    return {
        "summary": f"{promise.model}: {promise.title} is burning its error budget ({severity})",
        "summary_zh": f"{promise.model}：{promise.title} 的错误预算消耗过快（{severity}）",
    }


def _sli(promise: Promise) -> Rule:
    rules = []
    for seconds in recorded_windows(promise):
        window = promql_window(seconds)
        # `or vector(0)`: while nothing at all is good there is no such series, and the ratio must be 1, not absent.
        # `> 0`: without requests there is no ratio; NaN would spoil every sum over it.
        expr = (
            f"1 - (\n  (sum(rate({promise.good}[{window}])) or vector(0))\n  /\n"
            f"  (sum(rate({promise.counted}[{window}])) > 0)\n)"
        )
        labels = {**sloth_labels(promise), "sloth_window": window}
        rules.append({"record": f"slo:sli_error:ratio_rate{window}", "expr": expr, "labels": labels})
    labels = sloth_labels(promise)
    rules += [
        {"record": "slo:sli_good:rate5m", "expr": f"sum(rate({promise.good}[5m])) or vector(0)", "labels": labels},
        {"record": "slo:sli_total:rate5m", "expr": f"sum(rate({promise.counted}[5m]))", "labels": labels},
    ]
    period, same = f"{promise.period_days}d", _selector(promise)
    expr = (
        f"1 - (\n  sum_over_time(slo:sli_good:rate5m{same}[{period}])\n  /\n"
        f"  (sum_over_time(slo:sli_total:rate5m{same}[{period}]) > 0)\n)"
    )
    labels = {**sloth_labels(promise), "sloth_window": period}
    rules.append({"record": f"slo:sli_error:ratio_rate{period}", "expr": expr, "labels": labels})
    return {"name": f"sloth-slo-sli-recordings-{promise.id}", "interval": _INTERVAL, "rules": rules}


def _meta(promise: Promise) -> Rule:
    same = _selector(promise)
    per_budget = f"/ on(sloth_id, sloth_slo, sloth_service) group_left\nslo:error_budget:ratio{same}"
    info = {
        "sloth_version": SLOTH_VERSION,
        "sloth_mode": "xinference-slo",
        "sloth_spec": "prometheus/v1",
        "sloth_objective": literal(promise.target * 100),
    }
    rows: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("slo:objective:ratio", f"vector({literal(promise.target)})", {}),
        ("slo:error_budget:ratio", f"vector({literal(promise.budget)})", {}),
        ("slo:time_period:days", f"vector({promise.period_days})", {}),
        ("slo:current_burn_rate:ratio", f"slo:sli_error:ratio_rate5m{same}\n{per_budget}", {}),
        ("slo:period_burn_rate:ratio", f"slo:sli_error:ratio_rate{promise.period_days}d{same}\n{per_budget}", {}),
        ("slo:period_error_budget_remaining:ratio", f"1 - slo:period_burn_rate:ratio{same}", {}),
        ("sloth_slo_info", "vector(1)", info),
    )
    rules = [{"record": name, "expr": e, "labels": {**sloth_labels(promise), **more}} for name, e, more in rows]
    return {"name": f"sloth-slo-meta-recordings-{promise.id}", "interval": _INTERVAL, "rules": rules}


def _alerts(promise: Promise, runbook: str) -> Rule:
    rules = [
        {
            "alert": promise.alert,
            "expr": "\nor\n".join(_burning(promise, window) for window in windows),
            "labels": alert_labels(promise, severity),
            "annotations": {
                **summary_of(promise, severity),
                "description": "{{ $value | humanizePercentage }} of requests were bad over the long window;"
                f" {literal(promise.budget * 100)} % may be.",
                "runbook_url": f"{runbook}#{promise.alert.lower()}",
            },
        }
        for severity, windows in promise.severities().items()
    ]
    return {"name": f"sloth-slo-alerts-{promise.id}", "interval": _INTERVAL, "rules": rules}


def alert_labels(promise: Promise, severity: Severity) -> dict[str, str]:
    """Labels that the rule adds: no value among them changes."""
    return {
        "severity": severity,
        "sloth_severity": _SLOTH_SEVERITY[severity],
        "model": promise.model,
        "slo": promise.name,
    }


def _burning(promise: Promise, window: BurnWindow) -> str:
    """The long window says that it matters, the short one that it goes on, the counts that it is no accident."""
    same, limit = _selector(promise), f"({literal(window.factor)} * {literal(promise.budget)})"
    long, short = promql_window(window.long_s), promql_window(window.short_s)
    total = f"sum(increase({promise.counted}[{long}]))"
    bad = f"({total} - (sum(increase({promise.good}[{long}])) or vector(0)))"
    return (
        f"(\n  max(slo:sli_error:ratio_rate{long}{same} > {limit}) without (sloth_window)\n"
        f"  and\n  max(slo:sli_error:ratio_rate{short}{same} > {limit}) without (sloth_window)\n"
        f"  and on()\n  ({total} >= {promise.min_total})\n"
        f"  and on()\n  ({bad} >= {promise.min_bad})\n)"
    )


def _watch(promises: Sequence[Promise], runbook: str) -> Rule:
    """The rules about the watch itself: nothing measured, nobody watching, nothing delivered."""
    rows: list[tuple[str, str, str, Severity, str, str]] = []
    scraped = f'max(up{{job="{JOB}"}}) == 1'
    for model in dict.fromkeys(promise.model for promise in promises):
        # A server that cannot be scraped is ServerDown. One that idles has its series, at zero.
        expr = f'(absent({METRIC}_count{{model="{model}"}}) and on() ({scraped}))\nor\nabsent(up{{job="{JOB}"}})'
        rows.append(("NoData", expr, "5m", "page", f"{model}: nothing is measured", f"{model}：没有任何度量数据"))
    rows += [
        ("ServerDown", f'up{{job="{JOB}"}} == 0', "1m", "critical",
         "{{ $labels.instance }} cannot be scraped: make launch", "{{ $labels.instance }} 无法抓取：运行 make launch"),
        ("WatcherSilent", f"time() - ({ALIVE} > 0) > 180\nor\nmax({ALIVE}) == 0\nor\n"
         f"(absent({ALIVE}) and on() ({scraped}))", "1m", "page",
         "slo watch has completed no round for three minutes", "slo watch 已超过三分钟没有完成检查"),
        ("AlertsUndelivered", f"time() - max by (channel) ({FAILED} > 0) < 900", "0m", "page",
         "channel {{ $labels.channel }} loses alerts: slo alert test",
         "通道 {{ $labels.channel }} 未送达告警：运行 slo alert test"),
    ]  # fmt: skip
    rules = [
        {
            "alert": name,
            "expr": expr,
            "for": wait,
            "labels": {"severity": severity},
            "annotations": {"summary": en, "summary_zh": zh, "runbook_url": f"{runbook}#{name.lower()}"},
        }
        for name, expr, wait, severity, en, zh in rows
    ]
    return {"name": "slo-watch", "interval": _INTERVAL, "rules": rules}


def _selector(promise: Promise) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sloth_labels(promise).items()) + "}"


class _Dumper(yaml.SafeDumper):
    """Several lines as a block, and no anchors for labels that are equal."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def alertmanager_file(*, urgent_url: str, ticket_url: str, header: str = "") -> str:
    """The YAML. The two addresses take Alertmanager's webhooks, for what wakes people and for what can wait."""
    data: dict[str, Any] = {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": "slo-tickets",
            "group_by": ["alertname", "model", "instance"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [
                {
                    "receiver": "slo-urgent",
                    "matchers": ['severity=~"critical|page"'],
                    "group_wait": "10s",  # the rules have waited already
                    "repeat_interval": "1h",
                }
            ],
        },
        "inhibit_rules": [
            _hides('severity="critical"', 'severity=~"page|ticket"'),
            _hides('severity="page"', 'severity="ticket"'),
        ],
        "receivers": [_receiver("slo-urgent", urgent_url), _receiver("slo-tickets", ticket_url)],
    }
    return header + to_yaml(data)


def _hides(source: str, target: str) -> dict[str, Any]:
    return {
        "source_matchers": ['alertname=~".+BudgetBurn"', source],
        "target_matchers": ['alertname=~".+BudgetBurn"', target],
        "equal": _SAME,
    }


def _receiver(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]}


def prometheus_file(endpoint: str, *, rules: str, alertmanager: str, key_file: Path | None, header: str = "") -> str:
    """YAML. `rules` lies beside it; `key_file` holds the API key, which is never written here."""
    address = urlsplit(endpoint)
    job = {
        "job_name": JOB,
        "scheme": address.scheme,
        "metrics_path": f"{address.path.removesuffix('/v1').rstrip('/')}{METRICS_PATH}",
        **({"authorization": {"type": "Bearer", "credentials_file": str(key_file)}} if key_file else {}),
        "static_configs": [{"targets": [address.netloc]}],
    }
    return header + ("" if key_file else WITHOUT_KEY) + to_yaml({
        "global": {"scrape_interval": SCRAPED_EVERY, "evaluation_interval": "30s"},
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [job],
    })  # fmt: skip
