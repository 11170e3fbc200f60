"""`slo check` and `slo watch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import orjson

from slo.cli.options import Context, DurationType, config_option, context, json_option, target_options
from slo.cli.watch_parts import composed_watcher
from slo.client import embeddings_url
from slo.clock import Clock, SystemClock
from slo.errors import StoreError
from slo.http import HttpClient
from slo.interrupt import StopSwitch
from slo.notify import notify
from slo.texts import mix
from slo.units import show_duration
from slo.watch.checker import CheckResult, check_of_users, from_history, from_server
from slo.watch.checker import check as run_check
from slo.watch.history.store import Store
from slo.watch.loop import Report, Reporter
from slo.watch.loop import watch as run_watch
from slo.watch.sli.golden import Golden
from slo.watch.sli.prober import Prober
from slo.watch.watcher import Watcher
from slo.watch.wiring import goals_of, history_path, interval_of

ATTEMPTS = 4  # probes that may hang within one bound, so that an outage is seen before it
ROOM = 1.2  # how much longer than the threshold a probe is waited for, at least
TIMEOUT = DurationType(above_zero=True)


@click.command()
@click.option("--timeout", type=TIMEOUT, default="30s", show_default=True, help="Give up after this long.")
@click.option("--probes", "by_probes", is_flag=True, help="Send probes, whatever is known of users' requests.")
@target_options
@config_option
@json_option
def check(config_path: Path | None, as_json: bool, timeout: float, by_probes: bool, **target: Any) -> int:
    """Is the objective met right now? One line, for cron and scripts.

    Judges users' requests of the last five minutes (watch.window), where the server or a running `slo watch` counts
    them and they are enough for a verdict; the line says so. Else sends unique texts of 4, 20 and 50 characters until
    the verdict is clear: 60 clean probes prove a healthy server.

    \b
    Exit codes: 0 OK, 1 MISSED or OUTAGE, 3 UNPROVEN, 2 usage or a rejected API key.
    """
    ctx = context(config_path, as_json=as_json, **target)
    clock = SystemClock()
    known = None if by_probes else _check_of_users(ctx, timeout, clock, ours=not any(target.values()))
    if known is not None:
        result = known
    else:
        with ctx.client(timeout_s=min(ctx.config.client.timeout, timeout / ATTEMPTS), source="probe") as client:
            result = run_check(client, ctx.config.slo, bound_s=timeout, clock=clock)
    if ctx.json:
        ctx.emit_json(result.to_json())
    else:
        click.echo(str(result))
    return result.exit_code


def _check_of_users(ctx: Context, timeout_s: float, clock: Clock, *, ours: bool) -> CheckResult | None:
    """What users' requests say, if that is known and decides; `ours`: the history is of this model and server."""
    config, started = ctx.config, (clock.monotonic(), clock.wall())
    seconds = max(1, min(3600, round(config.watch.window)))
    url = embeddings_url(config.endpoint)
    patience_s = min(config.client.timeout, timeout_s / ATTEMPTS)
    with HttpClient(api_key=ctx.api_key(), hint=None, timeout_s=patience_s) as fetch:
        found = from_server(fetch.get, url, config.model.id, config.slo, seconds)
    if found is None and ours and history_path(config).exists():
        with suppress(StoreError), Store(history_path(config), read_only=True) as store:
            found = from_history(store, config.slo, seconds, clock.wall(), interval_of(config))
    if found is None or not found.decided:
        return None
    return check_of_users(found, model=config.model.id, url=url, started=started, clock=clock)


