"""
Did the generator do what it claims? A run whose own instrument failed is void, whatever its numbers say.

* Send lag: P99 of (dispatch − due) at most 5 ms. Else requests left late, in company, or not as scheduled. In a short
  run one late request is already 1 %: the run is void when that many would be rare (5 %) at a P99 of 5 ms.
* Own CPU below 80 % of one core. Beyond it, reading answers waits for the processor and counts as latency.
* Little's law, L = λ·W: mean in flight by integration against arrivals × mean stay, within 5 %. A gap means that
  requests were lost or counted twice.
* Clocks: monotonic and wall clock agree within 1 % (MLPerf LoadGen's rule); from 0.1 % on it is noted.
* Steal: the hypervisor took at most 10 % of the machine's time. Beyond it, the figures are the neighbours'.
* Cache: where no repeats were asked for, at most half of the answers came from one. Else the figures describe the few
  that were computed, at a rate that is not the one that was asked for.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from slo.bench.collect import LATE_MS, Collector
from slo.bench.resources import machine_ticks, share_of
from slo.clock import Clock
from slo.objective import Objective
from slo.record_form import finite
from slo.sentences import say
from slo.stats import binomial_cdf

MOST_LATE = 0.01  # of the requests, by more than LATE_MS
RARE = 0.05
MOST_CPU = 0.80
MOST_GAP = 0.05
MOST_DRIFT = 0.01
MOST_CACHED = 0.5
MOST_STEAL = 0.10
NOTED_DRIFT = 0.001
NOTED_LAG_SHARE = 0.03  # of the objective's threshold


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """The figures; `faults` make the run void, `remarks` do not. `readings` is what `self_check` was given."""

    lag_p99_ms: float
    lag_max_ms: float
    cpu_share: float
    little_gap: float
    clock_drift: float
    steal: float
    faults: tuple[str, ...]
    remarks: tuple[str, ...]
    readings: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data, NaN as null."""
        data: dict[str, Any] = finite(asdict(self))
        return data


class Instrument:
    """Readings of clocks and own CPU time from its creation on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._monotonic_s, self._wall_s, self._cpu_s = clock.monotonic(), clock.wall(), time.process_time()
        self._machine = machine_ticks()

    def readings(self) -> tuple[float, float]:
        """Share of one core that this process used, and relative drift of the monotonic against the wall clock."""
        monotonic_s = self._clock.monotonic() - self._monotonic_s
        wall_s = self._clock.wall() - self._wall_s
        if monotonic_s <= 0:
            return math.nan, math.nan
        return (time.process_time() - self._cpu_s) / monotonic_s, abs(wall_s - monotonic_s) / monotonic_s

    def steal(self) -> float:
        """Share of the machine's time that its hypervisor gave to others; NaN where not known."""
        share = share_of(self._machine, machine_ticks())
        return math.nan if share is None else share


def self_check(
    *,
    late: int,
    total: int,
    lag_p99_ms: float,
    lag_max_ms: float,
    cpu_share: float,
    mean_in_flight: float,
    arrivals_times_stay: float,
    clock_drift: float,
    steal: float = math.nan,
    objective: Objective,
) -> SelfCheck:
    """Judge the readings. A NaN (nothing was sent) faults nothing."""
    readings = {
        "late": late, "total": total, "lag_p99_ms": lag_p99_ms, "lag_max_ms": lag_max_ms, "cpu_share": cpu_share,
        "mean_in_flight": mean_in_flight, "arrivals_times_stay": arrivals_times_stay, "clock_drift": clock_drift,
        "steal": steal,
    }  # fmt: skip
    gap = abs(mean_in_flight - arrivals_times_stay) / mean_in_flight if mean_in_flight > 0 else 0.0
    checks = (
        (_too_late(late, total), say("late", late=late, total=total, limit=f"{LATE_MS:g}", p99=f"{lag_p99_ms:.1f}")),
        (cpu_share >= MOST_CPU, say("busy", share=f"{cpu_share:.0%}", limit=f"{MOST_CPU:.0%}")),
        (gap > MOST_GAP, say("lost", gap=f"{gap:.0%}")),
        (steal > MOST_STEAL, say("stolen", share=f"{steal:.0%}", limit=f"{MOST_STEAL:.0%}")),
        (clock_drift > MOST_DRIFT, say("clocks", drift=f"{clock_drift:.1%}")),
    )
    share = lag_p99_ms / objective.threshold_ms
    remarks = (
        (share > NOTED_LAG_SHARE, say("lag", share=f"{share:.0%}")),
        (NOTED_DRIFT < clock_drift <= MOST_DRIFT, say("clocks.noted", drift=f"{clock_drift:.2%}")),
    )
    return SelfCheck(
        lag_p99_ms=lag_p99_ms,
        lag_max_ms=lag_max_ms,
        cpu_share=cpu_share,
        little_gap=gap,
        clock_drift=clock_drift,
        steal=steal,
        faults=tuple(text for failed, text in checks if failed),
        remarks=tuple(text for noted, text in remarks if noted),
        readings=readings,
    )


def checked_again(readings: dict[str, Any], objective: Objective) -> SelfCheck:
    """The self-check that a record's `readings` give; null there is NaN here."""
    given: dict[str, Any] = {name: math.nan if value is None else value for name, value in readings.items()}
    return self_check(**given, objective=objective)


def _too_late(late: int, total: int) -> bool:
    """Is P99 of the lag beyond the limit, and not by chance?"""
    return late > MOST_LATE * total and 1 - binomial_cdf(late - 1, total, MOST_LATE) <= RARE


def with_cache(check: SelfCheck, *, cached: int, computed: int, repeats: bool) -> SelfCheck:
    """`check` and, where it is one, the fault that most answers came from a cache and repeats were not asked for."""
    total = cached + computed
    if repeats or cached <= MOST_CACHED * total:
        return check
    return replace(check, faults=(*check.faults, say("mostly.cached", cached=cached, total=total)))


def check_run(collector: Collector, instrument: Instrument, ended_s: float) -> SelfCheck:
    """The self-check of a finished run whose last answer came before `ended_s`."""
    cpu_share, drift = instrument.readings()
    span = ended_s - collector.measured_from_s
    return self_check(
        late=collector.late,
        total=collector.lags_ms.total,
        lag_p99_ms=collector.lags_ms.quantile_ms(0.99),
        lag_max_ms=collector.lags_ms.max_ms,
        cpu_share=cpu_share,
        mean_in_flight=collector.mean_in_flight(ended_s),
        arrivals_times_stay=collector.stay_s / span if span > 0 else math.nan,
        clock_drift=drift,
        steal=instrument.steal(),
        objective=collector.objective,
    )
