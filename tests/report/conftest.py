"""Pages and reports are looked at with a real browser."""

from tests.browsers import browser, shots

__all__ = ["browser", "shots"]
