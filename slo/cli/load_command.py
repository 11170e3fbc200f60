"""`slo load` and `slo stress`."""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from slo.bench.compare import Comparison, compare
from slo.bench.load import LoadPlan, described_load, load_once
from slo.bench.repeated import together
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session
from slo.bench.slices import FORMAT, KIND, Row, read_slices
from slo.bench.soak import MOST_SLICES, SoakPlan, soak
from slo.cli.bench import keep, publish, wide
from slo.cli.load_options import drawn, make_session, resolved, retries_option, workload_options
from slo.cli.options import DURATION, Context, context, given_options, repeat_option
from slo.cli.progress_line import LiveLine
from slo.clock import iso
from slo.errors import ConfigError, RunError, StoreError
from slo.objective import Objective, Verdict
from slo.records import Run, load_run
from slo.report.load_tables import load_report, slice_line, stress_report
from slo.report.table import comparison_report
from slo.units import parse_duration

TARGET = ("endpoint", "model_name", "api_key_file", "objective", "headers", "extra_body", "output")
KEPT = frozenset({"--concurrency", "--duration", "--slice", "--mix", "--batch", "--zipf", "--texts", "--seed",
                  "--retries", "--encoding", "--check-every", "--chars", "--tokens", "--workload"})  # fmt: skip
CARRIED = ("mix", "batch", "zipf", "encoding", "check_every", "texts_file")  # options that a resumed run keeps


@click.command()
@click.option("--rate", type=float, help="Requests per second.")
@click.option("--duration", type=DURATION, help="How long to measure, after the warm-up (30s, 5m).")
@click.option("--arrivals", default="poisson", show_default=True,
              help="poisson, constant, gamma:K, ramp:A:B, step:R@30s,R@30s or replay:FILE.")  # fmt: skip
@click.option("--warmup", default="auto", show_default=True, help="auto (until settled, at most 60 s) or a duration.")
@click.option("--connections", type=click.IntRange(1, 4096), default=256, show_default=True, help="At most so many.")
@click.option("--against", help="`last` (of the same load), an id or a file: exit 1 if significantly slower than that.")
@click.option("--record-arrivals", type=click.Path(path_type=Path, dir_okay=False),
              help="Write arrival times and text lengths (never texts), for replay:FILE.")  # fmt: skip
@click.option("--stop-early", is_flag=True, help="End once decided; the looks on the way share the error.")
@repeat_option
@retries_option
@workload_options
def load(
    *, config_path: Path | None, as_json: bool, rate: float | None, duration: float | None, arrivals: str, warmup: str,
    connections: int, against: str | None, record_arrivals: Path | None, stop_early: bool, repeat: int,
    seed: int | None, **given: Any,
) -> int:  # fmt: skip
    """Open-loop load: requests leave when due, and latency counts from then.

    \b
    Exit codes: 0 objective met, 1 missed, 2 usage or set-up error, 3 unproven or void,
    130 Ctrl-C (after a report). With --against: 1 only if significantly slower, 0 if not.
    """
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    line = LiveLine()
    seed = drawn(seed)
    schedule = parse_arrivals(arrivals, rate=rate, duration_s=duration, seed=seed)
    warmup_s = None if warmup == "auto" else parse_duration(warmup)
    session = make_session(ctx, seed=seed, line=line, connections=connections, **given)
    before = _before(against, described_load(session, schedule), session, ctx.config.state_dir)
    runs: list[Run] = []
    for number in range(repeat):
        part = session.reseeded(f"repeat {number}") if number else session
        if number:
            keep(ctx, runs[-1])
            schedule = parse_arrivals(arrivals, rate=rate, duration_s=duration, seed=part.seed)
        plan = LoadPlan(schedule=schedule, warmup_s=warmup_s, record_to=record_arrivals, stop_early=stop_early)
        runs.append(load_once(part, plan))
        if runs[-1].interrupted:
            break
    line.end()
    run = runs[-1]
    if len(runs) > 1:
        run.details["repeats"] = together(runs)
    result, problem = _compared(before, run)
    if result is not None:
        run.details["against"] = result.to_json()
    publish(ctx, run, load_report(run))
    if problem is not None:
        raise problem
    if result is not None and not ctx.json and not ctx.output:
        wide(ctx.out).print(comparison_report(result))
    if run.interrupted:
        return 130
    if result is not None and not result.void:
        return 1 if result.slower else 0
    return Verdict(run.details["repeats"]["verdict"]).exit_code if "repeats" in run.details else run.verdict.exit_code


