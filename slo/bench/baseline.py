"""
The baseline: what one client gets from an otherwise idle service, per length class.

Requests go out one after another over one kept-alive connection, in blocks of ten of a class, the classes in a new
seeded order each round. Blocks of all classes spread over the whole run, so that a slow minute (a neighbour on the
machine, a processor that heats up) weighs on every class alike instead of spoiling one; the changing order keeps a
periodic pause of the server from always meeting the same class. Ten in a row still lets each class show what it
costs without the others in between.

Each is sent at the next mark of a grid of 100 ms (`pace_s`; 0: as soon as the one before it is answered). Whoever only
asks when answered meets a stall once, however long it lasts; so what would have been due while a late answer was
waited for is counted besides, see `omission`, and the run is met only if that is.

A run ends early when ten requests in a row were never answered, and on Ctrl-C; what was measured until then is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from slo.bench.exchange import Failures
from slo.bench.omission import kept_pace, waits_of
from slo.bench.selfcheck import MOST_CACHED
from slo.bench.verdict import judge_dependent, lasting
from slo.client import EmbeddingsClient
from slo.clock import Clock
from slo.errors import RequestError, RequestTimeout, RunError, Unreachable
from slo.measure import one_by_one
from slo.objective import Objective
from slo.records import Run
from slo.samples import Sample
from slo.sentences import say
from slo.texts import CLASSES, SEED_EXAMPLES, Text, texts

BLOCK = 10
LEAST = 60  # requests that can prove P95
FEW = 3
SHOWN = 60  # characters of an example
GIVE_UP_AFTER = 10  # unanswered requests in a row

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class BaselinePlan:
    """`requests` and `warmup` are per class. One seed sends the same texts again, in the same order.

    `documents` are classes that are shown apart, with fewer requests, as many as can prove P95.
    """

    requests: int
    warmup: int
    seed: int
    classes: tuple[str, ...] = tuple(CLASSES)
    documents: tuple[str, ...] = ()
    pace_s: float = 0.1

    @property
    def counts(self) -> dict[str, int]:
        """Measured requests per class."""
        fewer = min(self.requests, max(LEAST, self.requests // 4))
        return dict.fromkeys(self.classes, self.requests) | dict.fromkeys(self.documents, fewer)

    def warm_texts(self) -> Iterator[Text]:
        """`warmup` texts per class, the article's example first."""
        for name in self.counts:
            source = texts(name, _warm_seed(self.seed))
            count = min(self.warmup, FEW) if name in self.documents else self.warmup
            yield from (Text(value, name) for value in islice(_with_example(name, source), count))

    def measured_texts(self) -> Iterator[Text]:
        """`requests` texts per class in blocks: the first round in the given order, the others shuffled."""
        order = random.Random(f"{self.seed}/blocks")
        counts = self.counts
        sources = {name: islice(texts(name, self.seed), count) for name, count in counts.items()}
        for start in range(0, self.requests, BLOCK):
            still = [name for name, count in counts.items() if count > start]
            names = order.sample(still, len(still)) if start else still
            for name in names:
                yield from (Text(value, name) for value in islice(sources[name], BLOCK))

    def examples(self, count: int = 2) -> dict[str, list[str]]:
        """What is sent: the article's example and the first `count` generated texts of each class."""
        return {
            name: [value[:SHOWN] for value in islice(_with_example(name, texts(name, self.seed)), count + 1)]
            for name in self.classes
        }


