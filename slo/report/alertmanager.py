"""
A configuration for Alertmanager that suits the exported rules: who is woken, who reads it later, what hides what.

A critical burn hides the page and the ticket of the same objective: they would say the same later. Everything of one
model comes in one message.
"""

from __future__ import annotations

from typing import Any

from slo.report.prometheus import to_yaml

_SAME = ["model", "slo", "instance"]


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
