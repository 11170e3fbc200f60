"""`slo baseline` and `slo compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType

from slo.bench.baseline import BaselinePlan, run_baseline
from slo.bench.repeated import together
from slo.cli.options import (
    Context,
    config_option,
    context,
    given_options,
    golden_option,
    json_option,
    measuring_options,
    repeat_option,
    target_options,
)
from slo.cli.progress_line import progress_on
from slo.clock import SystemClock
from slo.errors import StoreError
from slo.objective import Verdict
from slo.page_client import server_facts
from slo.records import Run, load_run, save_run
from slo.report.table import comparison_report, run_report
from slo.texts import CLASSES, DOCUMENTS, LENGTHS

TABLE_WIDTH = 118  # where stdout is not a terminal: a table in a log must not break at 80


def _classes(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    unknown = [name for name in names if name not in LENGTHS]
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(LENGTHS)}")
    return names


@click.command()
@click.option("--requests", type=int, help="Measured requests per class.")
@click.option("--warmup", type=int, help="Requests per class before that, not counted.")
@click.option("--pace", help="One request every so often (100ms); 0: as soon as the one before is answered.")
@click.option("--classes", default=",".join(CLASSES), show_default=True, callback=_classes,
              help="Which text lengths; doc128, doc256 and doc512 are shown apart unless named.")  # fmt: skip
@click.option("--seed", type=int, help="Same seed, same texts (default: from the clock).")
@repeat_option
@golden_option
@measuring_options
@target_options
@config_option
@json_option
def baseline(
    *,
    config_path: Path | None,
    as_json: bool,
    requests: int | None,
    warmup: int | None,
    pace: str | None,
    classes: tuple[str, ...],
    seed: int | None,
    golden_file: Path | None,
    repeat: int,
    **target: Any,
) -> int:
    """Measure one client's latency per text length: short 4, medium 20, long 50 characters.

    One request every 100 ms; requests that would have been due while a late answer was waited for count as well.
    Documents of 128, 256 and 512 tokens are in the table, and have no part in the verdict unless named in --classes.

    \b
    Exit codes: 0 met in every class, 1 missed in one, 3 unproven (too few samples),
    2 nothing could be measured (nobody answers, wrong key or model), 130 Ctrl-C.
    What was measured before a Ctrl-C is shown and saved, marked as interrupted.
    The record is saved in .slo/runs/; `slo compare` reads it.
    """
    changes: dict[str, Any] = {"baseline.requests": requests, "baseline.warmup": warmup, "baseline.seed": seed,
                               "baseline.pace": pace}  # fmt: skip
    ctx = context(config_path, as_json=as_json, **target, **changes)
    known: dict[str, Any] = {}
    if golden_file is not None:
        from slo.cli.load_options import golden_likeness  # noqa: PLC0415 - numpy, as below

        known = golden_likeness(ctx, golden_file)
    clock, chosen = SystemClock(), ctx.config.baseline
    first = int(clock.wall()) if chosen.seed is None else chosen.seed
    runs: list[Run] = []
    while len(runs) < repeat and not (runs and runs[-1].interrupted):
        if runs:
            keep(ctx, runs[-1])
        runs.append(_baseline(ctx, classes, first + len(runs)))
        runs[-1].settings |= known
    run, verdict = runs[-1], runs[-1].verdict
    if len(runs) > 1:
        run.details["repeats"] = together(runs)
        verdict = Verdict(run.details["repeats"]["verdict"])
    publish(ctx, run, run_report(run))
    return 130 if run.interrupted else verdict.exit_code


def _baseline(ctx: Context, classes: tuple[str, ...], seed: int) -> Run:
    clock, chosen = SystemClock(), ctx.config.baseline
    plan = BaselinePlan(
        requests=chosen.requests,
        warmup=chosen.warmup,
        seed=seed,
        classes=classes,
        pace_s=chosen.pace,
        documents=() if "--classes" in given_options() else tuple(DOCUMENTS),
    )
    for name, values in plan.examples().items():
        ctx.err.print(f"{name:<7} {' · '.join(values)}", highlight=False, soft_wrap=True)
    facts = server_facts(ctx.config.endpoint, ctx.config.model.id, api_key=ctx.api_key(), extras=ctx.extras)
    with ctx.client() as client, progress_on(ctx.err) as progress:
        return run_baseline(client, plan, ctx.config.slo, server=facts, clock=clock, progress=progress)


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--run", "measure", is_flag=True, help="BEFORE and AFTER are settings files: measure both, in turns.")
@click.option("--rate", type=float, default=10.0, show_default=True, help="With --run: requests per second.")
@click.option("--round", "round_s", default="10s", show_default=True, help="With --run: length of one turn.")
@click.option("--rounds", type=int, default=8, show_default=True, help="With --run: turns of each.")
@config_option
@json_option
def compare(
    *, config_path: Path | None, as_json: bool, before: str, after: str, measure: bool, rate: float, round_s: str,
    rounds: int,
) -> int:  # fmt: skip
    """P95 before and after, with what the difference proves.

    BEFORE and AFTER are records: a file, an id or its beginning, `last`, or `last:baseline`.
    With --run they are settings files of two running servers, which are measured in turns, so that changes of
    the machine fall on both alike.

    \b
    Exit codes: 0 not slower, 1 significantly slower in any row, 2 no such record,
    or two that were not measured alike (kind, load, encoding, connections).
    """
    if measure:
        from slo.cli.duel import compare_live  # noqa: PLC0415

        return compare_live(Path(before), Path(after), rate=rate, round_s=round_s, rounds=rounds, as_json=as_json)
    from slo.bench import compare as compared  # noqa: PLC0415 - numpy, which no other command should load

    ctx = context(config_path, as_json=as_json)
    state = ctx.config.state_dir
    result = compared.compare(load_run(before, state), load_run(after, state))
    if ctx.json:
        ctx.emit_json(result.to_json())
    else:
        wide(ctx.out).print(comparison_report(result))
    return 1 if result.slower else 0


def keep(ctx: Context, run: Run) -> None:
    """Save the record of one of several runs, and say so."""
    path = save_run(run, ctx.config.state_dir)
    ctx.err.print(f"{run.verdict.value}; saved {path}", highlight=False, soft_wrap=True)


def publish(ctx: Context, run: Run, report: RenderableType) -> None:
    """Save the record; print it as JSON or as the report. A record that cannot be saved is printed all the same."""
    saved: Path | StoreError
    try:
        saved = save_run(run, ctx.config.state_dir)
    except StoreError as error:
        saved = error
    if ctx.json:
        ctx.emit_json(run.to_json())
    elif ctx.output:
        from slo.report.formats import FORMATS  # noqa: PLC0415 - for whoever asks for it

        click.echo(FORMATS[ctx.output](run), nl=False)
    else:
        wide(ctx.out).print(report)
    if isinstance(saved, StoreError):
        raise saved
    ctx.err.print(f"saved {saved}", highlight=False, soft_wrap=True)


def wide(console: Console) -> Console:
    """The console, wide enough for a table where it is not a terminal."""
    return console if console.is_terminal else Console(width=TABLE_WIDTH)
