"""`slo compare --run A.yaml B.yaml`: two running servers, measured in turns."""

from __future__ import annotations

from pathlib import Path

from slo.bench.conditions import Stopper
from slo.bench.golden_file import Likeness, likeness, references, usual_texts
from slo.bench.interleaved import Duel, Outcome, interleave
from slo.bench.load import LoadPlan, load_once
from slo.bench.resources import server_root
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session
from slo.bench.wire import target
from slo.bench.workload import Workload
from slo.cli.load_options import drawn, vector_length
from slo.cli.options import Context, context
from slo.cli.progress_line import LiveLine
from slo.errors import ConfigError, Interrupted, RunError
from slo.page_client import server_facts
from slo.records import Run, save_run
from slo.samples import Sample
from slo.units import parse_duration, show_ms

WARMUP_S = 1.0


def compare_live(a: Path, b: Path, *, rate: float, round_s: str, rounds: int, as_json: bool) -> int:
    """Measure, save both records, print the comparison. 1 if B is significantly slower.

    Raises `RunError` when a turn is void: the generator was starved, so that neither side was measured.
    """
    line, stopper, seed = LiveLine(), Stopper(), drawn(None)
    sides = [context(path, as_json=as_json) for path in (a, b)]
    if sides[0].config.endpoint == sides[1].config.endpoint and sides[0].config.model == sides[1].config.model:
        raise ConfigError(
            f"{a} and {b} ask the same model at {sides[0].config.endpoint}", hint="start the other server"
        )
    seconds = parse_duration(round_s)
    sessions = [_session(ctx, seed, line) for ctx in sides]
    runs: tuple[list[Run], list[Run]] = ([], [])

    def turn(side: int, number: int) -> list[Sample]:
        session = sessions[side].reseeded(2 * number + side)
        schedule = parse_arrivals("poisson", rate=rate, duration_s=seconds, seed=session.seed)
        run = load_once(session, LoadPlan(schedule=schedule, warmup_s=WARMUP_S), stopper)
        if run.interrupted:
            raise Interrupted("stopped; turns that were not both measured prove nothing")
        if run.details["self_check"]["faults"]:
            raise RunError(
                f"turn {number + 1} is void: {'; '.join(run.void)}", hint="a quieter machine, or a lower --rate"
            )
        runs[side].append(run)
        return run.samples

    cosines = _likeness(sides)
    found = interleave(
        lambda number: turn(0, number),
        lambda number: turn(1, number),
        rounds=rounds,
        seed=seed,
        on_round=lambda done: line.say(f"round {done}/{rounds}"),
    )
    line.end()
    for side, ctx in enumerate(sides):
        path = save_run(_joined(runs[side], found, cosines), ctx.config.state_dir)
        ctx.err.print(f"saved {path}", highlight=False, soft_wrap=True)
    if as_json:
        sides[0].emit_json(found.to_json() | {"cosine": cosines.to_json()})
    else:
        sides[0].out.print(
            f"A {a}: P95 {show_ms(found.a_p95_ms)}\nB {b}: P95 {show_ms(found.b_p95_ms)}", highlight=False
        )
        sides[0].out.print(
            f"B/A between {found.low:.2f} and {found.high:.2f} (95 %, {rounds} rounds): {found.outcome.value}",
            highlight=False,
        )
        sides[0].out.print(
            f"cosine of A's and B's vectors over {cosines.texts} texts: least {cosines.least:.4f}, mean "
            f"{cosines.mean:.4f}",
            highlight=False,
        )
    return 1 if found.outcome is Outcome.SLOWER else 0


def _likeness(sides: list[Context]) -> Likeness:
    """How alike the vectors of the two servers are: a faster server with others has not done the same work."""
    with sides[0].client() as a, sides[1].client() as b:
        return likeness(references(a, usual_texts()), references(b, usual_texts()))


def _session(ctx: Context, seed: int, line: LiveLine) -> Session:
    config, key = ctx.config, ctx.api_key()
    dimension = vector_length(ctx)
    return Session(
        target=target(config.endpoint, config.model.id, api_key=key, timeout_s=config.client.timeout),
        workload=Workload(seed=seed),
        objective=config.slo,
        seed=seed,
        dimension=dimension,
        server=server_facts(config.endpoint, config.model.id, api_key=key),
        server_pid=server_root(config.state_dir, config.endpoint),
        show=line,
    )


def _joined(runs: list[Run], found: Duel, cosines: Likeness) -> Run:
    """One record of all turns of a side, its times one turn after the other."""
    first, samples, start_s = runs[0], list[Sample](), 0.0
    for run in runs:
        samples += [
            Sample(start_s + s.due_s, start_s + s.sent_s, start_s + s.done_s, s.outcome, s.length_class, s.cached)
            for s in run.samples
        ]
        start_s = max((s.done_s for s in samples), default=start_s)
    return Run(
        kind="turns", started_wall_s=first.started_wall_s, endpoint=first.endpoint, model=first.model,
        objective=first.objective, settings=first.settings | {"rounds": len(runs)}, samples=samples,
        server=first.server, details={"duel": found.to_json(), "cosine": cosines.to_json()},
    )  # fmt: skip
