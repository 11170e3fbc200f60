"""
Callers who ask again, as OpenAI's SDKs do: `Retrying` stands between a loop and the pool.

What is refused or fails (408, 409, 429, 5xx, a connection that broke; the header `x-should-retry` overrules) is sent
again after the time that `retry-after-ms` or `Retry-After` names, if that is at most a minute, else after 0.5 s, 1 s,
2 s … up to 8 s, less up to a quarter by chance. The request is one for its caller: its latency runs from the moment it
was due first, and the caller's patience (`timeout`) goes on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from slo.bench.exchange import OK, Exchange, Service
from slo.errors import RequestTimeout, Unreachable

STATUSES = (408, 409, 429)  # and from 500 on
LONGEST_S = 60.0  # a longer wait that is asked for is not believed
FIRST_S, MOST_S, JITTER = 0.5, 8.0, 0.25


def asked_wait_s(headers: dict[bytes, bytes], now_wall_s: float) -> float | None:
    """Seconds that an answer asks to wait; None where it does not say, or names more than a minute."""
    try:
        if b"retry-after-ms" in headers:
            seconds = float(headers[b"retry-after-ms"]) / 1000
        else:
            text = headers[b"retry-after"].decode("latin-1").strip()
            plain = text.replace(".", "", 1).isdigit()
            seconds = float(text) if plain else parsedate_to_datetime(text).timestamp() - now_wall_s
    except (KeyError, ValueError, TypeError):
        return None
    return seconds if 0 < seconds <= LONGEST_S else None


def own_wait_s(attempts: int, luck: float) -> float:
    """Seconds before attempt number `attempts` + 1, where nothing is asked for; `luck` between 0 and 1."""
    return float(min(FIRST_S * 2 ** (attempts - 1), MOST_S)) * (1 - JITTER * luck)


def worth_retrying(exchange: Exchange) -> bool:
    """Would an SDK send it again?"""
    said = exchange.headers.get(b"x-should-retry")
    if said in (b"true", b"false"):
        return said == b"true"
    if exchange.outcome == Unreachable.outcome:
        return True
    return exchange.outcome not in (OK, RequestTimeout.outcome) and (
        exchange.status in STATUSES or exchange.status >= 500
    )


class Retrying:
    """Carries exchanges by `service`, up to `most` times more than once."""

    def __init__(self, service: Service, most: int, *, seed: int) -> None:
        self.on_done: Callable[[Exchange], None] = service.on_done
        self.sent_again = 0
        self._service, self._most, self._source = service, most, random.Random(f"{seed}/retries")

    def submit(self, exchange: Exchange) -> None:
        """As the service does."""
        exchange.attempts += 1
        self._service.on_done = self._done
        self._service.submit(exchange)

    def _done(self, exchange: Exchange) -> None:
        if exchange.attempts > self._most or not worth_retrying(exchange):
            self.on_done(exchange)
            return
        wait_s = asked_wait_s(exchange.headers, time.time())
        if wait_s is None:
            wait_s = own_wait_s(exchange.attempts, self._source.random())
        exchange.reopen()
        asyncio.get_running_loop().call_later(wait_s, self._again, exchange)

    def _again(self, exchange: Exchange) -> None:
        if not exchange.finished:  # its caller may have lost patience meanwhile
            self.sent_again += 1
            self.submit(exchange)
