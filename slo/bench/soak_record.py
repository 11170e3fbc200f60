"""The record of a soak, from the lines of its slices alone: all sessions alike, whoever wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from slo.bench.ledger import answers_of, checked, failures_of, merged, wrong_answers
from slo.bench.load_record import repeats, tally_figures
from slo.bench.omission import kept_pace
from slo.bench.paced_slices import paced_rows
from slo.bench.selfcheck import with_cache
from slo.bench.session import Session
from slo.bench.slices import Row, soak_figures, total_of, totals
from slo.bench.verdict import Conclusion, both, judge_dependent, lasting
from slo.objective import Judgement, Objective, Verdict
from slo.record_form import pack_bytes
from slo.records import Run
from slo.samples import Sample
from slo.sentences import say
from slo.units import show_duration

HEAVY = frozenset(
    {
        "tallies",
        "cached",
        "stages",
        "refusals",
        "failures",
        "sample",
        "generator",
        "warmup",
        "bad",
        "paced_bad",
        "late_waits",
    }
)  # not in the record
LEAST_SLICES = 6  # that tell how alike they are
PAUSE_S = 60.0  # between sessions, from which on it is told


def soak_record(session: Session, name: str, started_wall_s: float, rows: Sequence[Row], samples: list[Sample]) -> Run:
    """The run `name` over `rows`; `samples` are a fair part of all its requests."""
    run = Run(
        kind="stress", id=name, started_wall_s=started_wall_s, endpoint=session.target.url,
        model=session.target.model, objective=session.objective, server=session.server, samples=samples,
        settings={
            **session.settings, "workload": session.workload.describe(), "seed": session.seed,
            "encoding": session.encoding, "timeout_s": session.target.timeout_s, "loop": "closed",
        },
    )  # fmt: skip
    conclude_soak(run, rows)
    run.details["evidence"] = {"slices": packed_rows(rows)}
    run.notes += [*run.details["self_check"]["remarks"], *_notes(rows, run), *repeats(session.workload)]
    return run


def conclude_soak(run: Run, rows: Sequence[Row]) -> None:
    """Give `run` all that follows from its slices: counts, verdict, figures."""
    objective, answers, repeats = run.objective, answers_of(rows), run.settings["workload"]["zipf"] is not None
    cached = total_of(row["cached"] for row in rows)
    computed = sum(row["total"] for row in rows)
    check = with_cache(checked(rows, objective), cached=cached.total, computed=computed, repeats=repeats)
    conclusion = concluded(rows, objective, check.faults)
    tokens: list[Any] = [row.get("tokens_answered") for row in rows]
    warmups = [row["warmup"] for row in rows if row["warmup"]]
    run.exact = [tally.summary(label, objective, weight=conclusion.weight) for label, tally in totals(rows).items()]
    run.exact_cached = cached.summary("cached", objective) if cached.total else None
    run.decided, run.void = conclusion.verdict, list(conclusion.void)
    run.details |= {
        "conclusion": conclusion.to_json(),
        "on_pace": on_pace_of(rows, objective),
        "self_check": check.to_json(),
        "answers": answers,
        "stages": {label: tally_figures(tally) for label, tally in merged(rows, "stages").items()},
        "failures": failures_of(rows),
        "refusals": tally_figures(total_of(row["refusals"] for row in rows)),
        "warmup": {key: sum(part[key] for part in warmups) for key in ("discarded", "seconds")},
        "priority": rows[-1]["priority"] if rows else "normal",
        "peak_in_flight": max((row["peak_in_flight"] for row in rows), default=0),
        "peak_connections": max((row["peak_connections"] for row in rows), default=0),
        "texts_answered": sum(row["texts_answered"] for row in rows),
        "tokens_answered": sum(tokens) if all(count is not None for count in tokens) else None,
        "resource_summary": _resources(rows),
        "sessions": len({row["session"] for row in rows}),
        "slices": [{key: value for key, value in row.items() if key not in HEAVY} for row in rows],
        "soak": soak_figures(rows, rows[-1]["clients"] if rows else 0),
    }


def packed_rows(rows: Sequence[Row]) -> str:
    """The slices as a record keeps them: without their samples, which the record has."""
    bare = [{key: value for key, value in row.items() if key != "sample"} for row in rows]
    return pack_bytes(json.dumps(bare, ensure_ascii=False).encode())


def concluded(rows: Sequence[Row], objective: Objective, faults: tuple[str, ...]) -> Conclusion:
    """The verdict over all slices.

    Each weighs as its own effective number of requests, all together as no more than their bad ratios are alike: a
    slice that failed altogether shows no clusters, being one.
    """
    wrong, compared = wrong_answers(rows), answers_of(rows)["compared"]
    sent, on_pace = judgements(rows, objective)
    judgement = both(sent, on_pace)
    verdict, remarks = judgement.verdict, list[str]()
    if sent.verdict is not verdict is on_pace.verdict:
        remarks += kept_pace(on_pace_of(rows, objective), objective)
    if wrong:
        verdict = Verdict.MISSED
        remarks.append(say("wrong", wrong=len(wrong), compared=compared))
    return Conclusion(
        verdict=Verdict.UNPROVEN if faults else verdict,
        judgement=judgement,
        effective=_effective(rows),
        void=faults,
        remarks=tuple(remarks),
    )


def judgements(rows: Sequence[Row], objective: Objective) -> tuple[Judgement, Judgement]:
    """On what was sent, and on that with what callers on their pace would have sent besides."""
    seconds = sum(row["seconds"] for row in rows)
    wrong = sum(counted_good for _, counted_good in wrong_answers(rows))
    sent, on_pace = (lasting(_judged(part, wrong, objective), seconds) for part in (rows, paced_rows(rows)))
    return sent, on_pace


def on_pace_of(rows: Sequence[Row], objective: Objective) -> Row:
    """What callers on their pace would have met, over all slices."""
    paced, (_, judgement) = paced_rows(rows), judgements(rows, objective)
    return {
        "expected": sum(part["expected"] for part in paced), "late": sum(part["late"] for part in paced),
        "total": judgement.total, "good": judgement.good, "effective": round(_effective(paced), 1),
        "verdict": judgement.verdict.value, "advice": judgement.advice,
    }  # fmt: skip


def _judged(rows: Sequence[Row], wrong_ones: int, objective: Objective) -> Judgement:
    good, total = sum(row["good"] for row in rows) - wrong_ones, sum(row["total"] for row in rows)
    return judge_dependent(good, total, _effective(rows), objective)


def _effective(rows: Sequence[Row]) -> float:
    return min(math.fsum(row["effective"] for row in rows), between_slices(rows))


def between_slices(rows: Sequence[Row], least: int = LEAST_SLICES) -> float:
    """n by the spread of the slices' bad ratios: n / D, D being their variance over that of independent requests."""
    counted = [row for row in rows if row["total"]]
    total = sum(row["total"] for row in counted)
    bad = total - sum(row["good"] for row in counted)
    if len(counted) < least or not 0 < bad < total:
        return float(total)
    share: float = bad / total
    # Pearson's statistic over its degrees of freedom, 1 for independent requests
    surplus = sum((row["total"] - row["good"] - share * row["total"]) ** 2 / row["total"] for row in counted)
    spread = float(surplus) / (share * (1 - share)) / (len(counted) - 1)
    return float(total) / max(1.0, spread)


