"""Tables of facts in a report, each as title, head and rows: soak and capacity figures, self-check, environment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from slo import __version__
from slo.clock import iso
from slo.records import Run
from slo.report.strings import Words
from slo.stats import nearest_rank
from slo.units import show_bytes, show_duration, show_ms, show_ratio

Facts = tuple[str, Sequence[str], Sequence[Sequence[str]]]

# What the self-check allows; its own module says why.
LIMITS = {"lag_p99_ms": "5 ms", "cpu_share": "80 %", "little_gap": "5 %", "clock_drift": "1 %", "steal": "10 %"}


def soak_table(run: Run, words: Words) -> Facts | None:
    """The table of a stress test, in the order in which such tests are usually told."""
    figures = run.details.get("soak")
    if not figures:
        return None
    rows = [
        [words("soak.duration"), show_duration(figures["seconds"])],
        [words("soak.requests"), f"{figures['requests']} ({words('per_second', rate=format(figures['rate'], '.1f'))})"],
        [words("p95"), _ms(figures["p95_ms"], words)],
        *([[words("soak.answered"), _ms(figures.get("answered_p95_ms"), words)]] if figures["errors"] else []),
        [words("soak.worst"), _ms(figures["worst_slice_p95_ms"], words)],
        [words("soak.attainment"), _ratio(figures["attainment"])],
        *([[words("soak.on_pace"), _ratio(figures["on_pace"])]] if figures.get("on_pace") is not None else []),
        [words("soak.slices"), f"{_ratio(figures['slices_met'])} / {figures['slices']}"],
        [words("soak.clients"), str(figures["clients"])],
        [words("soak.errors"), _share(figures["error_rate"], 2)],
        *([words("soak.kind", name=name), str(count)] for name, count in figures.get("failed", {}).items()),
    ]
    if (sessions := run.details.get("sessions", 1)) > 1:
        rows.insert(1, [words("soak.sessions"), str(sessions)])
    if memory := figures.get("memory"):
        slope, low, high = (_signed(memory[key]) for key in ("bytes_per_hour", "low", "high"))
        kind = "growing" if memory["growing"] else "small" if memory["low"] > 0 else "level"
        rows.append([words("soak.memory"), f"{slope}/h ({low} – {high}): {words(f'soak.{kind}')}"])
    return words("soak"), [words("quantity"), words("value")], rows


def capacity_tables(run: Run, words: Words) -> Iterator[Facts]:
    """What was found, then every probe of every search."""
    searches: dict[str, Any] = run.details.get("searches", {})
    rows = []
    for name, found in searches.items():
        label = words.named("search", words.named("class", name))
        tail = "" if found["confirmed"] else words("capacity.unproven")
        rate = words("per_second", rate=f"{found['rate']:.1f}")
        rows += [
            [f"{label}: {words('capacity.rate')}", rate + tail],
            [f"{label}: {words('capacity.best')}", _best(found, words)],
            [f"{label}: {words('capacity.recommended')}", _recommended(found, words)],
        ]
    if ladder := run.details.get("ladder"):
        rows.append([words("capacity.callers"), str(ladder["largest"])])
    if rows:
        yield words("capacity"), [words("quantity"), words("value")], rows
    keys = ("probes.purpose", "probes.rate", "probes.requests", "good", "p95", "verdict")
    for name, found in searches.items():
        label = words.named("search", words.named("class", name))
        yield words("probes", name=label), [words(key) for key in keys], [_probe(row, words) for row in found["probes"]]
    if ladder and ladder["probes"]:
        head = [words("soak.clients" if key == "probes.rate" else key) for key in keys]
        yield words("ladder"), head, [_probe(row, words) for row in ladder["probes"]]


def _recommended(found: dict[str, Any], words: Words) -> str:
    return words("per_second", rate=f"{found['recommended']:.1f}") if found["confirmed"] else "–"


def demand(plan: dict[str, Any], words: Words) -> str:
    """What was asked for: `500/s`, or so many callers."""
    amount, _, what = plan["wish"].partition(" ")
    return words("plan.callers", number=amount) if what else words("per_second", rate=amount.removesuffix("/s"))


def plan_table(run: Run, words: Words) -> Facts | None:
    """What a demand needs, by which model, and how its check went."""
    plan = run.details.get("plan")
    if not plan:
        return None

    def rate(key: str) -> str:
        return words("per_second", rate=f"{plan[key]:.1f}")

    idle = plan["idle"]
    cost = words("plan.per_token", fixed=show_ms(idle["fixed_s"] * 1000), token=show_ms(idle["token_s"] * 1000))
    rows = [
        [words("plan.wish"), demand(plan, words)], [words("plan.replicas"), str(plan["replicas"])],
        [words("plan.cores"), f"{plan['cores']} ({plan['replicas']} × {plan['cores_per_replica']})"],
        [words("plan.p95", percentile=run.objective.percentile), _ms(plan["p95_ms"], words)],
        [words("plan.capacity"), rate("capacity")],
        [words("plan.unbatched"), rate("unbatched")], [words("plan.cost"), cost],
        [words("plan.slowdown"), f"× {plan['slowdown']:.2f}"],
    ]  # fmt: skip
    rows += _callers_rows(run, words)
    if plan["check_measured_ms"] is not None:
        predicted, measured = (_ms(plan[f"check_{side}_ms"], words) for side in ("predicted", "measured"))
        checked = words("plan.checked", predicted=predicted, measured=measured)
        rows.append(
            [words("plan.check", rate=f"{plan['check_rate']:.1f}", percentile=run.objective.percentile), checked]
        )
    return words("plan"), [words("quantity"), words("value")], rows


def _callers_rows(run: Run, words: Words) -> list[list[str]]:
    callers = run.details.get("callers")
    if not callers:
        return []
    rows = [[words("plan.held"), words("plan.held_by", number=callers["held"], cores=callers["cores"])]]
    if callers["hit_ratio"] is not None:
        all_of, computed = (_ms(callers[name], words) for name in ("p95_ms", "computed_p95_ms"))
        shares = {"ratio": show_ratio(callers["hit_ratio"]), "percentile": run.objective.percentile}
        hits = words("plan.hits", all_of=all_of, computed=computed, **shares)
        rows.append([words("plan.repeated", number=callers["wished"]), hits])
    return rows


def service_p95_ms(run: Run, name: str) -> float:
    """P95 from sending to the end over the recorded samples of a class, `overall` or `cached`; NaN without any."""
    wanted = [
        s for s in run.samples if s.cached == (name == "cached") and name in (s.length_class, "overall", "cached")
    ]
    return nearest_rank(sorted(s.service_ms if s.ok else math.inf for s in wanted), 0.95)


def failures_table(run: Run, words: Words) -> Facts | None:
    """Each kind of failure with one example, which holds no text that was sent."""
    rows = [
        [str(row["status"] or "–"), row["outcome"], row["code"] or "–", str(row["count"]),
         " ".join(part for part in (row["example"], row["request"] and f"({row['request']})") if part)]
        for row in run.details.get("failures", ())
    ]  # fmt: skip
    head = [words(key) for key in ("failures.status", "failures.kind", "failures.code", "n", "failures.example")]
    return (words("failures"), head, rows) if rows else None


def check_table(run: Run, words: Words) -> Facts | None:
    """Did the generator do what it claims?"""
    check = run.details.get("self_check")
    if not check:
        return None

    def allowed(key: str) -> str:
        return words("limit_of", limit=LIMITS[key])

    rows = [
        [words("check.lag"), _lag(check["lag_p99_ms"]) + allowed("lag_p99_ms")],
        [words("check.cpu"), _share(check["cpu_share"]) + allowed("cpu_share")],
        [words("check.little"), _share(check["little_gap"]) + allowed("little_gap")],
        [words("check.clock"), _share(check["clock_drift"], 3) + allowed("clock_drift")],
        *(
            [[words("check.steal"), _share(check["steal"]) + allowed("steal")]]
            if check.get("steal") is not None
            else []
        ),
    ]
    if answers := run.details.get("answers"):
        shown = words("check.wrong", compared=answers["compared"], wrong=answers["wrong"])
        rows.append([words("check.answers"), shown])
    return words("check"), [words("quantity"), words("value")], rows


def environment_table(run: Run, words: Words, record_hash: str) -> Facts:
    """When, whom, with what, on which machine, from which record."""
    server, host, use = run.server, run.host, run.details.get("resource_summary", {})
    engine = server.get("engine") or server.get("model_engine")
    facts = [
        ("env.when", iso(run.started_wall_s)), ("env.endpoint", run.endpoint), ("env.model", run.model),
        ("env.engine", engine), ("env.precision", server.get("precision") or server.get("quantization")),
        ("env.replicas", server.get("replicas") or server.get("replica")), ("env.cpu", host.get("cpu")),
        ("env.cores", host.get("cores")), ("env.kernel", host.get("kernel")), ("env.python", host.get("python")),
        ("env.load", host.get("load_1m")), ("env.steal", None if use.get("steal") is None else _share(use["steal"])),
        ("env.memory", show_bytes(use["pss"]) if use.get("pss") else None),
        ("env.resident", show_bytes(use["rss_max"]) if use.get("rss_max") else None),
        ("env.tool", f"xinference-slo {__version__}"), ("env.record", run.id), ("env.hash", record_hash),
    ]  # fmt: skip
    rows = [[words(key), str(value)] for key, value in facts if value not in (None, "")]
    return words("environment"), [words("quantity"), words("value")], rows


def settings_table(run: Run, words: Words) -> Facts | None:
    """Everything that was asked for, by its name in the record."""
    rows = [[key, _plain(value)] for key, value in run.settings.items() if key != "command"]
    return (words("settings"), [words("quantity"), words("value")], rows) if rows else None


def _best(found: dict[str, Any], words: Words) -> str:
    """The estimate with its interval; the ceiling of a search that nothing stopped has none."""
    if not found["bounded"]:
        return words("per_second", rate=f"≥ {found['best']:.1f}")
    interval = f" ({found['low']:.1f} – {found['high']:.1f})" if "low" in found else ""
    return words("per_second", rate=f"{found['best']:.1f}") + interval


def _probe(probe: dict[str, Any], words: Words) -> list[str]:
    verdict = words("void") if probe["void"] else words(f"verdict.{probe['verdict']}")
    return [
        words.named("purpose", probe["purpose"]),
        f"{probe['load']:.4g}",
        str(probe["total"]),
        _ratio(probe["good"] / probe["total"] if probe["total"] else None),
        _ms(probe["p95_ms"], words),
        verdict + (f" ({probe['remark']})" if probe["remark"] else ""),
    ]


def _signed(size: float) -> str:
    return ("+" if size >= 0 else "−") + show_bytes(abs(size))


def _ms(value: float | None, words: Words) -> str:
    return words("failed") if value is None or math.isinf(value) else show_ms(value)


def _lag(value: float | None) -> str:
    return "–" if value is None else show_ms(value)


def _ratio(value: float | None) -> str:
    return "–" if value is None else show_ratio(value)


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
