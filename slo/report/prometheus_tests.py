"""
Unit tests for the exported rules, as `promtool test rules` reads them: every alert fires, resolves, and keeps still.

For each severity a bad ratio between its own threshold and the next more urgent one, then none; a ratio within the
budget, and one bad request in a quiet hour, which must wake nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slo.report.prometheus import ALIVE, FAILED, JOB, sloth_labels, to_yaml
from slo.report.promise import ONLINE, Promise, Severity, literal, promql_window
from slo.report.promtool import ONE_CLASS, _braces, expect, input_series, ratio_for, series, step_s

_UP = f'up{{job="{JOB}",instance="127.0.0.1:9997"}}'


def tests_file(promises: Sequence[Promise], *, rules: str, runbook: str, header: str = "") -> str:
    """The YAML of a test file for the rule file named `rules`."""
    tests: list[dict[str, Any]] = []
    for promise in promises:
        severities = promise.severities()
        tests += [_fires(promise, severity, runbook) for severity in severities]
        tests += [_within_budget(promise), _one_bad_request(promise)]
        if severities:
            tests += [_after_a_healthy_time(promise), _first_interval(promise)]
    for model in dict.fromkeys(promise.model for promise in promises):
        tests += [_no_data(model, runbook), _idle(model)]
    tests += [_down(runbook), *_watchers(runbook), _undelivered(runbook)]
    return header + to_yaml({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests})


def _fires(promise: Promise, severity: Severity, runbook: str) -> dict[str, Any]:
    """Bad from the start, then good: what should fire does, and falls silent once its short window is clean."""
    bad = ratio_for(promise, severity)
    start_s = 1800
    short_s = max(window.short_s for windows in promise.severities().values() for window in windows)
    end_s = start_s + short_s + 300
    return {
        "name": f"{promise.id}: {literal(bad * 100)} % bad fires {severity}, and it ends",
        "interval": f"{step_s(promise)}s",
        "input_series": series(promise, [(start_s, bad), (end_s - start_s + 600, 0.0)]),
        "alert_rule_test": [
            expect(promise, start_s, bad, runbook),
            {"eval_time": promql_window(end_s), "alertname": promise.alert},
        ],
    }


def _after_a_healthy_time(promise: Promise) -> dict[str, Any]:
    """A full stall, after the longest of the most urgent rows was all good: how long until it fires."""
    severity, windows = next(iter(promise.severities().items()))
    row = windows[0]
    healthy_s = row.long_s
    # Minutes are what rules are evaluated in; the rate needs its first samples, hence one more.
    needed_s = row.factor * promise.budget * row.long_s
    fires_s = healthy_s + int(-(-needed_s // 60) * 60) + 120
    return {
        "name": f"{promise.id}: a full stall fires {severity} within {promql_window(fires_s - healthy_s)}",
        "interval": f"{step_s(promise)}s",
        "input_series": series(promise, [(healthy_s, 0.0), (fires_s - healthy_s + 600, 1.0)]),
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{promise.alert}",severity="{severity}",alertstate="firing"}})',
                "eval_time": promql_window(fires_s),
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
        "alert_rule_test": [{"eval_time": promql_window(healthy_s), "alertname": promise.alert}],
    }


def _within_budget(promise: Promise) -> dict[str, Any]:
    bad = round(promise.budget * 0.8, 6)
    return {
        "name": f"{promise.id}: {literal(bad * 100)} % bad is within the budget",
        "interval": f"{step_s(promise)}s",
        "input_series": series(promise, [(7200, bad)]),
        "alert_rule_test": [{"eval_time": "2h", "alertname": promise.alert}],
        "promql_expr_test": [
            {
                "expr": f'round(slo:current_burn_rate:ratio{{sloth_id="{promise.id}"}}, 0.001)',
                "eval_time": "2h",
                "exp_samples": [
                    {
                        "labels": _braces({**sloth_labels(promise), "sloth_window": "5m"}),
                        "value": 0.8,
                    }
                ],
            }
        ],
    }


def _one_bad_request(promise: Promise) -> dict[str, Any]:
    """100 % bad, of one request."""
    total, good = input_series(promise)
    steps = 120
    return {
        "name": f"{promise.id}: one bad request in a quiet hour wakes nobody",
        "interval": "30s",
        "input_series": [
            {"series": total, "values": f"0x{steps // 2} 1x{steps // 2}"},
            {"series": good, "values": f"0x{steps + 1}"},
        ],
        "alert_rule_test": [{"eval_time": t, "alertname": promise.alert} for t in ("31m", "35m", "1h")],
    }


def _no_data(model: str, runbook: str) -> dict[str, Any]:
    expected = {
        "exp_labels": {"severity": "page", "model": model},
        "exp_annotations": {
            "summary": f"{model}: nothing is measured",
            "summary_zh": f"{model}：没有任何度量数据",
            "runbook_url": f"{runbook}#nodata",
        },
    }
    series = f'slo_request_duration_seconds_count{{model="{model}",code="2xx"}}'
    return {
        "name": f"{model}: a server without this model is an alert, and so is one that is not scraped at all",
        "interval": "1m",
        "input_series": [{"series": series, "values": "0+10x10"}, {"series": _UP, "values": "1x24"}],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": "NoData"},
            {"eval_time": "24m", "alertname": "NoData", "exp_alerts": [expected]},
        ],
    }


def _idle(model: str) -> dict[str, Any]:
    series = f'slo_request_duration_seconds_count{{model="{model}",code="2xx"}}'
    alive = {"series": ALIVE, "values": "0+60x60"}
    return {
        "name": f"{model}: a healthy server that idles wakes nobody",
        "interval": "1m",
        "input_series": [{"series": series, "values": "0x60"}, {"series": _UP, "values": "1x60"}, alive],
        "alert_rule_test": [
            {"eval_time": "1h", "alertname": name} for name in ("NoData", "ServerDown", "WatcherSilent")
        ],
    }


def _down(runbook: str) -> dict[str, Any]:
    expected = {
        "exp_labels": {"severity": "critical", "job": JOB, "instance": "127.0.0.1:9997"},
        "exp_annotations": {
            "summary": "127.0.0.1:9997 cannot be scraped: make launch",
            "summary_zh": "127.0.0.1:9997 无法抓取：运行 make launch",
            "runbook_url": f"{runbook}#serverdown",
        },
    }
    return {
        "name": "a server that is down is critical, and not a matter of missing data",
        "interval": "15s",
        "input_series": [{"series": _UP, "values": "1x20 0x60"}],
        "alert_rule_test": [
            {"eval_time": "4m", "alertname": "ServerDown"},
            {"eval_time": "8m", "alertname": "ServerDown", "exp_alerts": [expected]},
            {"eval_time": "15m", "alertname": "NoData"},
            {"eval_time": "15m", "alertname": "WatcherSilent"},
        ],
    }


def _watchers(runbook: str) -> list[dict[str, Any]]:
    expected = {
        "exp_labels": {"severity": "page"},
        "exp_annotations": {
            "summary": "slo watch has completed no round for three minutes",
            "summary_zh": "slo watch 已超过三分钟没有完成检查",
            "runbook_url": f"{runbook}#watchersilent",
        },
    }
    up = {"series": _UP, "values": "1x40"}
    cases = (
        ("a watcher that stops is missed", [{"series": ALIVE, "values": "0+60x10 600x20"}], "10m", "16m"),
        ("a watcher that never ran is missed", [{"series": ALIVE, "values": "0x30"}], "0m", "5m"),
        ("a watcher whose sign vanishes is missed", [{"series": ALIVE, "values": "0+60x10 _x20"}], "10m", "20m"),
    )
    return [
        {
            "name": name,
            "interval": "1m",
            "input_series": [*series, up],
            "alert_rule_test": [
                {"eval_time": well, "alertname": "WatcherSilent"},
                {"eval_time": silent, "alertname": "WatcherSilent", "exp_alerts": [expected]},
            ],
        }
        for name, series, well, silent in cases
    ]


def _undelivered(runbook: str) -> dict[str, Any]:
    expected = {
        "exp_labels": {"severity": "page", "channel": "dingtalk"},
        "exp_annotations": {
            "summary": "channel dingtalk loses alerts: slo alert test",
            "summary_zh": "通道 dingtalk 未送达告警：运行 slo alert test",
            "runbook_url": f"{runbook}#alertsundelivered",
        },
    }
    return {
        "name": "the first message that a channel refuses is an alert, and one that never failed is none",
        "interval": "1m",
        "input_series": [
            {"series": f'{FAILED}{{channel="dingtalk"}}', "values": "0x9 600x50"},
            {"series": f'{FAILED}{{channel="feishu"}}', "values": "0x60"},
        ],
        "alert_rule_test": [
            {"eval_time": "9m", "alertname": "AlertsUndelivered"},
            {"eval_time": "11m", "alertname": "AlertsUndelivered", "exp_alerts": [expected]},
            {"eval_time": "26m", "alertname": "AlertsUndelivered"},
        ],
    }


def _first_interval(promise: Promise) -> dict[str, Any]:
    """Production's series are there at zero: thousands of failures between two scrapes are an increase."""
    failed = promise.counted.replace(ONLINE, ONE_CLASS).replace('code!="4xx"', 'code="5xx"')
    good = promise.good.replace(ONLINE, ONE_CLASS)
    every_s = step_s(promise)
    at_s = -(-4 * every_s // 60) * 60 + 60  # the alerts read what was recorded a round before
    severity = next(iter(promise.severities()))
    return {
        "name": f"{promise.id}: 3000 failures between the first two scrapes are seen",
        "interval": f"{every_s}s",
        "input_series": [{"series": failed, "values": "0x2 3000+30x60"}, {"series": good, "values": "0x63"}],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{promise.alert}",severity="{severity}",alertstate="firing"}})',
                "eval_time": promql_window(at_s),
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }
