from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.clock import ManualClock, SystemClock
from slo.errors import Unauthorized, Unreachable
from slo.objective import Objective
from slo.samples import Sample
from slo.stats import histogram_of
from slo.watch.alerting.round import Round, WatchState
from slo.watch.history.event_log import add_maintenance, add_silence
from slo.watch.history.store import Store
from slo.watch.loop import Report, Reporter, Rhythm, watch
from slo.watch.model.counts import Counts
from slo.watch.model.notification import Notification
from slo.watch.model.silences import Maintenance, Silence, parse_matcher
from slo.watch.server_health import ServerHealth
from slo.watch.sli.probe import ProbeTally
from slo.watch.watcher import Outside, Watcher
from tests.watch.simulated import Simulation

P95 = Objective()
OUTAGE, REJECTED = -1, None


class Night:
    """The watcher on the real engine, and a service by the minute: how many of 60 probes are slow, -1 for an outage,
    None for a rejected key. `sent` are the messages that people would have had."""

    def __init__(self, store: Store) -> None:
        self.clock = ManualClock(wall_s=1_700_000_040.0)
        self.minutes: list[int | None] = []
        self.sent: list[Notification] = []
        self.reports: list[Report] = []
        self.rounds: list[Round] = []
        self.complaints: list[str] = []
        self.store = store
        self.start()

    def start(self) -> None:
        """A new process with the same history."""
        self.engine = Watcher(
            self.store,
            Simulation(self.store).settings,
            Outside(
                source=None, probe=self.probe, health=lambda: ServerHealth(server_up=True, model_up=True),
                hand_over=self.sent.append, deliver=lambda: None, complain=self.complaints.append, cpu=lambda: None,
            ),
            clock=self.clock, thin=60, runbook="docs/runbook.md",
        )  # fmt: skip
        self.watcher = Reporter(self, P95, goal="latency", window_s=300, model="m")

    @property
    def measured(self) -> dict[str, int]:
        return self.engine.measured

    def measure(self) -> ProbeTally:
        return self.engine.measure()

    def conclude(self) -> Round:
        self.rounds.append(self.engine.conclude())
        return self.rounds[-1]

    def probe(self) -> ProbeTally:
        slow = self.minutes.pop(0)
        if slow is None:
            raise Unauthorized("HTTP 401", url="http://h")
        tally = ProbeTally(P95)
        tally.add(Sample(0, 0, 0.01, "ok", "short"), None)  # opens the connection
        if slow < 0:
            for _ in range(3):
                error = Unreachable("nobody answers there", url="http://h")
                tally.add(Sample(0, 0, 0.01, error.outcome, "short"), error)
            tally.lose(57)
        else:
            for index in range(60):
                tally.add(Sample(0, 0, 0.3 if index < slow else 0.01, "ok", "short"), None)
        return tally

    def pass_(self, *minutes: int | None) -> WatchState:
        """Let these minutes pass."""
        self.minutes += minutes
        return watch(
            self.watcher, interval_s=60, clock=self.clock, say=self.reports.append,
            complain=self.complaints.append, times=len(minutes),
        )  # fmt: skip

    def lines(self) -> list[str]:
        return [line for report in self.reports for line in report.lines()]

    def events(self) -> list[str]:
        return [report.event.value for report in self.reports if report.event]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with Store(tmp_path / "history.db") as store:
        yield Night(store)


def test_a_healthy_hour_says_ok_every_minute_and_nothing_else(night: Night) -> None:
    assert night.pass_(*[0, 1, 2, 1, 3] * 12) is WatchState.OK
    assert len(night.lines()) == 60
    form = re.compile(r"Z  ok {8}P95 [\d.]+ ms ≤ 150 ms  \d+/\d+ good in 5m  now \d+/60  m$")
    assert all(form.search(line) for line in night.lines())


