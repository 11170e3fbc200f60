"""
What a pass will cost, learnt while serving: milliseconds from tokens, tokens from characters, how far off that was, and
how large requests usually are.

All of them forget exponentially, so that they follow a machine that becomes busier or quieter. One does not: the best
rate seen, which says what the machine can do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Assumed until something was measured: a slow CPU, so that the first prediction errs towards caution.
FIRST_CALL_MS = 8.0
FIRST_TOKEN_MS = 0.4
FIRST_OVERHEAD_S = 0.004
WIDE_TOKENS_PER_CHAR = 1.0  # one token per Chinese character
NARROW_TOKENS_PER_CHAR = 0.3  # English words are about 0.25 tokens per character
CERTAIN_CHARS = 32  # for each token: a text of so many is cut at the model's limit, whatever it says
CHARS_MOVED = 10_000  # to read, hand over and look through so many takes as long as a token
SPECIAL_TOKENS = 2  # [CLS] and [SEP]


class TwoTermFit:
    """Least squares y ≈ p·u + q·v with exponential forgetting; p and q are never negative.

    `memory` is the number of observations after which one has faded to 1/e. The first guess enters as `weight`
    observations would, and fades likewise.
    """

    def __init__(self, p: float, q: float, *, memory: float, weight: float = 2.0, scale: float = 1.0) -> None:
        self.p, self.q = p, q
        self._keep = math.exp(-1 / memory)
        # The prior as two fictitious observations, at (1, 0) and (1, scale).
        self._uu, self._uv, self._vv = 2 * weight, weight * scale, weight * scale * scale
        self._uy, self._vy = weight * (2 * p + q * scale), weight * scale * (p + q * scale)

    def observe(self, u: float, v: float, y: float) -> None:
        """Learn from one observation."""
        k = self._keep
        self._uu = k * self._uu + u * u
        self._uv = k * self._uv + u * v
        self._vv = k * self._vv + v * v
        self._uy = k * self._uy + u * y
        self._vy = k * self._vy + v * y
        determinant = self._uu * self._vv - self._uv * self._uv
        if determinant > 1e-6 * self._uu * self._vv:
            p = (self._uy * self._vv - self._vy * self._uv) / determinant
            q = (self._vy * self._uu - self._uy * self._uv) / determinant
            if p >= 0 and q >= 0:
                self.p, self.q = p, q
                return
        # Too little variety, or an impossible sign: keep the proportions and fit the scale alone.
        square = self.p**2 * self._uu + 2 * self.p * self.q * self._uv + self.q**2 * self._vv
        if square > 0:
            factor = max(0.0, (self.p * self._uy + self.q * self._vy) / square)
            self.p, self.q = self.p * factor, self.q * factor


class BestRate:
    """Seconds per token in the best thirty large passes in a row: an engine that becomes slower does not move it.

    Of large passes alone, since small ones say little about what a long text takes.
    """

    LARGE_TOKENS = 64
    PASSES = 30  # so many that a few lucky ones do not make the best

    def __init__(self) -> None:
        self.token_s: float | None = None
        self.renew()

    def renew(self) -> None:
        """Forget: another engine computes from now on."""
        self.token_s = None
        self._start()

    def _start(self) -> None:
        self._passes, self._tokens, self._seconds = 0, 0, 0.0

    def observe(self, tokens: int, engine_s: float) -> None:
        """Learn from one pass."""
        if tokens < self.LARGE_TOKENS:
            return
        self._passes += 1
        self._tokens += tokens
        self._seconds += engine_s
        if self._passes == self.PASSES:
            token_s = self._seconds / self._tokens
            self.token_s = token_s if self.token_s is None else min(self.token_s, token_s)
            self._start()


class PassCost:
    """Seconds that a pass of so many tokens occupies the engine (a + b·tokens), and what a call adds around it."""

    def __init__(self) -> None:
        self._fit = TwoTermFit(FIRST_CALL_MS / 1000, FIRST_TOKEN_MS / 1000, memory=80, scale=100)
        self.overhead_s = FIRST_OVERHEAD_S
        self.passes = 0
        self.best = BestRate()

    def assume(self, call_s: float, token_s: float) -> None:
        """Start from what an engine measured while it warmed up, unless passes have been seen already."""
        if self.passes == 0 and call_s > 0 and token_s > 0:
            self._fit = TwoTermFit(call_s, token_s, memory=80, weight=5.0, scale=100)

    @property
    def call_s(self) -> float:
        """a: the fixed part of a pass."""
        return max(self._fit.p, 1e-5)

    @property
    def token_s(self) -> float:
        """b: one more token."""
        return max(self._fit.q, 1e-8)

    @property
    def tokens_per_s(self) -> float:
        """Rate at which a never-ending queue drains, passes of 160 tokens."""
        return 160 / self.of(160)

    def of(self, tokens: float) -> float:
        """Predicted seconds of one pass."""
        return self.call_s + self.token_s * tokens

    def tokens_within(self, seconds: float) -> int:
        """Largest pass predicted to end within `seconds`; may be zero or less."""
        return int((seconds - self.call_s) / self.token_s)

    def at_best_s(self, tokens: int, replicas: int) -> float | None:
        """Seconds of so many tokens, spread over `replicas`, at the best rate seen; None while none is known."""
        if self.best.token_s is None:
            return None
        return tokens * self.best.token_s / replicas + min(self.overhead_s, FIRST_OVERHEAD_S)

    def observe(self, tokens: int, engine_s: float, wall_s: float, wait_s: float) -> None:
        """Learn from a pass: time in the engine, time seen by the caller, and the part of it spent waiting in line."""
        self.passes += 1
        self.best.observe(tokens, engine_s)
        self._fit.observe(1.0, tokens, engine_s)
        overhead = min(max(0.0, wall_s - wait_s - engine_s), 0.1)
        self.overhead_s += (overhead - self.overhead_s) * 0.05


class TokenEstimate:
    """Tokens of a text from its characters, before the tokenizer has seen it."""

    def __init__(self, max_tokens: int = 512) -> None:
        self.max_tokens = max_tokens
        self._fit = TwoTermFit(NARROW_TOKENS_PER_CHAR, WIDE_TOKENS_PER_CHAR, memory=500, weight=20, scale=1)

    def of(self, text: str) -> int:
        """At least one more than the special tokens, at most what the model takes; a huge text is moved about, too."""
        if len(text) > CERTAIN_CHARS * self.max_tokens:
            return self.max_tokens + len(text) // CHARS_MOVED
        narrow, wide = _widths(text)
        tokens = SPECIAL_TOKENS + self._fit.p * narrow + self._fit.q * wide
        return max(SPECIAL_TOKENS + 1, min(self.max_tokens, math.ceil(tokens)))

    def observe(self, texts: Sequence[str], tokens: Sequence[int]) -> None:
        """Learn from true counts; truncated texts teach nothing. At most 64 of them, to stay cheap."""
        for text, count in list(zip(texts, tokens, strict=True))[:64]:
            if SPECIAL_TOKENS < count < self.max_tokens:
                narrow, wide = _widths(text)
                self._fit.observe(narrow, wide, count - SPECIAL_TOKENS)


def _widths(text: str) -> tuple[int, int]:
    """Characters of one byte and wider ones, from the UTF-8 length: two calls in C instead of a loop in Python."""
    extra = len(text.encode("utf-8", "surrogatepass")) - len(text)
    wide = min(len(text), (extra + 1) // 2)  # a Chinese character has two bytes more than an ASCII one
    return len(text) - wide, wide


class UsualSize:
    """Tokens that nine in ten of the recent online requests stay within; follows within some fifty requests."""

    def __init__(self, first: float = 32.0) -> None:
        self._log = math.log(first)

    @property
    def tokens(self) -> int:
        return round(math.exp(self._log))

    def observe(self, tokens: int) -> None:
        """Learn from one request, admitted or not."""
        # Stochastic approximation of a quantile, in steps of 10 %.
        self._log = max(0.0, self._log + 0.1 * (0.9 if tokens > math.exp(self._log) else -0.1))


class Headroom:
    """How much longer than predicted things take, at the 99th percentile, by the size of the prediction.

    Not the 95th: what is admitted and comes too late has cost computing time that others could have used, and its
    refusal comes late as well.

    Under load a prediction of 100 ms is missed by other causes than one of 10 ms, so each quarter of the deadline
    keeps its own factor. A factor falls back towards the first guess with time: the requests that it has refused
    bring no observation that could correct it.
    """

    FIRST = 1.25
    RANGE = (1.0, 2.5)
    HALF_LIFE_S = 4.0

    def __init__(self) -> None:
        self._logs = [math.log(self.FIRST)] * 5
        self._seen_s = [0.0] * 5

    def factor(self, share: float, now_s: float) -> float:
        """Multiply a prediction that is `share` of the deadline by this."""
        index = min(4, int(share * 4))
        first = math.log(self.FIRST)
        faded = 0.5 ** (max(0.0, now_s - self._seen_s[index]) / self.HALF_LIFE_S)
        return math.exp(first + (self._logs[index] - first) * faded)

    def observe(self, share: float, ratio: float, now_s: float) -> None:
        """Learn from one request: observed time by predicted time."""
        index = min(4, int(share * 4))
        current = math.log(self.factor(share, now_s))
        # Stochastic approximation of a quantile: up by 99 steps for a value above, down by 1 for one below.
        step = 0.05 * (0.99 if ratio > math.exp(current) else -0.01)
        low, high = (math.log(edge) for edge in self.RANGE)
        self._logs[index] = min(high, max(low, current + step))
        self._seen_s[index] = now_s
