"""`slo watch` with everything around it: the history, the channels, the server's counters, and the remedies.

The watch knows neither where counts come from nor how a remedy is carried out: here it is given both.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from slo.cli.options import Context
from slo.cli.remedies import executors
from slo.clock import Clock
from slo.config import Config
from slo.errors import BadAnswer, ServerFault, StoreError
from slo.http import HttpClient
from slo.watch.alerting.address import page_of, runbook_of
from slo.watch.delivery.channels import open_outbox
from slo.watch.delivery.dispatcher import Dispatcher
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.policy import Attempt
from slo.watch.heartbeat import Heartbeat
from slo.watch.history.schema import only_watcher
from slo.watch.history.store import Store
from slo.watch.model.notification import Notification
from slo.watch.remediation import Remediator
from slo.watch.server_health import ServerHealth, health_of
from slo.watch.sli.golden import Golden
from slo.watch.sli.probe import ProbeTally
from slo.watch.sli.sources import PassiveSource, PrometheusSource
from slo.watch.watcher import Outside, Source, Watcher
from slo.watch.wiring import enabled_remedies, history_path, interval_of, limits_of, settings_of


class Probes(Protocol):
    """Our own requests; `slo.watch.sli.prober`."""

    def harvest(self) -> ProbeTally: ...

    def pace(self, full: bool) -> None: ...


@contextmanager
def composed_watcher(
    ctx: Context,
    probes: Probes,
    golden: Golden,
    *,
    clock: Clock,
    config_path: Path | None,
    complain: Callable[[str], None],
    forget_golden: bool = False,
) -> Iterator[Watcher]:
    """The watcher for this configuration. Raises `StoreError` when another one runs already."""
    config = ctx.config
    path = history_path(config)
    with ExitStack() as stack:
        stack.enter_context(only_watcher(path))
        store = stack.enter_context(Store(path, max_bytes=config.watch.store.max_size, repair=True))
        if store.set_aside:
            complain(f"{path} was damaged: set aside as {store.set_aside}; counts that could be read are kept")
        # Four questions a round; even a server that hangs must leave time for the probes, which take half of it.
        patience_s = min(config.client.timeout, max(0.5, config.watch.interval / 12))
        fetch = stack.enter_context(HttpClient(api_key=ctx.api_key(), hint=None, timeout_s=patience_s))
        # Without our API key: Prometheus is not the server that it is for.
        beside = stack.enter_context(HttpClient(hint=None, timeout_s=patience_s))
        outbox = stack.enter_context(open_outbox(config, clock=clock))
        dispatcher = stack.enter_context(Dispatcher(
            lambda: open_outbox(config, clock=clock), config.state_dir,
            report=lambda attempt: _report(attempt, complain), complain=complain, clock=clock,
        ))  # fmt: skip
        source = _source(config, fetch, beside, clock, store)
        if not forget_golden:
            _continue(golden.restore, store, "golden")
        yield Watcher(
            store,
            settings_of(config),
            Outside(
                source=source,
                probe=probes.harvest,
                pace=probes.pace,
                serving=golden.serving,
                memories=lambda: {"golden": golden.state()},
                health=lambda: _health(config, fetch),
                hand_over=lambda message: _hand_over(outbox, message, complain),
                deliver=dispatcher.wake,
                complain=complain,
                delivering=dispatcher.at_work,
            ),
            clock=clock,
            thin=config.watch.source.thin if source else sys.maxsize,
            runbook=runbook_of(config),
            page=page_of(config),
            remediator=Remediator(
                store,
                executors(config, config_path, complain),
                enabled=enabled_remedies(config),
                limits=limits_of(config),
                dry_run=config.watch.remediation.dry_run,
                report=complain,
            ),
            heartbeat=_heartbeat(config, complain),
        )


def _source(config: Config, fetch: HttpClient, beside: HttpClient, clock: Clock, store: Store) -> Source | None:
    chosen = config.watch.source
    if chosen.kind == "probe":
        return None
    if chosen.kind == "prometheus" and chosen.prometheus_url:
        return PrometheusSource(
            beside.get,
            chosen.prometheus_url,
            model=config.model.id,
            selector=chosen.prometheus_selector,
            clock=clock,
            interval_s=interval_of(config),
            thresholds_ms=config.thresholds_ms,
        )
    passive = PassiveSource(
        fetch.get,
        config.endpoint,
        model=config.model.id,
        clock=clock,
        interval_s=interval_of(config),
        thresholds_ms=config.thresholds_ms,
    )
    _continue(passive.restore, store, "source")
    return passive


def _continue(restore: Callable[[Mapping[str, Any]], None], store: Store, name: str) -> None:
    """Go on with a state of the watcher before this one; begin anew with one that cannot be understood."""
    with suppress(StoreError, KeyError, TypeError, ValueError, AttributeError, struct.error):
        restore(store.state(name))


def _health(config: Config, fetch: HttpClient) -> ServerHealth:
    def models() -> list[str]:
        url = f"{config.endpoint.removesuffix('/v1')}/v1/models"
        try:
            return [str(row["id"]) for row in orjson.loads(fetch.get(url))["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadAnswer(f"{url}: not a list of models", url=url, status=200) from error

    def status() -> Mapping[str, Any]:
        url = f"{config.endpoint}/slo/api/status"
        try:
            found = orjson.loads(fetch.get(url))
        except ValueError as error:
            raise BadAnswer(f"{url}: not JSON", url=url, status=200) from error
        return found if isinstance(found, dict) else {}

    def ready() -> bool:
        try:
            fetch.get(f"{config.endpoint}/slo/readyz")
        except ServerFault:
            return False
        return True

    return health_of(models, status, config.model.id, ready)


def _hand_over(outbox: Outbox, message: Notification, complain: Callable[[str], None]) -> None:
    try:
        outbox.put(message)
    except StoreError as error:
        complain(f"outbox: {error.message}; sending at once, without a second try")
        for attempt in outbox.send_now(message):
            complain(str(attempt))


def _report(attempt: Attempt, complain: Callable[[str], None]) -> None:
    """Attempts are told, but for the console's own: it would say everything twice."""
    if attempt.sink != "console":
        complain(str(attempt))


def _heartbeat(config: Config, complain: Callable[[str], None]) -> Heartbeat:
    url = config.watch.heartbeat.url

    def push() -> None:
        if url:
            # Without our API key: the address is somebody else's.
            with HttpClient(hint=None, timeout_s=config.watch.heartbeat.timeout) as outside:
                outside.get(url)

    return Heartbeat(config.state_dir, interval_s=config.watch.interval, push=push if url else None, complain=complain)
