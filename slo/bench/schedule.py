"""
When requests are due: pure functions of their arguments, computed before the run, in seconds from its start.

* Poisson: exponential gaps −ln(U)/λ, what many independent callers look like.
* constant: equal gaps; flatters a service, since real callers never keep such order.
* gamma: gaps of shape k and the same mean; k = 1 is Poisson, k < 1 comes in bursts (variance of a gap 1/(kλ²)).
* ramp and step: Poisson with a rate that changes; a unit-rate process mapped through the inverse of ∫λ(t)dt.
* replay: the arrival times of a recorded trace.

A trace (`slo record`) is arrival times and text lengths, never the texts. JSON lines: a header
`{"format": 1, "kind": "arrivals"}`, then one line per request, `{"t": 0.125, "chars": [20]}` with `t` in seconds from
the first and the characters of each of its texts. `slo record` fetches one of live traffic from a server with our
extension; whatever else sees traffic can write one.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slo.errors import ConfigError
from slo.files import write_atomically
from slo.units import parse_duration

FORMAT = 1
LONGEST = 100_000  # characters of one replayed text
MOST_REQUESTS = 5_000_000  # beyond this a schedule is too large to hold: `slo stress` has none


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Due times (seconds, ascending from 0) with the characters of each request's texts."""

    due_s: list[float]
    chars: list[tuple[int, ...]]

    @property
    def duration_s(self) -> float:
        """From the first arrival to one mean gap after the last."""
        count = len(self.due_s)
        return self.due_s[-1] * count / (count - 1) if count > 1 else 1.0


def write_trace(path: Path, arrivals: Iterable[tuple[float, tuple[int, ...]]]) -> None:
    """Write `(due_s, chars)` pairs; times are shifted to start at 0."""
    rows = sorted(arrivals)
    start = rows[0][0] if rows else 0.0
    lines = [json.dumps({"format": FORMAT, "kind": "arrivals"})]
    lines += [json.dumps({"t": round(due - start, 6), "chars": list(chars)}) for due, chars in rows]
    write_atomically(path, "\n".join(lines) + "\n")


