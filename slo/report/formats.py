"""
A run for other programs: CSV (a row per class), JUnit XML (a test case per verdict), JSON lines (a line per request).

Times are in milliseconds in CSV and JSON lines, a failed request's are empty or null; JUnit's `time` is in seconds.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from xml.etree import ElementTree as ET

from slo.clock import iso
from slo.objective import Verdict
from slo.records import Run

COLUMNS = ("run", "class", "n", "failed", "good_ratio", "p50_ms", "p95_ms", "p95_low_ms", "p95_high_ms", "p99_ms",
           "max_ms", "mean_ms", "verdict")  # fmt: skip


def csv_of(run: Run) -> str:
    """One row per class, `overall` and `cached` among them."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    summaries, cached = run.summaries(), run.cached()
    for summary in [*summaries, *([cached] if cached else [])]:
        verdict = None if summary is cached else run.verdict_of(summary, whole=summary is summaries[-1])
        figures = [getattr(summary, name) for name in COLUMNS[5:-1]]
        table.writerow([
            run.id, summary.name, summary.total, summary.failed, f"{summary.judgement.good_ratio:.6f}",
            *(f"{value:.3f}" if math.isfinite(value) else "" for value in figures), verdict.value if verdict else "",
        ])  # fmt: skip
    return out.getvalue()


def junit_of(run: Run) -> str:
    """A test case per row that has a verdict: missed fails, unproven and void are skipped with the reason."""
    summaries = run.summaries()
    judged = [(s, run.verdict_of(s, whole=s is summaries[-1])) for s in summaries]
    cases = [(s.name, s.p95_ms, verdict, s.judgement.advice) for s, verdict in judged if verdict is not None]
    if not cases:
        cases = [("overall", math.nan, run.verdict, "nothing was computed")]
    suite = ET.Element("testsuite", {
        "name": f"slo {run.kind}", "timestamp": iso(run.started_wall_s), "tests": str(len(cases)), "errors": "0",
        "failures": str(sum(verdict is Verdict.MISSED for _, _, verdict, _ in cases)),
        "skipped": str(sum(verdict is Verdict.UNPROVEN for _, _, verdict, _ in cases)),
    })  # fmt: skip
    for name, p95_ms, verdict, advice in cases:
        case = ET.SubElement(suite, "testcase", {
            "classname": run.model, "name": f"{run.objective}: {name}",
            "time": f"{p95_ms / 1000:.6f}" if math.isfinite(p95_ms) else "0",
        })  # fmt: skip
        said = "; ".join(run.void) or advice
        if verdict is Verdict.MISSED:
            ET.SubElement(case, "failure", {"message": f"{run.objective} missed, P95 {p95_ms:.1f} ms"})
        elif verdict is Verdict.UNPROVEN:
            ET.SubElement(case, "skipped", {"message": said or "unproven"})
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=False) + "\n"


def jsonl_of(run: Run) -> str:
    """One line per recorded request, in order of due time: no text, no vector."""
    rows = (
        {
            "due_s": round(s.due_s, 6), "class": s.length_class, "outcome": s.outcome, "cached": s.cached,
            "latency_ms": round(s.latency_ms, 3) if s.ok else None,
            "service_ms": round(s.service_ms, 3) if s.ok else None,
        }
        for s in run.samples
    )  # fmt: skip
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FORMATS: dict[str, Callable[[Run], str]] = {"csv": csv_of, "junit": junit_of, "jsonl": jsonl_of}