def test_an_outage_is_alerted_eases_and_recovers_when_the_engine_says_so(night: Night) -> None:
    night.pass_(*[0] * 30, *[OUTAGE] * 10)
    alerted = next(report for report in night.reports if report.event)
    assert alerted.announcement == "ALERT critical AvailabilityBudgetBurn, LatencyBudgetBurn of m"
    assert night.reports.index(alerted) - 30 < 3
    assert night.sent[0].severity == "critical"
    night.pass_(*[0] * (8 * 60))
    assert night.events() == ["ALERT", "EASED", "RECOVERED"]
    eased = next(report for report in night.reports if report.announcement.startswith("EASED"))
    assert night.reports.index(eased) - 40 < 2
    assert "firing: LatencyBudgetBurn (page, covered)" in eased.text
    (recovered,) = [line for line in night.lines() if "RECOVERED" in line]
    assert re.search(r"RECOVERED m, no alert fires any more after \d", recovered)
    assert "firing:" not in recovered
    assert night.watcher.state is WatchState.OK


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 2, 20, 40, 60, OUTAGE, REJECTED]), st.integers(1, 9)), max_size=12))
def test_no_line_ever_contradicts_the_engine(
    tmp_path_factory: pytest.TempPathFactory, stretches: list[tuple[int | None, int]]
) -> None:
    with Store(tmp_path_factory.mktemp("night") / "history.db") as store:
        night = Night(store)
        night.pass_(*[0] * 20, *(kind for kind, length in stretches for _ in range(length)))
        for report, found in zip(night.reports, night.rounds, strict=True):
            names = {f"{rule.alert} ({rule.severity}" for rule in found.firing}
            assert report.state is not WatchState.OK or "> 150 ms" not in report.text
            assert (report.state.value in ("critical", "page", "ticket")) is bool(names)
            assert all(name in report.text for name in names)
            if report.event and report.event.value == "RECOVERED":
                assert not names
        heard = [report.event.value for report in night.reports if report.event]
        assert heard[:1] in ([], ["ALERT"])
        begun = [message for message in night.sent if message.annotations["told_because"] in ("firing", "escalated")]
        assert (heard.count("ALERT") > 0) is bool(begun)


def test_a_breach_that_is_not_alerted_of_yet_is_no_ok(night: Night) -> None:
    night.pass_(*[0] * 5, 60)
    assert (
        "  missed    P95 288 ms > 150 ms  240/300 good in 5m  now 0/60  m  pending: P95AboveObjective"
        in (night.lines()[-1])
    )


def test_the_lines_say_when_what_and_how_bad(night: Night) -> None:
    night.pass_(*[0] * 30, *[OUTAGE] * 3)
    first = night.lines()[0]
    assert first == "2023-11-14T22:14:00.000Z  ok        P95 9.75 ms ≤ 150 ms  60/60 good in 5m  now 60/60  m"
    assert "  critical  P95 ∞ > 150 ms  " in night.lines()[-1]
    assert "now 0/60  m  OUTAGE: nobody answers there  firing: LatencyBudgetBurn (critical), " in night.lines()[-1]


