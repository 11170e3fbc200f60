"""What the history knows: `slo budget`, `slo replay`; and what people tell it: `slo silence`, `maintenance`, `note`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from slo.cli.options import Context, config_option, context, json_option
from slo.clock import SystemClock, iso
from slo.errors import ConfigError
from slo.host import user_name
from slo.objective import parse_objective
from slo.units import parse_duration, show_duration, show_ratio
from slo.watch.alerting.round import Settings
from slo.watch.budget.budget import Budget, day_left_s
from slo.watch.budget.replay import Replay
from slo.watch.budget.replay import replay as run_replay
from slo.watch.heartbeat import read_beat
from slo.watch.history import event_log
from slo.watch.history.store import Store
from slo.watch.model.silences import Maintenance, Silence, parse_matcher
from slo.watch.wiring import history_path, settings_of


def budgets_now(store: Store, settings: Settings, now_s: float) -> tuple[Budget, ...]:
    """One budget per goal, up to the last whole slice. Raises `StoreError` for an unreadable history."""
    last_s = store.last_minute_s()
    end_s = now_s if last_s is None else min(now_s, last_s + settings.interval_s)
    start_s, _ = settings.period.bounds(end_s)
    first_s = store.first_minute_s()
    return tuple(
        Budget(
            goal=goal,
            period=settings.period,
            counts=store.counts(goal.event, start_s, end_s),
            with_maintenance=store.counts(goal.event, start_s, end_s, with_maintenance=True),
            recent=store.counts(goal.event, end_s - 3600, end_s),
            slices=store.slices(goal, start_s, end_s),
            observed_s=0.0 if first_s is None else min(end_s - first_s, end_s - start_s),
            expected_today=store.counts(goal.event, end_s - 86400, end_s).total
            * day_left_s(now_s, settings.period.zone)
            / 86400,
        )
        for goal in settings.goals
    )


@click.command()
@click.option("--actions", is_flag=True, help="List automatic actions and changes of the last day as well.")
@config_option
@json_option
def budget(config_path: Path | None, as_json: bool, actions: bool) -> int:
    """Attainment, error budget left, burn rate and time to exhaustion, per objective.

    \b
    Exit codes: 0 budget left, 1 a budget is spent, 2 set-up error, 3 nothing measured in the period.
    """
    ctx, now_s = context(config_path, as_json=as_json), SystemClock().wall()
    with Store(history_path(ctx.config), read_only=True) as store:
        found = budgets_now(store, settings_of(ctx.config), now_s)
        events = [e for kind in ("action", "change", "note") for e in event_log.read(store, kind, now_s - 86400)]
    if ctx.json:
        ctx.emit_json([_budget_row(row) for row in found])
    else:
        for row in found:
            _print_budget(row)
        _print_watcher(ctx, now_s)
        for event in sorted(events, key=lambda event: event.at_s) if actions else ():
            click.echo(f"{iso(event.at_s)}  {event.kind}  {event.subject}: {event.text} ({event.author})")
    if not any(row.counts.total for row in found):
        return 3
    return 1 if any(row.remaining <= 0 for row in found) else 0


@click.command()
@click.option("--p95", help='Another threshold at 95 %, e.g. 120ms; short for --objective "p95 <= 120ms".')
@click.option("--objective", "text", help='Any other objective, e.g. "p99 <= 300ms".')
@click.option("--last", default="7d", show_default=True, help="How far back.")
@config_option
@json_option
def replay(config_path: Path | None, as_json: bool, p95: str | None, text: str | None, last: str) -> int:
    """What if the objective had been another? Answered from the stored histograms.

    Exact where the threshold is an edge of the histogram; elsewhere the answer is a range, and says so.

    \b
    Exit codes: 0 it would have been met, 1 missed, 2 usage or set-up error, 3 undecided or nothing measured.
    """
    if p95 and text:
        raise ConfigError("--p95 and --objective say the same thing twice", hint="give one of them")
    ctx, now_s = context(config_path, as_json=as_json), SystemClock().wall()
    objective = parse_objective(f"p95 <= {p95}" if p95 else text or ctx.config.objective)
    start_s = now_s - parse_duration(last)
    with Store(history_path(ctx.config), read_only=True) as store:
        found = run_replay(store.minutes(start_s, now_s), objective, start_s=start_s, end_s=now_s)
    if ctx.json:
        ctx.emit_json(_replay_row(found))
    else:
        _print_replay(found)
    return {True: 0, False: 1, None: 3}[found.met]


@click.command()
@click.argument("matchers", nargs=-1)
@click.option("--for", "length", default="1h", show_default=True, help="How long.")
@click.option("--comment", help="Why; required.")
@click.option("--author", help="Who asks for it (default: the user of this session).")
@click.option("--list", "show", is_flag=True, help="Show those in force and to come.")
@click.option("--end", metavar="ID", help="End one now.")
@config_option
def silence(config_path: Path | None, matchers: tuple[str, ...], length: str, show: bool, end: str | None,
            **who: str | None) -> int:  # fmt: skip
    """Mute alerts that match, e.g. `slo silence severity=ticket slo=latency --for 2h --comment "load test"`.

    Muted alerts still fire, are recorded, and burn budget.
    """
    ctx, now_s = context(config_path), SystemClock().wall()
    with _store(ctx) as store:
        if show:
            _list(f"{s.id}  until {iso(s.ends_s)}  {' '.join(map(str, s.matchers))}  {s.comment} ({s.author})"
                        for s in event_log.silences(store, now_s))  # fmt: skip
        elif end:
            event_log.end_span(store, end, now_s)
        else:
            made = Silence(id=event_log.new_id(), matchers=tuple(map(parse_matcher, matchers)), starts_s=now_s,
                           ends_s=now_s + parse_duration(length), author=who["author"] or user_name(),
                           comment=who["comment"] or "")  # fmt: skip
            event_log.add_silence(store, made)
            click.echo(f"silence {made.id} until {iso(made.ends_s)}")
    return 0


@click.command()
@click.option("--start", default="0s", show_default=True, help="From now; -30m for half an hour ago.")
@click.option("--for", "length", default="1h", show_default=True, help="How long.")
@click.option("--reason", help="Shown beside the budget; required.")
@click.option("--author", help="Who agreed to it (default: the user of this session).")
@click.option("--list", "show", is_flag=True, help="Show those in force and to come.")
@click.option("--end", metavar="ID", help="End one now.")
@config_option
def maintenance(config_path: Path | None, start: str, length: str, show: bool, end: str | None,
                **who: str | None) -> int:  # fmt: skip
    """Agree on downtime: its minutes are left out of the budget (both figures stay visible), its alerts are muted."""
    ctx, now_s = context(config_path), SystemClock().wall()
    with _store(ctx) as store:
        if show:
            _list(f"{m.id}  {m}" for m in event_log.maintenance(store, now_s))
        elif end:
            event_log.end_span(store, end, now_s)
        else:
            back = start.startswith("-")
            starts_s = now_s + (-1 if back else 1) * parse_duration(start.lstrip("+-"))
            made = Maintenance(id=event_log.new_id(), starts_s=starts_s, ends_s=starts_s + parse_duration(length),
                               reason=who["reason"] or "", author=who["author"] or user_name())  # fmt: skip
            event_log.add_maintenance(store, made)
            click.echo(f"maintenance {made.id}: {made}")
    return 0


@click.command()
@click.argument("text")
@click.option("--change", is_flag=True, help="Something about the service was changed: deploy, configuration, model.")
@click.option("--author", help="Who says so (default: the user of this session).")
@config_option
def note(config_path: Path | None, text: str, change: bool, author: str | None) -> int:
    """Put a line into the history: alerts within the hour quote it under "what changed"."""
    ctx = context(config_path)
    with _store(ctx) as store:
        event_log.write(store, event_log.HistoryEvent(at_s=SystemClock().wall(), kind="change" if change else "note",
                                               subject=text, author=author or user_name()))  # fmt: skip
    return 0


def _store(ctx: Context) -> Store:
    return Store(history_path(ctx.config), max_bytes=ctx.config.watch.store.max_size)


def _list(lines: Iterable[str]) -> None:
    shown = list(lines)
    click.echo("\n".join(shown) if shown else "none")


def _print_budget(row: Budget) -> None:
    left_s = row.exhaustion_s
    burn = "–" if math.isnan(row.burn) else f"{row.burn:.2f}×"
    left = "spent" if left_s == 0 else "lasts" if math.isinf(left_s) else f"gone in {show_duration(left_s)}"
    click.echo(f"{row.goal.name}: {row.goal} over {row.period}, seen for {show_duration(row.observed_s)}")
    click.echo(
        f"  {show_ratio(row.attainment)} of {row.counts.total} requests, "
        f"{show_ratio(row.slices.attainment)} of windows ({row.slices.unknown} unknown)\n"
        f"  budget left {row.remaining:.1%} (maintenance included: {row.remaining_with_maintenance:.1%}), "
        f"{show_duration(row.remaining_s)} of outage; burn {burn}, {left}; "
        f"{row.may_still_fail_today} more may fail today"
    )


def _print_watcher(ctx: Context, now_s: float) -> None:
    """Does anybody watch? For who looks here, the watcher is watched too."""
    beat = read_beat(ctx.config.state_dir)
    if beat is None:
        click.echo("watcher: never ran here")
    else:
        click.echo(f"watcher: {'SILENT, ' if beat.silent(now_s) else ''}{beat.describe(now_s)}")


def _budget_row(row: Budget) -> dict[str, Any]:
    return {
        "objective": row.goal.name, "promise": str(row.goal), "period": str(row.period),
        "observed_s": row.observed_s, "good": row.counts.good, "total": row.counts.total,
        "attainment": row.attainment, "attainment_windows": row.slices.attainment,
        "windows": {"good": row.slices.good, "bad": row.slices.bad, "unknown": row.slices.unknown},
        "burn_rate": row.burn, "consumed": row.consumed, "remaining": row.remaining,
        "remaining_with_maintenance": row.remaining_with_maintenance, "remaining_s": row.remaining_s,
        "exhaustion_s": row.exhaustion_s, "may_still_fail_today": row.may_still_fail_today,
    }  # fmt: skip


def _print_replay(found: Replay) -> None:
    low, guess, high = found.attainment
    shown = show_ratio(guess) if found.exact else f"{show_ratio(low)} – {show_ratio(high)}, about {show_ratio(guess)}"
    word = {True: "met", False: "missed", None: "undecided"}[found.met]
    least, most = found.consumed
    spent = f"{least:.1%}" if found.exact else f"{least:.1%} – {most:.1%}"
    good, open_, bad = found.windows
    click.echo(
        f"{found.objective}, {iso(found.start_s)} to {iso(found.end_s)}: {word}\n"
        f"  {shown} of {found.total} requests ({found.failed} failed)\n"
        f"  budget spent {spent}\n"
        f"  windows of five minutes: {good} met, {bad} missed" + (f", {open_} undecided" if open_ else "")
    )
    if not found.exact:
        click.echo("  the threshold is no edge of the histogram: the bounds are exact, the figure between is a guess")


def _replay_row(found: Replay) -> dict[str, Any]:
    low, guess, high = found.attainment
    return {
        "objective": str(found.objective), "start": iso(found.start_s), "end": iso(found.end_s), "met": found.met,
        "exact": found.exact, "total": found.total, "failed": found.failed, "sources": found.sources,
        "attainment": {"low": low, "guess": guess, "high": high},
        "consumed": {"low": found.consumed[0], "high": found.consumed[1]},
        "windows": dict(zip(("met", "undecided", "missed"), found.windows, strict=True)),
    }  # fmt: skip
