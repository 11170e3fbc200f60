"""One real probe for the capacity search or the ladder: a short load, ended as soon as it is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from slo.bench.capacity import Probe
from slo.bench.conditions import Stopper, run_load
from slo.bench.exchange import Exchange, Service
from slo.bench.load import LoadPlan, load_once
from slo.bench.load_record import evidence, self_checked
from slo.bench.open_loop import closed_loop, drain, open_loop
from slo.bench.schedule import Schedule, poisson
from slo.bench.sequential import FIRST_LOOK, MOST, SequentialOutcomes, SequentialTest
from slo.bench.session import Load, Session, started
from slo.bench.verdict import effective_size
from slo.client import EmbeddingsClient
from slo.clock import Clock
from slo.errors import Interrupted, RequestError
from slo.objective import Objective, Verdict
from slo.record_form import pack_bytes, pack_rows
from slo.records import Run, row_of

SETTLE_S = 2.0  # of each probe, not counted
LEAST_S = 15.0  # before a probe may be met: an overloaded queue takes time to fill
LEAST_MISS_S = 3.0  # before it may be missed: at 600/s a hundred requests are one stall
MOST_S = 60.0
FINE_S = 40.0
CONFIRM_S = 60.0
CONFIRM_REQUESTS = 2000
CONFIRM_WARMUP_S = 5.0  # the search has warmed the service


class Watching:
    """Passes exchanges on to a service and tells the outcomes when each begins."""

    def __init__(self, service: Service, outcomes: SequentialOutcomes) -> None:
        self._service, self._outcomes = service, outcomes
        self.on_done = service.on_done

    def submit(self, exchange: Exchange) -> None:
        """As the service does."""
        self._service.on_done = self.on_done
        if exchange.measured:
            self._outcomes.began(exchange)
        self._service.submit(exchange)


def coarse_test(objective: Objective, rate: float, least_s: float = LEAST_S) -> SequentialTest:
    """The test of a probe that ends as soon as it is clear; it may be met after `least_s` at the earliest."""
    met_from = max(FIRST_LOOK, int(rate * least_s))
    first = max(FIRST_LOOK, int(rate * min(LEAST_MISS_S, least_s)))
    most = max(met_from, min(MOST, int(rate * MOST_S)))
    return SequentialTest(objective, most=most, first=first, met_from=met_from)


def fine_test(objective: Objective, rate: float, least_s: float = LEAST_S) -> SequentialTest:
    """The test of a probe whose bad ratio is wanted: one look, after 40 s or 3000 requests but no less than `least_s`.

    Ending early, on what it has seen so far, would bend the ratio.
    """
    size = max(FIRST_LOOK, int(rate * least_s), min(MOST, int(rate * FINE_S)))
    return SequentialTest(objective, most=size, first=size)


def rate_probe(session: Session, rate: float, stopper: Stopper, test: SequentialTest) -> Probe:
    """An open-loop Poisson load at `rate` until `test` ends. Raises `Interrupted` on Ctrl-C."""

    async def main(_: Stopper) -> Probe:
        seconds = (test.looks[-1] * 1.3 + 50) / rate
        clock, exchanges = session.clock, session.exchanges()
        async with started(session, keep=max(MOST, int(seconds * rate * 1.2))) as load:
            due = poisson(rate, SETTLE_S, session.seed + 1)
            await open_loop(load.pool, due, exchanges, load.collector, clock=clock)
            load.measure()
            load.begin(f"asked {rate:.4g}/s, got", None)
            outcomes = SequentialOutcomes(test)
            due = poisson(rate, seconds, session.seed)
            stop = _ending(load, outcomes, stopper)
            await open_loop(Watching(load.pool, outcomes), due, exchanges, load.collector, clock=clock, stop=stop)
            return await _probe(load, test, rate)

    return _ended(run_load(main, stopper), stopper)


def clients_probe(session: Session, clients: int, stopper: Stopper, *, least_s: float = LEAST_S) -> Probe:
    """A closed loop of `clients` callers, for at least `least_s` unless it is missed before."""
    test = SequentialTest(session.objective, most=MOST)
    least = [float("inf")]

    async def main(_: Stopper) -> Probe:
        clock = session.clock
        async with started(session, connections=clients, keep=MOST) as load:
            settled_s = clock.monotonic() + SETTLE_S
            exchanges = session.exchanges()
            outcomes = SequentialOutcomes(test)
            load.begin(f"{clients} callers get", None)
            decided = _ending(load, outcomes, stopper)

            def stop(now_s: float) -> bool:
                if not load.collector.measuring:
                    if now_s < settled_s:
                        return stopper.requested
                    load.measure()
                    least[0] = now_s + least_s
                ended = decided(now_s)
                return stopper.requested or (ended and (test.verdict is Verdict.MISSED or now_s >= least[0]))

            await closed_loop(Watching(load.pool, outcomes), clients, exchanges, load.collector, clock=clock, stop=stop)
            return replace(await _probe(load, test, clients), purpose="ladder")

    return _ended(run_load(main, stopper), stopper)


def confirmation(session: Session, rate: float, stopper: Stopper, *, seconds: float | None = None) -> list[Run]:
    """A full run at `rate`: a minute, 2000 requests and what a proof takes at least, unless `seconds` are given.

    Once more, twice as long, if that leaves it unproven; for the two chances each is held to half the error. All that
    were made; the last one counts. Raises `Interrupted` on Ctrl-C.
    """
    strict = replace(session.objective, confidence=confidence_of_two(session.objective.confidence))
    session = replace(session, objective=strict)
    seconds = max(CONFIRM_S, CONFIRM_REQUESTS / rate, strict.least_s) if seconds is None else seconds
    runs = [_full(session, rate, seconds, stopper)]
    if runs[0].verdict is Verdict.UNPROVEN and not runs[0].void and not runs[0].interrupted:
        runs.append(_full(session.reseeded("again"), rate, 2 * seconds, stopper))
    if runs[-1].interrupted:
        raise Interrupted("stopped during the confirmation")
    return runs


def confidence_of_two(confidence: float) -> float:
    """The confidence of each of two tries that together are wrong as seldom as one."""
    return 1 - (1 - confidence) / 2


def _full(session: Session, rate: float, seconds: float, stopper: Stopper) -> Run:
    due = poisson(rate, seconds, session.seed)
    schedule = Schedule(name="poisson", due_s=due, duration_s=seconds, steady=True, asked_rate=rate)
    return load_once(session, LoadPlan(schedule=schedule, warmup_s=CONFIRM_WARMUP_S), stopper)


def cool_down(client: EmbeddingsClient, threshold_s: float, clock: Clock, *, patience_s: float = 60.0) -> None:
    """Wait until the service answers a single request within the threshold, twice in a row, or for `patience_s`."""
    until_s, quick = clock.monotonic() + patience_s, 0
    while quick < 2 and clock.monotonic() < until_s:
        sent_s = clock.monotonic()
        try:
            client.embed(f"冷却{sent_s:.6f}")
            quick = quick + 1 if clock.monotonic() - sent_s <= threshold_s else 0
        except RequestError:
            quick = 0
        if not quick:
            clock.sleep(0.5)


def _ending(load: Load, outcomes: SequentialOutcomes, stopper: Stopper) -> Callable[[float], bool]:
    """A poll that settles the outcomes of measured requests and says whether the test has ended."""

    def poll(now_s: float) -> bool:
        load.poll(now_s)
        outcomes.settle(now_s)
        return outcomes.test.ended or stopper.requested

    return poll


async def _probe(load: Load, test: SequentialTest, at: float) -> Probe:
    session = load.session
    await drain(load.collector, clock=session.clock, patience_s=session.target.timeout_s + 1)
    check = self_checked(load)
    collector = load.collector
    latencies = [summary.p95_ms for summary in collector.summaries()]
    return Probe(
        load=at,
        verdict=Verdict.UNPROVEN if check.faults else test.verdict,
        total=test.total,
        good=test.good,
        p95_ms=latencies[-1] if latencies else float("inf"),
        seconds=session.clock.monotonic() - collector.measured_from_s,
        remark="; ".join(check.faults),
        target=session.objective.target,
        void=bool(check.faults),
        effective=effective_size(test.bad),
        computed=computed_share(collector.total, collector.cached.total, repeats=session.workload.zipf is not None),
        evidence={
            **evidence(collector),
            "objective": asdict(session.objective),
            "test": test.settings,
            "counted": pack_bytes(bytes(test.bad)),
            "readings": check.to_json()["readings"],
            "samples": None if collector.thinned else pack_rows([row_of(sample) for sample in collector.samples()]),
        },
    )


def computed_share(computed: int, cached: int, *, repeats: bool) -> float:
    """Share of the answers that no cache gave; 1 where repeats, and so a cache, were asked for."""
    return computed / (computed + cached) if cached and not repeats else 1.0


def _ended(probe: Probe, stopper: Stopper) -> Probe:
    if stopper.requested:
        raise Interrupted("stopped", hint="nothing was decided; start again")
    return probe


def confirmed_probe(run: Run, rate: float) -> Probe:
    """A confirmation run as a probe."""
    whole, cached = run.summaries()[-1] if run.summaries() else None, run.cached()
    return Probe(
        load=rate,
        verdict=run.verdict,
        total=whole.total if whole else 0,
        good=whole.judgement.good if whole else 0,
        p95_ms=whole.p95_ms if whole else float("inf"),
        seconds=run.details["measured_s"],
        purpose="confirm",
        remark="; ".join(run.void),
        target=run.objective.target,
        void=bool(run.void),
        effective=effective_size([not s.good(run.objective) for s in run.samples if not s.cached]),
        computed=computed_share(
            whole.total if whole else 0,
            cached.total if cached else 0,
            repeats=run.settings["workload"]["zipf"] is not None,
        ),
    )
