"""The outbox as the configuration wants it: what `slo watch`, `slo check` and `slo alert` send through."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.watch.alerting.address import runbook_of, watched
from slo.watch.delivery.damage import damaged
from slo.watch.delivery.delivery import RetryPolicy
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.sinks.build import build_routes, build_sinks

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
