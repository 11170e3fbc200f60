"""
What a report says, as plain values in the order of reading: HTML and Markdown only give it their shape.

Made from run records, and from a comparison of the first with the last of them where there are several.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slo import __version__
from slo.clock import iso
from slo.objective import Verdict
from slo.records import Run
from slo.report.facts import (
    capacity_tables,
    check_table,
    demand,
    environment_table,
    failures_table,
    plan_table,
    service_p95_ms,
    settings_table,
    soak_table,
)
from slo.report.plots import Plot, before_after, ordered, plots_of
from slo.report.strings import Words
from slo.samples import Summary
from slo.units import show_ms, show_ratio

if TYPE_CHECKING:
    from slo.bench.compare import Comparison

DIFFERENCES = {
    "faster": "compare.faster",
    "slower": "compare.slower",
    "no significant difference": "compare.none",
    "too few samples": "compare.few",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A headed table; the first column is text, the others are figures unless they are words."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run, or the comparison."""

    title: str
    state: str  # met, missed, unproven, void, or done where nothing was judged
    sentence: str
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    background: Sequence[Table] = ()
    notes: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Story:
    """The whole report."""

    title: str
    subtitle: str
    state: str
    sentence: str
    parts: Sequence[Part]
    warnings: Sequence[str] = ()
    footer: Sequence[str] = field(default_factory=tuple)


def tell(runs: Sequence[Run], words: Words, comparison: Comparison | None = None) -> Story:
    """The report on `runs`, oldest first. The verdict in its head is that of the last one."""
    last = runs[-1]
    parts = [_part(run, words) for run in reversed(runs)]
    if comparison is not None:
        parts.insert(0, _comparison(comparison, words))
    state = _state(last)
    warnings = [words("stand_in")] if any(run.stand_in for run in runs) else []
    return Story(
        title=f"{last.model} · {words('title')}",
        subtitle=f"{last.objective} · {words.named('kind', last.kind)} · {iso(last.started_wall_s)}",
        state=state,
        sentence=_sentence(last, words),
        parts=parts,
        warnings=warnings,
        footer=[_rule(last, words), words("made", tool=f"xinference-slo {__version__}")],
    )


