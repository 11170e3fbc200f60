"""`slo load` and `slo stress`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from slo.bench.compare import compare
from slo.bench.load import LoadPlan, load_once
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session
from slo.bench.slices import FORMAT, KIND, Row, read_slices
from slo.bench.soak import SoakPlan, soak
from slo.cli.bench import wide
from slo.cli.live import LiveLine
from slo.cli.loading import DURATION, drawn, make_session, workload_options
from slo.cli.options import Context, context
from slo.clock import iso
from slo.errors import ConfigError
from slo.records import Run, load_run, save_run
from slo.report.load import load_report, slice_line, stress_report
from slo.report.table import comparison_report
from slo.units import parse_duration

TARGET = ("endpoint", "model_name", "api_key_file")


@click.command()
@click.option("--rate", type=float, help="Requests per second.")
@click.option("--duration", type=DURATION, help="How long to measure, after the warm-up (30s, 5m).")
@click.option("--arrivals", default="poisson", show_default=True,
              help="poisson, constant, gamma:K, ramp:A:B, step:R@30s,R@30s or replay:FILE.")  # fmt: skip
@click.option("--warmup", default="auto", show_default=True, help="auto (until settled, at most 60 s) or a duration.")
@click.option("--connections", type=click.IntRange(1, 4096), default=256, show_default=True, help="At most so many.")
@click.option("--against", help="A record to compare with: `last`, an id or a file; exit 1 if significantly slower.")
@click.option("--record-arrivals", type=click.Path(path_type=Path, dir_okay=False),
              help="Write arrival times and text lengths (never texts), for replay:FILE.")  # fmt: skip
@workload_options
def load(
    *, config_path: Path | None, as_json: bool, rate: float | None, duration: float | None, arrivals: str, warmup: str,
    connections: int, against: str | None, record_arrivals: Path | None, seed: int | None, **given: Any,
) -> int:  # fmt: skip
    """Open-loop load: requests leave when due, and latency counts from then.

    \b
    Exit codes: 0 objective met, 1 missed, 2 usage or set-up error, 3 unproven or void,
    130 Ctrl-C (after a report). With --against: 1 only if significantly slower, 0 if not.
    """
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    before = load_run("last:load" if against == "last" else against, ctx.config.state_dir) if against else None
    line = LiveLine()
    seed = drawn(seed)
    schedule = parse_arrivals(arrivals, rate=rate, duration_s=duration, seed=seed)
    warmup_s = None if warmup == "auto" else parse_duration(warmup)
    session = make_session(ctx, seed=seed, line=line, connections=connections, **given)
    run = load_once(session, LoadPlan(schedule=schedule, warmup_s=warmup_s, record_to=record_arrivals))
    line.end()
    result = compare(before, run) if before is not None and run.summaries() else None
    if result is not None:
        run.details["against"] = result.to_json()
    publish(ctx, run, load_report(run))
    if result is not None and not ctx.json:
        wide(ctx.out).print(comparison_report(result))
    if run.interrupted:
        return 130
    if result is not None and not run.void:
        return 1 if result.slower else 0
    return run.verdict.exit_code


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 4096), default=50, show_default=True, help="Callers at a time.")
@click.option("--duration", type=DURATION, default="24h", show_default=True, help="How long, without the warm-up.")
@click.option("--slice", "slice_s", type=DURATION, default="5m", show_default=True, help="Length of a slice.")
@click.option("--warmup", type=DURATION, default="10s", show_default=True, help="Before the first slice, not counted.")
@click.option("--resume", help="Go on with an interrupted run: its id, as it was printed.")
@workload_options
def stress(
    *, config_path: Path | None, as_json: bool, concurrency: int, duration: float, slice_s: float, warmup: float,
    resume: str | None, seed: int | None, **given: Any,
) -> int:  # fmt: skip
    """Closed-loop soak: so many callers, each asking again when answered.

    \b
    One line per slice, appended to .slo/runs/ID.slices.jsonl at once; `--resume ID` goes on there.
    Exit codes: 0 objective met, 1 missed, 2 usage or set-up error, 3 unproven or void,
    130 Ctrl-C (after a report of what was done).
    """
    if slice_s <= 0 or duration <= 0:
        raise click.BadParameter("--duration and --slice must be above zero")
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    runs = ctx.config.state_dir / "runs"
    line = LiveLine()
    if resume:
        header, rows = _resumed(runs / f"{resume}.slices.jsonl", ctx)
        concurrency, duration, slice_s = header["clients"], header["duration_s"], header["slice_s"]
        given |= {name: header[name] for name in ("mix", "batch", "zipf")}
        session = make_session(ctx, seed=header["seed"], line=line, **given).reseeded(len(rows))
        plan = SoakPlan(id=resume, clients=concurrency, duration_s=duration, slice_s=slice_s, warmup_s=warmup,
                        file=runs / f"{resume}.slices.jsonl", done=tuple(rows))  # fmt: skip
    else:
        session = make_session(ctx, seed=drawn(seed), line=line, **given)
        plan = _new_plan(session, runs, concurrency, duration, slice_s, warmup, given)
    line.say(f"run {plan.id}; go on after an interruption with: slo stress --resume {plan.id}")
    run = soak(session, plan, on_slice=lambda row: line.say(slice_line(row, session.objective)))
    line.end()
    publish(ctx, run, stress_report(run))
    return 130 if run.interrupted else run.verdict.exit_code


def _new_plan(
    session: Session, runs: Path, clients: int, duration_s: float, slice_s: float, warmup_s: float, given: Row
) -> SoakPlan:
    started_at = iso(session.clock.wall())
    stamp = started_at[:19].replace(":", "").replace("-", "")
    name = f"{stamp}-stress-{secrets.token_hex(3)}"
    header = {
        "format": FORMAT, "kind": KIND, "id": name, "started_at": started_at, "endpoint": session.target.url,
        "model": session.target.model, "clients": clients, "duration_s": duration_s, "slice_s": slice_s,
        "seed": session.seed, **{key: given[key] for key in ("mix", "batch", "zipf")},
    }  # fmt: skip
    return SoakPlan(id=name, clients=clients, duration_s=duration_s, slice_s=slice_s, warmup_s=warmup_s,
                    file=runs / f"{name}.slices.jsonl", header=header)  # fmt: skip


def _resumed(path: Path, ctx: Context) -> tuple[Row, list[Row]]:
    header, rows = read_slices(path)
    if header["model"] != ctx.config.model.name or not header["endpoint"].startswith(ctx.config.endpoint):
        raise ConfigError(
            f"that run asked {header['model']} at {header['endpoint']}", where=str(path),
            hint="give the same --endpoint and --model",
        )  # fmt: skip
    done_s = sum(row["seconds"] for row in rows)
    if done_s >= header["duration_s"]:
        raise ConfigError("that run is complete", where=str(path), hint="`slo report` shows it")
    return header, rows


def publish(ctx: Context, run: Run, report: Any) -> None:
    """Save the record; print it as JSON or as the report."""
    path = save_run(run, ctx.config.state_dir)
    if ctx.json:
        ctx.emit_json(run.to_json())
    else:
        wide(ctx.out).print(report)
    ctx.err.print(f"saved {path}", highlight=False, soft_wrap=True)
