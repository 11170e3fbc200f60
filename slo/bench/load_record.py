"""The run of a finished load: figures, evidence to derive the verdict from again, and what a reader should know."""

from __future__ import annotations

from typing import Any

from slo.bench.answers import ReferenceCheck
from slo.bench.collect import UNKNOWN, Collector
from slo.bench.conditions import priority_name
from slo.bench.resources import resource_summary
from slo.bench.selfcheck import SelfCheck, check_run, with_cache
from slo.bench.session import Load
from slo.bench.verdict import Conclusion
from slo.bench.workload import Workload
from slo.errors import Unreachable
from slo.record_form import pack_bytes
from slo.records import Run
from slo.sentences import say
from slo.tally import Tally


def record(
    load: Load,
    kind: str,
    *,
    conclusion: Conclusion,
    check: SelfCheck,
    comparison: ReferenceCheck,
    settings: dict[str, Any],
    details: dict[str, Any],
) -> Run:
    """The run of a finished load."""
    session, collector = load.session, load.collector
    thinned = collector.thinned
    run = Run(
        kind=kind,
        started_wall_s=load.started_wall_s,
        endpoint=session.target.url,
        model=session.target.model,
        objective=session.objective,
        settings={
            **session.settings,
            "workload": session.workload.describe(),
            "seed": session.seed,
            "encoding": session.encoding,
            "connections": session.connections,
            "timeout_s": session.target.timeout_s,
            "headers": [name for name, _ in session.target.headers],
            "extra_body": session.target.body,
            "keepalive": session.target.keepalive,
            "retries": session.retries,
            **settings,
        },
        samples=collector.samples(),
        server=session.server,
        exact=collector.summaries(weight=conclusion.weight) if thinned else [],
        exact_cached=collector.cached.summary("cached", session.objective)
        if thinned and collector.cached.total
        else None,
        decided=conclusion.verdict,
        void=list(conclusion.void),
        details={
            "conclusion": conclusion.to_json(),
            "self_check": check.to_json(),
            "answers": {
                "parsed": load.check.parsed,
                "compared": comparison.compared,
                "wrong": len(comparison.wrong),
                "alike": comparison.alike,
                "unverified": comparison.unverified,
                "least_cosine": comparison.least_cosine if comparison.compared else None,
            },
            "stages": {name: tally_figures(tally) for name, tally in collector.stages.items()},
            "failures": collector.failures.rows(),
            "refusals": tally_figures(collector.refusals_ms),
            "warmup": load.warmup(),
            "evidence": evidence(collector),
            "priority": priority_name(),
            "peak_in_flight": collector.peak_in_flight,
            "peak_connections": load.pool.peak_connections,
            "texts_answered": collector.inputs,
            "tokens_answered": collector.tokens if collector.tokens_known else None,
            "sent_again": load.retrying.sent_again if load.retrying else 0,
            "series": collector.series(),
            "resources": [reading.to_json() for reading in load.readings],
            "resource_summary": resource_summary(load.readings, load.measure_memory()),
            **details,
        },
    )
    run.notes += [*notes(load, comparison, check), *repeats(session.workload)]
    return run


def evidence(collector: Collector) -> dict[str, Any]:
    """What the verdict follows from beside samples and self-check; counts and fates of all where not all are kept."""
    found: dict[str, Any] = {
        "sent": collector.sent,
        "unanswered": collector.flags.count(UNKNOWN),
        "sent_sha256": collector.sent_digest.hexdigest(),
    }
    if collector.thinned:
        found["fates"] = pack_bytes(bytes(collector.flags))
        found["latencies_ms"] = pack_bytes(collector.latencies_ms.tobytes())
        found["tallies"] = {name: tally.to_json() for name, tally in collector.classes.items()}
        found["cached"] = collector.cached.to_json()
    return found


def tally_figures(tally: Tally) -> dict[str, Any]:
    """Count, mean and percentiles in milliseconds; None where there is nothing."""
    if not tally.answered:
        return {"count": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {
        "count": tally.total,
        "mean_ms": round(tally.sum_ms / tally.answered, 3),
        **{f"p{q}_ms": round(tally.quantile_ms(q / 100), 3) for q in (50, 95, 99)},
    }


def notes(load: Load, comparison: ReferenceCheck, check: SelfCheck) -> list[str]:
    """What a reader should know beside the figures."""
    collector, found = load.collector, list(check.remarks)
    if collector.cached.total:
        found.append(say("cached", count=collector.cached.total))
    if comparison.alike:
        found.append(say("alike", count=comparison.alike))
    if comparison.unverified:
        found.append(say("unverified", count=comparison.unverified))
    if collector.thinned:
        found.append(say("thinned", kept=len(collector.kept), total=collector.sent))
    unreachable = sum(tally.failed[Unreachable.outcome] for tally in collector.classes.values())
    if unreachable and load.pool.last_error:
        found.append(say("unreachable", count=unreachable, error=load.pool.last_error))
    return found


def self_checked(load: Load) -> SelfCheck:
    """The self-check at this moment; call it when the last answer has come."""
    collector, repeats = load.collector, load.session.workload.zipf is not None
    check = check_run(collector, load.instrument, load.session.clock.monotonic())
    return with_cache(check, cached=collector.cached.total, computed=collector.total, repeats=repeats)


def repeats(workload: Workload) -> list[str]:
    """The note that texts of a file were sent again, if they were."""
    own = workload.own
    return [say("repeated", count=own.repeated, total=own.sent)] if own and own.repeated else []
