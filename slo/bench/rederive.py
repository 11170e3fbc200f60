"""
Does a record's verdict follow from what the record holds? Everything derived is computed anew, offline, and compared.

Primary are samples (or the outcomes and counts of all, where not all samples are kept), the slices of a soak, the
probes and confirmations of a search, readings of the generator, and the schedule's seed; all else follows, by the
functions that made the record. Beyond that the parts must agree with each other: rows with the counts of what
was sent, with the per-second series, and open-loop due times with those that the seed gives.

That, and the digest, find accidents and a clumsy hand. Whoever changes a record and derives all of it anew is found
by a signature alone (`slo attest`).
"""

from __future__ import annotations

import copy
import json
import math
from array import array
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from slo.bench.baseline import judge_on_pace, kept_grid_s
from slo.bench.collect import BAD, CACHED, GOOD, LATE_MS, Second
from slo.bench.discrepancy import Discrepancy, Findings, Rederived, differing
from slo.bench.load import drifting
from slo.bench.looks import held_to
from slo.bench.paced_slices import reckoned_again
from slo.bench.rederive_search import WHOLE, searched_again
from slo.bench.schedule import parse_arrivals
from slo.bench.selfcheck import checked_again, with_cache
from slo.bench.slices import Row
from slo.bench.soak_record import conclude_soak
from slo.bench.verdict import conclude, effective_size
from slo.errors import ConfigError, Refused
from slo.objective import Objective, Verdict
from slo.record_form import NESTED, digest_of, unpack_bytes, unpacked
from slo.records import Run, run_from_json
from slo.tally import Tally, summaries_of, tally_from_json

DERIVED_ONLY_FROM_ROWS = ("baseline", "turns")
CONCLUDED = ("load", "capacity")
BESIDE = {  # parts of `details` that are about other records as well
    "duel": "details.duel compares with the other record of the pair",
    "against": "details.against compares with another record: `slo compare` derives it from both",
    "repeats": "details.repeats is about several records, each of which is checked alone",
}
STEP_S = 2e-7  # what rounding may move a due time
MOST = 12  # differences that are told


def rederive(data: dict[str, Any], *, source: str = "record") -> Rederived:
    """Derive a record anew. Raises `StoreError` when it is none, or of a future version."""
    run = run_from_json(data, source=source)
    found, rows = Findings(), unpacked(data)
    if data["format"] == 1:
        found.gaps.append(
            "written by an earlier version: it holds no dispatch times, no readings of the generator, no probes and no "
            "slices, so that only figures over its samples can be derived again. Measure anew for a record that can"
        )
        if run.kind in DERIVED_ONLY_FROM_ROWS and not run.exact:
            found.differences += differing(_results(rows), _results(run.to_json()))
        return _as_recorded(run, found)
    found.same("digest", rows.get("digest"), digest_of(rows))
    derived = replace(run, details=copy.deepcopy(run.details))
    if run.kind == "baseline":
        _baseline(derived, found)
    elif run.kind == "stress":
        _soak(derived, found)
    elif run.kind in CONCLUDED and "conclusion" in run.details:
        _load(derived, found)
    elif run.kind not in (*DERIVED_ONLY_FROM_ROWS, *CONCLUDED):
        found.gaps.append(f"a {run.kind} holds no verdict")
    found.gaps += [gap for key, gap in BESIDE.items() if key in run.details]
    if run.kind == "capacity" and NESTED in run.details:
        attempts = []
        for part in run.details[NESTED]:
            inner = rederive(part["run"], source=f"{source}: {NESTED}")
            found.differences += [_inside(f"{NESTED} at {part['rate']:g}/s", d) for d in inner.differences]
            attempts.append((part["search"], part["rate"], run_from_json(part["run"])))
        for where, recorded, again in searched_again(derived, attempts):
            found.differences.append(Discrepancy(where=where, recorded=recorded, derived=again))
        if "conclusion" not in run.details:  # nothing to confirm was found
            derived.decided = Verdict(derived.details["searches"][WHOLE]["probes"][0]["verdict"])
    found.differences += differing(_without_digests(rows), _without_digests(derived.to_json()))
    return _as_recorded(derived, found)


