"""A capacity search carried out again on its own probes: the rates that it asked for, and what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from slo.bench.capacity import Capacity, Probe, climb, find_capacity, largest_met
from slo.bench.probes import computed_share, confidence_of_two, confirmed_probe
from slo.bench.selfcheck import checked_again, with_cache
from slo.bench.sequential import SequentialTest
from slo.bench.verdict import effective_size
from slo.objective import Objective, Verdict
from slo.record_form import unpack_bytes, unpack_rows
from slo.records import Run
from slo.samples import Sample
from slo.tally import Tally, tally_from_json

WHOLE = "mix"  # the search over the whole workload; its last confirmation is the record itself
NEAR = 1e-6
Found = tuple[str, Any, Any]  # where, recorded, derived
Attempt = tuple[str, float, Run]  # name of the search, rate, run


class _Astray(Exception):
    """The search would not have asked for what the record has next."""


def searched_again(run: Run, apart: Sequence[Attempt]) -> list[Found]:
    """What differs; the searches in `run.details` become the derived ones. `apart` are the nested confirmations."""
    found: list[Found] = []
    searches = run.details["searches"]
    for name, recorded in searches.items():
        attempts = [(rate, part) for search, rate, part in apart if search == name]
        probes = [_restored(probe) for probe in recorded["probes"]]
        confirmed = [probe.load for probe in probes if probe.purpose == "confirm"]
        if name == WHOLE and confirmed:
            attempts.append((confirmed[-1], run))
        found += _objectives(f"searches.{name}", probes, attempts, run.objective)
        repeats = run.settings["workload"]["zipf"] is not None
        derived = [
            _derived(probe, attempts, f"searches.{name}.probes[{i}]", found, repeats=repeats)
            for i, probe in enumerate(probes)
        ]
        try:
            searches[name] = _replayed(derived, run.settings).to_json()
        except _Astray as error:
            found.append((f"searches.{name}.probes", f"{len(probes)} probes", str(error)))
    if ladder := run.details.get("ladder"):
        rungs = [_restored(probe) for probe in ladder["probes"]]
        repeats = run.settings["workload"]["zipf"] is not None
        derived = [_derived(probe, (), f"ladder.probes[{i}]", found, repeats=repeats) for i, probe in enumerate(rungs)]
        queue = iter(derived)
        try:
            climbed = climb(lambda clients: _next(queue, clients))
        except _Astray as error:
            found.append(("ladder.probes", f"{len(rungs)} probes", str(error)))
        else:
            ladder["probes"] = [probe.to_json() for probe in climbed]
            ladder["largest"] = largest_met(climbed)
    return found


def _replayed(probes: Sequence[Probe], settings: dict[str, Any]) -> Capacity:
    queue = iter(probes)
    asked = {name: settings[name] for name in ("floor", "ceiling", "precision")}
    result = find_capacity(lambda rate: _next(queue, rate), lambda rate: _next(queue, rate), **asked)
    if rest := list(queue):
        raise _Astray(f"a search that ends {len(rest)} probes earlier")
    return result


def _next(queue: Iterator[Probe], load: float) -> Probe:
    probe = next(queue, None)
    if probe is None:
        raise _Astray(f"a search that goes on with {load:.4g}")
    if abs(probe.load - load) > NEAR * load:
        raise _Astray(f"a search that asks for {load:.6g} where {probe.load:.6g} stands")
    return probe


def _derived(
    probe: Probe, attempts: Sequence[tuple[float, Run]], where: str, found: list[Found], *, repeats: bool
) -> Probe:
    """The probe as its evidence gives it."""
    if probe.purpose == "confirm":
        runs = [run for rate, run in attempts if abs(rate - probe.load) <= NEAR * rate]
        if not runs:
            found.append((where, f"a confirmation at {probe.load:.4g}/s", "no such run"))
            return probe
        enough = [run for run in runs[:-1] if run.verdict is not Verdict.UNPROVEN or run.void]
        found += [(where, f"{len(runs)} runs", f"one was {run.verdict.value}: no reason for more") for run in enough]
        return confirmed_probe(runs[-1], probe.load)
    evidence = probe.evidence
    objective = Objective(**evidence["objective"])
    counted = unpack_bytes(evidence["counted"])
    test = SequentialTest(objective, **evidence["test"])
    for bad in counted:
        test.add(good=not bad)
    if test.total != len(counted):
        found.append((where, f"{len(counted)} requests", f"a test that ended after {test.total}"))
    whole, cached = _counted(evidence, objective, counted, where, found)
    check = checked_again(evidence["readings"], objective)
    check = with_cache(check, cached=cached, computed=whole.total, repeats=repeats)
    return replace(
        probe,
        verdict=Verdict.UNPROVEN if check.faults else test.verdict,
        total=test.total,
        good=test.good,
        p95_ms=whole.quantile_ms(0.95) if whole.total else float("inf"),
        remark="; ".join(check.faults),
        target=objective.target,
        void=bool(check.faults),
        effective=effective_size(test.bad),
        computed=computed_share(whole.total, cached, repeats=repeats),
    )


def _counted(
    evidence: dict[str, Any], objective: Objective, counted: bytes, where: str, found: list[Found]
) -> tuple[Tally, int]:
    """All that was computed, and how many a cache answered.

    From the samples, which must begin with what was counted; from exact counts where not all samples are kept.
    """
    whole = Tally()
    if evidence["samples"] is None:
        for part in evidence["tallies"].values():
            whole.add(tally_from_json(part))
        return whole, tally_from_json(evidence["cached"]).total
    samples = [Sample(*row) for row in unpack_rows(evidence["samples"])]
    computed = [sample for sample in samples if not sample.cached]
    outcomes = [not sample.good(objective) for sample in computed[: len(counted)]]
    if outcomes != [bool(bad) for bad in counted]:
        told = f"{sum(counted)} bad of {len(counted)}", f"{sum(outcomes)} of {len(outcomes)}"
        found.append((f"{where}.evidence", *told))
    for sample in computed:
        whole.count(sample, objective)
    return whole, len(samples) - len(computed)


def _objectives(
    where: str, probes: Sequence[Probe], attempts: Sequence[tuple[float, Run]], objective: Objective
) -> Iterator[Found]:
    """Everything was held against one objective, confirmations to half the error."""
    base = next((Objective(**probe.evidence["objective"]) for probe in probes if probe.evidence), objective)
    for probe in probes:
        if probe.evidence and Objective(**probe.evidence["objective"]) != base:
            yield f"{where}: objective of the probe at {probe.load:.4g}", probe.evidence["objective"], str(base)
    strict = replace(base, confidence=confidence_of_two(base.confidence))
    for rate, run in attempts:
        if run.objective != strict:
            yield f"{where}: objective of the confirmation at {rate:.4g}/s", str(run.objective), str(strict)


def _restored(data: dict[str, Any]) -> Probe:
    p95_ms = float("inf") if data["p95_ms"] is None else data["p95_ms"]
    return Probe(**data | {"verdict": Verdict(data["verdict"]), "p95_ms": p95_ms})