def _notes(rows: Sequence[Row], run: Run) -> list[str]:
    told = run.details["conclusion"]["remarks"]
    found = [say("closed"), *(n for n in kept_pace(run.details["on_pace"], run.objective) if n not in told)]
    measured = sum(row["total"] for row in rows) + (run.exact_cached.total if run.exact_cached else 0)
    if len(run.samples) < measured:
        found.append(say("thinned.fair", kept=len(run.samples), total=measured))
    if run.exact_cached:
        found.append(say("cached", count=run.exact_cached.total))
    if alike := run.details["answers"]["alike"]:
        found.append(say("alike", count=alike))
    if unverified := run.details["answers"]["unverified"]:
        found.append(say("unverified", count=unverified))
    if marked := [str(row["index"] + 1) for row in rows if row["faults"]]:
        found.append(say("slices", slices=", ".join(marked)))
    for before, after in pairwise(rows):
        pause_s = after["t"] - before["t"] - before["seconds"]
        if after["session"] != before["session"] and pause_s > PAUSE_S:
            found.append(say("paused", pause=show_duration(pause_s), index=before["index"] + 1))
    return found


def _resources(rows: Sequence[Row]) -> Row:
    """Largest memory and mean shares, slices weighing by their length."""

    def mean(key: str) -> float | None:
        parts = [(row[key], row["seconds"]) for row in rows if row[key] is not None]
        seconds = sum(length for _, length in parts)
        return round(sum(value * length for value, length in parts) / seconds, 4) if seconds else None

    steal = [row["steal"] for row in rows if row["steal"] is not None]
    return {
        "rss_max": max((row["rss"] for row in rows if row["rss"] is not None), default=None),
        "pss": max((row["pss"] for row in rows if row.get("pss")), default=None),
        "server_cpu": mean("server_cpu"), "own_cpu": mean("own_cpu"), "steal": mean("steal"),
        "steal_p95": max(steal, default=None),
    }  # fmt: skip
