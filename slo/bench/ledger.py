"""
What a soak remembers of a slice beside its counts, so that an interruption forgets nothing: how the generator did,
which answers were compared with their references, the server's stages. All of it adds up over slices and sessions.

The self-check is made on the sums of the whole run, the remains of killed sessions included. Faults that one slice
shows by itself are written down with it: they mark the slice, and do not make the run void.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from slo.bench.answers import Kept, ReferenceCheck
from slo.bench.collect import GOOD, Collector
from slo.bench.exchange import Failures
from slo.bench.selfcheck import SelfCheck, self_check
from slo.bench.session import Load
from slo.errors import BadAnswer
from slo.objective import Objective
from slo.tally import Tally, tally_from_json

Row = dict[str, Any]


def taken(load: Load, seconds: float, now_s: float) -> Row:
    """The slice that ends now and lasted `seconds`; collector and instrument start afresh."""
    cpu_share, drift = load.instrument.readings()
    steal = load.instrument.steal()
    load.restart_instrument()
    turn = load.collector.turn(now_s)
    generator = {
        "sent": turn.lags_ms.total, "late": turn.late, "lags": turn.lags_ms.to_json(), "seconds": seconds,
        "cpu_s": _number(cpu_share * seconds), "drift_s": _number(drift * seconds),
        "steal_s": _number(steal * seconds),
        "in_flight_s": turn.area_s, "stay_s": turn.stay_s,
    }  # fmt: skip
    return {
        "generator": generator,
        "faults": list(_own_faults(generator, load.collector.objective)),
        "stages": {name: tally.to_json() for name, tally in turn.stages.items()},
        "refusals": turn.refusals_ms.to_json(),
        "failures": turn.failures,
        "texts_answered": turn.inputs,
        "tokens_answered": turn.tokens,
        "peak_in_flight": load.collector.peak_in_flight,
        "peak_connections": load.pool.peak_connections,
    }


def answers_row(comparison: ReferenceCheck, wrong: Iterable[tuple[str, bool]]) -> Row:
    """What the references said; `wrong` holds class and "counted as good" of each wrong answer."""
    return {
        "compared": comparison.compared,
        "unverified": comparison.unverified,
        "least_cosine": comparison.least_cosine if comparison.compared else None,
        "wrong": [list(pair) for pair in wrong],
        "alike": comparison.alike,
    }


def was_good(collector: Collector, kept: Kept) -> tuple[str, bool]:
    """Class of a kept answer, and whether it was counted as good; ask before the collector's next turn."""
    place = kept.sequence - (collector.sent - len(collector.flags))
    # One begun before the last turn has no flag any more: taking a good one off errs against the service.
    return kept.length_class, place < 0 or collector.flags[place] == GOOD


def answers_of(rows: Sequence[Row]) -> Row:
    """All comparisons of the run as one."""
    parts = [part for row in rows for part in row["answers"]]
    cosines = [part["least_cosine"] for part in parts if part["least_cosine"] is not None]
    return {
        "compared": sum(part["compared"] for part in parts),
        "wrong": sum(len(part["wrong"]) for part in parts),
        "alike": sum(part.get("alike", 0) for part in parts),
        "unverified": sum(part["unverified"] for part in parts),
        "least_cosine": min(cosines, default=None),
    }


def wrong_answers(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """Class and "counted as good" of every answer that proved wrong."""
    return [(name, good) for row in rows for part in row["answers"] for name, good in part["wrong"]]


def checked(rows: Sequence[Row], objective: Objective) -> SelfCheck:
    """The self-check over all slices."""
    parts = [row["generator"] for row in rows]
    seconds = math.fsum(part["seconds"] for part in parts)
    lags = Tally()
    for part in parts:
        lags.add(tally_from_json(part["lags"]))
    stay_s = math.fsum(part["stay_s"] for part in parts)
    return self_check(
        late=sum(part["late"] for part in parts),
        total=lags.total,
        lag_p99_ms=lags.quantile_ms(0.99),
        lag_max_ms=lags.max_ms if lags.total else math.nan,
        cpu_share=_per(math.fsum(part["cpu_s"] for part in parts), seconds),
        mean_in_flight=_per(math.fsum(part["in_flight_s"] for part in parts), seconds),
        arrivals_times_stay=_per(stay_s + _cut_off(rows), seconds),
        clock_drift=_per(math.fsum(part["drift_s"] for part in parts), seconds),
        steal=_per(math.fsum(part.get("steal_s", 0.0) for part in parts), seconds),
        objective=objective,
    )


def _cut_off(rows: Sequence[Row]) -> float:
    """Stay until the last slice's end of requests that sessions left in flight when they were killed, in seconds.

    A session that ended by itself has none, unless it lost some.
    """
    sessions: dict[int, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row["session"], []).append(row)
    killed = [part for part in sessions.values() if not part[-1]["drained"]]
    return math.fsum(row["generator"]["in_flight_s"] - row["generator"]["stay_s"] for part in killed for row in part)


def merged(rows: Sequence[Row], key: str) -> dict[str, Tally]:
    """Tallies by name over all slices."""
    found: dict[str, Tally] = {}
    for row in rows:
        for name, part in row[key].items():
            found.setdefault(name, Tally()).add(tally_from_json(part))
    return found


def _own_faults(generator: Row, objective: Objective) -> tuple[str, ...]:
    # Little's law does not hold of one slice: requests begin in it and end in the next.
    lags, seconds = tally_from_json(generator["lags"]), generator["seconds"]
    check = self_check(
        late=generator["late"], total=lags.total, lag_p99_ms=lags.quantile_ms(0.99), lag_max_ms=lags.max_ms,
        cpu_share=_per(generator["cpu_s"], seconds), mean_in_flight=0.0, arrivals_times_stay=0.0,
        clock_drift=_per(generator["drift_s"], seconds), steal=_per(generator["steal_s"], seconds),
        objective=objective,
    )  # fmt: skip
    return check.faults


def failures_of(rows: Sequence[Row]) -> list[Row]:
    """All failures of the run by kind, those that proved wrong later among them."""
    found = Failures(part for row in rows for part in row.get("failures", ()))
    if wrong := wrong_answers(rows):
        found.add(BadAnswer.outcome, "wrong_vector", count=len(wrong))
    return found.rows()


def _per(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 else math.nan


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0
