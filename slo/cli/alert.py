"""
`slo alert`: do the channels work, does the whole chain, and what is stuck.

A drill on the real server slows it down by orders that end by themselves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from slo.cli.options import Context, config_option, context, json_option
from slo.cli.remedies import order
from slo.clock import SystemClock
from slo.config import Config
from slo.errors import ConfigError, DeployError, RequestError, SloError, Unauthorized, Unreachable
from slo.units import show_duration
from slo.watch.alerting.address import runbook_of
from slo.watch.delivery.channels import OUTBOX_FILE, build_routes, build_sinks, longest_send_s, open_outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes
from slo.watch.delivery.sinks.outcome import Sink
from slo.watch.delivery.stub_service import StubService
from slo.watch.drill import Drill, Rehearsed, rehearse, run_drill
from slo.watch.wiring import settings_of

LONGEST_S = 300  # as `slo.serve.web.control` allows; the slow rounds of a drill take less
HINT = "set serve.drill: true and launch again; without --live the drill slows down a stand-in service instead"


@click.group()
def alert() -> None:
    """Alert channels: test them, rehearse the whole chain, see what is undelivered."""


@alert.command("test")
@click.option("--sink", "only", multiple=True, help="Only this channel (may be given several times).")
@config_option
@json_option
def test_channels(config_path: Path | None, as_json: bool, only: tuple[str, ...]) -> int:
    """Send a test message and its all-clear through every channel, and explain what fails.

    \b
    Exit codes: 0 all delivered, 1 a channel failed, 2 usage or set-up.
    """
    ctx = context(config_path, as_json=as_json)
    sinks = _sinks(ctx, only)
    results = []
    for result in rehearse(sinks, ctx.config.model.id, time.time(), longest_send_s=longest_send_s(ctx.config)):
        results.append(result)
        if not ctx.json:
            _print(result)
    if ctx.json:
        ctx.emit_json([_row(result) for result in results])
    return 0 if all(result.delivered for result in results) else 1


@alert.command()
@click.option("--sink", "only", multiple=True, help="Only these channels (default: as routed).")
@click.option("--live", is_flag=True, help="Slow down the real server: its users feel it for a minute or two.")
@config_option
@json_option
def drill(config_path: Path | None, as_json: bool, only: tuple[str, ...], live: bool) -> int:
    """Slow down a stand-in service until it pages, heal it until it resolves; prove that both arrive.

    The service itself is left alone, but with --live, which needs serve.drill: true. Messages are marked as a drill
    (演练).

    \b
    Exit codes: 0 proven, 1 something did not fire, arrive or resolve, 2 usage or set-up.
    """
    ctx = context(config_path, as_json=as_json)
    sinks = _sinks(ctx, only)
    routes = ChannelRoutes(channels=tuple(sinks)) if only else build_routes(ctx.config.alerts)
    with live_service(ctx.config) if live else StubService() as service:
        result = run_drill(
            service,
            sinks,
            routes,
            settings_of(ctx.config),
            ctx.config.slo,
            model=ctx.config.model.id,
            runbook=runbook_of(ctx.config),
            say=lambda text: click.echo(text, err=True),
            api_key=ctx.api_key() if live else None,
        )
    if ctx.json:
        ctx.emit_json(_drill_json(result))
    else:
        _print_drill(result)
    return 0 if result.proven else 1


@alert.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> int:
    """What is undelivered, and how much was delivered by each channel. Exit code 1 if something is stuck."""
    ctx = context(config_path, as_json=as_json)
    with open_outbox(ctx.config) as outbox:
        stuck, totals = outbox.undelivered(), outbox.totals()
    if ctx.json:
        rows = [{"channel": c, "result": r, "count": n} for (c, r), n in sorted(totals.items())]
        ctx.emit_json({"undelivered": stuck, "totals": rows})
    else:
        for (channel, result), count in sorted(totals.items()):
            click.echo(f"{channel:<14} {result:<10} {count}")
        for line in stuck:
            click.echo(f"undelivered: {line}")
        if not stuck:
            click.echo("nothing undelivered")
    return 1 if stuck else 0


@alert.command()
@config_option
def retry(config_path: Path | None) -> int:
    """Try again what was given up, now. Exit code 1 if something is still undelivered."""
    ctx = context(config_path)
    store = OutboxStore(ctx.config.state_dir / OUTBOX_FILE)
    revived = store.revive(SystemClock().wall())
    store.close()
    click.echo(f"{revived} given up before", err=True)
    with open_outbox(ctx.config) as outbox:
        for attempt in outbox.pump():
            click.echo(str(attempt))
        return 1 if outbox.undelivered() else 0


def _sinks(ctx: Context, only: tuple[str, ...]) -> dict[str, Sink]:
    sinks = build_sinks(ctx.config.alerts, state_dir=ctx.config.state_dir, environ=os.environ, console=sys.stderr)
    for name in only:
        if name not in sinks:
            raise ConfigError(f"channel {name!r} is not set up", hint=f"there are: {', '.join(sinks) or 'none'}")
    if not sinks:
        raise ConfigError("no channel is set up", where="alerts", hint="configs/slo.yaml documents them")
    return {name: sink for name, sink in sinks.items() if not only or name in only}


def _row(result: Rehearsed) -> dict[str, object]:
    return {
        "channel": result.channel,
        "step": result.step,
        "delivered": result.delivered,
        "said": result.said,
        "took_ms": round(result.took_s * 1000, 1),
    }


def _print(result: Rehearsed) -> None:
    mark = "ok  " if result.delivered else "FAIL"
    first, *rest = result.said.splitlines() or [""]
    click.echo(f"{mark} {result.channel:<14} {result.step:<9} {result.took_s * 1000:6.0f} ms  {first}")
    for line in rest:
        click.echo(f"     → {line}")


def _drill_json(drill: Drill) -> dict[str, object]:
    return {
        "proven": drill.proven,
        "severity": drill.severity,
        "fired_after_s": drill.fired_after_s,
        "resolved_after_s": drill.resolved_after_s,
        "channels": [
            {
                "channel": channel,
                "firing_delivered_s": drill.delivered(channel, "firing"),
                "resolved_delivered_s": drill.delivered(channel, "resolved"),
            }
            for channel in drill.channels
        ],
    }


def _print_drill(drill: Drill) -> None:
    def after(seconds: float | None) -> str:
        return "never" if seconds is None else f"after {show_duration(seconds)}"

    click.echo(f"slow service → {drill.severity or 'alert'} fired {after(drill.fired_after_s)}")
    click.echo(f"healthy again → resolved {after(drill.resolved_after_s)}")
    for channel in drill.channels:
        for state in ("firing", "resolved"):
            click.echo(f"{channel:<14} {state:<9} delivered {after(drill.delivered(channel, state))}")
    for attempt in drill.attempts:
        if not attempt.delivered:
            click.echo(f"  {attempt}")
    click.echo("proven" if drill.proven else "NOT proven")


class LiveService:
    """Our extension in the server, holding answers back. Raises a `SloError` where it does not obey."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def endpoint(self) -> str:
        return self._config.endpoint

    def slow_down(self, delay_s: float) -> None:
        """Every answer takes `delay_s` longer, for `LONGEST_S` at most, whatever becomes of us."""
        self._hold_back(delay_s * 1000, LONGEST_S)

    def heal(self) -> None:
        """Answer at once again."""
        self._hold_back(0, 0)

    def _hold_back(self, delay_ms: float, for_s: float) -> None:
        order(self._config, {"action": "delay", "delay_ms": delay_ms, "for_s": for_s})


@contextmanager
def live_service(config: Config) -> Iterator[LiveService]:
    """The server, found willing to be drilled, and healed at the end in any case. Raises `ConfigError` otherwise."""
    service = LiveService(config)
    try:
        service.heal()
    except Unreachable:
        raise
    except Unauthorized as error:
        raise ConfigError(
            f"the server at {config.endpoint} refuses to be slowed down: {error.message}", hint=HINT
        ) from error
    except (DeployError, RequestError) as error:
        raise ConfigError(
            f"the server at {config.endpoint} has no hook for drills: {error.message}", hint=HINT
        ) from error
    try:
        yield service
    finally:
        with suppress(SloError):
            service.heal()
