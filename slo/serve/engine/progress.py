"""How slow work tells that it goes on."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]  # what is being done, and its share done from 0 to 1


def silent(stage: str, share: float) -> None:
    """Progress that nobody watches."""