def outcomes_of(run: Run) -> list[int]:
    """GOOD, BAD or CACHED of each sample, in order."""
    return [CACHED if s.cached else GOOD if s.good(run.objective) else BAD for s in run.samples]


def _load(run: Run, found: Findings) -> None:
    """Conclude an open-loop run anew, into `run` itself."""
    details, given = run.details, run.details["evidence"]
    thinned = "fates" in given
    outcomes = list(unpack_bytes(given["fates"])) if thinned else outcomes_of(run)
    check = with_cache(
        checked_again(details["self_check"]["readings"], run.objective),
        cached=outcomes.count(CACHED),
        computed=outcomes.count(GOOD) + outcomes.count(BAD),
        repeats=run.settings["workload"]["zipf"] is not None,
    )
    answers = details["answers"]
    latencies_ms = array("f", [s.latency_ms if s.ok else math.inf for s in run.samples])
    if thinned:
        latencies_ms = array("f", unpack_bytes(given["latencies_ms"]))
    counted = [place for place, outcome in enumerate(outcomes) if outcome in (GOOD, BAD)]
    conclusion = conclude(
        [outcomes[place] - GOOD for place in counted],
        held_to(details, run.objective, run.settings["duration_s"], interrupted=run.interrupted),
        latencies_ms=[latencies_ms[place] for place in counted],
        seconds=details["measured_s"],
        faults=check.faults,
        drifting=drifting(details["series"]) if details["steady"] else None,
        wrong=answers["wrong"],
        compared=answers["compared"],
    )
    run.decided, run.void = conclusion.verdict, list(conclusion.void)
    details["conclusion"], details["self_check"] = conclusion.to_json(), check.to_json()
    if thinned:
        tallies = {name: tally_from_json(part) for name, part in given["tallies"].items()}
        hits = tally_from_json(given["cached"])
        found.same(
            "evidence.tallies: computed",
            sum(t.total for t in tallies.values()),
            outcomes.count(GOOD) + outcomes.count(BAD),
        )
        found.same("evidence.tallies: good", sum(t.good for t in tallies.values()), outcomes.count(GOOD))
        _in_bins("evidence.tallies", tallies.values(), run.objective, found)
        found.same("evidence.cached", hits.total, outcomes.count(CACHED))
        run.exact = summaries_of(tallies, run.objective, weight=conclusion.weight)
        run.exact_cached = hits.summary("cached", run.objective) if hits.total else None
    else:
        _agree(run, found)
    found.same("details.sent", details["sent"], given["sent"])
    found.same("details.self_check.readings.total", details["self_check"]["readings"]["total"], given["sent"])
    found.same("details.evidence.sent", given["sent"], len(outcomes) + (0 if thinned else given["unanswered"]))
    if run.settings["arrivals"].partition(":")[0] != "replay":
        _on_schedule(run, found, whole=not thinned and not given["unanswered"])


def _agree(run: Run, found: Findings) -> None:
    """Rows against what was counted from the same requests while they ran."""
    details = run.details
    if details["evidence"]["unanswered"] or details["answers"]["wrong"]:
        return  # counted when they left, or taken for good until the load was over
    late = sum(round((s.dispatched_s - s.due_s) * 1000, 4) > LATE_MS for s in run.samples if s.dispatched_s is not None)
    found.same("details.self_check.readings.late", details["self_check"]["readings"]["late"], late)
    seconds: dict[int, Second] = {}
    for s in run.samples:
        second = seconds.setdefault(int(s.due_s), Second(0, warmup=False))
        second.due += 1
        second.cached += s.cached
        second.refused += s.outcome == Refused.outcome
        if not s.ok:
            second.failed += 1
        elif not s.cached:
            second.good += s.good(run.objective)
            second.latencies_ms.append(s.latency_ms)
    for row in details["series"]:
        # The second in which the warm-up ended holds requests of both.
        if row["warmup"]:
            continue
        derived = seconds.get(int(row["t"]), Second(0, warmup=False)).row(row["t"])
        for name in ("due", "good", "failed", "refused", "cached", "p50_ms", "p95_ms"):
            found.same(f"details.series[t={row['t']:g}].{name}", row[name], derived[name])


