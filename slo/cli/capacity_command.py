"""`slo capacity` and `slo plan`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from slo.bench.capacity import LADDER, PRECISION, Capacity, Probe, Prober, climb, find_capacity, largest_met
from slo.bench.conditions import Stopper
from slo.bench.costing import busy_throughput, cached_cost, idle_costs, mix_sizes
from slo.bench.load import LoadPlan, load_once
from slo.bench.plan import BUSY_CLIENTS, HEADROOM, Model, Planned, fit_line, plan_clients, plan_rate, slowdown
from slo.bench.plan import concurrency as callers_plan
from slo.bench.probes import (
    LEAST_S,
    clients_probe,
    coarse_test,
    confirmation,
    confirmed_probe,
    cool_down,
    fine_test,
    rate_probe,
)
from slo.bench.schedule import parse_arrivals
from slo.bench.sequential import SequentialTest
from slo.bench.session import Session
from slo.cli.bench import publish
from slo.cli.load_command import TARGET
from slo.cli.load_options import drawn, make_session, workload_options
from slo.cli.options import DURATION, Context, context
from slo.cli.progress_line import LiveLine
from slo.errors import Interrupted
from slo.host import host_facts
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.report.capacity_tables import capacity_report, plan_report
from slo.sentences import say
from slo.stats import nearest_rank
from slo.units import show_ms, show_ratio

CHECK_WARMUP_S = 3.0
WHOLE = "mix"  # the search over the whole workload


@click.command()
@click.option("--floor", type=float, default=5.0, show_default=True, help="Rate to begin with.")
@click.option("--ceiling", type=float, default=2000.0, show_default=True, help="Rate not to go beyond.")
@click.option("--precision", type=click.FloatRange(0.01, 0.5), default=PRECISION, show_default=True,
              help="Half width of the 95 % interval at which the search ends, as a share.")  # fmt: skip
@click.option("--least", type=DURATION, default=LEAST_S, show_default=True, help="Shortest probe that may be met.")
@click.option("--confirm", type=DURATION, help="Length of the confirmation (default: 60s and 2000 requests at least).")
@click.option("--per-class", is_flag=True, help="Also search for each length class alone.")
@click.option("--ladder", is_flag=True, help=f"Also try {', '.join(map(str, LADDER))} closed-loop callers.")
@workload_options
def capacity(
    *, config_path: Path | None, as_json: bool, floor: float, ceiling: float, precision: float, least: float,
    confirm: float | None, per_class: bool, ladder: bool, seed: int | None, **given: Any,
) -> int:  # fmt: skip
    """Highest Poisson rate that meets the objective, searched and then proven.

    \b
    Takes 6 to 9 minutes, as long again for each class with --per-class, and 2 for --ladder.
    Exit codes: 0 a rate is proven, 1 not even --floor meets the objective,
    2 usage or set-up error, 3 found but not proven, or void, 130 Ctrl-C.
    """
    if not 0 < floor <= ceiling:
        raise click.BadParameter("--floor must be above zero and not above --ceiling")
    if min(least, least if confirm is None else confirm) <= 0:
        raise click.BadParameter("--least and --confirm must be above zero")
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    line, stopper = LiveLine(), Stopper()
    session = make_session(ctx, seed=drawn(seed), line=line, **given)
    search = _Search(ctx, session, line, stopper, floor, ceiling, precision, least, confirm)
    found, run = search.run(session, WHOLE)
    run.settings |= {"floor": floor, "ceiling": ceiling, "precision": precision}
    run.details["confirmations"] = search.confirmations
    searches = run.details["searches"] = {WHOLE: found.to_json()}
    try:
        for name, _ in session.workload.mix if per_class and not session.workload.own else ():
            searches[name] = search.run(replace(session, workload=session.workload.only(name)), name)[0].to_json()
        if ladder:
            probes = climb(search.clients, cool_down=search.cool_down)
            run.details["ladder"] = {"probes": [probe.to_json() for probe in probes], "largest": largest_met(probes)}
    except (Interrupted, KeyboardInterrupt):  # what has been proven stays so; the second comes between two probes
        run.interrupted = True
        run.notes.append(say("cut"))
    publish(ctx, run, capacity_report(run))
    if run.interrupted:
        return 130
    if not found.best:
        return 1 if found.probes[0].verdict is Verdict.MISSED else 3
    return 0 if found.confirmed else 3


class _Search:
    """The probes of one command, each with texts of its own."""

    def __init__(
        self, ctx: Context, session: Session, line: LiveLine, stopper: Stopper, floor: float, ceiling: float,
        precision: float, least_s: float, confirm_s: float | None,
    ) -> None:  # fmt: skip
        self._ctx, self._session, self._line, self._stopper = ctx, session, line, stopper
        self._floor, self._ceiling, self._precision, self._least_s = floor, ceiling, precision, least_s
        self._confirm_s = confirm_s
        self.confirmations: list[dict[str, Any]] = []  # all but the run that the command itself records
        self._number = itertools.count(1)

    def run(self, session: Session, name: str) -> tuple[Capacity, Run]:
        """The capacity for the workload of `session`, and its last confirmation (or an empty run)."""
        started_wall_s = session.clock.wall()
        confirmations: list[tuple[float, Run]] = []

        def confirm(rate: float) -> Probe:
            runs = confirmation(self._fresh(session), rate, self._stopper, seconds=self._confirm_s)
            confirmations.extend((rate, run) for run in runs)
            return confirmed_probe(runs[-1], rate)

        def rated(kind: Callable[[Objective, float, float], SequentialTest]) -> Prober:
            def probe(rate: float) -> Probe:
                test = kind(session.objective, rate, self._least_s)
                return rate_probe(self._fresh(session), rate, self._stopper, test)

            return self._said(probe, name)

        found = find_capacity(
            rated(coarse_test),
            self._said(confirm, name),
            fine=rated(fine_test),
            floor=self._floor,
            ceiling=self._ceiling,
            precision=self._precision,
            cool_down=self.cool_down,
        )
        apart = confirmations[:-1] if name == WHOLE else confirmations
        self.confirmations += [{"search": name, "rate": rate, "run": run.to_json()} for rate, run in apart]
        if confirmations:
            run = confirmations[-1][1]
            run.kind, run.id = "capacity", run.id.replace("-load-", "-capacity-")
            return found, run
        return found, empty_run(session, "capacity", started_wall_s, decided=found.probes[0].verdict)

    def clients(self, count: int) -> Any:
        """One rung of the ladder."""
        probe = clients_probe(self._fresh(self._session), count, self._stopper, least_s=self._least_s)
        self._say(f"{count} callers", probe)
        return probe

    def cool_down(self) -> None:
        """Wait until the service is idle again."""
        session = self._session
        with self._ctx.client() as client:
            cool_down(client, session.objective.threshold_s, session.clock)

    def _fresh(self, session: Session) -> Session:
        return session.reseeded(next(self._number))

    def _said(self, prober: Prober, name: str) -> Prober:
        def probe(rate: float) -> Probe:
            result = prober(rate)
            self._say(f"{name} {rate:.4g}/s", result)
            return result

        return probe

    def _say(self, what: str, probe: Any) -> None:
        ratio = probe.good / probe.total if probe.total else float("nan")
        self._line.say(
            f"{probe.purpose} {what}: {'void' if probe.void else probe.verdict.value}, {show_ratio(ratio)} good of "
            f"{probe.total}, P95 {show_ms(probe.p95_ms)}, {probe.seconds:.0f} s {probe.remark}".rstrip()
        )


def empty_run(session: Session, kind: str, started_wall_s: float, *, decided: Verdict | None) -> Run:
    """A record whose figures lie in its details alone."""
    return Run(
        kind=kind, started_wall_s=started_wall_s, endpoint=session.target.url, model=session.target.model,
        objective=session.objective, samples=[], server=session.server, decided=decided,
        settings={**session.settings, "workload": session.workload.describe(), "seed": session.seed},
    )  # fmt: skip


@click.command()
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests per second to be served.")
@click.option("--concurrency", type=click.IntRange(1, 100_000), help="Or: closed-loop callers to be served.")
@click.option("--batch-tokens", type=click.IntRange(1, 1_000_000), help="Cap of a pass (default: as configured).")
@click.option("--cores", type=click.IntRange(1, 1024), help="Cores of one replica (default: all here).")
@click.option("--check", "check_s", type=DURATION, default="20s", show_default=True, help="Time for the check, or 0.")
@workload_options
def plan(
    *, config_path: Path | None, as_json: bool, rate: float | None, concurrency: int | None, batch_tokens: int | None,
    cores: int | None, check_s: float, seed: int | None, **given: Any,
) -> int:  # fmt: skip
    """Replicas and cores for a demand, from what a token costs on the server at hand.

    \b
    Measures half a minute, shows the model and checks one prediction.
    Exit codes: 0 done, 2 usage or set-up error, or no number of replicas is enough, 130 Ctrl-C.
    """
    if (rate is None) == (concurrency is None):
        raise click.UsageError("give either --rate or --concurrency")
    ctx = context(config_path, as_json=as_json, **{name: given[name] for name in TARGET})
    line, stopper = LiveLine(), Stopper()
    session = make_session(ctx, seed=drawn(seed), line=line, **given)
    started_wall_s = session.clock.wall()
    here = int(session.server.get("replica") or 1)
    points = idle_costs(session.reseeded(1), stopper)
    throughput = busy_throughput(session.reseeded(2), stopper, clients=here * BUSY_CLIENTS) / here
    sizes, most_tokens = mix_sizes(session), batch_tokens or ctx.config.serve.batch.max_tokens
    idle = fit_line(points)
    model = Model(
        idle=idle,
        slowdown=slowdown(idle, sizes, throughput, clients=BUSY_CLIENTS, most_tokens=most_tokens),
        sizes=sizes,
        most_tokens=most_tokens,
        objective=session.objective,
        cores_per_replica=cores or max(1, host_facts()["cores"] // here),
        seed=session.seed,
    )
    planned = plan_rate(model, rate) if rate is not None else plan_clients(model, concurrency or 1)
    hit_s = cached_cost(session.reseeded(4), stopper) if concurrency else math.nan
    run = empty_run(session, "plan", started_wall_s, decided=None)
    if check_s > 0 and planned.capacity > 0:
        check = _check(session.reseeded(3), planned.capacity * HEADROOM * here, check_s, stopper)
        planned = _checked(model, planned, check, run)
    line.end()
    run.settings["most_tokens"] = most_tokens
    run.details |= {
        "plan": planned.to_json(),
        "points": [(point.tokens, point.seconds) for point in points],
        "busy": {"clients": BUSY_CLIENTS, "throughput": throughput, "replicas": here},
    }
    if concurrency:
        run.details["callers"] = callers_plan(model, concurrency, replicas=here, hit_s=hit_s).to_json()
    if planned.doubt:
        run.notes.append(planned.doubt)
    if session.server_pid is None:
        run.notes.append(say("plan.elsewhere"))
    publish(ctx, run, plan_report(run))
    return 130 if run.interrupted else 0


def _check(session: Session, rate: float, seconds: float, stopper: Stopper) -> Run:
    schedule = parse_arrivals("poisson", rate=rate, duration_s=seconds, seed=session.seed)
    return load_once(session, LoadPlan(schedule=schedule, warmup_s=CHECK_WARMUP_S), stopper)


def _checked(model: Model, planned: Planned, check: Run, run: Run) -> Planned:
    """The plan with what the check gave; the plan's `run` hears why it gave nothing."""
    run.interrupted = check.interrupted
    if check.interrupted:
        run.notes.append(say("plan.unchecked"))
        return planned
    if check.void:
        run.notes.append(say("plan.void", reasons="; ".join(check.void)))
        return planned
    rate = planned.capacity * HEADROOM
    latencies = sorted(s.latency_ms if s.ok else math.inf for s in check.samples if not s.cached)
    return replace(
        planned,
        check_rate=rate,
        check_predicted_ms=model.p95_ms(rate),
        check_measured_ms=nearest_rank(latencies, model.objective.target),
    )