@click.command()
@click.option("--interval", help="Time between checks (default: 60s).")
@click.option("--window", help="The verdict covers this long (default: 5m).")
@click.option("--probes", type=int, help="Requests per check (default: 60).")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many checks (default: never).")
@click.option("--new-golden", is_flag=True, help="Forget the vectors that known texts had: the model has been changed.")
@target_options
@config_option
@json_option
def watch(
    *,
    config_path: Path | None,
    as_json: bool,
    interval: str | None,
    window: str | None,
    probes: int | None,
    count: int | None,
    new_golden: bool,
    **target: Any,
) -> int:
    """Check every minute over the last five; say ALERT when an alert fires and RECOVERED when none does any more.

    A line begins with ok, unproven, missed, excused (maintenance) or no-data, or with the severity of the worst
    alert that fires. With --json each line is the round's record. Stops cleanly on SIGTERM and Ctrl-C.

    \b
    Exit codes: 0 stopped; with --count that of the last round: 0 ok, 1 missed or alerted, 3 unproven or nothing known.
    """
    changes: dict[str, Any] = {"watch.interval": interval, "watch.window": window, "watch.probes": probes}
    ctx = context(config_path, as_json=as_json, **target, **changes)
    embeddings_url(ctx.config.endpoint)  # a mistyped address is a mistake now, not "no data" every minute
    settings = ctx.config.watch
    _echo_aside(
        f"watching {ctx.config.model.id} at {ctx.config.endpoint}: {ctx.config.slo}, {settings.probes} probes every "
        f"{show_duration(settings.interval)}, verdict over {show_duration(settings.window)}; Ctrl-C stops"
    )
    clock, say = SystemClock(), _say_json if as_json else _say
    notify("READY=1")

    def tell(report: Report) -> None:
        notify("WATCHDOG=1", f"STATUS={next(iter(report.lines()), '')}")
        say(report)

    golden = Golden(ctx.config.endpoint, ctx.config.model.id)
    with (
        _last_flush(),
        StopSwitch() as stop,
        _prober(ctx, golden, clock) as prober,
        composed_watcher(
            ctx, prober, golden, clock=clock, config_path=config_path, complain=_complain, forget_golden=new_golden
        ) as watcher,
    ):
        state = run_watch(
            _watcher(ctx, watcher),
            interval_s=settings.interval,
            clock=clock,
            say=tell,
            complain=_complain,
            times=count,
            stop=stop,
        )
        return state.exit_code
    _echo_aside("stopped")
    return 0


def _prober(ctx: Context, golden: Golden, clock: Clock) -> Prober:
    settings, objective = ctx.config.watch, ctx.config.slo
    patience_s = max(min(ctx.config.client.timeout, settings.interval / ATTEMPTS), ROOM * objective.threshold_s)
    return Prober(
        lambda: ctx.client(timeout_s=patience_s, source="probe"),
        # One endless stream for the watcher's whole life: no text is ever sent twice.
        mix(int(clock.wall())),
        objective,
        golden,
        probes=settings.probes,
        interval_s=settings.interval,
        patience_s=patience_s,
        clock=clock,
    )


def _watcher(ctx: Context, watcher: Watcher) -> Reporter:
    config = ctx.config
    return Reporter(
        watcher,
        config.slo,
        goal=goals_of(config)[0].name,
        window_s=config.watch.window,
        model=config.model.id,
    )


# A watch whose log lies on a full disk still has alerts to send: what cannot be written is left unsaid.


def _complain(message: str) -> None:
    _echo_aside(f"warning: {message}")


def _echo_aside(text: str) -> None:
    with suppress(OSError):
        click.echo(text, err=True)


def _say(report: Report) -> None:
    with _room_or_not():
        for line in report.lines():
            click.echo(line)  # echo flushes


def _say_json(report: Report) -> None:
    with _room_or_not():
        sys.stdout.write(orjson.dumps(report.record).decode() + "\n")
        sys.stdout.flush()


@contextmanager
def _room_or_not() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # `slo watch | head`: nobody is left to listen
        raise
    except OSError:
        pass


@contextmanager
def _last_flush() -> Iterator[None]:
    """In the end, let go of what still cannot be written: Python would report it, and change the exit code."""
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())