def test_texts_that_were_longer_than_the_model_takes_are_told(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = night.probe

    def cut() -> ProbeTally:
        tally = probe()
        tally.truncated = 7
        return tally

    monkeypatch.setattr(night, "probe", cut)
    night.start()
    night.pass_(0)
    assert night.lines()[0].endswith("now 60/60  m  7 texts longer than the model takes")
    assert night.reports[0].record["truncated"] == 7


def test_a_minute_without_data_says_why_and_is_no_ok_though_minutes_before_were_good(night: Night) -> None:
    assert night.pass_(*[0] * 5, REJECTED) is WatchState.NO_DATA
    assert night.lines()[-1].endswith("  no-data   nothing measured: HTTP 401")
    assert night.events() == []
    night.pass_(*[REJECTED] * 6)
    assert "ALERT page NoData of m: nothing measured: HTTP 401  firing: NoData (page)" in "\n".join(night.lines())
    night.pass_(0, 0)
    assert night.events() == ["ALERT", "RECOVERED"]


def test_a_restart_while_an_alert_fires_says_that_it_fires_and_does_not_alert_again(night: Night) -> None:
    night.pass_(*[0] * 30, *[60] * 5)
    night.start()
    night.pass_(60)
    assert "  critical  P95 298 ms > 150 ms" in night.lines()[-1]
    night.pass_(*[0] * (8 * 60))
    assert night.events() == ["ALERT", "EASED", "RECOVERED"]


def test_a_silence_is_seen_in_the_line(night: Night) -> None:
    add_silence(night.store, Silence(
        id="s", matchers=(parse_matcher("slo=latency"),), starts_s=0, ends_s=2e9, author="a", comment="c"
    ))  # fmt: skip
    night.pass_(*[0] * 30, *[60] * 5)
    assert "firing: LatencyBudgetBurn (critical, muted)" in night.lines()[-1]
    assert night.sent == []


def test_maintenance_is_seen_in_the_line_and_is_no_ok(night: Night) -> None:
    add_maintenance(night.store, Maintenance(id="m", starts_s=0, ends_s=2e9, reason="new weights", author="Li Lei"))
    assert night.pass_(*[60] * 5) is WatchState.EXCUSED
    assert "  excused   P95 298 ms > 150 ms  now 0/60  m  maintenance: new weights" in night.lines()[-1]


def test_every_minute_is_recorded(night: Night) -> None:
    night.pass_(*[0] * 30, 60, 60, REJECTED)
    rows = [(r["good"], r["total"], r["state"], r["event"]) for r in (report.record for report in night.reports)]
    assert rows[29:] == [
        (60, 60, "ok", None), (0, 60, "missed", None), (0, 60, "critical", "ALERT"), (0, 0, "critical", None),
    ]  # fmt: skip
    last = night.reports[-1].record
    assert "LatencyBudgetBurn/latency/critical" in last["firing"]
    assert (last["window_good"], last["window_total"], last["problem"]) == (120, 240, "HTTP 401")


def test_a_mistake_of_our_own_in_one_round_is_reported_and_survived(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.pass_(0)
    with monkeypatch.context() as broken:
        broken.setattr(night, "measure", lambda: math.log(0))
        assert night.pass_(0) is WatchState.NO_DATA
    assert "nothing measured: internal error, ValueError at test_loop.py:" in night.lines()[-1]
    with monkeypatch.context() as broken:
        broken.setattr(night.engine, "conclude", lambda: math.log(0))
        assert night.pass_(0) is WatchState.NO_DATA
    (said,) = night.complaints
    assert re.fullmatch(r"this round came to nothing: internal error, ValueError at test_loop\.py:\d+: .*", said)
    night.minutes.clear()
    assert night.pass_(0) is WatchState.OK


@pytest.mark.parametrize(("slow", "sign"), [(3, "P95 120 ms ≤ 120 ms"), (4, "P95 124 ms > 120 ms")])
def test_where_the_threshold_is_no_edge_the_counts_decide_the_sign(slow: int, sign: str, tmp_path: Path) -> None:
    objective = Objective(threshold_ms=120)

    class Rounds:
        @property
        def measured(self) -> dict[str, int]:
            return {"probe": 60}

        def measure(self) -> ProbeTally:
            return ProbeTally(objective)

        def conclude(self) -> Round:
            return found

    with Store(tmp_path / "history.db") as store:
        sim = Simulation(store)
        found = sim.minute(good=60)
    found = replace(found, windows={"latency": Counts(60 - slow, 60)},
                    histogram=histogram_of([0.11] * (60 - slow) + [0.124] * slow))  # fmt: skip
    watcher = Reporter(Rounds(), objective, goal="latency", window_s=300, model="m")
    watcher.measure()
    assert watcher.report().text.startswith(sign)


def test_a_job_runs_at_once_and_then_at_a_steady_rate_however_long_it_takes() -> None:
    clock, starts = ManualClock(), list[float]()

    def job() -> None:
        starts.append(clock.monotonic())
        clock.advance(7.0)

    Rhythm(job, interval_s=60, clock=clock).run(5, nullcontext)
    assert starts == [0.0, 60.0, 120.0, 180.0, 240.0]


def test_runs_that_were_missed_are_not_replayed() -> None:
    clock, starts = ManualClock(), list[float]()

    def job() -> None:
        starts.append(clock.monotonic())
        clock.advance(200.0 if len(starts) == 1 else 1.0)

    Rhythm(job, interval_s=60, clock=clock).run(3, nullcontext)
    assert starts == [0.0, 260.0, 320.0]


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        pytest.param(timedelta(hours=1), [0.0, 60.0, 120.0], id="put back"),
        pytest.param(timedelta(hours=-1), [0.0, 0.0, 60.0], id="put forward"),
    ],
)
def test_a_wall_clock_that_jumps_does_not_silence_it(jump: timedelta, expected: list[float]) -> None:
    clock, starts, jumps = ManualClock(), list[float](), [jump]
    rhythm = Rhythm(lambda: starts.append(clock.monotonic()), interval_s=60, clock=clock)

    class JumpOnce(nullcontext[None]):
        def __enter__(self) -> None:
            # Seen from the job, a clock put back by an hour moves the next run an hour away; put forward, it is due.
            for entry in rhythm.scheduler.get_jobs():
                assert entry.next_run is not None
                entry.next_run += jumps.pop() if jumps else timedelta(0)

    rhythm.run(3, JumpOnce)
    assert starts == expected


def test_it_keeps_to_its_rate_on_the_real_clock_and_off_the_global_scheduler() -> None:
    clock, starts = SystemClock(), list[float]()
    Rhythm(lambda: starts.append(clock.monotonic()), interval_s=0.1, clock=clock).run(6, nullcontext)
    assert starts[-1] - starts[0] == pytest.approx(0.5, abs=0.09)
    assert schedule.get_jobs() == []