def run_baseline(
    client: EmbeddingsClient,
    plan: BaselinePlan,
    objective: Objective,
    *,
    server: dict[str, object],
    clock: Clock,
    progress: Progress = lambda _phase, _done, _total: None,
) -> Run:
    """Warm up, measure, and return the record; the caller saves it.

    Raises the `RequestError` of the very first request, when that can only mean a mistake (key, model name), and
    `RunError` when nobody answers at all: then nothing was measured. Later failures are samples.
    """
    _open(client)
    warm = list(plan.warm_texts())
    _, stopped, _ = _measure(client, warm, None, clock, lambda done: progress("warm-up", done, len(warm)))
    if stopped:
        raise KeyboardInterrupt  # nothing was measured yet, so there is nothing to keep
    total = sum(plan.counts.values())
    started_wall_s = clock.wall()
    dimension = server.get("dimensions")
    run = Run(
        kind="baseline",
        started_wall_s=started_wall_s,
        endpoint=client.url,
        model=client.model,
        objective=objective,
        settings={
            "requests": plan.requests,
            "warmup": plan.warmup,
            "seed": plan.seed,
            "classes": list(plan.classes),
            **({"apart": list(plan.documents)} if plan.documents else {}),
            "block": BLOCK,
            "pace_s": plan.pace_s,
            "connections": 1,
        },
        samples=[],
        server=server,
    )
    failures = Failures()
    run.samples, run.interrupted, given_up = _measure(
        client,
        plan.measured_texts(),
        dimension if isinstance(dimension, int) else None,
        clock,
        lambda done: progress("measure", done, total),
        failures,
        plan.pace_s,
    )
    judge_on_pace(run)
    if rows := failures.rows():
        run.details["failures"] = rows
    if run.interrupted:
        run.notes.append(say("stopped", done=len(run.samples), total=total))
    if given_up:
        run.notes.append(say("silent", done=len(run.samples), total=total, row=GIVE_UP_AFTER))
    run.notes += kept_pace(run.details.get("on_pace", {}), objective)
    if hits := sum(sample.cached for sample in run.samples):
        run.notes.append(say("cached.seed", count=hits))
        if hits > MOST_CACHED * len(run.samples):
            run.void.append(say("mostly.cached", cached=hits, total=len(run.samples)))
    return run


def judge_on_pace(run: Run) -> None:
    """Give `run` what its caller would have met on its grid, else at its usual interval; documents apart are left out.

    "Met" takes as long a run as the objective's longest stall asks for.
    """
    samples = [sample for sample in run.samples if sample.length_class not in run.apart]
    waits, pace_s = waits_of(samples, run.objective), run.settings["pace_s"]
    if not waits.bad:
        return
    pace_ms = dict.fromkeys(waits.names, pace_s * 1000) if pace_s else waits.usual_ms()
    found = waits.on_pace(run.objective, pace_ms, queued=False)
    seconds = run.samples[-1].done_s - run.samples[0].due_s
    judgement = lasting(judge_dependent(found.good, found.total, found.effective, run.objective), seconds)
    run.details["on_pace"] = {**found.to_json(), "verdict": judgement.verdict.value, "advice": judgement.advice}


def kept_grid_s(run: Run) -> float:
    """The pace of a record, or the mean interval of its requests if there are more than marks: it was another pace."""
    pace_s: float = run.settings["pace_s"]
    marks = len(run.samples) - 2  # the first request may have been late, and the last not
    span_s = run.samples[-1].due_s - run.samples[0].due_s if run.samples else 0.0
    return pace_s if marks * pace_s <= span_s or marks < 1 else round(span_s / (marks + 1), 4)


def _open(client: EmbeddingsClient) -> None:
    """One request outside the measurement: it opens the connection and shows mistakes before time is spent."""
    try:
        client.embed(SEED_EXAMPLES["short"])
    except (Unreachable, RequestTimeout) as error:
        raise RunError(f"nothing measured: {error.message}", hint=error.hint) from error


def _measure(
    client: EmbeddingsClient,
    wanted: Iterator[Text] | list[Text],
    dimension: int | None,
    clock: Clock,
    on_count: Callable[[int], None],
    failures: Failures | None = None,
    pace_s: float = 0.0,
) -> tuple[list[Sample], bool, bool]:
    """The samples, whether Ctrl-C ended them, and whether silence did."""
    samples: list[Sample] = []
    unanswered, given_up, asked = 0, False, ""

    def on_sample(sample: Sample, error: RequestError | None) -> None:
        nonlocal unanswered
        samples.append(sample)
        unanswered = unanswered + 1 if isinstance(error, Unreachable | RequestTimeout) else 0
        if error is not None and failures is not None:
            failures.note_error(error, asked)
        on_count(len(samples))

    def until_silent() -> Iterator[Text]:
        nonlocal given_up, asked
        for text in wanted:
            given_up = unanswered >= GIVE_UP_AFTER
            if given_up:
                return
            asked = text.value
            yield text

    try:
        one_by_one(client, until_silent(), dimension=dimension, clock=clock, pace_s=pace_s, on_sample=on_sample)
    except KeyboardInterrupt:
        return samples, True, False
    return samples, False, given_up


def _with_example(name: str, source: Iterator[str]) -> Iterator[str]:
    if name in SEED_EXAMPLES:
        yield SEED_EXAMPLES[name]
    yield from source


def _warm_seed(seed: int) -> int:
    """Another stream than the measured one, so that warming does not fill a cache with what is measured."""
    return ~seed
