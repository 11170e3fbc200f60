"""Deploy an embedding model on Xinference, make it fast enough, and keep its latency promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slo.watch.monitor import get_recent_metrics, monitor, record_metric

__version__ = "0.1.0"
__all__ = ["__version__", "get_recent_metrics", "monitor", "record_metric"]


def __getattr__(name: str) -> Any:
    """The functions for instrumenting a service of one's own, loaded when they are first used."""
    if name in __all__:
        from slo.watch import monitor as module  # noqa: PLC0415 (who only wants the version loads no SQLite)

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