def record_hash(run: Run) -> str:
    """SHA-256 of the record's canonical JSON: anybody with the record can check what the report was made from."""
    canonical = json.dumps(run.to_json(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _part(run: Run, words: Words) -> Part:
    tables = [*_tables(run, words)]
    warnings = [words("interrupted")] if run.interrupted else []
    return Part(
        title=f"{words.named('kind', run.kind)} · {run.id}",
        state=_state(run),
        sentence=_sentence(run, words),
        warnings=warnings,
        tables=tables,
        plots=plots_of(run, words),
        background=[
            *_wrapped(check_table(run, words)),
            *_wrapped(environment_table(run, words, record_hash(run))),
            *_wrapped(settings_table(run, words)),
        ],
        notes=[words.remark(note) for note in run.notes],
        command=str(run.settings.get("command", "")),
    )


def _tables(run: Run, words: Words) -> Iterable[Table]:
    yield from _wrapped(soak_table(run, words))
    yield from _wrapped(plan_table(run, words))
    for facts in capacity_tables(run, words):
        yield from _wrapped(facts)
    if summaries := ordered(run):
        cached, open_loop = run.cached(), run.settings.get("arrivals") is not None
        yield Table(
            title=words("summary"),
            head=[words("class"), words("n"), words("success"), words("good"), "P50", "P95", words("interval"), "P99",
                  *([words("service")] if open_loop else []), words("verdict")],
            rows=[
                _row(row, words, _verdict_word(run, row, words, whole=row is summaries[-1]) if judged else "–",
                     service_of=run if open_loop else None)
                for summary in summaries
                for row, judged in ((summary, True), (summary.of_answered(), False))
                if row
            ] + ([_row(cached, words, "–", service_of=run if open_loop else None)] if cached else []),
            note=words("service.note") if open_loop else "",
        )  # fmt: skip
    yield from _wrapped(failures_table(run, words))


def _verdict_word(run: Run, summary: Summary, words: Words, *, whole: bool) -> str:
    verdict = run.verdict_of(summary, whole=whole)
    if verdict is None:
        return "–"
    return words("verdict.void" if run.void else f"verdict.{verdict.value}")


def _row(summary: Summary, words: Words, verdict: str, *, service_of: Run | None) -> list[str]:
    return [
        words.named("class", summary.name),
        str(summary.total),
        show_ratio(summary.success_ratio),
        show_ratio(summary.judgement.good_ratio),
        shown_ms(summary.p50_ms, words),
        shown_ms(summary.p95_ms, words),
        "–"
        if math.isnan(summary.p95_low_ms)
        else " – ".join("∞" if math.isinf(end) else show_ms(end) for end in (summary.p95_low_ms, summary.p95_high_ms)),
        shown_ms(summary.p99_ms, words),
        *([shown_ms(service_p95_ms(service_of, summary.name), words)] if service_of else []),
        verdict,
    ]


def _comparison(comparison: Comparison, words: Words) -> Part:
    rows = [
        [
            words.named("class", row.before.name),
            shown_ms(row.before_ms, words),
            shown_ms(row.after_ms, words),
            "–" if math.isnan(row.improvement) else f"{row.improvement * 100:+.1f} %",
            "–" if math.isnan(row.low) else f"{row.low:.2f} – {row.high:.2f}",
            words(DIFFERENCES[row.difference.value]),
            words(f"verdict.{row.before.judgement.verdict.value}")
            + " → "
            + words(f"verdict.{row.after.judgement.verdict.value}"),
        ]
        for row in comparison.rows
    ]
    head = [
        "class",
        "compare.before",
        "compare.after",
        "compare.gain",
        "compare.ratio",
        "compare.difference",
        "verdict",
    ]
    plot = before_after(comparison.before, comparison.after, words)
    return Part(
        title=words("compare"),
        state=_state(comparison.after),
        sentence=f"{comparison.before.id} → {comparison.after.id}",
        warnings=[words.remark(warning) for warning in comparison.warnings],
        tables=[Table(title=words("compare"), head=[words(key) for key in head], rows=rows)],
        plots=[plot] if plot else [],
    )


def _state(run: Run) -> str:
    if run.kind == "plan":
        return "done"
    return "void" if run.void else run.verdict.value


def _sentence(run: Run, words: Words) -> str:
    if run.void:
        return words("says.void", reasons="; ".join(map(words.remark, run.void)))
    if plan := run.details.get("plan"):
        needed = {key: plan[key] for key in ("replicas", "cores")}
        return words("says.plan", objective=run.objective, wish=demand(plan, words), **needed)
    confidence, search = run.objective.sureness, run.details.get("searches", {}).get("mix", {})
    if search.get("confirmed"):
        return words("says.capacity", rate=f"{search['rate']:.1f}", objective=run.objective, confidence=confidence)
    wrong = run.details.get("answers", {}).get("wrong")
    says = "says.wrong" if wrong and run.verdict is Verdict.MISSED else f"says.{run.verdict.value}"
    text = words(says, objective=run.objective, confidence=confidence)
    if reasons := [words.remark(reason) for reason in _reasons(run)]:
        return f"{text}: {'; '.join(reasons)}"
    return text


def _reasons(run: Run) -> list[str]:
    """Why the verdict is what it is, in the record's own sentences."""
    conclusion = run.details.get("conclusion")
    if conclusion is None:
        advice = [summary.judgement.advice for summary in run.summaries() if summary.judgement.advice]
        advice += [run.details["on_pace"]["advice"]] if run.details.get("on_pace", {}).get("advice") else []
        return advice[-1:] if run.verdict is Verdict.UNPROVEN else []
    unproven = [conclusion["advice"]] if run.verdict is Verdict.UNPROVEN else []
    return [reason for reason in (*conclusion["remarks"], *unproven) if reason]


def _rule(run: Run, words: Words) -> str:
    sent = run.kind == "baseline" or run.settings.get("loop") == "closed"
    return words("rule.sent" if sent else "rule")


def _wrapped(facts: tuple[str, Sequence[str], Sequence[Sequence[str]]] | None) -> list[Table]:
    return [Table(title=facts[0], head=facts[1], rows=facts[2])] if facts else []


def shown_ms(value: float | None, words: Words) -> str:
    """Milliseconds with their unit; an infinite percentile is a failed request."""
    if value is None or math.isinf(value):
        return words("failed")
    return show_ms(value)
