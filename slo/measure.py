"""
The one-client measurement: texts sent one after another over one kept-alive connection.

A request is due when the one before it is done, so latency and service time are the same here; with a pace, at the
next mark of a grid after that (what would have been due at the marks in between, `slo.bench.omission` reckons). What
holds under load is for `slo load` and `slo capacity` to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from slo.client import EmbeddingsClient
from slo.clock import Clock, SystemClock
from slo.distinct import Distinct
from slo.errors import BadAnswer, RequestError
from slo.samples import Sample
from slo.texts import Text


def one_by_one(
    client: EmbeddingsClient,
    texts: Iterable[Text],
    *,
    dimension: int | None = None,
    clock: Clock | None = None,
    pace_s: float = 0.0,
    on_sample: Callable[[Sample, RequestError | None], None] | None = None,
) -> list[Sample]:
    """One sample per text, sent at marks that are `pace_s` apart.

    A failed request is a sample with its outcome; it never ends the measurement. So is one whose vector was that of
    another text.

    `on_sample` hears of each sample at once, with the error if there was one.
    """
    clock = clock or SystemClock()
    samples: list[Sample] = []
    distinct = Distinct()
    start_s, mark = clock.monotonic(), -1
    for text in texts:
        if pace_s > 0:
            mark = max(mark + 1, math.ceil((clock.monotonic() - start_s) / pace_s))
            clock.sleep(start_s + mark * pace_s - clock.monotonic())
        sent_s = clock.monotonic()
        failure: RequestError | None = None
        cached = False
        try:
            answer = client.embed(text.value, dimension=dimension)
            cached = answer.cached
            if distinct.is_taken(text.value, tuple(answer.vectors[0])):
                failure = BadAnswer(f"{client.url}: gave two texts the same vector", url=client.url, status=200)
        except RequestError as error:
            failure = error
        sample = Sample(
            due_s=sent_s,
            sent_s=sent_s,
            done_s=clock.monotonic(),
            outcome=failure.outcome if failure else "ok",
            length_class=text.length_class,
            cached=cached,
        )
        samples.append(sample)
        if on_sample:
            on_sample(sample, failure)
    return samples