def _on_schedule(run: Run, found: Findings, *, whole: bool) -> None:
    """Due times against those that the seed gives; the first request says when the schedule began."""
    settings, details = run.settings, run.details
    try:
        schedule = parse_arrivals(
            settings["arrivals"], rate=details["asked_rate"], duration_s=settings["duration_s"], seed=settings["seed"]
        )
    except ConfigError:
        found.gaps.append(f"the arrival pattern {settings['arrivals']!r} cannot be drawn again")
        return
    found.same("details.offered", details["offered"], len(schedule.due_s))
    if not run.interrupted and not details.get("looks", {}).get("early"):
        found.same("details.sent", details["sent"], len(schedule.due_s))
    if not whole or not run.samples:
        return
    start_s = run.samples[0].due_s - schedule.due_s[0]
    for index, (sample, due_s) in enumerate(zip(run.samples, schedule.due_s, strict=False)):
        if abs(sample.due_s - start_s - due_s) > STEP_S:
            where, derived = f"samples[{index}].due_s, by the seed", round(start_s + due_s, 7)
            found.differences.append(Discrepancy(where=where, recorded=sample.due_s, derived=derived))
            return  # what follows is shifted as well


def _baseline(run: Run, found: Findings) -> None:
    """Reckon anew, into `run` itself, what would have been due while late answers were waited for."""
    if "pace_s" not in run.settings:
        found.gaps.append("written by an earlier version: a stall counts once in it, however long it lasted")
        return
    found.same("settings.pace_s, at most the interval of samples", run.settings["pace_s"], kept_grid_s(run))
    judge_on_pace(run)


def _soak(run: Run, found: Findings) -> None:
    """Conclude a soak anew from its slices, into `run` itself."""
    rows: list[Row] = json.loads(unpack_bytes(run.details["evidence"]["slices"]))
    for row in rows:
        where = f"slice {row['index'] + 1}"
        tallies = [tally_from_json(part) for part in row["tallies"].values()]
        found.same(f"{where}: total", row["total"], sum(tally.total for tally in tallies))
        found.same(f"{where}: good", row["good"], sum(tally.good for tally in tallies))
        _in_bins(where, tallies, run.objective, found)
        if "on_pace" not in row:
            found.gaps.append(f"{where} was written by an earlier version: its effective size is taken as it stands")
            continue
        bad = list(unpack_bytes(row["bad"]))
        found.same(f"{where}: bad", row["total"] - row["good"], sum(bad))
        if row["effective"] > (most := round(effective_size(bad), 1)):  # latencies, which are not kept, only lower it
            found.same(f"{where}: effective, at most", row["effective"], most)
        again = reckoned_again(row, run.objective)
        found.differences += [Discrepancy(f"{where}: {place}", *pair) for place, *pair in again]
    conclude_soak(run, rows)


def _in_bins(where: str, tallies: Iterable[Tally], objective: Objective, found: Findings) -> None:
    """As many within the threshold as were counted good? The bin that holds the threshold may go either way."""
    for tally in tallies:
        low, high = tally.within(objective.threshold_ms)
        if not low <= tally.good <= high:
            place, derived = f"{where}: good within {objective.threshold_ms:g} ms", f"{low} to {high}"
            found.differences.append(Discrepancy(where=place, recorded=tally.good, derived=derived))


def _as_recorded(run: Run, found: Findings) -> Rederived:
    return Rederived(
        id=run.id, kind=run.kind, objective=str(run.objective), verdict=run.verdict, samples=len(run.samples),
        differences=tuple(found.differences), gaps=tuple(found.gaps),
    )  # fmt: skip


def _inside(where: str, difference: Discrepancy) -> Discrepancy:
    return Discrepancy(where=f"{where}: {difference.where}", recorded=difference.recorded, derived=difference.derived)


def _results(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data.get(key) for key in ("verdict", "summaries", "cached")}


def _without_digests(data: dict[str, Any]) -> dict[str, Any]:
    """Without what is compared elsewhere, or says who wrote the record."""
    details = {key: value for key, value in data["details"].items() if key != NESTED}
    return {k: v for k, v in data.items() if k not in ("digest", "tool", "format", "samples")} | {"details": details}
