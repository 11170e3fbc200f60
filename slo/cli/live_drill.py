"""The real server as what a drill slows down, by orders that end by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from slo.cli.remedies import order
from slo.config import Config
from slo.errors import ConfigError, DeployError, RequestError, SloError, Unauthorized, Unreachable

LONGEST_S = 300  # as `slo.serve.web.control` allows; the slow rounds of a drill take less
HINT = "set serve.drill: true and launch again; without --live the drill slows down a stand-in service instead"


class LiveService:
    """Our extension in the server, holding answers back. Raises a `SloError` where it does not obey."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def endpoint(self) -> str:
        return self._config.endpoint

    def slow_down(self, delay_s: float) -> None:
        """Every answer takes `delay_s` longer, for `LONGEST_S` at most, whatever becomes of us."""
        self._hold_back(delay_s * 1000, LONGEST_S)

    def heal(self) -> None:
        """Answer at once again."""
        self._hold_back(0, 0)

    def _hold_back(self, delay_ms: float, for_s: float) -> None:
        order(self._config, {"action": "delay", "delay_ms": delay_ms, "for_s": for_s})


@contextmanager
def live_service(config: Config) -> Iterator[LiveService]:
    """The server, found willing to be drilled, and healed at the end in any case. Raises `ConfigError` otherwise."""
    service = LiveService(config)
    try:
        service.heal()
    except Unreachable:
        raise
    except Unauthorized as error:
        raise ConfigError(
            f"the server at {config.endpoint} refuses to be slowed down: {error.message}", hint=HINT
        ) from error
    except (DeployError, RequestError) as error:
        raise ConfigError(
            f"the server at {config.endpoint} has no hook for drills: {error.message}", hint=HINT
        ) from error
    try:
        yield service
    finally:
        with suppress(SloError):
            service.heal()