def _compared(before: Run | None, run: Run) -> tuple[Comparison | None, RunError | None]:
    """The comparison, or why there is none: what was measured is shown and saved in any case."""
    if before is None or not run.summaries():
        return None, None
    try:
        return compare(before, run), None
    except RunError as error:
        return None, error


def _before(against: str | None, load: str, session: Session, state_dir: Path) -> Run | None:
    """The run to compare with; `last` is the last one of the same model under the same load."""
    if against != "last":
        return load_run(against, state_dir) if against else None
    for path in sorted((state_dir / "runs").glob("*-load-*.json"), reverse=True):
        run = load_run(str(path), state_dir)
        if (run.settings.get("load"), run.model) == (load, session.target.model) and run.summaries() and not run.void:
            return run
    raise StoreError(
        f"no valid run of {session.target.model} under this load ({load}) in {state_dir / 'runs'}",
        hint="run it once without --against, or name a record",
    )


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 4096), default=50, show_default=True, help="Callers at a time.")
@click.option("--duration", type=DURATION, default="24h", show_default=True, help="How long, without the warm-up.")
@click.option("--slice", "slice_s", type=DURATION, default="5m", show_default=True, help="Length of a slice.")
@click.option("--warmup", type=DURATION, default="10s", show_default=True, help="Before the first slice, not counted.")
@click.option("--resume", help="Go on with an interrupted run: its id, as it was printed.")
@retries_option
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
    if duration / slice_s > MOST_SLICES:
        raise click.BadParameter(
            f"{duration / slice_s:.0f} slices are more than are kept ({MOST_SLICES}): give a longer --slice"
        )
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    runs = ctx.config.state_dir / "runs"
    line = LiveLine()
    if resume:
        if kept := given_options() & KEPT:
            raise click.UsageError(f"a resumed run keeps what it began with: leave out {', '.join(sorted(kept))}")
        file = runs / f"{resume}.slices.jsonl"
        header, rows = _resumed(file, ctx)
        given |= {name: header[name] for name in CARRIED if name != "texts_file"} | {
            "retries": header.get("retries", 0)
        }
        given["texts_file"] = Path(header["texts_file"]) if header["texts_file"] else None
        session = make_session(ctx, seed=header["seed"], line=line, command=header["command"], **given)
        plan = SoakPlan(
            id=resume, clients=header["clients"], duration_s=header["duration_s"], slice_s=header["slice_s"],
            started_wall_s=header["started_wall_s"], warmup_s=warmup, file=file, done=tuple(rows),
        )  # fmt: skip
        objective = Objective(**header["objective"]) if "objective" in header else session.objective
        session = replace(session.reseeded(len(rows)), objective=objective)
        if session.workload.own:
            session.workload.own.advance(sum(row["total"] + row["cached"]["total"] for row in rows))
    else:
        given |= resolved(given)
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
    started_wall_s = session.clock.wall()
    started_at = iso(started_wall_s)
    stamp = started_at[:19].replace(":", "").replace("-", "")
    name = f"{stamp}-stress-{secrets.token_hex(3)}"
    header = {
        "format": FORMAT, "kind": KIND, "id": name, "started_at": started_at, "started_wall_s": started_wall_s,
        "endpoint": session.target.url, "model": session.target.model, "clients": clients, "duration_s": duration_s,
        "slice_s": slice_s, "seed": session.seed, "objective": asdict(session.objective),
        "command": session.settings["command"], "retries": session.retries,
        **{key: given[key] for key in CARRIED}, "texts_file": str(given["texts_file"] or ""),
    }  # fmt: skip
    return SoakPlan(
        id=name, clients=clients, duration_s=duration_s, started_wall_s=started_wall_s, slice_s=slice_s,
        warmup_s=warmup_s, file=runs / f"{name}.slices.jsonl", header=header,
    )  # fmt: skip


def _resumed(path: Path, ctx: Context) -> tuple[Row, list[Row]]:
    """Header and slices. A run that is complete but has no record yet was killed at its very end: it gets one."""
    header, rows = read_slices(path)
    if header["model"] != ctx.config.model.id or not header["endpoint"].startswith(ctx.config.endpoint):
        raise ConfigError(
            f"that run asked {header['model']} at {header['endpoint']}", where=str(path),
            hint="give the same --endpoint and --model",
        )  # fmt: skip
    done_s = sum(row["seconds"] for row in rows)
    if done_s >= header["duration_s"] and path.with_name(f"{header['id']}.json").exists():
        raise ConfigError("that run is complete", where=str(path), hint=f"`slo report {header['id']}` shows it")
    return header, rows
