"""What the tests of all commands share."""

from tests.bench.conftest import no_neighbours

__all__ = ["no_neighbours"]
