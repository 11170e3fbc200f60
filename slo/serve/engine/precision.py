"""Which arithmetic to serve with: the fastest that the device has and that stays true to fp32."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

from slo.errors import QuantizeError
from slo.serve.engine.fidelity import Fidelity

Precision = Literal["int8", "fp16", "bf16", "fp32"]  # fp16 on GPUs only
Request = Literal["auto", "int8", "fp16", "bf16", "fp32"]

FASTEST_FIRST: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Choice:
    """The precision, the reason in words, and the fidelity of every precision that was looked at."""

    precision: Precision
    reason: str
    fidelity: dict[Precision, Fidelity] = field(default_factory=dict)


def choose(
    request: str,
    *,
    supported: Collection[Precision],
    measure: Callable[[Precision], Fidelity],
    no_gain: Callable[[Precision], str] = lambda _: "",
) -> Choice:
    """Pick a precision; `measure` compares one with fp32 and may take minutes (it quantises).

    `auto` tries what the device supports from int8 down to fp32 and falls back with a reason; `no_gain` says why one
    that passes would not be faster than fp32 here, or nothing. A precision that was asked for by name and is absent or
    fails the gate raises QuantizeError: nobody gets other numbers than ordered.
    """
    if request not in get_args(Request):
        raise QuantizeError(f"unknown precision {request!r}", hint=f"one of {', '.join(get_args(Request))}")
    wanted = FASTEST_FIRST if request == "auto" else tuple(p for p in FASTEST_FIRST if p == request)
    refusals: list[str] = []
    seen: dict[Precision, Fidelity] = {}
    for precision in wanted:
        if precision == "fp32":
            return Choice("fp32", "; ".join([*refusals, "fp32 is the fastest that remains"]), seen)
        if precision not in supported:
            if request == "auto":
                continue
            raise QuantizeError(f"this device does not run {precision}", hint="ask for the precision auto")
        try:
            seen[precision] = measure(precision)
        except QuantizeError as error:
            if request != "auto":
                raise
            refusals.append(f"{precision}: {error.message}")
            continue
        if seen[precision].passes and request == "auto" and (slower := no_gain(precision)):
            refusals.append(slower)
        elif seen[precision].passes:
            return Choice(precision, "; ".join([*refusals, f"{precision}: {seen[precision]}"]), seen)
        else:
            refusals.append(f"{precision} fails its fidelity gate: {', '.join(seen[precision].shortfalls)}")
    raise QuantizeError("; ".join(refusals), hint="ask for the precision auto, which falls back by itself")