def read_trace(path: Path) -> Trace:
    """The trace in `path`. Raises `ConfigError` naming the line that is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    return parse_trace(text, str(path))


def parse_trace(text: str, source: str) -> Trace:
    """The trace in `text`. Raises `ConfigError` naming `source` and the line that is not one."""
    lines = text.splitlines()
    due: list[float] = []
    chars: list[tuple[int, ...]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if number == 1:
                if (row["format"], row["kind"]) != (FORMAT, "arrivals"):
                    raise ValueError("this header is not that of a trace")
                continue
            due.append(float(row["t"]))
            chars.append(tuple(int(n) for n in row["chars"]))
            if due[-1] < (due[-2] if len(due) > 1 else 0.0):
                raise ValueError("times go back")
            if not chars[-1] or not all(0 < n <= LONGEST for n in chars[-1]):
                raise ValueError(f"lengths must be within 1 and {LONGEST}")
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"not an arrival: {error}",
                where=f"{source}:{number}",
                hint="`slo record` and `slo load --record-arrivals` write them",
            ) from error
    if not due:
        raise ConfigError("holds no arrivals", where=source)
    return Trace(due_s=due, chars=chars)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Due times in ascending order. `steady`: the rate is meant to be the same throughout."""

    name: str
    due_s: Sequence[float]
    duration_s: float
    steady: bool
    chars: Sequence[tuple[int, ...]] | None = None  # lengths of the texts, where a trace gives them
    asked_rate: float | None = None  # where one rate was asked for; `rate` is what chance made of it

    @property
    def rate(self) -> float:
        """Mean arrivals per second."""
        return len(self.due_s) / self.duration_s if self.duration_s else 0.0


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Poisson arrivals at `rate` per second within [0, `seconds`)."""
    return gamma(rate, seconds, 1.0, seed)


def gamma(rate: float, seconds: float, shape: float, seed: int) -> list[float]:
    """Arrivals whose gaps are gamma distributed with `shape` and mean 1/`rate`."""
    _positive(rate=rate, seconds=seconds, shape=shape)
    source = random.Random(f"{seed}/arrivals")
    scale = 1 / (rate * shape)
    due, now = [], source.gammavariate(shape, scale)
    while now < seconds:
        due.append(now)
        now += source.gammavariate(shape, scale)
    return due


def constant(rate: float, seconds: float) -> list[float]:
    """Arrivals 1/`rate` apart, the first at 0."""
    _positive(rate=rate, seconds=seconds)
    return [i / rate for i in range(math.ceil(rate * seconds - 1e-9))]


def ramp(first: float, last: float, seconds: float, seed: int) -> list[float]:
    """Poisson arrivals whose rate goes linearly from `first` to `last`."""
    _positive(last=max(first, last), seconds=seconds, rates=min(first, last) + 1e-12)
    slope = (last - first) / seconds

    def inverse(expected: float) -> float:  # solves first·t + slope·t²/2 = expected without cancellation
        root = math.sqrt(max(0.0, first * first + 2 * slope * expected))
        return 2 * expected / (first + root) if first + root else 0.0

    total = (first + last) / 2 * seconds
    return [inverse(moment) for moment in poisson(1.0, total, seed)]


def step(steps: Sequence[tuple[float, float]], seed: int) -> list[float]:
    """Poisson arrivals through `(rate, seconds)` stages, one after another."""
    due: list[float] = []
    start = 0.0
    for index, (rate, seconds) in enumerate(steps):
        due.extend(start + moment for moment in poisson(rate, seconds, seed + index * 1_000_003))
        start += seconds
    return due


def parse_arrivals(text: str, *, rate: float | None, duration_s: float | None, seed: int) -> Schedule:
    """The schedule that `--arrivals` asks for.

    `poisson`, `constant`, `gamma:K` need rate and duration; `ramp:A:B` a duration; `step:RATE@30s,RATE@1m` and
    `replay:FILE` neither. Raises `ConfigError`.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case "poisson" | "constant" | "gamma":
            asked, seconds = _required(rate, "--rate"), _required(duration_s, "--duration")
            _bounded(asked * seconds)
            due = {
                "poisson": lambda: poisson(asked, seconds, seed),
                "constant": lambda: constant(asked, seconds),
                "gamma": lambda: gamma(asked, seconds, _number(rest, text), seed),
            }[kind]()
            return Schedule(name=text, due_s=due, duration_s=seconds, steady=True, asked_rate=asked)
        case "ramp":
            first, _, last = rest.partition(":")
            seconds = _required(duration_s, "--duration")
            low, high = _number(first, text), _number(last, text)
            _bounded(max(low, high) * seconds)
            return Schedule(name=text, due_s=ramp(low, high, seconds, seed), duration_s=seconds, steady=False)
        case "step":
            stages = [_stage(part, text) for part in rest.split(",")]
            _bounded(sum(r * s for r, s in stages))
            seconds = sum(s for _, s in stages)
            return Schedule(name=text, due_s=step(stages, seed), duration_s=seconds, steady=False)
        case "replay":
            trace = read_trace(Path(rest))
            return Schedule(name=text, due_s=trace.due_s, duration_s=trace.duration_s, steady=False, chars=trace.chars)
    raise ConfigError(
        f"{text!r} is no arrival pattern",
        hint="poisson, constant, gamma:0.5, ramp:10:100, step:20@30s,60@30s or replay:FILE",
    )


def _stage(part: str, text: str) -> tuple[float, float]:
    rate, at, seconds = part.partition("@")
    if not at:
        raise ConfigError(f"{text!r}: {part!r} lacks its duration", hint="write step:20@30s,60@30s")
    stage = _number(rate, text), parse_duration(seconds)
    _positive(rate=stage[0], seconds=stage[1])
    return stage


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{whole!r}: {text!r} is not a number") from None


def _required(value: float | None, option: str) -> float:
    if value is None:
        raise ConfigError(f"{option} is needed for this arrival pattern")
    _positive(**{option: value})
    return value


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} {value:g} is not above zero")


def _bounded(requests: float) -> None:
    if requests > MOST_REQUESTS:
        raise ConfigError(
            f"{requests:.0f} requests are more than a schedule holds ({MOST_REQUESTS})",
            hint="shorten it, or use `slo stress`, which runs for days",
        )
